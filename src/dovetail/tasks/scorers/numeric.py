"""Numeric: the answer states the right number, within a tolerance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from dovetail.core import Example, InvalidValue
from dovetail.tasks import extraction
from dovetail.tasks.scorers.answer import AnswerScorer, Judgement, references


@dataclass(frozen=True)
class Numeric(AnswerScorer):
    """1 if ``|answer - reference| <= max(absolute, relative * |reference|)``, else 0; computed in exact
    fractions.

    Parameters
    ----------
    absolute, relative: the tolerance; by default only what a rounded binary fraction explains.
    """

    absolute: float = 1e-6
    relative: float = 0.0

    name = "numeric"
    extraction = "last \\boxed{} after thinking; else #### / <answer> / 'answer is', else the last number"

    def __post_init__(self) -> None:
        for field in ("absolute", "relative"):
            value = getattr(self, field)
            if not (math.isfinite(value) and value >= 0):
                raise InvalidValue(field, value, "a finite number, at least 0")

    def judge(self, answer: str, example: Example) -> Judgement:
        value = extraction.number(answer)
        if value is None:
            return Judgement(0.0)
        accepted = (extraction.number(r) for r in references(example))
        return Judgement(float(any(r is not None and self.close(value, r) for r in accepted)))

    def close(self, value: Fraction, reference: Fraction) -> bool:
        """Whether ``value`` is within the tolerance of ``reference``."""
        return abs(value - reference) <= max(
            Fraction(self.absolute), Fraction(self.relative) * abs(reference)
        )

    def fallback(self, text: str, example: Example | None) -> str:
        said = extraction.announced(text)
        return (said and extraction.number_in(said)) or extraction.last_number(text) or ""
