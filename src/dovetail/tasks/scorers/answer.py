"""What scorers share: cut off the thinking, find the answer strictly or leniently, judge it once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

from dovetail.core import Completion, Example, Score
from dovetail.tasks import extraction


@dataclass(frozen=True, slots=True)
class Judgement:
    """What an extracted answer is worth: ``value`` in [0, 1], and further figures by name."""

    value: float
    figures: Mapping[str, float] = field(default_factory=dict)


MAX_ANSWER = 1000  # characters of an answer that are kept in the record and voted on


class AnswerScorer(ABC):
    """Base of the scorers that find one answer in a text and judge it.

    Strict: only the last ``\\boxed{}`` after the thinking counts. Lenient: where there is no box, `fallback`
    looks on. Thinking never counts, and a completion that opened thinking without closing it has no answer.
    A subclass gives ``name``, ``extraction`` and `judge`, and may override `fallback`.
    """

    name: str
    extraction: str

    def __call__(self, example: Example, completion: Completion) -> Score:
        text = extraction.written(completion)
        box = None if text is None else extraction.boxed(text)
        answer = box if box is not None else "" if text is None else self.fallback(text, example)
        if not answer.strip():
            return Score(0.0, 0.0, "", False, dict(self.judge("", example).figures))
        judged = self.judge(answer, example)
        value = min(max(float(judged.value), 0.0), 1.0)
        strict = value if box is not None else 0.0
        return Score(value, strict, self.vote(answer)[:MAX_ANSWER], box is not None, judged.figures)

    def extract(self, text: str) -> str:
        """The answer in a completion's text, spelled so that equal answers are equal strings; "" if none."""
        after = extraction.after_thinking(text)
        if after is None:
            return ""
        box = extraction.boxed(after)
        return self.vote(box if box is not None else self.fallback(after, None))[:MAX_ANSWER]

    @abstractmethod
    def judge(self, answer: str, example: Example) -> Judgement:
        """What ``answer`` is worth; must not raise. Called with "" for a completion without an answer."""

    def fallback(self, text: str, example: Example | None) -> str:
        """The answer in a text without a box ("" if none); ``example`` is None for majority votes."""
        return extraction.announced(text) or extraction.last_line(text)

    def vote(self, answer: str) -> str:
        """The spelling of an answer that votes are counted by."""
        return (
            extraction.canonical(answer)
            if extraction.number(answer) is not None
            else extraction.plain(answer)
        )


def references(example: Example) -> tuple[str, ...]:
    """All accepted answers: the column ``accepted_answers`` where there are several, else the reference."""
    several = example.columns.get("accepted_answers")
    if several:
        return tuple(str(r) for r in several)
    return () if example.reference is None else (example.reference,)
