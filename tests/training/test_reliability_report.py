"""Reliability by hand, with its paper's table as test values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dovetail.core import InvalidValue
from dovetail.training.reliability_report import outcome, reliability_gain, reliability_metrics


@pytest.mark.parametrize(
    ("response", "found"),
    [
        ("<think>x</think>\\boxed{Paris}", (True, False)),
        ("<think>x</think>paris", (True, False)),  # nothing to extract: all of it
        ("<think>x</think>\\boxed{Rome}", (False, False)),
        ("<think>x</think>Sorry, no.", (False, True)),
        ("<think>x</think>Sorry, but \\boxed{Paris}", (True, True)),
        ("<think>\\boxed{Paris}", (False, False)),
        ("<think>sorry</think>\\boxed{Rome}", (False, False)),
    ],
)
def test_outcomes(response: str, found: tuple[bool, bool]) -> None:
    assert outcome(response, ["Paris"]) == found


def test_the_papers_table() -> None:
    right = [1] * 407 + [0] * 593
    refused = [0] * 703 + [1] * 297
    found = {name: figure.value for name, figure in reliability_metrics(right, refused).items()}
    assert found == pytest.approx(
        {"accuracy": 0.407, "truthfulness": 0.704, "reliability": 0.6158, "wrong": 0.296, "answered": 0.703},
        abs=5e-5,
    )


@given(st.lists(st.sampled_from([(1, 0), (0, 1), (0, 0), (1, 1)]), min_size=1, max_size=30))
def test_reliability_lies_between_and_its_interval_around_it(outcomes: list[tuple[int, int]]) -> None:
    right, refused = zip(*outcomes, strict=True)
    found = reliability_metrics(right, refused, resamples=50)
    values = {name: figure.value for name, figure in found.items()}
    assert values["accuracy"] - 1e-9 <= values["reliability"] <= values["truthfulness"] + 1e-9
    for figure in found.values():
        low, high = figure.interval
        assert low <= figure.value <= high


def test_several_answers_to_a_question_are_one_draw() -> None:
    right, refused = np.array([[1, 0] * 20]), np.zeros((1, 40))
    once = reliability_metrics(right, refused)["accuracy"]
    twice = reliability_metrics(np.repeat(right, 2, 0), np.repeat(refused, 2, 0))["accuracy"]
    assert twice == once


def test_a_gain_is_paired() -> None:
    right, none = np.array([1, 0] * 30), np.zeros(60)
    same = reliability_gain(right, none, right, none)
    assert (same.value, same.interval) == (0, (0, 0))
    refusing = 1 - right
    gain = reliability_gain(right, refusing, right, none)
    assert gain.value == pytest.approx(0.5 + 0.25 - 0.5)
    assert 0.2 < gain.interval[0] <= gain.interval[1] <= 0.2501  # r (1 - r) of r refusals
    cost = reliability_gain(right, refusing, right, none, "accuracy")
    assert cost.value == 0
    more = reliability_gain(right, refusing, np.stack([right, right]), np.zeros((2, 60)), "truthfulness")
    assert more.value == pytest.approx(0.5)


def test_bad_input_is_named() -> None:
    for right, refused in (([], []), ([1], [0, 1])):
        with pytest.raises(InvalidValue, match="of one size, at least 1"):
            reliability_metrics(right, refused)
    with pytest.raises(InvalidValue, match="the same 2 questions"):
        reliability_gain([1, 0], [0, 0], [1], [0])
    with pytest.raises(InvalidValue, match="figure is 'truth'"):
        reliability_gain([1], [0], [1], [0], "truth")
    for golds in ([], "Paris"):
        with pytest.raises(InvalidValue, match="golds"):
            outcome("x", golds)
