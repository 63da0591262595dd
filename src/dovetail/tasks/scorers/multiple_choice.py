"""MultipleChoice: the model writes the letter of a choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dovetail.core import Example
from dovetail.tasks import extraction
from dovetail.tasks.scorers.answer import AnswerScorer, Judgement, references


def choices(example: Example) -> tuple[str, ...]:
    """The texts of the choices A, B, C, ...: the column ``choices``; () if the example has none."""
    found = example.columns.get("choices")
    return tuple(str(c) for c in found) if isinstance(found, Sequence) and not isinstance(found, str) else ()


@dataclass(frozen=True)
class MultipleChoice(AnswerScorer):
    """1 if the answer names the right choice by its letter or its full text, else 0.

    The example's column ``choices`` holds the texts, its reference the letter (A for the first).
    """

    name = "choice"
    extraction = (
        "letter in the last \\boxed{} after thinking; else in #### / <answer> / 'answer is' / (X), "
        "else the last line"
    )

    def judge(self, answer: str, example: Example) -> Judgement:
        return Judgement(float(self.chosen(answer, example) in references(example)))

    def chosen(self, answer: str, example: Example) -> str | None:
        """The letter of the choice that the answer names: by its text, else by its letter; None if none."""
        texts = [extraction.plain(c) for c in choices(example)]
        if texts.count(extraction.plain(answer)) == 1:
            return chr(ord("A") + texts.index(extraction.plain(answer)))
        letter = extraction.letter(answer)
        if letter is None or (texts and ord(letter) - ord("A") >= len(texts)):
            return None
        return letter

    def vote(self, answer: str) -> str:
        return extraction.letter(answer) or extraction.plain(answer)
