"""Several evaluators in place of one: where they disagree, less is paid.

Coste et al., "Reward Model Ensembles Help Mitigate Overoptimization", arXiv 2310.02743: mean, worst case
(``min``) and uncertainty-weighted optimisation (``uwo``: mean minus lam times the members' variance). It
helps only as far as the members' mistakes differ. Costs as many evaluations as there are members.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dovetail.core import InvalidValue
from dovetail.rewards.base import Batch
from dovetail.rewards.members import MembersReward

Mode = Literal["mean", "min", "uwo", "lcb"]


@dataclass(frozen=True)
class EnsembleReward(MembersReward):
    """What several rewards agree on; None where one of them does not apply.

    Attributes:
        members: rewards of TRL's signature.
        mode: "mean", "min", "uwo" (mean - lam * variance) or "lcb" (mean - lam * standard deviation, which
            has the rewards' own unit).
        lam: weight of the disagreement (paper: 0.5 for best-of-n, 0.1 for PPO).
    """

    mode: Mode = "uwo"
    lam: float = 0.5

    name = "ensemble"

    def __post_init__(self) -> None:
        if self.mode not in ("mean", "min", "uwo", "lcb"):
            raise InvalidValue("mode", self.mode, "'mean', 'min', 'uwo' or 'lcb'")
        fewest = 2 if self.mode in ("uwo", "lcb") else 1
        if len(self.members) < fewest:
            raise InvalidValue(
                "members", f"{len(self.members)} of them", f"at least {fewest} in mode {self.mode!r}"
            )
        if not self.lam >= 0:
            raise InvalidValue("lam", self.lam, "at least 0")

    def together(self, paid: NDArray[np.float64], batch: Batch) -> NDArray[np.float64]:
        return combined(paid, self.mode, self.lam)


def combined(paid: NDArray[np.float64], mode: Mode, lam: float = 0.5) -> NDArray[np.float64]:
    """[K, N] rewards of K members -> [N]; NaN where a member has none."""
    if mode == "min":
        return paid.min(0)
    mean = paid.mean(0)
    if mode == "uwo":
        return mean - lam * paid.var(0)
    return mean - lam * paid.std(0) if mode == "lcb" else mean
