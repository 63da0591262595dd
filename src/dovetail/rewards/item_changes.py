"""How well a description of a changed web page agrees with the true one: F1 over its lines.

RLVR-World, arXiv 2505.13934, on WebArena's accessibility trees: items stand one a line below the headings New
items, Deleted items and Updated items. Lines match exactly and within their section; the placeholder "None"
counts as an item, as it does officially.
"""

from __future__ import annotations

import re
from typing import TypedDict

from dovetail.core import InvalidValue

SECTIONS = ("new", "deleted", "updated")
_HEADING = re.compile(r"^[\W_]*(new|deleted|updated) items?[\W_]*$", re.IGNORECASE)


class ItemF1(TypedDict):
    """Shares in [0, 1]."""

    precision: float
    recall: float
    f1: float


def item_changes(text: str) -> dict[str, set[str]]:
    """Section -> its lines, without blanks and repetitions; only the sections that have a heading.

    >>> item_changes("New items:\\n[12] link 'Cart'\\n\\nDeleted items:\\nNone")
    {'new': {"[12] link 'Cart'"}, 'deleted': {'None'}}
    """
    found: dict[str, set[str]] = {}
    section: set[str] | None = None
    for line in text.splitlines():
        line = line.strip()
        heading = _HEADING.match(line) if len(line) < 80 else None
        if heading:
            section = found.setdefault(heading[1].lower(), set())
        elif line and section is not None:
            section.add(line)
    return found


def item_change_f1(predicted: str, gold: str) -> ItemF1:
    """Matches are counted per section; precision and recall are over the lines of all three together.

    Raises:
        InvalidValue: ``gold`` has none of the three headings.
    """
    truth = item_changes(gold)
    if not truth:
        raise InvalidValue(
            "gold", gold[:80], "a text with a heading New items, Deleted items or Updated items"
        )
    said = item_changes(predicted)
    matches = sum(len(said.get(s, set()) & truth.get(s, set())) for s in SECTIONS)
    told, wanted = sum(map(len, said.values())), sum(map(len, truth.values()))
    if said and not told and not wanted:
        return {"precision": 1.0, "recall": 1.0, "f1": 1.0}  # nothing changes, and that is what is said
    if not matches:
        return {"precision": 0.0, "recall": 0.0, "f1": 0.0}
    precision, recall = matches / told, matches / wanted
    return {"precision": precision, "recall": recall, "f1": 2 * precision * recall / (precision + recall)}
