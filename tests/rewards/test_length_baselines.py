"""The earlier length rewards against hand-computed numbers (LASER's table 2)."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dovetail.core import InvalidValue
from dovetail.rewards import Efficient, Kimi, L1Exact, L1Max, ThinkPrune, Truncation
from dovetail.rewards.length_baselines import sigmoid

BASE = [1.0, 1.0, -0.5, -1.0, 1.0]
LENGTHS = [10, 30, 20, 50, 40]


def test_truncation():
    assert Truncation(target=30).shaped(BASE, LENGTHS).tolist() == [1, 1, -0.5, 0, 0]
    assert Truncation(target=30, overlong=-0.5).shaped(BASE, LENGTHS).tolist() == [1, 1, -0.5, -0.5, -0.5]
    assert Truncation(target=50).shaped(BASE, LENGTHS).tolist() == BASE


def test_thinkprune_lowers_its_target_in_stages():
    reward = ThinkPrune(stages=(40, 20), steps_per_stage=10)
    given = {
        "prompts": ["?"] * 2,
        "completions": ["\\boxed{4}"] * 2,
        "reference": [4] * 2,
        "length": [20, 40],
    }
    assert [reward.target(s) for s in (0, 9, 10, 500)] == [40, 40, 20, 20]
    assert reward(**given, step=[9] * 2) == [1, 1]
    assert reward(**given, step=[10] * 2) == [1, 0]
    with pytest.raises(InvalidValue, match="step"):
        reward(**given)


def test_efficient_standardises_over_the_right_answers():
    """Right: 10, 30, 40, mean 26.67, deviation 15.28 (Bessel)."""
    z = (np.array([10, 30, 40]) - 80 / 3) / np.std([10, 30, 40], ddof=1)
    expected = [1 - 0.4 / (1 + math.exp(-v)) for v in z]
    paid = Efficient(alpha=0.4).shaped(BASE, LENGTHS)
    assert paid[[0, 1, 4]] == pytest.approx(expected, abs=1e-6)
    assert paid[[2, 3]].tolist() == [-0.5, -1]


def test_efficient_with_a_single_right_answer_has_mean_0_and_deviation_1():
    paid = Efficient(alpha=0.4).shaped([1, -0.5, 1, 1], [2, 3, 5, 7], [0, 0, 1, 1])
    assert paid[0] == pytest.approx(1 - 0.4 / (1 + math.exp(-2)), abs=1e-6)
    assert paid[2] > paid[3]


def test_kimi():
    """Shortest 10, longest 50 over all answers: 0.5, 0, 0.25 -> 0 (wrong), left alone (malformed), -0.25."""
    paid = Kimi(alpha=1.0).shaped(BASE, LENGTHS)
    assert paid == pytest.approx([1.5, 1.0, -0.5, -1.0, 0.75], abs=1e-6)
    assert Kimi().shaped(BASE, LENGTHS)[0] == pytest.approx(1.2)
    assert Kimi().shaped([1, -0.5], [7, 7]).tolist() == [1, -0.5]
    assert Kimi().shaped([1, 1], [7, 9], [0, 1]).tolist() == [1, 1]
    long_wrong = Kimi(alpha=1.0).shaped([1, -0.5], [10, 20])
    assert long_wrong == pytest.approx([1.5, -1.0], abs=1e-6)


def test_l1():
    assert L1Exact(target=30, alpha=0.01).shaped(BASE, LENGTHS) == pytest.approx([0.8, 1.0, -0.6, -1.2, 0.9])
    paid = L1Max(target=30, alpha=0.01).shaped(BASE, LENGTHS)
    assert paid == pytest.approx([0.7, 0.5, 0, 0, 0.4])
    assert L1Max(target=30, alpha=0.1).shaped(BASE, LENGTHS).tolist() == [1, 0.5, 0, 0, 0]


def test_targets_for_each_completion_come_from_a_column():
    given = {
        "prompts": ["?"] * 2,
        "completions": ["\\boxed{4}"] * 2,
        "reference": [4] * 2,
        "length": [20, 40],
    }
    assert Truncation(targets="budget")(**given, budget=[40, 20]) == [1, 0]
    assert L1Exact(alpha=0.01).shaped([1, 1], [20, 40], targets=[20, 20]) == pytest.approx([1, 0.8])
    with pytest.raises(InvalidValue, match="'budget'"):
        Truncation(targets="budget")(**given)
    with pytest.raises(InvalidValue, match="'budget', row 1"):
        Truncation(targets="budget")(**given, budget=[1, None])
    with pytest.raises(InvalidValue, match="targets"):
        Truncation(targets="budget")(**given, budget=[1, 0])


@pytest.mark.parametrize("reward", [Efficient(alpha=0), Kimi(alpha=0), L1Exact(alpha=0)], ids=str)
def test_without_strength_the_base_is_left(reward):
    assert reward.shaped(BASE, LENGTHS).tolist() == BASE


@pytest.mark.parametrize(
    ("field", "make"),
    [
        ("target", lambda: Truncation(target=0)),
        ("alpha", lambda: Efficient(alpha=-1)),
        ("alpha", lambda: Kimi(alpha=float("nan"))),
        ("stages", lambda: ThinkPrune(stages=())),
        ("steps_per_stage", lambda: ThinkPrune(steps_per_stage=0)),
        ("alpha", lambda: L1Max(alpha=-0.1)),
    ],
)
def test_impossible_parameters(field, make):
    with pytest.raises(InvalidValue, match=field):
        make()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("base", ([], [])),
        ("base", ([1, 0], [1, 2])),
        ("base", ([1, float("nan")], [1, 2])),
        ("lengths", ([1, 1], [1])),
        ("lengths, row 1", ([1, 1], [1, -2])),
        ("lengths, row 0", ([1, 1], [float("nan"), 1])),
        ("groups", ([1, 1], [1, 2], [0])),
    ],
)
def test_bad_input_is_named(name, arguments):
    with pytest.raises(InvalidValue, match=name):
        Kimi().shaped(*arguments)


def test_sigmoid():
    assert sigmoid(np.array([0.0, 2.0, -800.0])) == pytest.approx([0.5, 1 / (1 + math.exp(-2)), 0.0])
