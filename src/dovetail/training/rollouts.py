"""A step's completions, group by group: what objectives read and monitors, data and reports look at.

Shapes: N completions, L tokens of the longest completion, K rewards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from dovetail.core import Completion, Example, Prompt

Average = Literal["token", "sequence", "constant"]


@dataclass(frozen=True)
class Totals:
    """What an update's means are over, whichever part of it is at hand.

    Attributes:
        tokens: completion tokens that count.
        rows: completions with at least one such token.
        constant: ``rows`` times the longest completion allowed.
    """

    tokens: float
    rows: float
    constant: float

    def of(self, average: Average) -> float:
        return max({"token": self.tokens, "sequence": self.rows, "constant": self.constant}[average], 1.0)


@dataclass
class Rollouts:
    """N completions of one step, groups of one question side by side.

    Attributes:
        step: counted from 0.
        examples, prompts, completions: N each; token ids are those that were generated.
        group: [N] int64, the same number for completions of one question.
        tokens: [N, L] int64 completion tokens, 0 behind a row's end.
        mask: [N, L] bool, the tokens that count.
        names: of the K rewards.
        weights: [K] float64.
        rewards: [N, K] float64, NaN where a reward does not apply to an example.
        advantages: [N, L] float32, once assigned.
        logprobs: [N, L] float32, of the policy before the step's first update, where they are read.
        entropies: [N, L] float32, nats, likewise.
        reference: [N, L] float32, log-probabilities under the model that training began with, likewise.
        totals: of the whole update that these rows are part of.
    """

    step: int
    examples: list[Example]
    prompts: list[Prompt]
    completions: list[Completion]
    group: Tensor
    tokens: Tensor
    mask: Tensor
    names: tuple[str, ...] = ()
    weights: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))
    rewards: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.float64))
    advantages: Tensor | None = None
    logprobs: Tensor | None = None
    entropies: Tensor | None = None
    reference: Tensor | None = None
    totals: Totals | None = None

    @classmethod
    def of(
        cls,
        step: int,
        examples: Sequence[Example],
        prompts: Sequence[Prompt],
        completions: Sequence[Completion],
        group: Sequence[int],
        device: torch.device | str = "cpu",
    ) -> Rollouts:
        """Rows as they were written; nothing judged yet."""
        longest = max((len(c.token_ids) for c in completions), default=0)
        tokens = torch.zeros(len(completions), longest, dtype=torch.int64)
        mask = torch.zeros(len(completions), longest, dtype=torch.bool)
        for row, completion in enumerate(completions):
            length = len(completion.token_ids)
            tokens[row, :length] = torch.tensor(completion.token_ids, dtype=torch.int64)
            mask[row, :length] = True
        return cls(
            step,
            list(examples),
            list(prompts),
            list(completions),
            torch.tensor(list(group), dtype=torch.int64, device=device),
            tokens.to(device),
            mask.to(device),
        )

    def __len__(self) -> int:
        return len(self.completions)

    @property
    def reward(self) -> Tensor:
        """[N] float64: the weighted sum of the rewards that apply; 0 where there are none."""
        return (torch.nan_to_num(self.rewards, nan=0.0) * self.weights).sum(1)

    @property
    def judged(self) -> Tensor:
        """[N] bool: completions that some reward applies to."""
        return (~self.rewards.isnan()).any(1)

    def of_reward(self, name: str) -> Tensor:
        """[N] float64: one reward's values, NaN where it does not apply. KeyError names the known ones."""
        if name not in self.names:
            raise KeyError(f"no reward {name!r}: {', '.join(self.names) or 'none'}")
        return self.rewards[:, self.names.index(name)]

    @property
    def lengths(self) -> Tensor:
        """[N] int64: tokens written, the end token included, whether or not they count."""
        return torch.tensor([len(c.token_ids) for c in self.completions], device=self.group.device)

    @property
    def truncated(self) -> Tensor:
        """[N] bool: completions that the limit ended."""
        ended = [c.finish_reason == "length" for c in self.completions]
        return torch.tensor(ended, dtype=torch.bool, device=self.group.device)

    @property
    def texts(self) -> list[str]:
        return [c.text for c in self.completions]

    def mean(self, values: Tensor, average: Average = "token") -> Tensor:
        """These rows' share of the whole update's mean of ``values`` [N, L], over tokens that count.

        Shares add up: summed over an update's micro-batches, and over all processes, they are the mean over
        its tokens ("token"), the mean over its completions of their token means ("sequence"), or the sum over
        tokens divided by completions times the longest completion allowed ("constant").
        """
        kept = torch.where(self.mask, values, torch.zeros((), dtype=values.dtype, device=values.device))
        totals = self.totals or totals_of(self)
        if average == "sequence":
            return (kept.sum(1) / self.mask.sum(1).clamp(min=1)).sum() / totals.of(average)
        return kept.sum() / totals.of(average)

    def mean_of_rows(self, values: Tensor) -> Tensor:
        """These rows' share of the whole update's mean of ``values`` [N], over completions that count."""
        kept = torch.where(
            self.mask.any(1), values, torch.zeros((), dtype=values.dtype, device=values.device)
        )
        return kept.sum() / (self.totals or totals_of(self)).of("sequence")

    def select(self, index: Sequence[int]) -> Rollouts:
        """The rows at ``index``, cut to the longest of them."""
        rows = torch.tensor(list(index), dtype=torch.int64, device=self.group.device)
        length = max((len(self.completions[i].token_ids) for i in index), default=0)

        def cut(values: Tensor | None) -> Tensor | None:
            return None if values is None else values[rows, :length]

        return replace(
            self,
            examples=[self.examples[i] for i in index],
            prompts=[self.prompts[i] for i in index],
            completions=[self.completions[i] for i in index],
            group=self.group[rows],
            tokens=self.tokens[rows, :length],
            mask=self.mask[rows, :length],
            rewards=self.rewards[rows] if len(self.names) else self.rewards,
            advantages=cut(self.advantages),
            logprobs=cut(self.logprobs),
            entropies=cut(self.entropies),
            reference=cut(self.reference),
        )


def totals_of(rollouts: Rollouts, longest: int | None = None) -> Totals:
    """The totals of these rows alone."""
    rows = float(rollouts.mask.any(1).sum())
    return Totals(float(rollouts.mask.sum()), rows, rows * (longest or max(1, rollouts.mask.shape[1])))
