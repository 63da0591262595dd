"""Optimizers over a network's trainable parameters, and the schedule of their rates."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from dovetail.training.muon import Muon
from dovetail.training.processes import ALONE, Processes
from dovetail.training.settings import Settings


class Optimisers:
    """One or two optimizers that step together.

    Args:
        network: its parameters that require gradients are trained.
        settings: which, and how fast.
        processes: whose gradients are added up.
    """

    def __init__(self, network: nn.Module, settings: Settings, processes: Processes = ALONE) -> None:
        self.settings, self.processes = settings, processes
        self._limit = settings.clip_norm or float("inf")
        named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
        self.parameters = [p for _, p in named]
        matrices = [p for name, p in named if _is_matrix(name, p)] if settings.optimiser == "muon" else []
        taken = {id(p) for p in matrices}
        others = [p for p in self.parameters if id(p) not in taken]
        rate = settings.learning_rate
        self.each: list[torch.optim.Optimizer] = []
        if matrices:
            self.each.append(Muon(matrices, lr=rate, weight_decay=settings.weight_decay))
            rate /= 5  # the ratio that pico itself was trained with
        if others:
            decay = 0.0 if matrices else settings.weight_decay
            self.each.append(torch.optim.AdamW(others, lr=rate, betas=settings.betas, weight_decay=decay))
        self._peaks = [group["lr"] for one in self.each for group in one.param_groups]

    def collect(self) -> None:
        """Adds up the gradients of all processes."""
        self.processes.sum_gradients(self.parameters)

    def clip(self) -> float:
        """Cuts the gradient to the settings' norm; returns the norm it had (NaN or infinite where it was)."""
        return float(nn.utils.clip_grad_norm_(self.parameters, self._limit))

    def step(self, step: int) -> None:
        """One update at the rate of ``step``."""
        factor = self.settings.rate(step)
        groups = [group for one in self.each for group in one.param_groups]
        for group, peak in zip(groups, self._peaks, strict=True):
            group["lr"] = peak * factor
        for one in self.each:
            one.step()
        self.forget()

    def forget(self) -> None:
        """Drops the gradients."""
        for one in self.each:
            one.zero_grad(set_to_none=True)

    def state_dict(self) -> list[dict[str, Any]]:
        return [one.state_dict() for one in self.each]

    def load_state_dict(self, states: Iterable[dict[str, Any]]) -> None:
        for one, state in zip(self.each, states, strict=True):
            one.load_state_dict(state)


def _is_matrix(name: str, parameter: Tensor) -> bool:
    return parameter.ndim == 2 and "embed" not in name and "lm_head" not in name
