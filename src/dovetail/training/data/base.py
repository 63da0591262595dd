"""The data slot: which examples, when, and how they are asked.

Parts are chained: each gets what the one before it made. All methods have a default that changes nothing, so
a part overrides the one or two that it is about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dovetail.core import Example, Message
from dovetail.training.rollouts import Rollouts


class Data:
    """A part of the data. Subclasses are dataclasses; one with state keeps it in plain fields."""

    def examples(self, examples: Sequence[Example], seed: int) -> Sequence[Example]:
        """The examples that training draws from; called once, before the first step."""
        return examples

    def draw(self, step: int, pool: Sequence[Example]) -> Sequence[Example]:
        """The examples that ``step`` may draw from. One that is named k times is drawn k times as often."""
        return pool

    def ask(self, example: Example, messages: Sequence[Message]) -> Sequence[Message]:
        """How the example is put to the model in this step."""
        return messages

    def update(self, rollouts: Rollouts) -> None:
        """Sees every step's judged completions."""

    def figures(self) -> Mapping[str, float]:
        """Figures for the log, after `update`."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs: numbers, strings, lists, dicts and tensors."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up `state_dict`'s."""
