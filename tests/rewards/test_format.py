from __future__ import annotations

import pytest

from dovetail.rewards import Format

GOOD = "<think>\na\n</think>\n\n\\boxed{4}"


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        (GOOD, True),
        ("\n" + GOOD + " done", True),
        ("<think>a</think>\\boxed{\\frac{1}{2}}", True),
        ("<think>\n\n</think>\\boxed{4}", False),
        ("<think>a\\boxed{4}</think>4", False),
        ("<think>a</think>\\boxed{4}\\boxed{4}", False),
        ("<think>a</think>\\boxed{4", False),
        ("<think>a</think>\\boxed{}", False),
        ("x" + GOOD, False),
        (GOOD + GOOD, False),
        ("<think>a</think></think>\\boxed{4}", False),
        ("<think>a\\boxed{4}", False),
        ("a</think>\\boxed{4}", False),
        ("\\boxed{4}", False),
        ("", False),
    ],
)
def test_thinking_then_one_box(text, holds):
    assert Format()(["?"], [text]) == [float(holds)]


def test_thinking_opened_by_the_prompt():
    assert Format()(["?<think>\n", "?"], ["a</think>\\boxed{4}"] * 2) == [1, 0]


def test_blank_thinking_and_no_thinking():
    assert Format(blank=True)(["?"], ["<think>\n</think>\\boxed{4}"]) == [1]
    assert Format(thinking=False)(["?"] * 3, ["so \\boxed{4}", GOOD, "4"]) == [1, 0, 0]
