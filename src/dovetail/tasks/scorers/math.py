"""Math: the answer equals an accepted one as mathematics (Hugging Face's math-verify) or as words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from dovetail.core import Example, InvalidValue
from dovetail.tasks import extraction, sandbox
from dovetail.tasks.scorers.answer import AnswerScorer, Judgement, references

MAX_EXPRESSION = 1000  # characters; a longer answer is only compared as text
_COMMANDS = re.compile(
    r"\\(?:text|mathrm|operatorname)\s?\{[^{}]*\}|\\[A-Za-z]+|\b(?:sin|cos|tan|log|exp|sqrt|mod)\b"
)
_WORD = re.compile(r"[^\W\d_]{3,}")
_SPACING = re.compile(r"\\left|\\right|\\[!,;: ]|\s|\$")


@dataclass(frozen=True)
class Math(AnswerScorer):
    """1 if the answer equals an accepted one, else 0: as text, as a number, and then as mathematics.

    Sets, intervals, tuples, equations, matrices and expressions are compared by math-verify, in the sandbox
    and within ``seconds`` (its own limit is a signal, which fails outside the main thread and inside C code).
    An answer not judged in time counts as wrong, and in the figure ``undecided``. Answers of more than
    `MAX_EXPRESSION` characters are compared as text only; a reference of plain words is compared as words.

    Parameters
    ----------
    seconds: limit of one judgement in processor time (five times that in wall-clock time).
    """

    seconds: float = 2.0

    name = "math"
    extraction = (
        "last \\boxed{} after thinking; else #### / <answer> / 'answer is', else the last number or line"
    )

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise InvalidValue("seconds", self.seconds, "above 0")

    def judge(self, answer: str, example: Example) -> Judgement:
        verdicts = []
        for reference in references(example):
            verdicts.append(equal(reference, answer, self.seconds))
            if verdicts[-1]:
                return Judgement(1.0, {"undecided": 0.0})
        return Judgement(0.0, {"undecided": float(None in verdicts)})

    def fallback(self, text: str, example: Example | None) -> str:
        accepted = () if example is None else references(example)
        if said := extraction.announced(text):
            stated = extraction.number_in(said)
            if stated and accepted and all(extraction.number(r, units=False) is not None for r in accepted):
                return stated
            return said
        number = extraction.last_number(text)
        if number and all(extraction.number(r, units=False) is not None for r in accepted):
            return number
        return extraction.last_line(text)


@lru_cache(maxsize=10_000)
def equal(reference: str, answer: str, seconds: float) -> bool | None:
    """Whether the answer equals the reference; None if that could not be decided in ``seconds``."""
    if not answer.strip():
        return False
    if (
        _compact(reference) == _compact(answer)
        or extraction.plain(reference) == extraction.plain(answer) != ""
    ):
        return True
    value, wanted = extraction.number(answer), extraction.number(reference, units=False)
    if value is not None and wanted is not None and ("%" in reference) == ("%" in answer):
        return abs(value - wanted) <= 1e-6
    if is_words(reference) or len(answer) > MAX_EXPRESSION or len(reference) > MAX_EXPRESSION:
        return False
    try:
        return bool(sandbox.call(f"{__package__}.math_verify:equal", reference, answer, seconds=seconds))
    except sandbox.SandboxFailure:
        return None


def is_words(reference: str) -> bool:
    """Whether a reference is plain language (``Apollo 11``), which math-verify would reduce to its number."""
    return _WORD.search(_COMMANDS.sub(" ", reference)) is not None


def _compact(answer: str) -> str:
    answer = extraction.tidy(extraction.clean(answer))
    return _SPACING.sub("", answer).replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
