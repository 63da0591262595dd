"""What do responses do? Counts of behaviours in what a model writes: verifying, planning, writing code, ...

The audit of "Prior Prompt Engineering for Reinforcement Fine-Tuning" (arXiv 2505.14157): four cognitive
behaviours (Gandhi et al., arXiv 2503.01307) and the five that its prior prompts ask for. The paper asks a
language model (`asking`); without one, `keywords` looks for telltale words, which finds manners of speaking
rather than thoughts: compare models by it, do not read its shares as truths.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from dovetail.core import Figure, InvalidValue, UnknownName
from dovetail.core.statistics import score

#: (text, behaviour) -> how often the text shows it.
Judge = Callable[[str, str], int]

COGNITIVE: dict[str, str] = {
    "verification": "checks a result that it has found",
    "backtracking": "gives up an approach that fails, and takes another",
    "subgoals": "splits the problem into smaller steps that it names",
    "backward chaining": "works from the wanted result back to what is given",
}
ELICITED: dict[str, str] = {
    "think": "reasons step by step in words",
    "plan": "writes a plan before it solves",
    "code": "writes code, or lines that read as code",
    "knowledge": "recalls facts, definitions or formulas",
    "examples": "shows worked examples",
}
BEHAVIOURS: dict[str, str] = COGNITIVE | ELICITED

_KEYWORDS: dict[str, str] = {
    "verification": r"\blet(?:'s| me| us) (?:check|verify)|\b(?:double[- ]check|verif(?:y|ied)|to check)\b",
    "backtracking": r"\b(?:wait|instead|try (?:again|another)|that is (?:wrong|not right)|go(?:ing)? back)\b",
    "subgoals": r"\bstep \d|\b(?:sub-?goals?|break (?:it|this) down|first,? (?:we|i) (?:need|find|must))\b",
    "backward chaining": r"\bwork(?:ing)? backwards?\b|\bto (?:get|reach) [^.\n]{1,40}\b(?:need|must)\b",
    "think": r"\b(?:first|then|therefore|thus|hence|let(?:'s| me) (?:think|see)|step by step)\b",
    "plan": r"\b(?:my|the|a) plan\b|^[ \t]*(?:step[ \t]*)?\d{1,2}[.):][ \t]",
    "code": r"```|^[ \t]*(?:def|return|import|print)\b|\bprint\(|^[ \t]*[a-z_]\w{0,30}[ \t]*[-+*/]?=[ \t]*\S",
    "knowledge": r"\b(?:facts?|definitions?|formulas?|theorems?|recall|by definition)\b",
    "examples": r"\b(?:examples?|for instance)\b",
}
_COMPILED = {label: re.compile(p, re.IGNORECASE | re.MULTILINE) for label, p in _KEYWORDS.items()}
_TAGS = re.compile(r"</?[A-Za-z][\w-]{0,40}>")


def keywords(text: str, behaviour: str) -> int:
    """How often a text has words that tell of a behaviour. Tags do not count: ``<plan>`` is no plan.

    Raises:
        UnknownName: a behaviour that it has no words for.
    """
    if behaviour not in _COMPILED:
        raise UnknownName("behaviour", behaviour, _COMPILED)
    return sum(1 for _ in _COMPILED[behaviour].finditer(_TAGS.sub("", text)))


def asking(model: Callable[[str], str], behaviours: Mapping[str, str] = BEHAVIOURS) -> Judge:
    """A judge that asks a language model; a reply without a number counts as 0.

    Args:
        model: prompt -> reply.
        behaviours: name -> what it is, in words that the model is given.
    """

    def judge(text: str, behaviour: str) -> int:
        if behaviour not in behaviours:
            raise UnknownName("behaviour", behaviour, behaviours)
        prompt = (
            f"How often does the writer of this text do the following: {behaviours[behaviour]}?\n"
            f"Reply with a whole number alone, 0 if never.\n\nText:\n{text}"
        )
        found = re.search(r"\d{1,4}", model(prompt))
        return int(found[0]) if found else 0

    return judge


def classify_behaviour(
    text: str, labels: Sequence[str] = tuple(BEHAVIOURS), judge: Judge = keywords
) -> dict[str, int]:
    """How often a text shows each behaviour."""
    return {label: judge(text, label) for label in labels}


def behaviour_shares(
    responses: Mapping[str, Sequence[str]],
    labels: Sequence[str] = tuple(BEHAVIOURS),
    judge: Judge = keywords,
) -> dict[str, dict[str, Figure]]:
    """Model -> behaviour -> the share of its responses that show it, with its interval: the paper's heat map.

    Raises:
        InvalidValue: a model without responses; names it.
    """
    found: dict[str, dict[str, Figure]] = {}
    for name, texts in responses.items():
        if not texts:
            raise InvalidValue(f"responses of {name!r}", texts, "at least one")
        counts = [classify_behaviour(text, labels, judge) for text in texts]
        found[name] = {label: score([float(c[label] > 0) for c in counts]) for label in labels}
    return found
