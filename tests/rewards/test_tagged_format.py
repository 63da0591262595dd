"""The format of a prior prompt, and the reward it is half of, by hand."""

from __future__ import annotations

import pytest

from dovetail.core import Example, InvalidValue
from dovetail.prompting import PRIOR_PROMPTS
from dovetail.rewards import TaggedFormat
from dovetail.rewards.tagged_format import check_golds, ppe_reward

GOOD = "<plan>add</plan>\n<answer>\\boxed{4}</answer>"


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        (GOOD, True),
        (f"  {GOOD}\n", True),
        ("<plan>add <code>x</code></plan><answer>4</answer>", True),
        ("<answer>\\boxed{4}</answer><plan>add</plan>", False),
        ("</plan>add<plan><answer>4</answer>", False),
        (f"{GOOD}<answer>4</answer>", False),
        (f"<plan>first</plan>{GOOD}", False),
        ("<plan>add <plan>more</plan><answer>4</answer>", False),
        ("<plan>add<answer>4</answer></plan>", False),
        ("<plan>add</plan> so <answer>4</answer>", False),
        (f"Well: {GOOD}", False),
        (f"{GOOD} Done.", False),
        ("<plan> </plan><answer>4</answer>", False),
        ("<plan>add</plan><answer></answer>", False),
        ("<plan>add</plan>\\boxed{4}", False),
        ("<plan>add<answer>4</answer>", False),
        ("<PLAN>add</PLAN><answer>4</answer>", False),
        ("", False),
    ],
)
def test_one_block_then_one_answer(text: str, holds: bool) -> None:
    assert TaggedFormat("plan").holds(text) is holds
    assert not TaggedFormat("code").holds(text)
    assert not TaggedFormat("none").holds(text)


def test_blank_blocks_where_allowed() -> None:
    empty = "<plan></plan><answer></answer>"
    assert TaggedFormat("plan", blank=True).holds(empty)
    assert not TaggedFormat("plan").holds(empty)


def test_a_tag_that_the_prompt_opened_counts() -> None:
    rest = "add</think><answer>4</answer>"
    assert TaggedFormat("think")(["?<think>\n", "?"], [rest, rest]) == [1.0, 0.0]


@pytest.mark.parametrize("style", PRIOR_PROMPTS)
def test_the_tag_asked_for_is_the_tag_that_is_paid(style: str) -> None:
    reply = f"<{style}>2+2=4</{style}> <answer>\\boxed{{4}}</answer>"
    assert (f"<{style}>" in PRIOR_PROMPTS[style].text) == TaggedFormat(style).holds(reply)


@pytest.mark.parametrize(
    ("text", "style", "paid"),
    [
        (GOOD, "plan", 1.0),
        (GOOD.replace("4", "5"), "plan", 0.5),
        ("add: \\boxed{4}", "plan", 0.5),
        ("<answer>\\boxed{4}</answer><plan>add</plan>", "plan", 0.5),
        (GOOD, "none", 0.5),
        (GOOD, "code", 0.5),
        ("\\boxed{5}", "none", 0.0),
    ],
)
def test_half_for_the_answer_and_half_for_the_format(text: str, style: str, paid: float) -> None:
    assert ppe_reward(text, "4", style, "numeric") == paid


def test_tags_and_golds_that_will_not_do() -> None:
    for tag in ("answer", "a b", ""):
        with pytest.raises(InvalidValue, match="style"):
            TaggedFormat(tag)
    good = [Example.ask("a", "?", "4"), Example.ask("b", "?", "7.5")]
    check_golds(good, "numeric")
    bad = [*good, Example.ask("c", "?", "four or so"), Example.ask("d", "?")]
    with pytest.raises(InvalidValue, match=r"reference of c is 'four or so'.*2 of 4 are not"):
        check_golds(bad, "numeric")
