"""A refusal is paid exactly where there is no answer; a bandit shows why anything else destroys it."""

from __future__ import annotations

import pytest
import torch

from dovetail.core import Example, InvalidValue
from dovetail.rewards import CorrectOrRefused
from dovetail.rewards.refusal import answerable, categorize, is_refusal, sum_reward

REFUSES = "<think>\nno idea\n</think>\n\n\\boxed{I don't know.}"


@pytest.mark.parametrize(
    "answer",
    ["I don't know.", "i DON'T know", "I don\u2019t know", "\\text{I don't know.}", "  I  don't know . "],
)
def test_spellings_of_the_refusal(answer: str) -> None:
    assert is_refusal(answer)


@pytest.mark.parametrize("answer", ["I don't know whether 4", "4", "", None, "I know", "I don't know" * 99])
def test_what_is_no_refusal(answer: str | None) -> None:
    assert not is_refusal(answer)


@pytest.mark.parametrize(
    ("response", "gold", "category"),
    [
        ("\\boxed{4}", "4", 1),
        ("<think>\\boxed{5}</think>\\boxed{4.0}", "4", 1),
        ("\\boxed{5}", "4", 0),
        ("the answer is 4", "4", 0),  # no box
        ("<think>4", "4", 0),  # never came to an answer
        ("", "4", 0),
        (REFUSES, "4", -1),
        (REFUSES, None, -1),
        ("\\boxed{4}", None, 0),
        ("<think>\\boxed{I don't know}</think>\\boxed{4}", "4", 1),  # refused only in thought
        ("I don't know.", None, 0),  # no box
        ("\\boxed{I don't know} \\boxed{4}", "4", 1),
    ],
)
def test_categories_and_their_pay(response: str, gold: str | None, category: int) -> None:
    assert categorize(response, gold) == category
    assert sum_reward(response, gold) == float(category == (-1 if gold is None else 1))


def test_the_template_may_have_opened_the_thinking() -> None:
    assert categorize("\\boxed{I don't know}", None, opened="<think>") == 0
    assert categorize("hm</think>\\boxed{I don't know}", None, opened="<think>") == -1


def test_a_batch_with_columns_only() -> None:
    paid = CorrectOrRefused()(
        prompts=["a", "a", "a", "b", "b", "c"],
        completions=["\\boxed{4}", REFUSES, "4", "\\boxed{4}", REFUSES, REFUSES],
        answer=["4", "4", "4", None, None, "I don't know."],
    )
    assert paid == [1, 0, 0, 0, 1, 1]


def test_a_batch_with_examples() -> None:
    known = Example.ask("a", "?", "4", answerable=True)
    other = Example.ask("b", "?", None, answerable=False)
    paid = CorrectOrRefused("numeric")(
        prompts=["?"] * 4, completions=["\\boxed{4}", REFUSES] * 2, example=[known, known, other, other]
    )
    assert paid == [1, 0, 0, 1]


def test_contradictions_are_named() -> None:
    assert answerable(Example.ask("a", "?", "4"))
    assert not answerable(Example.ask("a", "?", "I don't know"))
    with pytest.raises(InvalidValue, match="example x: reference"):
        answerable(Example.ask("x", "?", "4", answerable=False))
    with pytest.raises(InvalidValue, match="example y: reference"):
        CorrectOrRefused()(prompts=["?"], completions=[""], example=[Example.ask("y", "?", answerable=True)])
    with pytest.raises(InvalidValue, match="strict"):
        CorrectOrRefused(strict=False)


@pytest.mark.parametrize(("share", "refuses"), [(0.0, False), (0.5, True)])
def test_a_bandit_that_cannot_tell_questions_apart_loses_its_refusal(share: float, refuses: bool) -> None:
    """Right answers have probability 1 of 5 among answers; expected rewards are followed exactly."""
    answer, wrong = "\\boxed{4}", "\\boxed{5}"
    pay = torch.tensor(
        [
            (1 - share) * sum_reward(response, "4") + share * sum_reward(response, None)
            for response in (answer, wrong, wrong, wrong, wrong, REFUSES)
        ]
    )
    # the arms: answer (one of five, the right one unknown) or refuse
    each = torch.stack([pay[:5].mean(), pay[5]])
    logits = torch.zeros(2)
    for _ in range(400):
        chosen = logits.softmax(0)
        logits = logits + chosen * (each - (chosen * each).sum())
    assert (logits.softmax(0)[1] > 0.95) == refuses
    assert (logits.softmax(0)[1] < 0.05) != refuses
