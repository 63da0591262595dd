"""The state of a text world, what a difference makes of it, and how far a predicted state is right.

RLVR-World, arXiv 2505.13934, on the states of ByteSized32: a list of objects ``{"uuid", "properties",
"contains"}``, which may end with a score ``{...}`` that has no uuid. A difference is ``{"modified": [whole
objects], "removed": [uuids], "score": {...}}``. The rules are the official ones: what a prediction has too
much (objects, properties) costs nothing, and objects that are new to a state cannot be added.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dovetail.core import InvalidValue


@dataclass(frozen=True)
class State:
    """Objects by uuid, in order, and the score (None: this world keeps none)."""

    objects: Mapping[str, Mapping[str, Any]]
    score: Mapping[str, Any] | None = None


class Comparison(NamedTuple):
    """How many entries (properties, contents; missing objects count as one wrong entry) are wrong and right,
    and how many of the score's."""

    wrong: int
    right: int
    wrong_score: int
    right_score: int

    @property
    def item(self) -> float:
        """Share of the entries that are right; 1 where there is nothing to score."""
        return self.right / (self.right + self.wrong) if self.right + self.wrong else 1.0

    @property
    def score(self) -> float:
        """Share of the score's entries that are right; 1 where there is nothing to score."""
        both = self.right_score + self.wrong_score
        return self.right_score / both if both else 1.0

    @property
    def exact(self) -> bool:
        return not self.wrong and not self.wrong_score


def parse_state(value: Any, name: str = "state") -> State:
    """A state from its list, from ``{"game_state": list}``, or from the JSON text of either.

    Raises:
        InvalidValue: no JSON, no list of objects, an object without uuid or properties, or a repeated uuid;
            names it.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise InvalidValue(name, value[:80], f"JSON ({error})") from None
    if isinstance(value, Mapping):
        if "game_state" not in value:
            raise InvalidValue(name, sorted(map(str, value)), "a mapping with the key game_state, or a list")
        value = value["game_state"]
    if not isinstance(value, list | tuple):
        raise InvalidValue(name, value, "a list of objects")
    rows, score = list(value), None
    if rows and isinstance(rows[-1], Mapping) and "uuid" not in rows[-1]:
        score = rows.pop()
    objects: dict[str, Mapping[str, Any]] = {}
    for place, row in enumerate(rows):
        where = f"{name}[{place}]"
        if not isinstance(row, Mapping) or "uuid" not in row:
            raise InvalidValue(where, row, "an object with a uuid (the score may only come last)")
        if not isinstance(row.get("properties"), Mapping):
            raise InvalidValue(f"{where}: properties", row.get("properties"), "a mapping")
        if str(row["uuid"]) in objects:
            raise InvalidValue(f"{where}: uuid", row["uuid"], "unique within the state")
        objects[str(row["uuid"])] = row
    return State(objects, score)


def apply_state_diff(state: State, diff: Mapping[str, Any]) -> State:
    """The state after a difference: removed objects leave, modified ones are replaced whole.

    Raises:
        KeyError, TypeError, AttributeError: the difference lacks ``modified`` or ``removed``, or holds
            something else than objects and uuids. Differences come from models: callers pay 0 for them.
    """
    gone = {str(uuid) for uuid in list(diff["removed"])}
    new = {str(row["uuid"]): row for row in list(diff["modified"])}
    for uuid, row in new.items():
        if not isinstance(row["properties"], Mapping):
            raise TypeError(f"properties of {uuid} are no mapping")
    objects = {uuid: new.get(uuid, old) for uuid, old in state.objects.items() if uuid not in gone}
    score = diff.get("score")
    return State(objects, dict(score) if score else state.score)


def compare_states(predicted: State, gold: State) -> Comparison:
    """Entry by entry over what ``gold`` holds."""
    found = [_right(predicted, *entry) for entry in entries(gold)]
    wrong = sum(uuid not in predicted.objects for uuid in gold.objects)
    # A missing object is one error, whatever it holds.
    known = [r for r, (uuid, *_) in zip(found, entries(gold), strict=True) if uuid in predicted.objects]
    right, scored = sum(known), dict(gold.score or {})
    hits = sum(k in (predicted.score or {}) and same(predicted.score[k], v) for k, v in scored.items())  # type: ignore[index]
    return Comparison(wrong + len(known) - right, right, len(scored) - hits, hits)


def entries(state: State) -> list[tuple[str, str, Any]]:
    """(uuid, property, value) of all objects; the contents stand under the property "" (no real name)."""
    found = []
    for uuid, row in state.objects.items():
        found += [(uuid, str(key), value) for key, value in row["properties"].items()]
        if "contains" in row:
            found.append((uuid, "", row["contains"]))
    return found


def changed_entries(state: State, gold: State) -> list[tuple[str, str, Any]]:
    """The entries of ``gold`` that differ from ``state``, of objects that both have."""
    return [e for e in entries(gold) if e[0] in state.objects and not _right(state, *e)]


def changed_share(predicted: State, state: State, gold: State) -> float | None:
    """How many of the changed entries are predicted; None where nothing changes."""
    changed = changed_entries(state, gold)
    if not changed:
        return None
    return sum(_right(predicted, *entry) for entry in changed) / len(changed)


def changes(state: State, gold: State) -> bool:
    """Whether anything at all differs: an entry, an object come or gone, the score."""
    return list(state.objects) != list(gold.objects) or not compare_states(state, gold).exact


def same(a: Any, b: Any) -> bool:
    """Equality in which lists equal tuples, at any depth. As in the official rules, true equals 1."""
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return bool(a == b)


def _right(state: State, uuid: str, key: str, value: Any) -> bool:
    row = state.objects.get(uuid)
    if row is None:
        return False
    if key == "":
        return "contains" in row and _contents(row["contains"]) == _contents(value)
    return key in row["properties"] and same(row["properties"][key], value)


def _contents(value: Any) -> Any:
    """Contents in any order; what is no list stays what it is."""
    ordered = isinstance(value, Sequence) and not isinstance(value, str)
    return sorted(map(str, value)) if ordered else value
