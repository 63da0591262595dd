"""Rewards made of several rewards: their members are asked, told and kept together."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dovetail.core import InvalidValue
from dovetail.rewards.base import Batch, Reward


@dataclass(frozen=True)
class MembersReward(Reward):
    """Base: a subclass says in `together` what its members' values come to.

    Attributes:
        members: rewards of TRL's signature.
    """

    members: Sequence[Any]

    @abstractmethod
    def together(self, paid: NDArray[np.float64], batch: Batch) -> NDArray[np.float64]:
        """[N] of the members' values [K, N]; NaN where a member has none, and where nothing is paid."""

    def pay(self, batch: Batch) -> list[float | None]:
        paid = np.array([paid_by(member, batch) for member in self.members])
        return [None if np.isnan(v) else float(v) for v in self.together(paid, batch)]

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
