"""Micro-batches of about equal length: padding costs time and teaches nothing."""

from __future__ import annotations

from collections.abc import Sequence

# What a pass costs beside its tokens, in tokens: launching a small network's operations.
_PRICE = 150


def micro_batches(lengths: Sequence[int], budget: int, price: int = _PRICE) -> list[list[int]]:
    """Positions in ``lengths``, cut into micro-batches; longest first.

    Sorted by length, the rows are cut where padded tokens plus ``price`` per batch are fewest (exactly, by
    dynamic programming). No batch holds more than ``budget`` padded tokens, unless a single row does.
    """
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    best: list[float] = [0.0]
    cut = [0]
    for end in range(1, len(order) + 1):
        longest = lengths[order[end - 1]]
        found, at = float("inf"), end - 1
        for start in range(end - 1, -1, -1):
            padded = longest * (end - start)
            if padded > budget and start < end - 1:
                break
            cost = best[start] + padded + price
            if cost < found:
                found, at = cost, start
        best.append(found)
        cut.append(at)
    batches = []
    end = len(order)
    while end:
        batches.append(order[cut[end] : end])
        end = cut[end]
    return batches


def padding_share(lengths: Sequence[int], batches: Sequence[Sequence[int]]) -> float:
    """Which share of the tokens that pass through the network is padding."""
    real = sum(lengths)
    padded = sum(max(lengths[i] for i in batch) * len(batch) for batch in batches)
    return 1 - real / padded if padded else 0.0
