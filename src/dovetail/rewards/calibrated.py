"""A reward without what length alone explains of it.

Huang et al., "Post-hoc Reward Calibration: A Case Study on Length Bias", arXiv 2409.17407: r' = r - lam *
E[r | length], the expectation by locally weighted regression (LOWESS) over the completions at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dovetail.core import InvalidValue
from dovetail.rewards.base import Batch, Reward
from dovetail.rewards.members import paid_by


@dataclass(frozen=True)
class LengthCalibratedReward(Reward):
    """Another reward, freed from its dependence on length. Wants batches of some dozens of completions.

    Attributes:
        base: a reward of TRL's signature.
        lam: how much of the expectation is taken off.
        share: of the completions that one point of the curve is fitted to.
    """

    base: Any
    lam: float = 1.0
    share: float = 2 / 3

    name = "length-calibrated"

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise InvalidValue("share", self.share, "in (0, 1]")
        if not self.lam >= 0:
            raise InvalidValue("lam", self.lam, "at least 0")

    def pay(self, batch: Batch) -> Sequence[float | None]:
        paid = paid_by(self.base, batch)
        known = ~np.isnan(paid)
        found = paid.copy()
        if known.any():
            expected = expected_at(batch.lengths[known], paid[known], self.share)
            found[known] = paid[known] - self.lam * expected
        return [None if np.isnan(v) else float(v) for v in found]


def expected_at(lengths: ArrayLike, rewards: ArrayLike, share: float = 2 / 3) -> NDArray[np.float64]:
    """[N] E[reward | length] at each completion's length; the mean where fewer than three lengths differ."""
    x, y = np.asarray(lengths, dtype=np.float64), np.asarray(rewards, dtype=np.float64)
    if len(np.unique(x)) < 3:
        return np.full(len(y), y.mean())
    from statsmodels.nonparametric.smoothers_lowess import lowess

    # Where all of a point's neighbours have one length, its regression is not defined.
    with np.errstate(invalid="ignore"):
        fitted = np.asarray(lowess(y, x, frac=share, return_sorted=False), dtype=np.float64)
    return np.where(np.isfinite(fitted), fitted, y.mean())
