"""Success rates over samples, and the shortest hint that helps, with models of known ability."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import pytest
from training_tools import examples

from dovetail.core import Example, InvalidValue
from dovetail.tasks.scorers import Numeric
from dovetail.training.difficulty import measure_difficulty, measured, sampler

SOLUTION = "\n".join(f"step {i}" for i in range(8))


def able(steps: int):
    """A model that does up to ``steps`` steps by itself, and gives four answers."""

    def sample(asked: Sequence[Example]) -> list[list[float]]:
        told = [e.question.count("step") for e in asked]
        return [[float(8 - n <= steps)] * 4 for n in told]

    return sample


def problem(solution: str | None = SOLUTION) -> Example:
    return Example.ask("e", "?", "1", solution=solution)


@pytest.mark.parametrize(
    ("ability", "shown", "accuracy"), [(7, 2, 1.0), (6, 2, 1.0), (5, 4, 1.0), (2, 6, 1.0), (1, 6, 0.0)]
)
def test_the_shortest_hint_that_helps(ability: int, shown: int, accuracy: float) -> None:
    [made] = measured(able(ability), [problem()])
    assert made.columns["accuracy"] == 0
    assert (made.columns["hint_steps"], made.columns["hint_accuracy"]) == (shown, accuracy)
    assert made.messages == problem().messages, "hints are put by GuidedPrompting, not here"


def test_who_needs_no_hint_gets_none() -> None:
    [solved] = measured(able(8), [problem()])
    assert solved.columns["accuracy"] == 1
    assert "hint_steps" not in solved.columns
    [guided] = measured(able(8), [problem()], theta=1.0)
    assert guided.columns["hint_steps"] == 2
    for solution in (None, "one step"):
        [without] = measured(able(0), [problem(solution)])
        assert "hint_steps" not in without.columns


def test_hints_grow_until_the_target() -> None:
    def sample(asked: Sequence[Example]) -> list[list[float]]:
        return [[0.0 if "step" not in e.question else e.question.count("step") / 8] for e in asked]

    [made] = measured(sample, [problem()], target=0.4)
    assert (made.columns["hint_steps"], made.columns["hint_accuracy"]) == (4, 0.5)


def test_hints_are_tried_where_they_will_be_put() -> None:
    def sample(asked: Sequence[Example]) -> list[list[float]]:
        assert all(e.question == "?" for e in asked)
        return [[float(e.columns.get("begun", "").count("step") >= 4)] for e in asked]

    [made] = measured(sample, [problem()], template="<think>\n{hint}")
    assert (made.columns["hint_steps"], made.columns["hint_accuracy"]) == (4, 1.0)
    assert "begun" not in made.columns


def test_success_rates() -> None:
    assert measure_difficulty(lambda asked: [[1, 0, 0, 1], [0]], [problem(), problem()]) == [0.5, 0.0]
    assert measure_difficulty(able(0), []) == []
    with pytest.raises(InvalidValue, match="sample"):
        measure_difficulty(lambda asked: [], [problem()])
    with pytest.raises(InvalidValue, match="scores of example e"):
        measure_difficulty(lambda asked: [[]], [problem()])
    with pytest.raises(InvalidValue, match="scores of example e"):
        measure_difficulty(lambda asked: [[float("nan")]], [problem()])


def test_a_model_is_asked_again_and_again(learner) -> None:
    ask = sampler(learner, Numeric(), 3, 1.0, max_new_tokens=4)
    scores = ask(examples(2))
    assert [len(row) for row in scores] == [3, 3]
    assert scores == ask(examples(2))


def test_impossible_samplings(learner) -> None:
    with pytest.raises(InvalidValue, match="samples"):
        sampler(learner, Numeric(), 0)
    with pytest.warns(UserWarning, match="temperature 0"):
        sampler(learner, Numeric(), 2, 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sampler(learner, Numeric(), 1, 0.0)
