"""A reward that misbehaves is named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from training_tools import rollouts

from dovetail.core import InvalidValue
from dovetail.training.judging import RewardFailed, judge, reward_names


def length(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    return [float(len(ids)) for ids in columns["completion_ids"]]


def test_values_columns_and_none() -> None:
    rows = rollouts([2, 3])
    rows.examples[0] = replace(rows.examples[0], columns={"level": 3})
    seen: dict[str, Any] = {}

    def partly(prompts: list[str], completions: list[str], **columns: Any) -> list[float | None]:
        seen.update(columns, prompts=prompts, completions=completions)
        return [None, 1]

    found = judge(rows, [length, partly], ["length", "partly"])
    assert found[:, 0].tolist() == [2.0, 3.0]
    assert found[0, 1].isnan()
    assert found[1, 1] == 1.0
    assert seen["level"] == [3, None]
    assert seen["completions"] == ["c0", "c1"]
    assert (seen["id"], seen["group"], seen["step"]) == (["e0", "e1"], [0, 1], [0, 0])


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        ([1.0], "returned 1 values for 2 completions"),
        ([1.0, float("nan")], "returned nan for example e1, completion 'c1'"),
        ([float("inf"), 1.0], "returned inf for example e0"),
        (["x", 1.0], "returned 'x' for example e0"),
    ],
)
def test_wrong_values(returned: list[Any], words: str) -> None:
    with pytest.raises(RewardFailed, match="reward 'odd' at step 0 " + words.replace("'", "'")):
        judge(rollouts([1, 1]), [lambda **_: returned], ["odd"])


def test_a_reward_that_raises() -> None:
    def broken(**_: Any) -> list[float]:
        raise KeyError("gold")

    with pytest.raises(RewardFailed, match="'broken' at step 0 raised KeyError: 'gold'"):
        judge(rollouts([1]), [broken], ["broken"])


def test_a_reward_cannot_disturb_the_next() -> None:
    def greedy(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
        completions.reverse()
        columns["completion_ids"].clear()
        return [0.0, 0.0]

    assert judge(rollouts([1, 2]), [greedy, length], ["a", "b"])[:, 1].tolist() == [1.0, 2.0]


def test_names() -> None:
    class Named:
        name = "own"

        def __call__(self, **_: Any) -> list[float]:
            return []

    assert reward_names([length, Named(), length]) == ("length", "own", "length-2")
    with pytest.raises(InvalidValue, match="rewards"):
        reward_names([3])
