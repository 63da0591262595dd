"""EM-FT: a model is fine-tuned on nothing but the entropy of what it writes itself.

Agarwal et al., "The Unreasonable Effectiveness of Entropy Minimization in LLM Reasoning", arXiv 2505.15134
(sect. 3.1; eq. 2). No labels, no rewards. The tokens are constants: gradients go through the distributions
at each token only, with no score-function term. It makes likely what the model already finds likely, so it
helps where confidence goes with being right, and locks errors in where it does not. Costs one forward and
backward pass per completion. EM-RL, its other half, is `PolicyGradient` with a reward of `rewards.entropy`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from dovetail.core import InvalidValue
from dovetail.training.objectives.base import Objective, Reads
from dovetail.training.policy import Policy
from dovetail.training.rollouts import Rollouts


@dataclass(frozen=True)
class EntropyFinetuning(Objective):
    """Minimises the entropy of every next-token distribution along the model's own completions.

    Attributes:
        group_size: N, completions per question.
        reduction: of the token entropies: summed over a completion, mean over completions (eq. 2), or the
            mean over all tokens, which does not favour short completions.
        kl: weight of the divergence from the model that training began with (the paper's ablation); above 0
            costs a second forward pass and a copy of the weights.
    """

    group_size: int = 1
    reduction: Literal["sum_per_sequence", "token_mean"] = "sum_per_sequence"
    kl: float = 0.0

    def __post_init__(self) -> None:
        if self.group_size < 1:
            raise InvalidValue("group_size", self.group_size, "at least 1")
        if self.reduction not in ("sum_per_sequence", "token_mean"):
            raise InvalidValue("reduction", self.reduction, "'sum_per_sequence' or 'token_mean'")
        if not self.kl >= 0:
            raise InvalidValue("kl", self.kl, ">= 0")

    @property
    def reads(self) -> frozenset[Reads]:
        return frozenset({"reference"} if self.kl else ())

    def loss(self, policy: Policy, rollouts: Rollouts) -> tuple[Tensor, Mapping[str, Tensor]]:
        reading = policy(rollouts)
        loss = self._reduced(rollouts, reading.entropy)
        figures = {"entropy": rollouts.mean(reading.entropy.detach())}
        if self.kl:
            assert rollouts.reference is not None
            # Low-variance estimator of KL(policy || reference) at the tokens written, as `PolicyGradient`'s.
            log_ratio = rollouts.reference - reading.logprobs
            divergence = self._reduced(rollouts, log_ratio.exp() - log_ratio - 1)
            loss = loss + self.kl * divergence
            figures["kl"] = divergence.detach()
        return loss, figures

    def _reduced(self, rollouts: Rollouts, values: Tensor) -> Tensor:
        """These rows' share of the update's mean of ``values`` [N, L]."""
        if self.reduction == "token_mean":
            return rollouts.mean(values)
        return rollouts.mean_of_rows((values * rollouts.mask).sum(1))
