"""A training step's completions as rewards read them."""

from __future__ import annotations

from typing import Any

from dovetail.rewards.base import Batch


def batch_of(rollouts: Any) -> Batch:
    """The `Batch` of a step's rollouts: the columns of their examples, and what `dovetail.train` adds.

    For rewards that learn between steps. ``rollouts`` has ``examples``, ``prompts``, ``completions``,
    ``group`` and ``step`` (`training.rollouts`, a floor above).
    """
    examples, completions = rollouts.examples, rollouts.completions
    names = dict.fromkeys(name for e in examples for name in e.columns)
    columns: dict[str, Any] = {name: [e.columns.get(name) for e in examples] for name in names}
    columns |= {
        "example": list(examples),
        "id": [e.id for e in examples],
        "reference": [e.reference for e in examples],
        "completion_ids": [list(c.token_ids) for c in completions],
        "finish_reason": [c.finish_reason for c in completions],
        "group": rollouts.group.tolist(),
        "step": [rollouts.step] * len(examples),
    }
    return Batch.of([p.text for p in rollouts.prompts], [c.text for c in completions], columns)
