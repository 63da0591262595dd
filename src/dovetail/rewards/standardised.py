"""Rewards of different units added up: each is first standardised within its group.

BLEUBERI's mix of BLEU with a reward model (Chang et al., arXiv 2505.11080): (x - mean) / (std + 1e-6) over
the completions of a question, unbiased, then the mean over the rewards. Costs what the members cost.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dovetail.core import InvalidValue
from dovetail.rewards.base import Batch, Ints
from dovetail.rewards.members import MembersReward


@dataclass(frozen=True)
class StandardisedReward(MembersReward):
    """The mean of several rewards, each with mean 0 and deviation 1 in its group; None where one has none.

    Attributes:
        members: rewards of TRL's signature, such as `Bleu` and a reward model.
        eps: is added to the deviations.
    """

    eps: float = 1e-6

    name = "standardised"

    def __post_init__(self) -> None:
        if not self.members:
            raise InvalidValue("members", "none", "at least one reward")
        if not self.eps > 0:
            raise InvalidValue("eps", self.eps, "above 0")

    def together(self, paid: NDArray[np.float64], batch: Batch) -> NDArray[np.float64]:
        each = [standardised(row, batch.groups, self.eps) for row in paid]
        mean: NDArray[np.float64] = np.mean(each, axis=0)
        return mean


def standardised(paid: NDArray[np.float64], groups: Ints, eps: float = 1e-6) -> NDArray[np.float64]:
    """[N] values -> [N], by groups [N]; 0 in a group of one. NaN stays, and counts for nothing."""
    made = np.full(len(paid), np.nan)
    for group in np.unique(groups):
        rows = np.flatnonzero((groups == group) & ~np.isnan(paid))
        if len(rows):
            spread = float(paid[rows].std(ddof=1)) if len(rows) > 1 else 0.0
            made[rows] = (paid[rows] - paid[rows].mean()) / (spread + eps)
    return made
