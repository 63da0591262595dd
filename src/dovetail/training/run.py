"""What a training run leaves: the model, every step's figures, evaluations, alarms and samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dovetail.core import Difference, InvalidValue
from dovetail.models.local import LocalModel
from dovetail.training.evaluation import Evaluation
from dovetail.training.monitors.base import Alarm


@dataclass(frozen=True)
class Sample:
    """A completion kept for the report: of which step, to what, and what it was paid."""

    step: int
    example_id: str
    question: str
    text: str
    reward: float
    rewards: dict[str, float]


@dataclass
class Run:
    """A finished (or stopped) training run.

    Attributes:
        model: as trained.
        history: a dict of figures per step; names in `training.trainer`.
        evaluations: on the held-out examples, the first before the first step.
        alarms: what the monitors said.
        samples: completions over time.
        skipped: what was left out, by reason: prompts too long, updates without finite gradients, ...
        stopped: why the run ended before its last step, "" if it did not.
        data, rewards, monitors: the run's own parts, with the state that they ended in.
        settings: the resolved run, JSON values.
        folder: where it was saved.
    """

    model: LocalModel
    history: list[dict[str, float]] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    alarms: list[Alarm] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    stopped: str = ""
    data: Sequence[Any] = ()
    rewards: Sequence[Any] = ()
    monitors: Sequence[Any] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None

    def curve(self, name: str) -> tuple[list[int], list[float]]:
        """Steps and values of a figure, where it was logged."""
        found = [(int(f["step"]), f[name]) for f in self.history if name in f]
        return [step for step, _ in found], [value for _, value in found]

    @property
    def final(self) -> Evaluation:
        """The last evaluation on held-out examples."""
        if not self.evaluations:
            raise InvalidValue("held_out", 0, "above 0 (or examples) for a run to be evaluated")
        return self.evaluations[-1]

    @property
    def gain(self) -> Difference:
        """Held-out accuracy after training minus before, paired over examples, with its interval."""
        return self.final.minus(self.evaluations[0])
