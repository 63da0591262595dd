"""Rewards without labels: a completion is paid for how certain the model was while writing it (EM-RL).

Agarwal et al., "The Unreasonable Effectiveness of Entropy Minimization in LLM Reasoning", arXiv 2505.15134
(sect. 3.2). Meant for `PolicyGradient` with the leave-one-out baseline and nothing else that pays. Costs one
more pass over what was written, without gradients. A trainer that does not hand over entropies or
log-probabilities (TRL's) cannot use them, and is told so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dovetail.core import InvalidValue
from dovetail.rewards.base import Batch, Floats, Reward


@dataclass(frozen=True)
class TokenEntropy(Reward):
    """Minus the sum of the entropies of all next-token distributions, in nats: r_tok, never above 0."""

    name = "token-entropy"
    reads: ClassVar[frozenset[str]] = frozenset({"entropies"})

    def pay(self, batch: Batch) -> Floats:
        return -sums(batch, "entropies")


@dataclass(frozen=True)
class SequenceEntropy(Reward):
    """The log-probability of the whole completion, in nats: r_traj, never above 0."""

    name = "sequence-entropy"
    reads: ClassVar[frozenset[str]] = frozenset({"logprobs"})

    def pay(self, batch: Batch) -> Floats:
        return sums(batch, "logprobs")


def sums(batch: Batch, name: str) -> Floats:
    """[N] sums of a column of lists, one number per token written.

    Raises:
        InvalidValue: the column is missing, or an entry is no list of finite numbers, or empty; names it.
    """
    found = np.empty(len(batch))
    for row, values in enumerate(batch.column(name)):
        try:
            of_tokens = np.asarray(values, dtype=np.float64)
        except (TypeError, ValueError):
            of_tokens = np.asarray(np.nan)
        if of_tokens.ndim != 1 or not len(of_tokens) or not np.isfinite(of_tokens).all():
            raise InvalidValue(
                f"column {name!r}, row {row}", values, "one finite number per token written, at least one"
            )
        found[row] = of_tokens.sum()
    return found
