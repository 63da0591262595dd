"""What rewards say of a step's completions, checked: a reward that misbehaves is named, never papered over.

A reward has TRL's signature: ``reward(prompts, completions, **columns) -> list[float | None]``.
Prompts and completions are texts. Columns are those of the examples (None where an example lacks one), and

| column | holds |
|---|---|
| ``example`` | the `Example` |
| ``id``, ``reference`` | of the example |
| ``completion_ids`` | the ids as generated |
| ``finish_reason`` | "stop", "length" or "aborted" |
| ``group`` | a number, the same for completions of one question |
| ``step`` | of the training run, from 0 |
| ``logprobs``, ``entropies`` | of each token as written, in nats, where a reward's ``reads`` names them |

None says that a reward does not apply to an example.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dovetail.core import Completion, DovetailError, InvalidValue, Scorer
from dovetail.training.rollouts import Rollouts

Reward = Callable[..., Sequence[float | None]]


class RewardFailed(DovetailError):
    """A reward raised, or returned what is no list of numbers; names reward, step and completion."""


@dataclass(frozen=True)
class ByScorer:
    """The task's own scorer as a reward: its lenient score in [0, 1]."""

    scorer: Scorer
    name = "score"

    def __call__(self, prompts: Sequence[str], completions: Sequence[str], **columns: Any) -> list[float]:
        ids = columns["completion_ids"]
        reasons = columns["finish_reason"]
        written = [
            Completion(text, tuple(i), finish_reason=reason)
            for text, i, reason in zip(completions, ids, reasons, strict=True)
        ]
        return [self.scorer(e, c).value for e, c in zip(columns["example"], written, strict=True)]


def reward_names(rewards: Sequence[Any]) -> tuple[str, ...]:
    """What each is called in the log: its ``name``, the function's or the class's; numbered where equal."""
    names: list[str] = []
    for reward in rewards:
        if not callable(reward):
            raise InvalidValue(
                "rewards", reward, "callables: reward(prompts, completions, **columns) -> list"
            )
        own = getattr(reward, "name", None)
        name = own if isinstance(own, str) and own else getattr(reward, "__name__", type(reward).__name__)
        count = sum(n == name or n.startswith(f"{name}-") for n in names)
        names.append(f"{name}-{count + 1}" if count else name)
    return tuple(names)


def columns_of(rollouts: Rollouts) -> dict[str, list[Any]]:
    """What rewards are given by name, one entry per completion."""
    names = dict.fromkeys(name for e in rollouts.examples for name in e.columns)
    columns = {name: [e.columns.get(name) for e in rollouts.examples] for name in names}
    lengths = [len(c.token_ids) for c in rollouts.completions]
    for name, values in (("logprobs", rollouts.logprobs), ("entropies", rollouts.entropies)):
        if values is not None:
            columns[name] = [row[:n] for row, n in zip(values.tolist(), lengths, strict=True)]
    return columns | {
        "example": list(rollouts.examples),
        "id": [e.id for e in rollouts.examples],
        "reference": [e.reference for e in rollouts.examples],
        "completion_ids": [list(c.token_ids) for c in rollouts.completions],
        "finish_reason": [c.finish_reason for c in rollouts.completions],
        "group": rollouts.group.tolist(),
        "step": [rollouts.step] * len(rollouts),
    }


def judge(rollouts: Rollouts, rewards: Sequence[Reward], names: Sequence[str]) -> Tensor:
    """[N, K] float64: every reward of every completion, NaN where a reward does not apply.

    Raises:
        RewardFailed: a reward raised, returned another number of values than there are completions, or one
            that is NaN, infinite or no number; names reward, step and completion.
    """
    prompts = [p.text for p in rollouts.prompts]
    columns = columns_of(rollouts)
    paid = [
        _checked(name, reward, prompts, rollouts, columns)
        for name, reward in zip(names, rewards, strict=True)
    ]
    if not paid:
        return torch.zeros(len(rollouts), 0, dtype=torch.float64)
    return torch.tensor(paid, dtype=torch.float64).T.contiguous().to(rollouts.group.device)


def _checked(
    name: str, reward: Reward, prompts: list[str], rollouts: Rollouts, columns: dict[str, list[Any]]
) -> list[float]:
    where = f"reward {name!r} at step {rollouts.step}"
    # Copies: a reward that sorts or clears a list must not disturb the next one.
    given = {key: list(values) for key, values in columns.items()}
    try:
        values = list(reward(prompts=list(prompts), completions=rollouts.texts, **given))
    except Exception as error:
        raise RewardFailed(f"{where} raised {type(error).__name__}: {error}") from error
    if len(values) != len(rollouts):
        raise RewardFailed(f"{where} returned {len(values)} values for {len(rollouts)} completions")
    checked = []
    for value, completion, example in zip(values, rollouts.texts, rollouts.examples, strict=True):
        if value is None:
            checked.append(math.nan)
            continue
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise RewardFailed(
                f"{where} returned {value!r} for example {example.id}, completion {completion[:120]!r}: "
                "return a finite number, or None where the reward does not apply"
            )
        checked.append(number)
    return checked
