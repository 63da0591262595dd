"""Auto: judges each example as its reference asks for; the default for files and hub datasets."""

from __future__ import annotations

from dataclasses import dataclass, field

from dovetail.core import Example
from dovetail.tasks import extraction
from dovetail.tasks.scorers.answer import AnswerScorer, Judgement, references
from dovetail.tasks.scorers.math import Math
from dovetail.tasks.scorers.multiple_choice import MultipleChoice, choices
from dovetail.tasks.scorers.numeric import Numeric


@dataclass(frozen=True)
class Auto(AnswerScorer):
    """Choices by letter (`MultipleChoice`), numbers by value (`Numeric`), everything else as mathematics or
    words (`Math`).

    Parameters
    ----------
    numeric, math, choice: the scorers that it hands on to.
    """

    numeric: Numeric = field(default_factory=Numeric)
    math: Math = field(default_factory=Math)
    choice: MultipleChoice = field(default_factory=MultipleChoice)

    name = "auto"
    extraction = (
        "last \\boxed{} after thinking; else #### / <answer> / 'answer is', else the last number (for "
        "numbers) or line; choices by letter, numbers by value, else as mathematics or words"
    )

    def judge(self, answer: str, example: Example) -> Judgement:
        judged = self._scorer(example).judge(answer, example)
        return Judgement(judged.value, {"undecided": judged.figures.get("undecided", 0.0)})

    def fallback(self, text: str, example: Example | None) -> str:
        return (self.math if example is None else self._scorer(example)).fallback(text, example)

    def _scorer(self, example: Example) -> AnswerScorer:
        if choices(example):
            return self.choice
        accepted = references(example)
        if accepted and all(extraction.number(r, units=False) is not None for r in accepted):
            return self.numeric
        return self.math
