"""The length rewards that LASER is measured beside, in the form that its paper gives them (table 2).

Truncated training; ThinkPrune (Hou et al., arXiv 2504.01296); Efficient Reasoning (Arora and Zanette, arXiv
2502.04463); Kimi k1.5 (arXiv 2501.12599, section 2.3.3); L1 (Aggarwal and Welleck, arXiv 2503.04697).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dovetail.core import InvalidValue, Score
from dovetail.rewards.base import Batch, Floats
from dovetail.rewards.length_terms import (
    MALFORMED,
    RIGHT,
    SMALL,
    Judged,
    LengthReward,
    TargetReward,
    Terms,
    not_negative,
    positive,
)


@dataclass(frozen=True)
class Truncation(TargetReward):
    """The base score up to ``target`` tokens, ``overlong`` beyond: what a short context window amounts to.

    Attributes:
        overlong: rho, what a longer answer is paid, right or wrong.
    """

    overlong: float = 0.0

    name = "truncation"

    def terms(self, judged: Judged) -> Terms:
        kept = np.where(judged.lengths <= self.goals(judged), judged.base, self.overlong)
        return Terms(np.zeros_like(kept), np.ones_like(kept), kept)


@dataclass(frozen=True)
class ThinkPrune(LengthReward):
    """`Truncation` whose target is lowered in stages.

    Attributes:
        stages: the targets, one after the other.
        steps_per_stage: training steps after which the next one holds; the last one stays.
        overlong: rho, what a longer answer is paid.
    """

    stages: tuple[int, ...] = (4096, 3072, 2048)
    steps_per_stage: int = 100
    overlong: float = 0.0

    name = "thinkprune"

    def __post_init__(self) -> None:
        if not self.stages or min(self.stages) <= 0:
            raise InvalidValue("stages", self.stages, "targets above 0")
        positive("steps_per_stage", self.steps_per_stage)

    def target(self, step: int) -> int:
        return self.stages[min(step // self.steps_per_stage, len(self.stages) - 1)]

    def terms(self, judged: Judged) -> Terms:
        targets = float(self.stages[0]) if judged.targets is None else judged.targets
        kept = np.where(judged.lengths <= targets, judged.base, self.overlong)
        return Terms(np.zeros_like(kept), np.ones_like(kept), kept)

    def _judged(self, batch: Batch, rows: list[int], scores: Sequence[Score]) -> Judged:
        if batch.step is None:
            raise InvalidValue("column 'step'", None, "given: the target hangs on the training step")
        found = super()._judged(batch, rows, scores)
        return replace(found, targets=np.full(len(rows), float(self.target(batch.step))))


@dataclass(frozen=True)
class Efficient(LengthReward):
    """Right answers pay ``alpha * sigmoid(z)``, z their length standardised over the group's right answers.

    A group with a single right answer uses mean 0 and deviation 1, as the official code does.

    Attributes:
        alpha: strength (0.05 to 0.4 in the paper).
    """

    alpha: float = 0.2

    name = "efficient"

    def __post_init__(self) -> None:
        not_negative("alpha", self.alpha)

    def terms(self, judged: Judged) -> Terms:
        z = np.zeros(len(judged.base))
        right = judged.right > 0
        for group in np.unique(judged.groups):
            rows = np.flatnonzero((judged.groups == group) & right)
            lengths = judged.lengths[rows].astype(np.float64)
            mean, deviation = (lengths.mean(), lengths.std(ddof=1)) if len(rows) > 1 else (0.0, 1.0)
            z[rows] = (lengths - mean) / (deviation + SMALL)
        return Terms(judged.base, judged.right, -self.alpha * sigmoid(z))


@dataclass(frozen=True)
class Kimi(LengthReward):
    """From +0.5 for the group's shortest answer down to -0.5 for its longest; wrong ones gain nothing.

    Nothing is added where all lengths are equal, or to malformed answers.

    Attributes:
        alpha: factor on it. LASER's code scales by 0.4; the formula in its table has 1.
    """

    alpha: float = 0.4

    name = "kimi"

    def __post_init__(self) -> None:
        not_negative("alpha", self.alpha)

    def terms(self, judged: Judged) -> Terms:
        part = np.zeros(len(judged.base))
        for group in np.unique(judged.groups):
            rows = np.flatnonzero(judged.groups == group)
            lengths = judged.lengths[rows]
            shortest, longest = lengths.min(), lengths.max()
            if longest > shortest:
                part[rows] = 0.5 - (lengths - shortest) / (longest - shortest + SMALL)
        part = np.where(judged.base == RIGHT, part, np.minimum(part, 0.0))
        part = np.where(judged.base == MALFORMED, 0.0, part)
        return Terms(judged.base, np.ones_like(part), self.alpha * part)


@dataclass(frozen=True)
class L1Exact(TargetReward):
    """The base score less ``alpha`` per token between length and target.

    Attributes:
        alpha: per token.
    """

    alpha: float = 0.0003

    name = "l1-exact"

    def __post_init__(self) -> None:
        super().__post_init__()
        not_negative("alpha", self.alpha)

    def terms(self, judged: Judged) -> Terms:
        apart = np.abs(judged.lengths - self.goals(judged))
        return Terms(judged.base, np.ones_like(apart), -self.alpha * apart)


@dataclass(frozen=True)
class L1Max(TargetReward):
    """Right answers are paid ``clip(alpha * (target - length) + delta, 0, 1)``, all others nothing.

    LASER's table prints ``length - target``, which would pay for length; this is the form of L1's own paper.

    Attributes:
        alpha: per token.
        delta: what a right answer of exactly the target's length is paid.
    """

    alpha: float = 0.01
    delta: float = 0.5

    name = "l1-max"

    def __post_init__(self) -> None:
        super().__post_init__()
        not_negative("alpha", self.alpha)

    def terms(self, judged: Judged) -> Terms:
        room = self.goals(judged) - judged.lengths
        return Terms(np.zeros_like(room), judged.right, np.clip(self.alpha * room + self.delta, 0.0, 1.0))


def sigmoid(x: Floats) -> Floats:
    return 0.5 * (1 + np.tanh(x / 2))
