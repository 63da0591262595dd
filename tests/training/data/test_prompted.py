"""Every training question is put by the method, and by nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from training_tools import examples

from dovetail.core import InvalidValue, UnknownName
from dovetail.prompting import DirectAnswer, PriorPrompt
from dovetail.rewards import Correct, TaggedFormat
from dovetail.training import train
from dovetail.training.data import Prompted
from dovetail.training.objectives import PolicyGradient
from dovetail.training.plan import plan

SHORT = PriorPrompt("plan", instruction="<{tag}> <answer>")


def test_every_question_of_a_run_has_the_prior_prompt(learner: Any) -> None:
    seen: list[str] = []

    def watching(prompts: Any, completions: Any, **columns: Any) -> list[float]:
        seen.extend(prompts)
        return [float(i % 2) for i, _ in enumerate(completions)]

    train(
        learner,
        examples(4),
        objective=PolicyGradient(group_size=2),
        rewards=[watching, Correct("numeric", strict=True), TaggedFormat("plan")],
        weights=[1, 0.5, 0.5],
        data=Prompted(SHORT),
        steps=2,
        batch=4,
        max_new_tokens=2,
    )
    assert len(seen) == 8
    assert all("<plan> <answer>\n\n" in prompt for prompt in seen)


def test_from_a_name_or_a_table() -> None:
    assert Prompted("direct").prompting == DirectAnswer()
    table = {"name": "prior-prompt", "style": "code"}
    assert Prompted(table).prompting == PriorPrompt("code")
    made = plan(
        {
            "model": "pico",
            "task": "chain-sum",
            "rewards": [{"name": "tagged-format", "style": "code", "weight": 0.5}],
            "data": [{"name": "prompted", "prompting": table}],
        }
    )
    assert made.data[0].prompting == PriorPrompt("code")
    assert made.describe()["data"][0]["prompting"]["style"] == "code"


def test_what_is_no_method_is_named() -> None:
    with pytest.raises(UnknownName, match="did you mean prior-prompt"):
        Prompted("prior-promt")
    with pytest.raises(InvalidValue, match="prompting is 3"):
        Prompted(3)  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match=r"prompting\.style is 'thin'"):
        Prompted({"name": "prior-prompt", "style": "thin"})
