"""VideoAuto-R1's reward: both answers of ``\\boxed{first}<think>...</think>\\boxed{second}`` are paid.

"VideoAuto-R1: Video Auto Reasoning via Thinking Once, Answering Twice", arXiv 2601.05175 (CVPR 2026):
``R = w1 R1 + w2 R2 + format``, and a bonus for whoever says that thinking is needed and is then right. The
second answer weighs more, so that thinking pays; the decoding of the same name (`decoding.answer_twice`)
then stops after a first answer that is confident.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dovetail.core import InvalidValue
from dovetail.decoding.answer_twice import FALLBACK, TwiceAnswer, parse_twice
from dovetail.rewards.base import Batch, Reward
from dovetail.rewards.correct import REFERENCES, Correct

KINDS = ("exact_match", "math", "iou", "gqa")


@dataclass(frozen=True)
class DualAnswer(Reward):
    """``first * R1 + second * R2 + format * F``, plus ``fallback`` for thinking that was asked for and right.

    R1 and R2 are in [0, 1] (0 to 2 for "gqa"). A column ``problem_type`` says how a row is graded:
    "exact_match" and "math" as scorers do, "iou" by the overlap of time intervals, "gqa" (``answer <>
    [start, end]``) by both. Without the column ``judge`` grades all.

    Attributes:
        first, second: w1 < w2.
        format: for a completion of exactly the format.
        fallback: for a first box that begins `FALLBACK` where R2 is above 0.7.
        strict: whether a blank thought breaks the format; the official pattern lets it pass.
        judge: grades answers.
    """

    first: float = 0.9
    second: float = 1.1
    format: float = 1.0
    fallback: float = 0.3
    strict: bool = False
    judge: Correct = field(default_factory=Correct)

    name = "dual-answer"

    def __post_init__(self) -> None:
        for name in ("first", "second", "format", "fallback"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                raise InvalidValue(name, value, "a finite number >= 0")

    def pay(self, batch: Batch) -> Sequence[float | None]:
        answers = [parse_twice(text) for text in batch.texts]
        firsts = self._graded(batch, [a.first for a in answers])
        seconds = self._graded(batch, [a.second for a in answers])
        return [
            None if one is None or two is None else self.total(answer, one, two)
            for answer, one, two in zip(answers, firsts, seconds, strict=True)
        ]

    def total(self, answer: TwiceAnswer, first: float, second: float) -> float:
        """What a completion is paid whose answers are worth ``first`` and ``second``."""
        formed = answer.valid and (bool(answer.think) or not self.strict)
        asked = answer.first.startswith(FALLBACK) and second > 0.7
        paid = self.first * first + self.second * second
        return paid + self.format * formed + self.fallback * asked

    def _graded(self, batch: Batch, answers: Sequence[str]) -> list[float | None]:
        boxes = tuple(f"\\boxed{{{a}}}" for a in answers)
        kinds = batch.column("problem_type") if batch.has("problem_type") else [None] * len(batch)
        unknown = next((k for k in kinds if k is not None and k not in KINDS), None)
        if unknown is not None:
            raise InvalidValue("column 'problem_type'", unknown, f"one of {', '.join(KINDS)}")
        plain = replace(batch, texts=boxes, opened=("",) * len(batch))
        if not any(kinds):
            return [None if s is None else s.value for s in self.judge.scores(plain)]
        return [self._by_kind(plain, row, kind, answers[row]) for row, kind in enumerate(kinds)]

    def _by_kind(self, batch: Batch, row: int, kind: str | None, answer: str) -> float | None:
        if kind in ("iou", "gqa"):
            column = self.judge.column or next((n for n in REFERENCES if batch.has(n)), "reference")
            truth = batch.column(column)[row]
            if kind == "iou":
                return temporal_iou(truth, answer)
            words, _, span = str(truth).partition("<>")
            said, _, when = answer.partition("<>")
            return float(equal_answer(words, said)) + temporal_iou(span, when)
        grader = self.judge if kind is None else replace(self.judge, scorer=_SCORERS[kind])
        single = {name: [values[row]] for name, values in _columns(batch)}
        one = Batch((batch.prompts[row],), (batch.texts[row],), ("",), ("",), single)
        score = grader.scores(one)[0]
        return None if score is None else score.value


_SCORERS: dict[str, str] = {"exact_match": "exact", "math": "math"}
_NUMBER = r"(\d{1,12}(?:\.\d{0,9})?)"
_INTERVAL = re.compile(rf"{_NUMBER}\s{{0,4}}s?\s{{0,4}}(?:,|-|–|—|to|and)\s{{0,4}}{_NUMBER}")
_LETTER = re.compile(r"[(\[]?([a-z])[)\]]?[:)]?")
_YES = {"yes": "yes", "y": "yes", "true": "yes", "t": "yes", "ok": "yes"}
_NO = {"no": "no", "n": "no", "false": "no", "f": "no"}


def equal_answer(truth: str, answer: str) -> bool:
    """Equal but for form, case and spaces; ``(A)``, ``A)`` and ``A:`` are A, and yes and true are one."""

    def plain(text: str) -> str:
        text = " ".join(unicodedata.normalize("NFKC", text).strip().lower().split())
        letter = _LETTER.fullmatch(text)
        text = letter[1] if letter else text
        return _YES.get(text) or _NO.get(text) or text

    return plain(truth) == plain(answer)


def interval(text: str) -> tuple[float, float] | None:
    """The first interval that a text states (``[1.0, 2.5]``, ``3 to 4``), in order; None if there is none."""
    match = _INTERVAL.search(text)
    if match is None:
        return None
    start, end = float(match[1]), float(match[2])
    return (start, end) if start <= end else (end, start)


def temporal_iou(truth: Any, answer: str) -> float:
    """Overlap over union of the stated interval with the best of the true ones; 0 if none is stated.

    Args:
        truth: ``[start, end]``, several of them, or a text that states one.

    Raises:
        InvalidValue: ``truth`` is no interval.
    """
    return max(_overlap(true, interval(answer), _iou) for true in _intervals(truth))


def temporal_giou(truth: Any, answer: str) -> float:
    """IoU less the share of the hull that neither covers, in [-1, 1]; -1 if no interval is stated."""
    return max(_overlap(true, interval(answer), _giou, -1.0) for true in _intervals(truth))


def temporal_diou(truth: Any, answer: str) -> float:
    """IoU less the squared distance of the centres over the hull, in [-1, 1]; -1 if none is stated."""
    return max(_overlap(true, interval(answer), _diou, -1.0) for true in _intervals(truth))


Span = tuple[float, float]


def _overlap(
    true: Span, stated: Span | None, measure: Callable[[Span, Span], float], nothing: float = 0.0
) -> float:
    if stated is None or stated[1] - stated[0] <= 1e-9:
        return nothing
    return min(1.0, max(nothing, measure(true, stated)))


def _iou(a: Span, b: Span) -> float:
    common = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    return common / ((a[1] - a[0]) + (b[1] - b[0]) - common)


def _giou(a: Span, b: Span) -> float:
    common = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    hull = max(a[1], b[1]) - min(a[0], b[0])
    return _iou(a, b) - (hull - ((a[1] - a[0]) + (b[1] - b[0]) - common)) / hull


def _diou(a: Span, b: Span) -> float:
    hull = max(a[1], b[1]) - min(a[0], b[0])
    return _iou(a, b) - (((a[0] + a[1]) - (b[0] + b[1])) / 2 / hull) ** 2


def _intervals(truth: Any) -> list[Span]:
    if hasattr(truth, "tolist"):
        truth = truth.tolist()
    found: list[Any] = [interval(truth)] if isinstance(truth, str) else truth
    if isinstance(truth, list | tuple) and len(truth) == 2 and not isinstance(truth[0], list | tuple):
        found = [truth]
    try:
        spans = [(min(map(float, s)), max(map(float, s))) for s in found if len(s) == 2]
    except (TypeError, ValueError):
        spans = []
    if not spans or len(spans) < len(found) or any(b - a <= 1e-9 for a, b in spans):
        raise InvalidValue("interval", truth, "[start, end], or a list of them")
    return spans


def _columns(batch: Batch) -> list[tuple[str, list[Any]]]:
    names = [n for n in (*REFERENCES, "example", "choices", "metadata", "problem_type") if batch.has(n)]
    return [(n, batch.column(n)) for n in names]
