"""How targets are chosen, against hand-worked coverage."""

from __future__ import annotations

import numpy as np
import pytest

from dovetail.core import InvalidValue
from dovetail.rewards.length_targets import AdaptiveTargets, difficulty_of, targets_from

RULE = AdaptiveTargets(lower=10, upper=50, interval=10)


def test_least_number_of_right_answers():
    """Paper: 6, 3, 1 of 8; the official code's default: 5, 2, 1."""
    for rounding, expected in (("ceil", [6, 3, 1]), ("floor", [5, 2, 1])):
        rule = AdaptiveTargets(rounding=rounding)
        assert [rule.least(d, 8) for d in ("easy", "medium", "hard")] == expected


def test_candidates():
    assert AdaptiveTargets(4096, 8192, 1024).candidates == [4096, 5120, 6144, 7168, 8192]
    assert AdaptiveTargets(512, 3072, 1024).candidates == [512, 1024, 2048, 3072]


def test_by_hand():
    """Easy needs 1/5 of all its samples within the target, medium 1/2, hard all of them (floor)."""
    correct = [[1, 1, 1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 1]]
    lengths = [
        [9, 12, 25, 31, 31, 31, 31, 60],  # 1/8 within 10, 2/8 within 20
        [5, 5, 15, 25, 45, 45, 45, 45],  # 4/8 within 30
        [5, 5, 5, 5, 5, 5, 5, 41],  # all within 50
    ]
    assert RULE.fit(correct, lengths) == {"easy": 20, "medium": 30, "hard": 50}
    assert AdaptiveTargets(10, 50, 10, rounding="ceil").fit(correct, lengths)["easy"] == 20  # 1/6 > 1/8
    assert AdaptiveTargets(10, 50, 10, expected=2).fit(correct, lengths)["easy"] == 40  # needs 2/5


def test_no_candidate_falls_back_to_the_longest_completion():
    found = RULE.fit([[0] * 8, [0] * 8], [[70] * 8, [20] * 8])
    assert found == {"easy": 70, "medium": 70, "hard": 70}
    assert RULE.fit([[1] * 8], [[15] * 8], longest=12)["easy"] == 12  # no candidate reaches the longest
    assert RULE.fit([[1] * 8], [[15] * 8], longest=99) == {"easy": 20, "medium": 99, "hard": 99}


def test_exact_thirds_go_down_in_the_monitor_set_and_up_in_training():
    thirds = [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    lengths = [[15] * 3, [25] * 3, [5] * 3]
    assert RULE.fit(thirds, lengths, longest=99) == {"easy": 10, "medium": 30, "hard": 20}
    assert [difficulty_of(n, 3) for n in range(4)] == ["hard", "medium", "easy", "easy"]
    assert [difficulty_of(n, 8) for n in (2, 3, 5, 6)] == ["hard", "medium", "medium", "easy"]


def test_targets_fall_as_lengths_shrink():
    rng = np.random.default_rng(0)
    correct = rng.random((200, 8)) < rng.random((200, 1))
    lengths = rng.integers(1, 60, (200, 8)) + 40 * (1 - correct.mean(1, keepdims=True))
    before = None
    for shrink in (1.0, 0.8, 0.6, 0.4, 0.2):
        found = AdaptiveTargets(5, 200, 5).fit(correct, np.floor(lengths * shrink))
        assert found["easy"] <= found["medium"] <= found["hard"]
        assert before is None or all(found[d] <= before[d] for d in found)
        before = found


@pytest.mark.parametrize(
    ("name", "correct", "lengths"),
    [
        ("correct", [], []),
        ("correct", [[1, 0, 1], [1, 0]], [[1, 2, 3], [1, 2]]),
        ("correct", [[1, 0.5, 0]], [[1, 2, 3]]),
        ("lengths", [[1, 0, 1]], [[1, 2, 3, 4]]),
        ("lengths", [[1, 0, 1]], [[1, 2, -3]]),
        ("samples per question", [[1, 0]], [[1, 2]]),
    ],
)
def test_bad_monitor_sets(name, correct, lengths):
    with pytest.raises(InvalidValue, match=name):
        RULE.fit(correct, lengths)


@pytest.mark.parametrize(
    ("field", "values"),
    [("lower", {"lower": 20, "upper": 10}), ("interval", {"interval": 0}), ("rounding", {"rounding": "up"})],
)
def test_impossible_rules(field, values):
    with pytest.raises(InvalidValue, match=field):
        AdaptiveTargets(**values)


def test_targets_of_a_checkpoint():
    assert targets_from({"hard": 3, "easy": 1.0, "medium": 2}) == {"easy": 1, "medium": 2, "hard": 3}
    with pytest.raises(InvalidValue, match="targets"):
        targets_from({"easy": 1})
