"""What the recipe computes from always-thinking completions, by hand."""

from __future__ import annotations

import pytest

from dovetail.recipes.videoauto_r1 import Coin, Twice

#              sure and right, sure and wrong, unsure and wrong, nothing to measure
TWICE = Twice(
    confidence=[0.99, 0.95, 0.5, -1.0],
    first=[1.0, 0.0, 0.0, 0.0],
    second=[1.0, 1.0, 1.0, 0.0],
    short=[5.0, 5.0, 5.0, 0.0],
    long=[45.0, 45.0, 45.0, 45.0],
)


@pytest.mark.parametrize(
    ("threshold", "accuracy", "tokens", "ratio"),
    [
        (0.0, 0.25, (5 + 5 + 5 + 45) / 4, 0.25),  # without a box it thinks all the same
        (0.9, 0.5, (5 + 5 + 45 + 45) / 4, 0.5),
        (0.99, 0.75, (5 + 45 + 45 + 45) / 4, 0.75),
        (1.0, 0.75, 45, 1.0),
    ],
)
def test_a_gate_by_hand(threshold, accuracy, tokens, ratio):
    assert TWICE.at(threshold) == (accuracy, tokens, ratio)


def test_the_cheapest_threshold_that_costs_nothing_is_chosen():
    assert TWICE.threshold() == 0.99
    spoilt = Twice([0.99, 0.9], [1.0, 1.0], [1.0, 0.0], [5.0, 5.0], [45.0, 45.0])
    assert spoilt.threshold() == 0.9, "thinking may also make it worse"
    assert Twice([-1.0], [0.0], [1.0], [0.0], [45.0]).threshold() == 1.0


def test_the_sweep_is_monotone():
    swept = TWICE.sweep()
    assert swept["think_ratio"] == sorted(swept["think_ratio"])
    assert swept["tokens"] == sorted(swept["tokens"])
    assert TWICE.sweep((0.97,))["accuracy"] == [0.75]


def test_the_random_gate_is_an_expectation():
    class Fixed:
        def __init__(self, right, tokens, thought=()):
            self.right, self.tokens, self.thought = right, tokens, list(thought)

        def each(self, figure):
            return self.thought if figure.__name__ == "thought" else self.tokens

    found = {
        "gate": Fixed([], [], [1.0, 0.0, 0.0, 0.0]),
        "always think": Fixed([1.0, 1.0], [40.0, 80.0]),
        "never think": Fixed([1.0, 0.0], [8.0, 4.0]),
    }
    coin = Coin.of(found)
    assert coin.rate == 0.25
    assert list(coin.right) == [1.0, 0.25]
    assert list(coin.tokens) == [16.0, 23.0]
