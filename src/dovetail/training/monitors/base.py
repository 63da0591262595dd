"""The monitor slot: sees every step's figures; may warn, or stop the run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dovetail.training.rollouts import Rollouts
    from dovetail.training.trainer import Trainer


@dataclass(frozen=True)
class Alarm:
    """What a monitor has to say.

    Attributes:
        text: what was seen, with its numbers.
        stop: end the run after this step.
        step, monitor: filled in by the trainer.
    """

    text: str
    stop: bool = False
    step: int = -1
    monitor: str = ""


class Monitor(ABC):
    """Watches a run. Subclasses are dataclasses; one with state keeps it in plain fields."""

    def begin(self, trainer: Trainer) -> None:  # noqa: B027 (most only look)
        """Told once, before the first step. A brake may keep a weak reference, and act on the trainer
        later."""

    def update(self, rollouts: Rollouts) -> None:  # noqa: B027 (most look at figures alone)
        """Sees every step's judged completions, before `see`."""

    def figures(self) -> Mapping[str, float]:
        """Figures for the log, after `update`."""
        return {}

    @abstractmethod
    def see(self, figures: Mapping[str, float]) -> Alarm | None:
        """Looks at a step's figures: ``step``, ``reward`` (the weighted sum), ``reward/NAME``, ``length``,
        and ``held_out/accuracy`` at steps that were evaluated. `training.trainer` lists all of them."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs: numbers, strings, lists, dicts and tensors."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027 (most have no state)
        """Takes up `state_dict`'s."""
