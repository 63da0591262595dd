"""Several evaluators in place of one: where they disagree, less is paid.

Coste et al., "Reward Model Ensembles Help Mitigate Overoptimization", arXiv 2310.02743: mean, worst case
(``min``) and uncertainty-weighted optimisation (``uwo``: mean minus lam times the members' variance). It
helps only as far as the members' mistakes differ. Costs as many evaluations as there are members.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dovetail.core import InvalidValue
from dovetail.rewards.base import Batch, Reward

Mode = Literal["mean", "min", "uwo", "lcb"]


@dataclass(frozen=True)
class EnsembleReward(Reward):
    """What several rewards agree on; None where one of them does not apply.

    Attributes:
        members: rewards of TRL's signature.
        mode: "mean", "min", "uwo" (mean - lam * variance) or "lcb" (mean - lam * standard deviation, which
            has the rewards' own unit).
        lam: weight of the disagreement (paper: 0.5 for best-of-n, 0.1 for PPO).
    """

    members: Sequence[Any]
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

    def pay(self, batch: Batch) -> list[float | None]:
        paid = np.array([paid_by(member, batch) for member in self.members])
        together = combined(paid, self.mode, self.lam)
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


def combined(paid: NDArray[np.float64], mode: Mode, lam: float = 0.5) -> NDArray[np.float64]:
    """[K, N] rewards of K members -> [N]; NaN where a member has none."""
    if mode == "min":
        return paid.min(0)
    mean = paid.mean(0)
    if mode == "uwo":
        return mean - lam * paid.var(0)
    return mean - lam * paid.std(0) if mode == "lcb" else mean


def paid_by(reward: Any, batch: Batch) -> NDArray[np.float64]:
    """[N] what a reward says of a batch, NaN for None.

    Raises:
        InvalidValue: it returned another number of values than there are completions, or one that is NaN.
    """
    given = {key: value for key, value in batch.columns.items() if key != "log_metric"}
    values = reward(prompts=list(batch.prompts), completions=list(batch.texts), **given)
    name = getattr(reward, "name", None) or getattr(reward, "__name__", type(reward).__name__)
    if len(values) != len(batch):
        raise InvalidValue(
            f"reward {name!r}", f"{len(values)} values", f"one for each of {len(batch)} completions"
        )
    bad = [i for i, v in enumerate(values) if v is not None and not np.isfinite(v)]
    if bad:
        raise InvalidValue(f"reward {name!r}, row {bad[0]}", values[bad[0]], "a finite number, or None")
    return np.array([np.nan if v is None else float(v) for v in values])
