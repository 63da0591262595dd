"""Prior prompts: one instruction, five tags, and nothing for none."""

from __future__ import annotations

import pytest

from dovetail.comparison import parse
from dovetail.core import Example, InvalidValue, Message
from dovetail.prompting import PRIOR_PROMPTS, PriorPrompt, asked
from dovetail.prompting.prior_prompts import CONTENTS

QUESTION = "What is 2 + 2?"


def test_the_five_differ_in_tag_and_content_only() -> None:
    assert list(PRIOR_PROMPTS) == ["think", "plan", "code", "knowledge", "examples", "none"]
    frames = {
        PRIOR_PROMPTS[s].format(QUESTION).replace(CONTENTS[s], "CONTENT").replace(f"{s}>", "TAG>")
        for s in CONTENTS
    }
    assert frames == {
        "Put CONTENT inside <TAG> </TAG> tags, then the answer inside <answer> </answer> tags, with the "
        f"final answer in \\boxed{{}}.\n\n{QUESTION}"
    }


@pytest.mark.parametrize("style", PRIOR_PROMPTS)
def test_the_question_stands_there_once(style: str) -> None:
    put = PRIOR_PROMPTS[style].format(QUESTION)
    assert put.count(QUESTION) == 1
    assert put.endswith(QUESTION)
    assert (f"<{style}>" in put and f"</{style}>" in put) == (style != "none")


def test_none_is_the_bare_question() -> None:
    assert PriorPrompt("none").format(QUESTION) == QUESTION
    assert PriorPrompt("none").format("what does <answer> mean?") == "what does <answer> mean?"


def test_system_messages_go_unless_kept() -> None:
    example = Example("one", (Message("system", "Be brief."), Message("user", QUESTION)))
    assert [m.role for m in PriorPrompt("plan").messages(example)] == ["user"]
    assert [m.role for m in PriorPrompt("plan", system=None).messages(example)] == ["system", "user"]


def test_a_style_and_an_instruction_of_ones_own() -> None:
    own = PriorPrompt("proof", content="a proof sketch")
    assert own.text.startswith("Put a proof sketch inside <proof> </proof> tags")
    short = PriorPrompt("plan", instruction="Reply as <{tag}> </{tag}> <answer> </answer>.")
    assert short.format("2+2?") == "Reply as <plan> </plan> <answer> </answer>.\n\n2+2?"
    arm = parse("prior-prompt:style=code+sampling")
    assert arm.prompting == PriorPrompt("code")


def test_what_cannot_be_is_named() -> None:
    with pytest.raises(InvalidValue, match="one of think, plan, code, knowledge, examples, none"):
        PriorPrompt("thinking")
    for tag in ("answer", "Answer", "two words", "<plan>", "", "4th"):
        with pytest.raises(InvalidValue, match=r"style is .* a plain word for a tag"):
            PriorPrompt(tag, content="something")
    with pytest.raises(InvalidValue, match=r"names the tag: <\{tag\}>"):
        PriorPrompt("plan", instruction="Make a plan.")
    with pytest.raises(InvalidValue, match="question is ' '"):
        PriorPrompt("plan").format(" ")
    for question in ("a <plan> here", "no </answer>"):
        with pytest.raises(InvalidValue, match=r"question of q7 .* without </?(plan|answer)>"):
            PriorPrompt("plan").messages(Example.ask("q7", question))


def test_examples_as_a_prompting_method_puts_them() -> None:
    given = [Example.ask("a", QUESTION, "4", level=1)]
    [put] = asked(given, PriorPrompt("plan"))
    assert put.question == PriorPrompt("plan").format(QUESTION)
    assert (put.id, put.reference, put.columns) == ("a", "4", {"level": 1})
    assert given[0].question == QUESTION
