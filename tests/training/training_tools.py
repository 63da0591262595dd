"""A tiny model, tiny examples, and rollouts made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from dovetail.core import Completion, Example, Prompt
from dovetail.models.local import LocalModel
from dovetail.training.rollouts import Rollouts


def tiny_model(network: Any, tokenizer: Any) -> LocalModel:
    return LocalModel(network, tokenizer, name="tiny")


def examples(n: int = 12) -> list[Example]:
    return [Example.ask(f"e{i}", f"{'abcdefghijkl'[i % 12]}{i}?", str(i % 10)) for i in range(n)]


def rollouts(
    lengths: Sequence[int],
    group: Sequence[int] | None = None,
    rewards: Sequence[Sequence[float]] | None = None,
    prompt: int = 4,
    reasons: Sequence[str] | None = None,
) -> Rollouts:
    """Completions of random tokens."""
    rng = torch.Generator().manual_seed(0)
    n = len(lengths)

    def ids(size: int) -> tuple[int, ...]:
        return tuple(torch.randint(0, 94, (size,), generator=rng).tolist())

    reasons = reasons or ["stop"] * n
    made = Rollouts.of(
        0,
        [Example.ask(f"e{i}", "?") for i in range(n)],
        [Prompt((), "?", ids(prompt + i % 3)) for i in range(n)],
        [
            Completion(f"c{i}", ids(length), finish_reason=r)
            for i, (length, r) in enumerate(zip(lengths, reasons, strict=True))
        ],  # type: ignore[arg-type]
        list(range(n)) if group is None else group,
    )
    if rewards is not None:
        made.rewards = torch.tensor(rewards, dtype=torch.float64)
        made.names = tuple(f"r{k}" for k in range(made.rewards.shape[1]))
        made.weights = torch.ones(len(made.names), dtype=torch.float64)
    return made
