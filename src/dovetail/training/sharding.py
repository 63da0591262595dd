"""Optimizers whose memory is dealt out to the processes: ZeRO stage 1.

Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models", arXiv 1910.02054,
section 5.1. Every process updates the parameters that are its own, and sends them to all. AdamW remembers two
numbers per weight, so with N processes each holds 2 / N of them; weights and gradients stay whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from dovetail.training.optimisers import Optimisers
from dovetail.training.processes import Processes
from dovetail.training.settings import Settings


class ShardedOptimisers(Optimisers):
    """`Optimisers` of which every process keeps a part.

    Gradients exist, and so states, only where they are owned; a checkpoint holds all of them, and any number
    of processes can take it up.
    """

    def __init__(self, network: nn.Module, settings: Settings, processes: Processes) -> None:
        super().__init__(network, settings, processes)
        self.parts = dealt(self.parameters, processes.count)
        self.own = {id(p) for p in self.parts[processes.rank]}

    def collect(self) -> None:
        for owner, part in enumerate(self.parts):
            self.processes.sum_gradients(part, owner)

    def clip(self) -> float:
        own = self.parts[self.processes.rank]
        part = nn.utils.get_total_norm([p.grad for p in own if p.grad is not None])
        norm = self.processes.sum(part.to(self.parameters[0].device).double() ** 2).sqrt()
        nn.utils.clip_grads_with_norm_(own, self._limit, norm)
        return float(norm)

    def step(self, step: int) -> None:
        super().step(step)
        for owner, part in enumerate(self.parts):
            self.processes.spread(part, owner)

    def state_dict(self) -> list[dict[str, Any]]:
        """All processes' states in the first one, each in the place of its parameter; all must call it."""
        held = super().state_dict()
        for one, parts in zip(held, zip(*self.processes.to_first(_on_cpu(held)), strict=True), strict=False):
            one["state"] = {place: state for part in parts for place, state in part.items()}
        return held

    def load_state_dict(self, states: Iterable[dict[str, Any]]) -> None:
        kept = []
        for one, state in zip(self.each, states, strict=True):
            places = [p for group in one.param_groups for p in group["params"]]
            mine = {i: s for i, s in state["state"].items() if id(places[i]) in self.own}
            kept.append({**state, "state": mine})
        super().load_state_dict(kept)


def dealt(parameters: Iterable[Tensor], count: int) -> list[list[Tensor]]:
    """Parameters in ``count`` parts of about equal size: the largest first, each to the smallest part."""
    parts: list[list[Tensor]] = [[] for _ in range(count)]
    sizes = [0] * count
    for parameter in sorted(parameters, key=Tensor.numel, reverse=True):
        smallest = sizes.index(min(sizes))
        parts[smallest].append(parameter)
        sizes[smallest] += parameter.numel()
    return parts


def _on_cpu(held: list[dict[str, Any]]) -> list[dict[int, dict[str, Any]]]:
    """The states of each optimizer by the parameter's place, ready to be sent."""
    return [
        {
            place: {k: v.cpu() if isinstance(v, torch.Tensor) else v for k, v in state.items()}
            for place, state in one["state"].items()
        }
        for one in held
    ]
