"""A brake: holds the divergence from the reference policy at a target, by the strength of the KL term.

Ziegler et al., "Fine-Tuning Language Models from Human Preferences", arXiv 1909.08593, eq. 5 and following:
beta <- beta * (1 + clip(KL / target - 1, -0.2, 0.2) * n / horizon).
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dovetail.core import InvalidValue, Unsupported
from dovetail.training.monitors.base import Monitor

if TYPE_CHECKING:
    from dovetail.training.trainer import Trainer


@dataclass
class AdaptiveKL(Monitor):
    """Turns the objective's ``kl`` up where the policy moves too far, and down where it does not.

    Attributes:
        target: of the figure ``kl``, nats per token.
        horizon: completions in which a deviation of 20% or more changes beta by about a fifth; the paper has
            10,000 for runs of 1e6 completions.
        beta: as it is now; the objective's own ``kl`` at the start.
    """

    target: float = 0.02
    horizon: float = 10_000.0
    beta: float = 0.0

    def __post_init__(self) -> None:
        for name in ("target", "horizon"):
            if not getattr(self, name) > 0:
                raise InvalidValue(name, getattr(self, name), "above 0")

    def begin(self, trainer: Trainer) -> None:
        beta = getattr(trainer.objective, "kl", None)
        if not beta:
            raise Unsupported(
                f"AdaptiveKL needs an objective with a KL term: {type(trainer.objective).__name__} has "
                f"kl = {beta}; set it to a first guess such as 0.05"
            )
        self.beta = float(beta)
        self._trainer = weakref.ref(trainer)

    def see(self, figures: Mapping[str, float]) -> None:
        if "kl" not in figures:
            return
        trainer = self._trainer()
        assert trainer is not None
        off = min(max(figures["kl"] / self.target - 1, -0.2), 0.2)
        self._set(self.beta * (1 + off * trainer.settings.batch / self.horizon))

    def figures(self) -> Mapping[str, float]:
        return {"kl/beta": self.beta}

    def state_dict(self) -> dict[str, Any]:
        return {"beta": self.beta}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._set(float(state["beta"]))

    def _set(self, beta: float) -> None:
        self.beta = beta
        trainer = self._trainer()
        if trainer is not None:
            objective: Any = trainer.objective
            trainer.objective = replace(objective, kl=beta)
