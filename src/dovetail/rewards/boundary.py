"""BARREL's reward: right is best, an honest refusal is better than a wrong answer.

"BARREL: Boundary-Aware Reasoning for Factual and Reliable LRMs", arXiv 2505.13529 (ICLR 2026). A policy that
is right with probability p gains by answering iff p is above (refusal - wrong) / (right - wrong): 1/4 with
the defaults.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dovetail.core import InvalidValue
from dovetail.rewards.base import Batch, Reward
from dovetail.tasks import extraction

GOLDS = ("golds", "final_answer", "accepted_answers", "references", "answers", "reference", "answer")
CLOSING = "</think>"


@dataclass(frozen=True)
class BoundaryReward(Reward):
    """Three values: ``right``, ``refusal`` for "sorry" or "I don't ...", ``wrong`` for all else.

    Thinking that is not closed is wrong. A refusal is looked for before the answer is.

    Attributes:
        right, refusal, wrong: r_c > r_s > r_w.
        column: holds the accepted answer or a list of them; "" takes the first of `GOLDS`.
        match: ``match(answer, gold) -> bool``; by default `contained`, the official rule.
    """

    right: float = 1.0
    refusal: float = -0.5
    wrong: float = -1.0
    column: str = ""
    match: Callable[[str, str], bool] | None = None

    name = "barrel"

    def __post_init__(self) -> None:
        values = (self.right, self.refusal, self.wrong)
        if not (np.isfinite(values).all() and self.right > self.refusal > self.wrong):
            raise InvalidValue("right, refusal, wrong", values, "finite, right > refusal > wrong")

    @property
    def threshold(self) -> float:
        """The probability of being right above which answering pays."""
        return (self.refusal - self.wrong) / (self.right - self.wrong)

    def pay(self, batch: Batch) -> Sequence[float]:
        rows = zip(batch.texts, batch.closed, self.golds(batch), strict=True)
        return [self.worth(text, golds, thinking=not closed) for text, closed, golds in rows]

    def worth(self, response: str, golds: Sequence[str], thinking: bool = True) -> float:
        """What one response is paid.

        Args:
            response: with its thinking.
            golds: the accepted answers.
            thinking: whether a block of thinking must be closed before the answer; False where the prompt
                has closed it.
        """
        _, closed, after = response.partition(CLOSING)
        if thinking and not closed:
            return self.wrong
        said = after if closed else response
        if is_refusal(said):
            return self.refusal
        answer = extract_answer(said)
        match = self.match or contained
        return self.right if answer and any(match(answer, gold) for gold in golds) else self.wrong

    def golds(self, batch: Batch) -> list[list[str]]:
        """The accepted answers of each completion; a text is one answer.

        Raises:
            InvalidValue: no column with them, or a row without any; names it.
        """
        column = self.column or next((name for name in GOLDS if batch.has(name)), "")
        if not column:
            raise InvalidValue("columns", ", ".join(batch.columns) or "none", f"one of {', '.join(GOLDS)}")
        found = []
        for row, golds in enumerate(batch.column(column)):
            if hasattr(golds, "tolist"):
                golds = golds.tolist()
            several = golds if isinstance(golds, list | tuple) else [golds]
            answers = [str(g) for g in several if g is not None and str(g).strip()]
            if not answers:
                raise InvalidValue(f"column {column!r}, row {row}", golds, "at least one accepted answer")
            found.append(answers)
        return found


def is_refusal(text: str) -> bool:
    """Whether what stands after the thinking says "sorry" or "I don't", in any case."""
    folded = text.casefold().replace("’", "'")
    return "sorry" in folded or "i don't" in folded


_TEXT = re.compile(r"\\text\{([^{}]{1,1000})\}")
_BOLD = re.compile(r"\*\*([^*\n]{1,1000})\*\*")
_PHRASE = re.compile(r"So the final answer is:?[ \t]{0,8}([^\n]{1,1000})")


def extract_answer(text: str) -> str:
    """The last ``\\text{}``; else the last box; else the last bold words; else what follows "So the final
    answer is"; else ""."""
    if found := _TEXT.findall(text):
        return str(found[-1]).strip()
    if box := extraction.boxed(text):
        return box
    for pattern in (_BOLD, _PHRASE):
        if found := pattern.findall(text):
            return str(found[-1]).strip().rstrip(".")
    return ""


def contained(answer: str, gold: str) -> bool:
    """The official match: the answer stands within the gold one, case, commas and dollar signs aside.

    A single character never matches a longer gold answer. "Paris, France" for "Paris" is no match.
    """
    said, wanted = (re.sub(r"[,$]", "", t.lower().strip()) for t in (answer, gold))
    if len(said) == 1 and len(wanted) > 1:
        return False
    return bool(said) and said in wanted


@dataclass(frozen=True)
class Reliability:
    """Shares of all answers.

    Attributes:
        accuracy: right ones.
        truthfulness: right ones and refusals.
        reliability: ``a * truthfulness + (1 - a) * accuracy``, a the share of questions that were answered.
        wrong: neither right nor refused.
        answered: not refused.
    """

    accuracy: float
    truthfulness: float
    reliability: float
    wrong: float
    answered: float


def reliability(right: Sequence[Any], refused: Sequence[Any]) -> Reliability:
    """The figures of N answers; one that is right and refuses counts as right.

    >>> round(reliability([1] * 407 + [0] * 593, [0] * 703 + [1] * 297).reliability, 4)
    0.6158
    """
    good, gave_up = np.asarray(right, dtype=bool), np.asarray(refused, dtype=bool)
    if not len(good) or good.shape != gave_up.shape:
        raise InvalidValue("right, refused", (len(good), len(gave_up)), "of one size, at least 1")
    accuracy, refusals = float(good.mean()), float((gave_up & ~good).mean())
    truth, answered = accuracy + refusals, 1 - refusals
    return Reliability(accuracy, truth, answered * truth + (1 - answered) * accuracy, 1 - truth, answered)
