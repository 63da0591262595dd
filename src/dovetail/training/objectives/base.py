"""The objective slot: what a model learns from a batch of completions.

An objective is a frozen dataclass whose fields are the paper's hyperparameters. It says how completions come
about (written by the model in groups, or given as answers), what each is worth (`assign`) and what the loss
is (`loss`). It never samples, steps an optimizer or looks at the clock.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from dovetail.core import Example
from dovetail.training.policy import Policy
from dovetail.training.rollouts import Rollouts

Reads = Literal["logprobs", "entropies", "reference"]


class Objective(ABC):
    """What is learned. Subclasses are frozen dataclasses.

    Attributes:
        writes: whether the model writes the completions; if not, `answers` gives them and nothing is judged.
        group_size: completions per question.
        passes: how often a step's completions are gone through.
        minibatches: updates per pass, each on a share of the questions.
    """

    writes: bool = True
    group_size: int = 1
    passes: int = 1
    minibatches: int = 1

    @property
    def reads(self) -> frozenset[Reads]:
        """What of a step's `Rollouts` the trainer fills in, without gradients, before `assign`."""
        return frozenset()

    def answers(self, example: Example) -> Sequence[str]:
        """The texts to learn from an example, ``group_size`` of them, where ``writes`` is False."""
        raise NotImplementedError

    def assign(self, rollouts: Rollouts) -> Tensor | None:
        """What each completion [N], or each of its tokens [N, L], is worth; None for an objective without.

        May look at anything in ``rollouts``: rewards, entropies, lengths; it need not have any reward.
        """
        return None

    @abstractmethod
    def loss(self, policy: Policy, rollouts: Rollouts) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss of some of an update's rows, and figures for the log.

        Both are *shares* of means over the whole update (`Rollouts.mean`): the trainer adds them up over
        micro-batches, so results do not depend on how the rows were cut. ``policy(rollouts)`` reads
        the rows with gradients. Figures are reported as means over the rows that were read (see `idle`).
        """

    def idle(self, rollouts: Rollouts) -> Tensor:
        """[N] bool: rows that add nothing to the loss and need not be read."""
        return torch.zeros(len(rollouts), dtype=torch.bool, device=rollouts.group.device)

    def figures(self, rollouts: Rollouts) -> Mapping[str, Any]:
        """Figures of a whole step for the log, once advantages are assigned."""
        return {}
