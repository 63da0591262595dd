"""Rewards of different units added up: each is first standardised within its group.

BLEUBERI's mix of BLEU with a reward model (Chang et al., arXiv 2505.11080): (x - mean) / (std + 1e-6) over
the completions of a question, unbiased, then the mean over the rewards. Costs what the members cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dovetail.core import InvalidValue
from dovetail.rewards.base import Batch, Ints, Reward
from dovetail.rewards.ensemble import paid_by


@dataclass(frozen=True)
class StandardisedReward(Reward):
    """The mean of several rewards, each with mean 0 and deviation 1 in its group; None where one has none.

    Attributes:
        members: rewards of TRL's signature, such as `Bleu` and a reward model.
        eps: is added to the deviations.
    """

    members: Sequence[Any]
    eps: float = 1e-6

    name = "standardised"

    def __post_init__(self) -> None:
        if not self.members:
            raise InvalidValue("members", "none", "at least one reward")
        if not self.eps > 0:
            raise InvalidValue("eps", self.eps, "above 0")

    def pay(self, batch: Batch) -> list[float | None]:
        paid = np.array([paid_by(member, batch) for member in self.members])
        together = np.mean([standardised(row, batch.groups, self.eps) for row in paid], axis=0)
        return [None if np.isnan(v) else float(v) for v in together]

    def update(self, rollouts: Any) -> None:
        """Passed on to the members that learn."""
        for member in self.members:
            if hasattr(member, "update"):
                member.update(rollouts)

    def state_dict(self) -> dict[str, Any]:
        return {"members": [m.state_dict() if hasattr(m, "state_dict") else {} for m in self.members]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for member, held in zip(self.members, state["members"], strict=True):
            if hasattr(member, "load_state_dict"):
                member.load_state_dict(held)


def standardised(paid: NDArray[np.float64], groups: Ints, eps: float = 1e-6) -> NDArray[np.float64]:
    """[N] values -> [N], by groups [N]; 0 in a group of one. NaN stays, and counts for nothing."""
    made = np.full(len(paid), np.nan)
    for group in np.unique(groups):
        rows = np.flatnonzero((groups == group) & ~np.isnan(paid))
        if len(rows):
            spread = float(paid[rows].std(ddof=1)) if len(rows) > 1 else 0.0
            made[rows] = (paid[rows] - paid[rows].mean()) / (spread + eps)
    return made
