from __future__ import annotations

import pytest

from dovetail.core import InvalidValue
from dovetail.rewards import Correct, DualAnswer
from dovetail.rewards.dual_answer import (
    equal_answer,
    interval,
    temporal_diou,
    temporal_giou,
    temporal_iou,
)


def twice(first, second, think="2+2=4"):
    return f"\\boxed{{{first}}}<think>{think}</think>\\boxed{{{second}}}"


def pay(text, reward=None, **columns):
    return (reward or DualAnswer())(["?"], [text], **({"reference": ["4"]} | columns))[0]


@pytest.mark.parametrize(
    ("text", "paid"),
    [
        (twice(4, 4), 3.0),
        (twice("Let's analyze the problem step by step.", 4), 2.4),
        (twice("Let's analyze the problem step by step.", 5), 1.0),
        (twice(4, 5), 1.9),
        (twice(5, 4), 2.1),
        (twice(5, 6), 1.0),
        ("\\boxed{4}", 2.0),  # no thinking: one box is both answers, without the format
        (twice(4, 4) + " done", 2.0),
        (twice(4, 4) * 2, 0.9),  # the first box stands alone before <think>, after </think> there are several
        ("<think>2+2=4</think>\\boxed{4}", 1.1),
        ("", 0.0),
    ],
)
def test_check_values(text, paid):
    assert pay(text) == pytest.approx(paid)


def test_a_blank_thought_breaks_the_strict_format_only():
    blank = twice(4, 4, think=" ")
    assert pay(blank) == pytest.approx(3.0)
    assert pay(blank, DualAnswer(strict=True)) == pytest.approx(2.0)


def test_without_an_accepted_answer_it_does_not_apply():
    assert pay(twice(4, 4), reference=[None]) is None


def test_weights():
    assert pay(twice(4, 5), DualAnswer(first=0.0)) == pytest.approx(1.0)
    with pytest.raises(InvalidValue, match="second"):
        DualAnswer(second=-1)


def test_problem_types():
    assert pay(twice("B", "(B)"), reference=["B"], problem_type=["exact_match"]) == pytest.approx(1.9)
    assert pay(twice("1/2", "0.5"), reference=["\\frac{1}{2}"], problem_type=["math"]) == pytest.approx(3.0)
    spans = twice("[0.0, 5.0]", "[0.0, 10.0]")
    assert pay(spans, reference=[[0, 10]], problem_type=["iou"]) == pytest.approx(0.45 + 1.1 + 1)
    both = twice("yes <> [0.0, 5.0]", "yes <> [0.0, 10.0]")
    grounded = {"reference": ["true <> [0, 10]"], "problem_type": ["gqa"]}
    assert pay(both, **grounded) == pytest.approx(0.9 * 1.5 + 1.1 * 2 + 1)
    mixed = DualAnswer(judge=Correct("exact"))(
        ["?"] * 2, [twice(4, 4), spans], reference=["4", [0, 10]], problem_type=[None, "iou"]
    )
    assert mixed == pytest.approx([3.0, 2.55])
    with pytest.raises(InvalidValue, match="problem_type"):
        pay(twice(4, 4), problem_type=["video"])


@pytest.mark.parametrize(
    ("truth", "answer", "equal"),
    [
        ("A", "(a)", True),
        ("A", "a)", True),
        ("A", "A:", True),
        ("A", "A.", False),
        ("yes", "True", True),
        ("no", "f", True),
        ("yes", "no", False),
        ("two  cats", "Two cats", True),
        ("A", "A cat", False),
    ],
)
def test_equal_answer(truth, answer, equal):
    assert equal_answer(truth, answer) == equal


def test_intervals():
    assert interval("from 3.5 to 4") == (3.5, 4)
    assert interval("[10.0 - 2.5]") == (2.5, 10)
    assert interval("(1, 2), (3, 4)") == (1, 2)
    assert interval("at 3") is None


def test_overlaps_by_hand():
    """[0, 4] and [2, 8]: common 2, union 8, centres 2 and 5, hull 8."""
    assert temporal_iou([0, 4], "[2, 8]") == pytest.approx(0.25)
    assert temporal_giou([0, 4], "[2, 8]") == pytest.approx(0.25)
    assert temporal_diou([0, 4], "[2, 8]") == pytest.approx(0.25 - (3 / 8) ** 2)
    assert temporal_giou([0, 1], "[3, 4]") == pytest.approx(-0.5)
    assert temporal_iou([2, 8], "[0, 4]") == temporal_iou([0, 4], "[2, 8]")
    assert temporal_iou([[0, 1], [2, 8]], "[2, 8]") == 1
    assert temporal_iou("2 to 8", "[2, 8]") == 1
    for none in ("", "[3, 3]", "soon"):
        assert temporal_iou([0, 4], none) == 0
        assert temporal_giou([0, 4], none) == temporal_diou([0, 4], none) == -1
    for bad in ("soon", [1], [], [[1, 2], [3]], None, [3, 3], ["a", "b"]):
        with pytest.raises(InvalidValue, match="interval"):
            temporal_iou(bad, "[1, 2]")
