"""Overlong: a soft punishment for completions that come near the length limit, and none below.

Yu et al., "DAPO", arXiv 2503.14476 (eq. 13). A cut-off completion is noise as a wrong answer; a slope before
the limit tells the policy where it is heading. For use beside a reward of correctness.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dovetail.core import InvalidValue
from dovetail.rewards.base import Batch, Floats, Reward


@dataclass(frozen=True)
class Overlong(Reward):
    """0 up to ``max_length - cache`` tokens, from there down in a straight line to -1 at ``max_length``.

    Attributes:
        max_length: L_max, the tokens from which on the whole punishment is due.
        cache: L_cache, the tokens over which it grows.
    """

    max_length: int = 20480
    cache: int = 4096

    name = "overlong"

    def __post_init__(self) -> None:
        if not self.max_length > 0:
            raise InvalidValue("max_length", self.max_length, "above 0")
        if not 0 < self.cache <= self.max_length:
            raise InvalidValue("cache", self.cache, f"above 0 and at most max_length = {self.max_length}")

    def pay(self, batch: Batch) -> Floats:
        over = batch.lengths - (self.max_length - self.cache)
        return -np.clip(over / self.cache, 0.0, 1.0)
