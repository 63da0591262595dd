"""Five ways to take the answer out of a question, as rules that need no model.

They follow the five criteria of "The Hallucination Tax of Reinforcement Finetuning" (arXiv 2505.13988). A
rule knows nothing of what a text means: it fits short word problems, where every number matters. For other
questions a model rewrites better (`unanswerable_prompt`).
"""

from __future__ import annotations

import random
import re

from dovetail.core import UnknownName

#: Criterion -> its definition, as the rewriting model is told.
CRITERIA: dict[str, str] = {
    "deletion": "Key information deletion: a number or condition that the solution needs is left out.",
    "ambiguous": "Ambiguous key information: a number or condition becomes a range, vague or negated.",
    "unrealistic": "Unrealistic conditions: a count below zero, an interval of zero, a conflict.",
    "unrelated": "Unrelated object: it is asked about somebody or something that is not in the text.",
    "cut": "Question deletion: the body of the question is cut, so that it asks for nothing.",
}

NAMES = ("Alice", "Bruno", "Carla", "Felix", "Greta", "Hugo", "Ines", "Jonas")
_NUMBER = re.compile(r"(?<![\w.,])\$?\d+(?:[.,]\d+)*(?![\w.,]*\d)(?!\w)")
_QUESTION = re.compile(r"[^.?!\n]*\?\s*$")
_NAME = re.compile(r"(?<!^)(?<![.?!]\s)\b[A-Z][a-z]+\b")


def ablate_question(question: str, criterion: str, rng: random.Random) -> str | None:
    """The question without an answer, by one of `CRITERIA`; None where the rule finds nothing to change.

    >>> ablate_question("Ann has 3 pens. How many has Ann?", "deletion", random.Random(0))
    'Ann has pens. How many has Ann?'

    Raises:
        UnknownName: there is no such criterion.
    """
    if criterion not in CRITERIA:
        raise UnknownName("criterion", criterion, CRITERIA)
    if criterion == "cut":
        return _cut(question)
    if criterion == "unrelated":
        return _other_person(question, rng)
    found = list(_NUMBER.finditer(question))
    if not found:
        return None
    chosen = rng.choice(found)
    before, number, after = question[: chosen.start()], chosen[0], question[chosen.end() :]
    if criterion == "deletion":
        return (before.removesuffix(" ") + after).strip()
    if criterion == "ambiguous":
        return f"{before}{rng.choice(('more than', 'fewer than', 'about'))} {number}{after}"
    return f"{before}-{number}{after}"


def _cut(question: str) -> str | None:
    asked = _QUESTION.search(question)
    if asked is None:
        return None
    words = asked[0].split()
    if len(words) <= 2:
        return None
    return f"{question[: asked.start()].rstrip()} {' '.join(words[:2])}?".strip()


def _other_person(question: str, rng: random.Random) -> str | None:
    asked = _QUESTION.search(question)
    if asked is None:
        return None
    told = question[: asked.start()]
    name = next((n for n in _NAME.finditer(asked[0]) if re.search(rf"\b{n[0]}\b", told)), None)
    strangers = [n for n in NAMES if n not in question]
    if name is None or not strangers:
        return None
    body = asked[0]
    return told + body[: name.start()] + rng.choice(strangers) + body[name.end() :]
