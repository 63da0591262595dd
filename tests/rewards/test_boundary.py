from __future__ import annotations

import math

import pytest

from dovetail.core import InvalidValue
from dovetail.rewards import BoundaryReward
from dovetail.rewards.boundary import contained, extract_answer, is_refusal, reliability

T = "<think>x</think>"


@pytest.mark.parametrize(
    ("text", "worth"),
    [
        (T + "\\boxed{Paris}", 1),
        (T + "\\boxed{London}", -1),
        (T + "Sorry, I do not know.", -0.5),
        (T + "I don’t know", -0.5),
        (T + "Sorry, but \\boxed{Paris}", -0.5),  # a refusal comes first
        ("<think>sorry, I don't</think>\\boxed{Paris}", 1),  # thinking does not count
        ("<think>x \\boxed{Paris}", -1),
        ("\\boxed{Paris}", -1),
        (T + "Paris", -1),
        ("", -1),
        (T + "\\text{Paris} \\boxed{London}", 1),  # \text is looked for first
    ],
)
def test_three_values(text, worth):
    assert BoundaryReward()(["?"], [text], golds=[["Paris"]]) == [worth]


def test_thinking_that_the_prompt_has_closed():
    assert BoundaryReward()(["?<think>\n\n</think>\n\n"], ["\\boxed{Paris}"], golds=[["Paris"]]) == [1]


def test_one_of_several_answers_or_a_single_text():
    reward = BoundaryReward(0.5, 0.0, -0.5)
    assert reward(["?"], [T + "**4**"], golds=[["four", "4"]]) == [0.5]
    assert reward(["?"], [T + "**4**"], reference=["4"]) == [0.5]
    for bad in ([], None, [""], [None]):
        with pytest.raises(InvalidValue, match="'golds', row 0"):
            reward(["?"], ["x"], golds=[bad])
    with pytest.raises(InvalidValue, match="golds"):
        reward(["?"], ["x"])


def test_answering_pays_above_a_quarter():
    reward = BoundaryReward()
    assert reward.threshold == 0.25
    for p, answers in ((0.24, False), (0.26, True)):
        assert (p * reward.right + (1 - p) * reward.wrong > reward.refusal) == answers
    assert BoundaryReward(refusal=0.0).threshold == 0.5


@pytest.mark.parametrize("values", [(1, -1, -1), (-0.5, -0.5, -1), (1, 2, 0), (1, float("nan"), -1)])
def test_the_order_of_the_values(values):
    with pytest.raises(InvalidValue, match="right > refusal > wrong"):
        BoundaryReward(*values)


def test_extraction():
    assert extract_answer("\\boxed{\\frac{1}{2}} then \\boxed{3}") == "3"
    assert extract_answer("**a** and **b c**") == "b c"
    assert extract_answer("So the final answer is: Paris.") == "Paris"
    assert extract_answer("Paris") == ""
    assert is_refusal("SORRY")
    assert not is_refusal("I do")


def test_the_official_match():
    assert contained("Paris", "paris ")
    assert contained("1,000", "$1000")
    assert contained("Curie", "Marie Curie")
    assert not contained("Paris, France", "Paris")
    assert not contained("a", "Marie")
    assert contained("a", "A")
    assert not contained(" ", "Marie")
    own = BoundaryReward(match=lambda answer, gold: gold in answer)
    assert own(["?"], [T + "\\boxed{Paris, France}"], golds=[["Paris"]]) == [1]


@pytest.mark.parametrize(
    ("right", "truth", "expected"), [(484, 718, 0.6632), (528, 694, 0.6664), (209, 700, 0.4589)]
)
def test_reliability_of_the_papers_table(right, truth, expected):
    refused = [0] * right + [1] * (truth - right) + [0] * (1000 - truth)
    found = reliability([1] * right + [0] * (1000 - right), refused)
    assert (found.accuracy, found.truthfulness) == pytest.approx((right / 1000, truth / 1000))
    assert found.reliability == pytest.approx(expected, abs=5e-5)
    assert found.accuracy <= found.reliability <= found.truthfulness


def test_reliability_at_its_ends():
    assert reliability([1, 0], [0, 0]).reliability == 0.5
    everything = reliability([0, 0], [1, 1])
    assert (everything.accuracy, everything.truthfulness, everything.reliability) == (0, 1, 0)
    assert reliability([1], [1]).answered == 1  # right and refusing: right
    with pytest.raises(InvalidValue, match="at least 1"):
        reliability([], [])


@pytest.mark.parametrize("p", [0.1, 0.2, 0.3, 0.6])
@pytest.mark.parametrize("refusal", [-0.5, 0.0])
def test_a_policy_that_follows_the_gradient_answers_above_the_threshold(p, refusal):
    """One question, answered rightly with probability p, or refused: exact policy gradient on one logit."""
    reward = BoundaryReward(refusal=refusal)
    pays = {text: reward.worth(T + text, ["Paris"]) for text in ("\\boxed{Paris}", "\\boxed{Rome}", "Sorry")}
    answering = p * pays["\\boxed{Paris}"] + (1 - p) * pays["\\boxed{Rome}"]
    logit = 0.0
    for _ in range(400):
        share = 1 / (1 + math.exp(-logit))
        logit += share * (1 - share) * (answering - pays["Sorry"])
    answers = 1 / (1 + math.exp(-logit))
    assert (answers > 0.9) == (p > reward.threshold)
    assert (answers < 0.1) == (p < reward.threshold)
