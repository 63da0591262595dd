from __future__ import annotations

import pytest

from dovetail.core import Example, InvalidValue, Score, UnknownName
from dovetail.rewards import Correct

TEXTS = ["<think>4</think>\\boxed{4}", "the answer is 4", "\\boxed{5}", "<think>\\boxed{4}"]


def pay(reward=None, texts=TEXTS, prompts=None, **columns):
    return (reward or Correct())(prompts or ["?"] * len(texts), texts, **columns)


def test_right_answers_are_paid_and_thinking_does_not_count():
    assert pay(reference=["4"] * 4) == [1, 1, 0, 0]
    assert pay(Correct(strict=True), reference=["4"] * 4) == [1, 0, 0, 0]


@pytest.mark.parametrize("accepted", ["4", 4, "so \\boxed{4}", "2 + 2\n#### 4", ["9", "4"], ("4",)], ids=repr)
def test_what_references_look_like(accepted):
    for column in ("reference", "answer", "solution", "ground_truth"):
        assert pay(**{column: [accepted] * 4}) == [1, 1, 0, 0]


def test_a_named_column_comes_before_those_found_by_name():
    assert pay(Correct(column="gold"), answer=["9"] * 4, gold=["4"] * 4) == [1, 1, 0, 0]
    with pytest.raises(InvalidValue, match=r"'gold'.*given: answer"):
        pay(Correct(column="gold"), answer=["9"] * 4)
    with pytest.raises(InvalidValue, match=r"reference.*Correct\(column"):
        pay(other=["4"] * 4)


def test_without_an_accepted_answer_it_does_not_apply():
    assert pay(reference=["4", None, "5", None]) == [1, None, 1, None]


def test_the_examples_of_the_trainer_and_a_scorer_of_ones_own():
    class Short:
        name, extraction = "short", "all of it"

        def __call__(self, example, completion):
            return Score(float(len(completion.text) < example.columns["limit"]), 0.0)

        def extract(self, text):
            return text

    examples = [Example.ask(str(n), "?", limit=n) for n in (100, 3, 100, 100)]
    assert pay(Correct(Short()), example=examples) == [1, 0, 1, 1]


def test_thinking_that_the_prompt_opened_and_nobody_closed_is_no_answer():
    texts = ["4</think>\\boxed{4}", "so it is \\boxed{4}"]
    assert pay(texts=texts, prompts=["?<think>\n"] * 2, reference=["4"] * 2) == [1, 0]


def test_choices_are_judged_by_letter():
    texts = ["\\boxed{B}", "\\boxed{A}"]
    assert pay(texts=texts, answer=["B", "B"], choices=[["x", "y"], ["x", "y"]]) == [1, 0]


def test_unknown_scorer():
    with pytest.raises(UnknownName, match="numeric"):
        Correct("numerc")
