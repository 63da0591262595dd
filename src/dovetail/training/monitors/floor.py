"""Warns, or stops, when a figure falls below a bound: the simplest monitor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dovetail.core import InvalidValue
from dovetail.training.monitors.base import Alarm, Monitor


@dataclass
class Floor(Monitor):
    """Raises the alarm when a figure was below ``bound`` for ``steps`` sightings in a row.

    Attributes:
        figure: name in the log, such as ``entropy`` or ``held_out/accuracy``.
        bound: the least it should be.
        steps: sightings in a row below it.
        stop: stop the run, rather than warn.
    """

    figure: str = "entropy"
    bound: float = 0.05
    steps: int = 3
    stop: bool = False
    below: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InvalidValue("steps", self.steps, "at least 1")

    def see(self, figures: Mapping[str, float]) -> Alarm | None:
        if self.figure not in figures:
            return None
        value = figures[self.figure]
        self.below = self.below + 1 if value < self.bound else 0
        if self.below != self.steps:
            return None
        return Alarm(
            f"{self.figure} is {value:.3g}, below {self.bound:g} {self.steps} times in a row", self.stop
        )

    def state_dict(self) -> dict[str, Any]:
        return {"below": self.below}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.below = int(state["below"])
