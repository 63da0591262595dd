"""Bounded rewards: what lies outside of what an evaluator was made for, pays no more.

`ClippedReward` cuts; `SigmoidReward` is the shaping of Fu et al., "Reward Shaping to Mitigate Reward Hacking
in RLHF", arXiv 2502.18770: the sigmoid of a reward minus that of a reference answer to the same prompt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from dovetail.core import InvalidValue
from dovetail.rewards.base import Batch, Reward
from dovetail.rewards.members import paid_by


@dataclass(frozen=True)
class ClippedReward(Reward):
    """Another reward, cut to [low, high].

    Attributes:
        base: a reward of TRL's signature.
        low, high: bounds, such as the 1% and 99% quantiles of the reference policy's rewards.
    """

    base: Any
    low: float = -math.inf
    high: float = math.inf

    name = "clipped"

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise InvalidValue("high", self.high, f"above low, which is {self.low}")

    def pay(self, batch: Batch) -> list[float | None]:
        paid = np.clip(paid_by(self.base, batch), self.low, self.high)
        return [None if np.isnan(v) else float(v) for v in paid]


@dataclass(frozen=True)
class SigmoidReward(Reward):
    """The sigmoid of another reward minus the reference answer's: the chance of being preferred to it.

    Attributes:
        base: a reward of TRL's signature.
        reference: column with the base reward of the reference answer; "" compares with 0.
        scale: divides the difference.
    """

    base: Any
    reference: str = ""
    scale: float = 1.0

    name = "sigmoid"

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise InvalidValue("scale", self.scale, "above 0")

    def pay(self, batch: Batch) -> list[float | None]:
        paid = paid_by(self.base, batch)
        against = batch.numbers(self.reference) if self.reference else np.zeros(len(batch))
        return [None if np.isnan(x) else 0.5 * (1 + math.tanh(x / 2)) for x in (paid - against) / self.scale]
