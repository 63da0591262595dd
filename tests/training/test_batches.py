"""Micro-batches: every row once, never above the budget, the cheapest cut."""

from __future__ import annotations

import random
from itertools import combinations

import pytest

from dovetail.training.batches import micro_batches, padding_share


def cost(lengths: list[int], batches: list[list[int]], price: int) -> int:
    return sum(max(lengths[i] for i in b) * len(b) + price for b in batches)


@pytest.mark.parametrize("seed", range(20))
def test_the_cut_is_the_cheapest(seed: int) -> None:
    rng = random.Random(seed)
    lengths = [rng.randint(1, 40) for _ in range(rng.randint(1, 9))]
    budget, price = rng.randint(40, 120), rng.randint(0, 30)
    found = micro_batches(lengths, budget, price)
    assert sorted(i for b in found for i in b) == list(range(len(lengths)))
    assert all(max(lengths[i] for i in b) * len(b) <= budget for b in found)
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    possible = []
    for k in range(len(order)):
        for cuts in combinations(range(1, len(order)), k):
            parts = [order[a:b] for a, b in zip((0, *cuts), (*cuts, len(order)), strict=True)]
            if all(max(lengths[i] for i in p) * len(p) <= budget for p in parts):
                possible.append(cost(lengths, parts, price))
    assert cost(lengths, found, price) == min(possible)


def test_a_row_above_the_budget_stands_alone() -> None:
    assert micro_batches([5, 100, 6], 20, 0) == [[1], [2], [0]]


def test_little_padding_where_lengths_vary() -> None:
    lengths = [40 + 7 * i % 90 for i in range(128)]
    batches = micro_batches(lengths, 4096)
    assert padding_share(lengths, batches) < 0.1
    assert padding_share(lengths, [list(range(128))]) > 0.3
    assert padding_share([], []) == 0.0
