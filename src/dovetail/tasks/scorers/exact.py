"""Exact: the answer is one of the accepted texts."""

from __future__ import annotations

from dataclasses import dataclass

from dovetail.core import Example
from dovetail.tasks import extraction
from dovetail.tasks.scorers.answer import AnswerScorer, Judgement, references


@dataclass(frozen=True)
class Exact(AnswerScorer):
    """1 if the answer equals an accepted one, else 0.

    Parameters
    ----------
    normalise: fold case, collapse spaces, and strip quotes, LaTeX text commands and final punctuation first
        (``\\text{Paris}.`` is ``paris``). False compares character by character.
    """

    normalise: bool = True

    name = "exact"
    extraction = "last \\boxed{} after thinking; else #### / <answer> / 'answer is', else the last line"

    def judge(self, answer: str, example: Example) -> Judgement:
        if self.normalise:
            plain = extraction.plain(answer)
            return Judgement(float(any(plain == extraction.plain(r) for r in references(example))))
        return Judgement(float(answer in references(example)))

    def vote(self, answer: str) -> str:
        return extraction.plain(answer) if self.normalise else answer
