"""Solutions and verifications as they are written, and what is paid."""

from __future__ import annotations

import pytest

from dovetail.core import InvalidValue
from dovetail.rewards import VerifierReward
from dovetail.rewards.verification import Layout, verifier_reward

GOOD = (
    "Step Verification:\nStep 1: 3 * 4 is 12. \\boxed{CORRECT}\n"
    "**Step 2:** it is 14.\nSo \\boxed{INCORRECT}\n"
    "Final Verification: \\boxed{INCORRECT}"
)
LINES = Layout("", "", "", "So", "yes", "no", "{problem}\n{solution}")


def test_a_solution_in_tags():
    text = "<think>\n<step>a\nb</step> noise <step>c</step>\n</think>\n\\boxed{4}"
    found = Layout().solution(text)
    assert [text[a:b] for a, b in found.steps] == ["<step>a\nb</step>", "<step>c</step>"]
    assert found.answer == "4"
    # A template may have opened the thinking; and thinking may never end.
    assert len(Layout().solution(text.removeprefix("<think>")).steps) == 2
    assert Layout().solution("<think><step>a</step> \\boxed{4}") == ([(7, 21)], None)
    assert Layout().solution("no steps") == ([], None)


def test_a_solution_in_lines():
    text = "<think>\na b\n\n c\n</think>\n\n\\boxed{x}"
    found = LINES.solution(text)
    assert [text[a:b].strip() for a, b in found.steps] == ["a b", "c"]
    assert LINES.ask("P?", text) == "P?\na b\n c\n\\boxed{x}"


def test_a_verification():
    found = Layout().verification(GOOD, 2)
    assert found == ([1, -1], 0, 1.0)
    assert Layout().verification("<think>hm</think>" + GOOD, 2) == found
    assert Layout().verification("<think>hm" + GOOD, 2) == ([], None, 0.0)
    assert LINES.verification("i \\boxed{yes}\nx\nSo \\boxed{no}", 2) == ([1, None], 0, 0.75)


@pytest.mark.parametrize(
    ("text", "steps", "score"),
    [
        (GOOD, 3, 0.75),
        (GOOD.replace("Step Verification:\n", ""), 2, 0.75),
        (GOOD.replace("Final Verification:", "Finally"), 2, 0.5),  # step 2 then has two verdicts
        (GOOD.replace("So ", "So \\boxed{CORRECT} "), 2, 0.75),
        (GOOD + " \\boxed{CORRECT}", 2, 0.75),
        ("Final Verification: \\boxed{CORRECT}", 0, 0.5),
        ("", 3, 0.0),
    ],
)
def test_a_quarter_for_each_criterion(text, steps, score):
    assert Layout().verification(text, steps).score == score


def test_what_is_paid():
    assert verifier_reward(0, False, 0.5, 0.4) == pytest.approx(1.2)
    given = {"gold_correct": [False, True, False], "n_steps": [2, 2, 2]}
    paid = VerifierReward()(["?"] * 3, [GOOD, GOOD, "no idea"], **given)
    assert paid == pytest.approx([1.8, 0.8, 0.0])


def test_impossible_parameters():
    for bad, named in (({"gamma": -1}, "gamma"), ({"gamma": float("nan")}, "gamma")):
        with pytest.raises(InvalidValue, match=named):
            VerifierReward(**bad)
    for layout, named in (
        ({"final": ""}, "final"),
        ({"right": "no", "wrong": "no"}, "right"),
        ({"prompt": "?"}, "prompt"),
    ):
        with pytest.raises(InvalidValue, match=named):
            Layout(**layout)
    with pytest.raises(InvalidValue, match="n_steps"):
        VerifierReward()(["?"], [GOOD], gold_correct=[True])
