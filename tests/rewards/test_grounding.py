"""Overlaps by hand, what counts as a box and as the format, and true boxes that cannot be."""

from __future__ import annotations

import math
import random

import pytest

from dovetail.core import Completion, Example, InvalidValue
from dovetail.rewards import BoxFormat, BoxIoU
from dovetail.rewards.grounding import BoxScorer, acc_at_iou, box_format, iou_xyxy, parse_box

GOOD = "<think>left of it</think>\n<answer>(100, 100),(300, 200)</answer>"


def test_overlaps_by_hand():
    assert iou_xyxy((0, 0, 10, 10), (0, 0, 10, 10)) == 1
    assert iou_xyxy((0, 0, 10, 10), (5, 5, 15, 15)) == pytest.approx(25 / 175)
    assert iou_xyxy((0, 0, 100, 100), (0, 0, 50, 100)) == 0.5
    assert iou_xyxy((0, 0, 10, 10), (10, 0, 20, 10)) == 0  # an edge in common
    assert iou_xyxy((0, 0, 10, 10), (20, 20, 30, 30)) == 0
    # Empty and reversed boxes overlap nothing, not even themselves.
    assert iou_xyxy((5, 5, 5, 9), (5, 5, 5, 9)) == 0
    assert iou_xyxy((10, 10, 0, 0), (0, 0, 10, 10)) == 0


def test_overlap_is_symmetric_and_does_not_mind_moving_or_scaling():
    rng = random.Random(0)
    for _ in range(200):
        a, b = (
            [*(c := [rng.uniform(0, 50), rng.uniform(0, 50)]), *(v + rng.uniform(1, 50) for v in c)]
            for _ in "ab"
        )
        found = iou_xyxy(a, b)
        assert 0 <= found <= 1
        assert iou_xyxy(b, a) == found
        moved = [[3 * v + 7 for v in box] for box in (a, b)]
        assert iou_xyxy(*moved) == pytest.approx(found)


@pytest.mark.parametrize(
    ("text", "strict", "lenient"),
    [
        ("(1, 2), (3, 4)", (1, 2, 3, 4), (1, 2, 3, 4)),
        ("(1,2),(3,4) or (5,6),(7,8)", (1, 2, 3, 4), (1, 2, 3, 4)),
        ("<|box_start|>(1,2),(3,4)<|box_end|>", (1, 2, 3, 4), (1, 2, 3, 4)),
        ("[10,10,110,110]", None, (10, 10, 110, 110)),
        ("[[1, 2], [3, 4]]", None, (1, 2, 3, 4)),
        ("(0.1,2),(3,4.5)", None, (0.1, 2, 3, 4.5)),
        ("(30,40),(10,20)", (30, 40, 10, 20), (30, 40, 10, 20)),
        ("(-1,2),(3,4)", None, None),
        ("1,2,3,4", None, None),
        ("(1,2)", None, None),
        ("", None, None),
    ],
)
def test_boxes_in_texts(text, strict, lenient):
    assert parse_box(text) == strict
    assert parse_box(text, lenient=True) == lenient


def paid(reward, *texts, box=(100, 100, 300, 200), **columns):
    return reward(["?"] * len(texts), list(texts), box=[box] * len(texts), **columns)


def test_the_first_box_of_the_first_answer_block_is_paid_its_overlap():
    half = GOOD.replace("300", "200")
    assert paid(BoxIoU(), GOOD, half) == [1.0, 0.5]
    assert paid(BoxIoU(), "(100,100),(300,200)", "<answer>(100,100),(300,200)", "junk", "") == [0.0] * 4
    assert paid(BoxIoU(), half + GOOD, "<answer></answer>" + GOOD) == [0.5, 0.0]
    assert paid(BoxIoU(), GOOD.replace("(100, 100),(300, 200)", "(300,200),(100,100)")) == [0.0]
    brackets = "<answer>[100, 100, 300, 200]</answer>"
    assert paid(BoxIoU(), brackets) == [0.0]
    assert paid(BoxIoU(lenient=True), brackets) == [1.0]


def test_rows_that_were_not_asked_to_think():
    text = "at (100,100),(300,200)"
    assert paid(BoxIoU(), text, text, GOOD, thinking=[False, True, False]) == [1.0, 0.0, 1.0]
    assert paid(BoxFormat(), text, text, "none", thinking=[False, None, False]) == [1.0, 0.0, 0.0]
    assert paid(BoxFormat(thinking=False), text, text, thinking=[None, True]) == [1.0, 0.0]


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        (GOOD, True),
        (GOOD + "\n", True),
        ("Well: " + GOOD, True),  # the official pattern is searched for, not matched from the start
        (GOOD.replace("\n", ""), True),
        ("<think></think><answer>(1,2),(3,4)</answer>", True),
        (GOOD + " ", False),
        (GOOD + "more", False),
        (GOOD.replace("\n", " so "), False),
        (GOOD.replace("</answer>", ",(1,2),(3,4)</answer>"), False),
        (GOOD.replace("<answer>", "<answer> "), False),
        (GOOD.replace("<think>", ""), False),
        (GOOD.replace("</think>", ""), False),
        ("<answer>(1,2),(3,4)</answer>", False),
        ("", False),
    ],
)
def test_the_format(text, holds):
    assert box_format(text) is holds


def test_a_thought_that_the_prompt_opened_counts():
    text = GOOD.removeprefix("<think>")
    assert BoxFormat()(["look <think>", "look"], [text, text]) == [1.0, 0.0]


@pytest.mark.parametrize(
    "box",
    [
        (1, 2, 3),
        (3, 0, 1, 4),
        (0, 4, 1, 4),
        (0, 0, math.nan, 1),
        (0, 0, 1001, 1),
        (-1, 0, 1, 1),
        None,
        5,
        "abcd",
    ],
)
def test_true_boxes_that_cannot_be_are_named_by_their_row(box):
    with pytest.raises(InvalidValue, match="'box', row 1"):
        BoxIoU()(["?"] * 2, [GOOD] * 2, box=[(0, 0, 1, 1), box])


def test_impossible_parameters_and_columns():
    with pytest.raises(InvalidValue, match="grid"):
        BoxIoU(grid=0)
    with pytest.raises(InvalidValue, match="'box'"):
        BoxIoU()(["?"], [GOOD])
    with pytest.raises(InvalidValue, match="one value for each"):
        BoxIoU()(["?"] * 2, [GOOD] * 2, box=[(0, 0, 1, 1)])


def test_the_scorer_of_held_out_answers():
    example = Example.ask("a", "where?", box=(100, 100, 300, 200))
    score = BoxScorer()(example, Completion(GOOD.replace("300", "220")))
    assert score.value == pytest.approx(0.6)
    assert score.figures == {"acc@0.3": 1.0, "acc@0.5": 1.0, "acc@0.7": 0.0}
    assert score.answer == "(100,100),(220,200)"
    assert BoxScorer()(example, Completion(GOOD + "!")).strict == 0
    assert BoxScorer()(example, Completion("?")).value == 0
    assert [acc_at_iou(v) for v in (0.5, 0.51)] == [0.0, 1.0]
