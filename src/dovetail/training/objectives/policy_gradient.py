"""Policy gradient with group-relative advantages: GRPO and its common variants as fields.

Shao et al., "DeepSeekMath", arXiv 2402.03300 (eq. 3: groups, clipped ratios, KL with a reference by the
estimator of eq. 4). Its variants: no division by the standard deviation and a constant denominator (Liu et
al., "Dr. GRPO", arXiv 2503.20783); token means, asymmetric clipping and truncated completions left out (Yu et
al., "DAPO", arXiv 2503.14476); the leave-one-out baseline (Ahmadian et al., "RLOO", arXiv 2402.14740); each
reward normalised by itself (Liu et al., "GDPO", arXiv 2601.05242).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dovetail.core import InvalidValue
from dovetail.training.objectives.base import Objective, Reads
from dovetail.training.policy import Policy
from dovetail.training.rollouts import Average, Rollouts

_SMALL = 1e-4  # added to standard deviations, as the reference implementations do


@dataclass(frozen=True)
class PolicyGradient(Objective):
    """Completions that were paid more than others of their group become likelier.

    Attributes:
        group_size: completions per question, at least 2 (1 with ``baseline="none"``).
        baseline: what is taken off a completion's reward: its group's mean, the mean of the others
            ("leave-one-out"), or nothing.
        scale: what the difference is divided by: its group's standard deviation, the batch's, or nothing.
        decoupled: normalise every reward within its group by itself, then add them up and normalise over the
            batch (GDPO), so that a reward of small range is not drowned by one of a large range.
        average: over all tokens of an update, over completions of their means, or tokens over a constant.
        clip_low, clip_high: a ratio is clipped to [1 - clip_low, 1 + clip_high]; without effect at one update
            per batch.
        kl: weight of the divergence from the model that training began with; above 0 costs a second forward
            pass and a copy of the weights.
        passes, minibatches: updates per batch are their product.
        drop_truncated: leave completions out that the length limit ended.
    """

    group_size: int = 8
    baseline: Literal["group", "leave-one-out", "none"] = "group"
    scale: Literal["group", "batch", "none"] = "group"
    decoupled: bool = False
    average: Average = "token"
    clip_low: float = 0.2
    clip_high: float = 0.2
    kl: float = 0.0
    passes: int = 1
    minibatches: int = 1
    drop_truncated: bool = False

    def __post_init__(self) -> None:
        for name, known in (
            ("baseline", ("group", "leave-one-out", "none")),
            ("scale", ("group", "batch", "none")),
            ("average", ("token", "sequence", "constant")),
        ):
            if getattr(self, name) not in known:
                raise InvalidValue(name, getattr(self, name), " or ".join(map(repr, known)))
        for name in ("group_size", "passes", "minibatches"):
            if getattr(self, name) < 1:
                raise InvalidValue(name, getattr(self, name), "at least 1")
        if self.group_size < 2 and self.baseline != "none":
            raise InvalidValue("group_size", self.group_size, "at least 2, or baseline='none'")
        if not 0 <= self.clip_low <= 1 or self.clip_high < 0:
            clips = (self.clip_low, self.clip_high)
            raise InvalidValue("clip_low, clip_high", clips, "0 <= clip_low <= 1 and clip_high >= 0")
        if not self.kl >= 0:
            raise InvalidValue("kl", self.kl, ">= 0")

    @property
    def reads(self) -> frozenset[Reads]:
        several: frozenset[Reads] = frozenset({"logprobs"} if self.passes * self.minibatches > 1 else ())
        return several | (frozenset({"reference"}) if self.kl else frozenset())

    def assign(self, rollouts: Rollouts) -> Tensor:
        """[N] float64 advantages; rows that no reward applies to get 0 and do not count."""
        if self.drop_truncated:
            rollouts.mask = rollouts.mask & ~rollouts.truncated[:, None]
        if len(rollouts.names):
            rollouts.mask = rollouts.mask & rollouts.judged[:, None]
        if not self.decoupled:
            paid = torch.where(rollouts.judged, rollouts.reward, torch.nan)
            return torch.nan_to_num(self.relative(paid, rollouts.group), nan=0.0)
        each = [self.relative(values, rollouts.group) for values in rollouts.rewards.unbind(1)]
        total = (torch.nan_to_num(torch.stack(each, 1), nan=0.0) * rollouts.weights).sum(1)
        return (total - total.mean()) / (total.std(correction=0) + _SMALL)

    def relative(self, values: Tensor, group: Tensor) -> Tensor:
        """[N] rewards -> [N] advantages within groups; NaN stays NaN and is left out of its group."""
        known = ~values.isnan()
        count, mean, deviation = group_statistics(torch.where(known, values, 0.0), known, group)
        relative = values.clone()
        if self.baseline == "group":
            relative = values - mean
        elif self.baseline == "leave-one-out":
            relative = (values - mean) * count / (count - 1).clamp(min=1)
        if self.scale == "group":
            relative = relative / (deviation + _SMALL)
        elif self.scale == "batch":
            relative = relative / (values[known].std(correction=0) + _SMALL)
        return relative

    def idle(self, rollouts: Rollouts) -> Tensor:
        assert rollouts.advantages is not None
        if self.kl:
            return ~rollouts.mask.any(1)
        return ~((rollouts.advantages != 0) & rollouts.mask).any(1)

    def loss(self, policy: Policy, rollouts: Rollouts) -> tuple[Tensor, Mapping[str, Tensor]]:
        assert rollouts.advantages is not None
        reading = policy(rollouts)
        logprobs, advantages = reading.logprobs, rollouts.advantages
        before = logprobs.detach() if rollouts.logprobs is None else rollouts.logprobs
        ratio = (logprobs - before).exp()
        clipped = ratio.clamp(1 - self.clip_low, 1 + self.clip_high)
        gain = torch.minimum(ratio * advantages, clipped * advantages)
        loss = -rollouts.mean(gain, self.average)
        figures = {"entropy": rollouts.mean(reading.entropy.detach())}
        if rollouts.logprobs is not None:
            figures["clipped"] = rollouts.mean((ratio * advantages > clipped * advantages).float())
        if self.kl:
            assert rollouts.reference is not None
            log_ratio = rollouts.reference - logprobs
            divergence = rollouts.mean(log_ratio.exp() - log_ratio - 1, self.average)
            loss = loss + self.kl * divergence
            figures["kl"] = divergence.detach()
        return loss, figures

    def figures(self, rollouts: Rollouts) -> Mapping[str, float]:
        """``zero_variance``: the share of groups whose completions were all paid the same."""
        reward = rollouts.reward
        same = [
            bool((reward[rollouts.group == g] == reward[rollouts.group == g][0]).all())
            for g in rollouts.group.unique()
        ]
        return {"zero_variance": sum(same) / max(1, len(same))}


def group_statistics(values: Tensor, known: Tensor, group: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Count, mean and standard deviation (with Bessel's correction) of each row's group, all [N].

    Args:
        values: [N], 0 where not known.
        known: [N] bool, the rows that count.
        group: [N] int64.
    """
    _, place = group.unique(return_inverse=True)
    size = int(place.max()) + 1 if len(place) else 0

    def total(x: Tensor) -> Tensor:
        return torch.zeros(size, dtype=values.dtype, device=values.device).index_add_(0, place, x)[place]

    count = total(known.to(values.dtype))
    mean = total(values) / count.clamp(min=1)
    apart = torch.where(known, values - mean, 0.0)
    return count, mean, (total(apart**2) / (count - 1).clamp(min=1)).sqrt()
