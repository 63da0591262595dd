"""UniVG-R1's objective: the policy gradient of questions that are answered badly weighs more.

"UniVG-R1: Reasoning Guided Universal Visual Grounding with Reinforcement Learning", arXiv 2505.14231.
Dividing by a group's deviation gives easy questions, whose completions are all nearly right, as large a
gradient as hard ones, and training makes ever more questions easy. So each question's advantages, once
normalised (a weight on the rewards would be divided away), are multiplied by a falling function of its
group's mean reward. The divergence from the reference is not weighted. Costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dovetail.core import InvalidValue
from dovetail.training.objectives.policy_gradient import PolicyGradient, group_statistics
from dovetail.training.rollouts import Average, Rollouts

Weight = Literal["exp", "power", "log", "none"]
_EASY = 0.8  # above this mean reward a question counts as easy in the log


@dataclass(frozen=True)
class DifficultyWeights(PolicyGradient):
    """`PolicyGradient` whose advantages are weighted by how badly their group did.

    Attributes:
        weight: of a group's mean reward m: "exp" is e^(1 - m), the released run's; "power" (1.05 - m)^power;
            "log" -ln(0.02 + m), not below 0; "none" leaves plain policy gradient.
        power: of "power".
        reward: the name of the reward, in [0, 1], that says how well a group did. Others, such as that of the
            format, are paid but do not count here.
    """

    weight: Weight = "exp"
    power: float = 1.0
    reward: str = "box-iou"
    average: Average = "sequence"
    kl: float = 0.04

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weight not in ("exp", "power", "log", "none"):
            raise InvalidValue("weight", self.weight, "'exp', 'power', 'log' or 'none'")
        if not (math.isfinite(self.power) and self.power >= 0):
            raise InvalidValue("power", self.power, "a finite number >= 0")

    def assign(self, rollouts: Rollouts) -> Tensor:
        return super().assign(rollouts) * self.weights(rollouts)

    def weights(self, rollouts: Rollouts) -> Tensor:
        """[N] float64, the same for all completions of a question; 1 where its reward does not apply."""
        quality = self.quality(rollouts)
        known = ~quality.isnan()
        return torch.where(
            known, difficulty_weight(torch.where(known, quality, 1.0), self.weight, self.power), 1.0
        )

    def quality(self, rollouts: Rollouts) -> Tensor:
        """[N] float64: the mean of the reward over each row's group, NaN where it applies to none of it.

        Raises:
            InvalidValue: there is no such reward, or it is not in [0, 1].
        """
        if self.reward not in rollouts.names:
            raise InvalidValue(
                "reward", self.reward, f"one that is paid: {', '.join(rollouts.names) or 'none is'}"
            )
        values = rollouts.of_reward(self.reward)
        known = ~values.isnan()
        outside = known & ~((values >= 0) & (values <= 1))
        if bool(outside.any()):
            raise InvalidValue(
                f"reward {self.reward!r}", float(values[outside][0]), "in [0, 1], to be a difficulty"
            )
        count, mean, _ = group_statistics(torch.where(known, values, 0.0), known, rollouts.group)
        return torch.where(count > 0, mean, torch.nan)

    def figures(self, rollouts: Rollouts) -> Mapping[str, float]:
        """Also ``difficulty_weight``, its mean over completions, and ``easy_share``: the share of all
        advantages, in absolute value, that questions with a mean reward above 0.8 have."""
        assert rollouts.advantages is not None
        pull = (rollouts.advantages.abs() * rollouts.mask).sum(1).double() / rollouts.mask.sum(1).clamp(min=1)
        easy = self.quality(rollouts) > _EASY
        return {
            **super().figures(rollouts),
            "difficulty_weight": float(self.weights(rollouts).mean()),
            "easy_share": float(pull[easy].sum() / pull.sum().clamp(min=1e-12)),
        }


def difficulty_weight(miou: Tensor | float, kind: Weight = "exp", power: float = 1.0) -> Tensor:
    """Weights, float64, of mean rewards in [0, 1], of the same shape.

    Raises:
        InvalidValue: a mean outside [0, 1], or NaN.

    >>> difficulty_weight(torch.tensor([0.0, 1.0])).tolist()
    [2.718281828459045, 1.0]
    """
    m = torch.as_tensor(miou, dtype=torch.float64).detach()
    bad = ~((m >= 0) & (m <= 1))
    if bool(bad.any()):
        raise InvalidValue("miou", float(m[bad].flatten()[0]), "in [0, 1]")
    if kind == "exp":
        return (1 - m).exp()
    if kind == "power":
        return (1.05 - m) ** power
    if kind == "log":
        return -(0.02 + m).log().clamp(max=0.0)
    return torch.ones_like(m)
