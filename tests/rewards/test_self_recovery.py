"""The gate and the penalty by hand, and the prefix."""

from __future__ import annotations

import numpy as np
import pytest

from dovetail.core import InvalidValue
from dovetail.rewards import AdaptiveSelfRecovery
from dovetail.rewards.self_recovery import continue_thinking_ratio, no_thinking


def test_alpha_grows_with_accuracy_from_the_threshold_on():
    reward = AdaptiveSelfRecovery(tau=0.5, beta=0.4)
    assert reward.alpha(0.49) == 0
    assert reward.alpha(0.5) == pytest.approx(0.4 * 1e-6 / (0.5 + 1e-6))
    assert reward.alpha(0.75) == pytest.approx(0.2, rel=1e-5)
    assert reward.alpha(1.0) == pytest.approx(0.4)
    assert AdaptiveSelfRecovery().alpha(0.99) == 0
    assert AdaptiveSelfRecovery().alpha(1.0) == 0.5
    values = [AdaptiveSelfRecovery(tau=0.25).alpha(a) for a in np.linspace(0, 1, 50)]
    assert values == sorted(values)


def test_by_hand():
    """tau 0.5, accuracy 0.75, alpha 0.25; shortest right answer 10; window 100."""
    reward = AdaptiveSelfRecovery(tau=0.5, beta=0.5, window=100)
    paid = reward.shaped([1, 1, 1, 0], [10, 60, 500, 30])
    assert paid == pytest.approx([1, 1 - 0.125, 0.75, -0.05], abs=1e-5)
    gate = reward.gate([1, 1, 1, 0], [10, 60, 500, 30])
    assert (gate.accuracy, gate.shortest) == (0.75, 10)
    assert gate.overlong == pytest.approx([0, 0.5, 1, 0.2])


def test_a_wrong_answer_shorter_than_the_shortest_right_one_is_not_paid_for_it():
    assert AdaptiveSelfRecovery(tau=0.5, window=10).shaped([1, 0], [9, 3]).tolist() == [1, 0]


def test_groups_below_the_threshold_are_paid_for_correctness_alone():
    reward = AdaptiveSelfRecovery(window=10)
    paid = reward.shaped([1, 0, 1, 1], [10, 20, 10, 15], [0, 0, 1, 1])
    assert paid == pytest.approx([1, 0, 1, 0.75])


def test_limits():
    rng = np.random.default_rng(0)
    right, lengths, groups = rng.integers(0, 2, 64), rng.integers(1, 99, 64), np.repeat(np.arange(8), 8)
    for same in (AdaptiveSelfRecovery(beta=0.0), AdaptiveSelfRecovery(tau=0.3, window=10**12)):
        assert same.shaped(right, lengths, groups) == pytest.approx(right.astype(float), abs=1e-6)
    paid = AdaptiveSelfRecovery(tau=0.0, window=50).shaped(right, lengths, groups)
    for g in range(8):
        rows = groups == g
        if right[rows].any():
            assert paid[rows][np.argmin(np.where(right[rows] == 1, lengths[rows], 999))] == 1
        for value in (0, 1):
            some = rows & (right == value)
            order = np.argsort(lengths[some])
            assert (np.diff(paid[some][order]) <= 1e-12).all()


def test_nobody_right_nobody_penalised():
    paid = AdaptiveSelfRecovery(tau=0.0).shaped([0, 0], [5, 5000])
    assert paid.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("field", "values"),
    [("tau", {"tau": 1.1}), ("beta", {"beta": -1}), ("window", {"window": 0}), ("eps", {"eps": 0.0})],
)
def test_impossible_parameters(field, values):
    with pytest.raises(InvalidValue, match=field):
        AdaptiveSelfRecovery(**values)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("correct", ([], [])),
        ("correct", ([1, 0.5], [1, 2])),
        ("correct", ([1, float("nan")], [1, 2])),
        ("lengths", ([1, 1], [1])),
        ("lengths, row 1", ([1, 1], [1, 1.5])),
        ("groups", ([1, 1], [1, 2], [0])),
    ],
)
def test_bad_input_is_named(name, arguments):
    with pytest.raises(InvalidValue, match=name):
        AdaptiveSelfRecovery().shaped(*arguments)


def test_the_prefix():
    block = "<think>\nOkay, I have finished thinking.\n</think>\n\n"
    assert no_thinking("<|assistant|>\n") == "<|assistant|>\n" + block
    assert no_thinking("<|assistant|><think>\n") == "<|assistant|>" + block  # opened by the template
    with pytest.raises(InvalidValue, match="closed block"):
        no_thinking("<|assistant|>" + block)


def test_continued_thinking_is_told_by_its_phrases():
    responses = ["The answer is 4.", "Wait, 2+2=4.", "waiter", "so 4. Let me check: 4"]
    assert continue_thinking_ratio(responses) == 0.5
    assert continue_thinking_ratio(responses, ["waiter"]) == 0.25
    with pytest.raises(InvalidValue, match="responses"):
        continue_thinking_ratio([])
