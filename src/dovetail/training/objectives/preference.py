"""Direct preference optimisation: of two given answers, the chosen one becomes the likelier one.

Rafailov et al., "Direct Preference Optimization", arXiv 2305.18290, eq. 7. Its gradient (sect. 4) is that of
log-probabilities under a weight that depends on the pair's margin alone, so the two answers of a pair need
not share a micro-batch: margins are read first, without gradients, at the cost of one more forward pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dovetail.core import Example, InvalidValue
from dovetail.training.objectives.base import Objective, Reads
from dovetail.training.policy import Policy
from dovetail.training.rollouts import Rollouts


@dataclass(frozen=True)
class Preference(Objective):
    """Learns from pairs of answers.

    Attributes:
        beta: how strongly the model is held to the one that training began with.
        chosen, rejected: columns of the examples that hold the answers.
    """

    beta: float = 0.1
    chosen: str = "chosen"
    rejected: str = "rejected"

    writes = False
    group_size = 2

    def __post_init__(self) -> None:
        if not self.beta > 0:
            raise InvalidValue("beta", self.beta, "> 0")

    @property
    def reads(self) -> frozenset[Reads]:
        return frozenset({"logprobs", "reference"})

    def answers(self, example: Example) -> Sequence[str]:
        found = []
        for column in (self.chosen, self.rejected):
            answer = example.columns.get(column)
            if not isinstance(answer, str) or not answer:
                raise InvalidValue(f"example {example.id}: {column}", answer, "a text")
            found.append(answer)
        return found

    def margins(self, rollouts: Rollouts) -> Tensor:
        """[N / 2] beta times the log-ratio of the chosen answers minus that of the rejected ones."""
        assert rollouts.logprobs is not None
        assert rollouts.reference is not None
        ratios = ((rollouts.logprobs - rollouts.reference) * rollouts.mask).sum(1)
        return self.beta * (ratios[0::2] - ratios[1::2])

    def assign(self, rollouts: Rollouts) -> Tensor:
        """[N] the derivative of the loss by a row's log-probability, sign turned."""
        weight = self.beta * torch.sigmoid(-self.margins(rollouts))
        return torch.stack([weight, -weight], 1).flatten()

    def loss(self, policy: Policy, rollouts: Rollouts) -> tuple[Tensor, Mapping[str, Tensor]]:
        assert rollouts.advantages is not None
        written = (policy(rollouts).logprobs * rollouts.advantages * rollouts.mask).sum(1)
        return -2 * rollouts.mean_of_rows(written), {}  # twice: the mean is over pairs

    def figures(self, rollouts: Rollouts) -> Mapping[str, float]:
        """``preference_loss`` (eq. 7), and how often and by how much the chosen answer is preferred."""
        margins = self.margins(rollouts)
        return {
            "preference_loss": float(-torch.nn.functional.logsigmoid(margins).mean()),
            "preferred": float((margins > 0).double().mean()),
            "margin": float(margins.mean()),
        }
