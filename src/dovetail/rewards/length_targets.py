"""Target lengths per class of difficulty, chosen from what the model writes now.

Liu et al., arXiv 2505.15612 (section 5.2): questions are sorted by the share of their K samples that are
right. A class gets the smallest length at which its short-enough samples are expected to hold at least one
right answer (expected correct responses, ECR). Costs a sort.

Shapes: Q questions, K samples each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from dovetail.core import InvalidValue
from dovetail.rewards.base import whole
from dovetail.rewards.length_terms import positive

Difficulty = Literal["easy", "medium", "hard"]
CLASSES: tuple[Difficulty, ...] = ("easy", "medium", "hard")


@dataclass(frozen=True)
class AdaptiveTargets:
    """The rule that chooses the targets.

    Attributes:
        lower: the first candidate.
        upper: the last one.
        interval: between candidates. A lower bound below it is followed by multiples of the interval.
        expected: right answers that must be expected among the samples that are short enough.
        rounding: of the least number of right answers in a class: "floor" (official code; 5, 2, 1 of K = 8)
            or "ceil" (paper; 6, 3, 1).
    """

    lower: int = 4096
    upper: int = 16384
    interval: int = 1024
    expected: float = 1.0
    rounding: Literal["floor", "ceil"] = "floor"

    def __post_init__(self) -> None:
        for name in ("lower", "upper", "interval", "expected"):
            positive(name, getattr(self, name))
        if self.lower > self.upper:
            raise InvalidValue("lower", self.lower, f"at most upper = {self.upper}")
        if self.rounding not in ("floor", "ceil"):
            raise InvalidValue("rounding", self.rounding, "'floor' or 'ceil'")

    @property
    def candidates(self) -> list[int]:
        start = self.lower + self.interval if self.lower >= self.interval else self.interval
        return [self.lower, *range(start, self.upper + 1, self.interval)]

    def fit(self, correct: Any, lengths: Any, longest: int | None = None) -> dict[Difficulty, int]:
        """The target of each class.

        Args:
            correct: [Q, K] whether each sample is right.
            lengths: [Q, K] tokens.
            longest: the longest completion in sight: the target of a class for which no candidate will do,
                and no candidate reaches it. By default the longest of ``lengths``.

        Raises:
            InvalidValue: questions with unequal numbers of samples, fewer than 3 of them, unequal shapes.
        """
        right, tokens = _table("correct", correct), _table("lengths", lengths)
        if right.shape != tokens.shape:
            raise InvalidValue("lengths", tokens.shape, f"of the shape of correct, {right.shape}")
        if not np.isin(right, (0, 1)).all():
            raise InvalidValue("correct", float(right[~np.isin(right, (0, 1))][0]), "0 or 1")
        whole("lengths", tokens.ravel())
        k = right.shape[1]
        if k < 3:
            raise InvalidValue("samples per question", k, "at least 3, or there are no classes of difficulty")
        fallback = int(tokens.max()) if longest is None else longest
        sums = right.sum(1)
        # By the samples that were right, as the official code sorts its monitor set: exact thirds go down.
        of_class = np.where(3 * sums <= k, 2, np.where(3 * sums <= 2 * k, 1, 0))
        return {
            name: self._target(tokens[of_class == place].ravel(), self.least(name, k), fallback)
            for place, name in enumerate(CLASSES)
        }

    def least(self, difficulty: Difficulty, k: int) -> int:
        """|C_d|, the least number of right answers among ``k`` in a class."""
        if difficulty == "hard":
            return 1
        thirds = 2 if difficulty == "easy" else 1
        return -(-thirds * k // 3) if self.rounding == "ceil" else thirds * k // 3

    def _target(self, lengths: np.ndarray, least: int, fallback: int) -> int:
        for candidate in self.candidates:
            if candidate >= fallback:
                break
            # In whole numbers: the share of short-enough samples times |C_d| reaches what is expected.
            if len(lengths) and int((lengths <= candidate).sum()) * least >= self.expected * len(lengths):
                return candidate
        return fallback


def difficulty_of(right: int, k: int) -> Difficulty:
    """The class of a training question of whose ``k`` samples ``right`` are right: exact thirds go up."""
    return "easy" if 3 * right >= 2 * k else "medium" if 3 * right >= k else "hard"


def targets_from(state: Mapping[str, Any]) -> dict[Difficulty, int]:
    """Targets as a checkpoint holds them."""
    if set(state) != set(CLASSES):
        raise InvalidValue("targets", sorted(state), f"one for each of {', '.join(CLASSES)}")
    return {name: int(state[name]) for name in CLASSES}


def _table(name: str, rows: Any) -> np.ndarray:
    """[Q, K] numbers."""
    try:
        table = np.asarray([[float(value) for value in row] for row in rows])
    except (TypeError, ValueError):
        table = np.zeros(0)
    if table.ndim != 2 or not table.size or not np.isfinite(table).all():
        raise InvalidValue(name, "a list of lists", "questions x samples, as many samples for each question")
    return table
