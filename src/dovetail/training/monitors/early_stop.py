"""Brakes that end a run: gold no longer gets better, or outputs are no longer what the evaluator was made
for.

Thresholds are our choice. Gold that stops a run must not be what the result is reported on: give other
examples.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from dovetail.core import InvalidValue
from dovetail.rewards.surface import table
from dovetail.training.monitors.base import Alarm, Monitor
from dovetail.training.monitors.outliers import Reference, latent_outliers
from dovetail.training.rollouts import Rollouts

if TYPE_CHECKING:
    from dovetail.training.trainer import Trainer


@dataclass
class EarlyStopOnGold(Monitor):
    """Stops once the best gold was not beaten for ``patience`` sightings, and goes back to its weights.

    Attributes:
        figure: gold's name in the log: ``held_out/accuracy``, or ``reward/NAME`` of a reward of weight 0.
        patience: sightings in a row without a new best.
        average: a sighting is the mean of the last so many values, as a step's own gold is noisy.
        restore: bring the weights of the best sighting back; they are kept in memory, on the model's device.
    """

    figure: str = "held_out/accuracy"
    patience: int = 3
    average: int = 1
    restore: bool = True
    best: float = field(default=-math.inf, init=False)
    best_step: int = field(default=-1, init=False)
    _since: int = field(default=0, init=False, repr=False)
    _values: list[float] = field(default_factory=list, init=False, repr=False)
    _weights: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("patience", "average"):
            if getattr(self, name) < 1:
                raise InvalidValue(name, getattr(self, name), "at least 1")

    def begin(self, trainer: Trainer) -> None:
        self._trainer = weakref.ref(trainer)

    def see(self, figures: Mapping[str, float]) -> Alarm | None:
        if self.figure not in figures:
            return None
        self._values = [*self._values, figures[self.figure]][-self.average :]
        if len(self._values) < self.average:
            return None
        value = sum(self._values) / self.average
        if value > self.best:
            self.best, self.best_step, self._since = value, int(figures["step"]), 0
            if self.restore:
                self._weights = {k: v.detach().clone() for k, v in self._network().state_dict().items()}
            return None
        self._since += 1
        if self._since < self.patience:
            return None
        if self.restore:
            self._network().load_state_dict(self._weights)
        back = f"; its weights are back, those of step {self.best_step}" if self.restore else ""
        told = (
            f"{self.figure} is {value:.3g}; its best, {self.best:.3g}, was not beaten {self.patience} times"
        )
        return Alarm(told + back, stop=True)

    def _network(self) -> Any:
        trainer = self._trainer()
        assert trainer is not None
        return trainer.model.network

    def state_dict(self) -> dict[str, Any]:
        names = ("best", "best_step", "_since", "_values", "_weights")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)


def surface_latents(texts: Sequence[str]) -> ArrayLike:
    """[N, F] surface features, counts under a root so that rare large ones are no outliers by themselves."""
    return np.sqrt(table(texts))


@dataclass
class EarlyStopOnOutliers(Monitor):
    """Stops once too many completions are outliers among those of the first steps. Needs no gold.

    Attributes:
        limit: of the share of outliers (MOP), over ``window`` steps.
        reference: first steps that stand for the reference policy.
        window: steps that the share is taken over.
        level: an outlier lies outside of this ellipsoid of the reference.
        latents: texts -> [N, K]: a reward model's hidden states, say; surface features by default.
    """

    limit: float = 0.2
    reference: int = 3
    window: int = 2
    level: float = 0.99
    latents: Callable[[Sequence[str]], ArrayLike] = surface_latents
    mop: float = field(default=0.0, init=False)
    csi: float = field(default=0.0, init=False)
    _steps: int = field(default=0, init=False, repr=False)
    _known: list[list[float]] = field(default_factory=list, init=False, repr=False)
    _recent: list[list[list[float]]] = field(default_factory=list, init=False, repr=False)
    _fitted: Reference | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.limit < 1:
            raise InvalidValue("limit", self.limit, "between 0 and 1")
        for name in ("reference", "window"):
            if getattr(self, name) < 1:
                raise InvalidValue(name, getattr(self, name), "at least 1")

    def update(self, rollouts: Rollouts) -> None:
        found = np.asarray(self.latents(rollouts.texts), dtype=np.float64).tolist()
        self._steps += 1
        if self._steps <= self.reference:
            self._known += found
            return
        self._recent = [*self._recent, found][-self.window :]
        self._fitted = self._fitted or Reference.of(self._known)
        outliers = latent_outliers(self._fitted, [row for step in self._recent for row in step], self.level)
        self.mop, self.csi = outliers.mop, outliers.csi

    def see(self, figures: Mapping[str, float]) -> Alarm | None:
        if len(self._recent) < self.window or self.mop <= self.limit:
            return None
        told = (
            f"{self.mop:.0%} of the last completions are outliers (limit {self.limit:.0%}) among those of the"
        )
        return Alarm(f"{told} first {self.reference} steps", stop=True)

    def figures(self) -> Mapping[str, float]:
        return {"outliers/mop": self.mop, "outliers/csi": self.csi}

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("mop", "csi", "_steps", "_known", "_recent")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        self._fitted = None
