"""Draws a step's questions: everything once before anything twice, in an order that the seed decides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from dovetail.core import Example
from dovetail.core.seeds import stream


class Draws:
    """Counts how often each example was drawn, and draws those that are furthest behind.

    With the same pool at every step this is a new shuffle per epoch; with a pool that changes (a curriculum)
    it stays fair to what is in it.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.drawn: dict[str, int] = {}

    def draw(self, pool: Sequence[Example], count: int) -> list[Example]:
        """``count`` examples of the pool; one that stands in it k times counts as k. Repeats some only where
        the pool is smaller than ``count``."""
        weight = Counter(e.id for e in pool)
        by_id = {e.id: e for e in pool}
        chosen: list[Example] = []
        while len(chosen) < count:
            ranked = sorted(by_id, key=lambda id: self._rank(id, weight[id]))
            for id in ranked[: count - len(chosen)]:
                self.drawn[id] = self.drawn.get(id, 0) + 1
                chosen.append(by_id[id])
        return chosen

    def _rank(self, id: str, weight: int) -> tuple[float, int]:
        count = self.drawn.get(id, 0)
        return count / weight, stream(self.seed, "draw", id, count)

    def state_dict(self) -> dict[str, Any]:
        return {"drawn": dict(self.drawn)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.drawn = dict(state["drawn"])
