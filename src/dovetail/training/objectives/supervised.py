"""Supervised fine-tuning: the cross-entropy of given answers, the assistant's turn only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from dovetail.core import Example, InvalidValue
from dovetail.training.objectives.base import Objective
from dovetail.training.policy import Policy
from dovetail.training.rollouts import Rollouts


@dataclass(frozen=True)
class Supervised(Objective):
    """Learns to write the answer that each example holds; an end token follows it.

    Attributes:
        column: the column with the answer; an example without it is answered with its reference.
        average: the mean over all tokens of an update, or over answers of their means.
    """

    column: str = "completion"
    average: Literal["token", "sequence"] = "token"

    writes = False

    def __post_init__(self) -> None:
        if self.average not in ("token", "sequence"):
            raise InvalidValue("average", self.average, "'token' or 'sequence'")

    def answers(self, example: Example) -> Sequence[str]:
        answer = example.columns.get(self.column, example.reference)
        if not isinstance(answer, str) or not answer:
            raise InvalidValue(
                f"example {example.id}: {self.column}", answer, "a text to learn (or give a reference)"
            )
        return [answer]

    def loss(self, policy: Policy, rollouts: Rollouts) -> tuple[Tensor, Mapping[str, Tensor]]:
        return -rollouts.mean(policy(rollouts).logprobs, self.average), {}
