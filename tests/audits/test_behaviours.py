"""Behaviours by keywords and by a model, counted by hand."""

from __future__ import annotations

import pytest

from dovetail.audits.behaviours import (
    BEHAVIOURS,
    asking,
    behaviour_shares,
    classify_behaviour,
    keywords,
)
from dovetail.core import InvalidValue, UnknownName


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("First 2+2=4.\nThen 4+1=5.", {"think": 2}),
        ("1. +30\n2. -7\n12+30=42\n42-7=35", {"plan": 2}),
        ("x = 2+2 # 4\nx = 4+1 # 5", {"code": 2}),
        ("```python\nprint(2+2)\n```", {"code": 3}),
        ("Fact: 2+2=4\nRecall the formula.", {"knowledge": 3}),
        ("Example: 3+4=7\nFor instance 1+1=2", {"examples": 2}),
        ("2+2=4. Let me check: 2+2=4. Yes.", {"verification": 1}),
        ("2+2=5. Wait, that is wrong.", {"backtracking": 2}),
        ("Working backwards from 35, to get 42 we need 30.", {"backward chaining": 2}),
        ("<plan>2+2=4</plan><examples></examples><answer>\\boxed{4}</answer>", {}),
        ("17+45=62-23=39", {}),
    ],
)
def test_telltale_words(text: str, shown: dict[str, int]) -> None:
    found = classify_behaviour(text)
    assert list(found) == list(BEHAVIOURS)
    assert {label: n for label, n in found.items() if n} == shown


def test_a_model_may_judge() -> None:
    prompts: list[str] = []

    def model(prompt: str) -> str:
        prompts.append(prompt)
        return "It does so 3 times." if "writes a plan" in prompt else "Never."

    assert classify_behaviour("the text", ("plan", "code"), asking(model)) == {"plan": 3, "code": 0}
    assert "Text:\nthe text" in prompts[0]


def test_shares_of_responses() -> None:
    shares = behaviour_shares({"a": ["Fact: 1", "Fact: 2 fact", "3"], "b": ["4"]}, ("knowledge",))
    assert shares["a"]["knowledge"].value == pytest.approx(2 / 3)
    assert shares["b"]["knowledge"].value == 0


def test_what_is_unknown_or_empty() -> None:
    with pytest.raises(UnknownName, match="did you mean plan"):
        keywords("text", "plann")
    with pytest.raises(UnknownName, match="behaviour"):
        asking(lambda prompt: "1")("text", "dancing")
    with pytest.raises(InvalidValue, match="responses of 'a'"):
        behaviour_shares({"a": []})
