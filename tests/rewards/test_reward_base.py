"""How a call is read: messages, thinking taken out by a template, groups, lengths."""

from __future__ import annotations

import numpy as np
import pytest

from dovetail.core import InvalidValue
from dovetail.rewards.base import Batch, numbered, whole


def of(completions, prompts=None, **columns):
    return Batch.of(prompts or ["?"] * len(completions), completions, columns)


def test_messages_become_the_text_that_was_written():
    parts = [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]
    thought = {"role": "assistant", "content": "4", "reasoning_content": "2+2=4"}
    tools = [
        {"role": "assistant", "content": "", "tool_calls": []},
        {"role": "tool", "content": "7"},
        {"role": "assistant", "content": "seven"},
    ]
    batch = of([[{"role": "assistant", "content": parts}], [thought], tools, {"content": None}, []])
    assert batch.texts == ("ab", "<think>\n2+2=4\n</think>\n\n4", "seven", "", "")


def test_thinking_opened_by_the_template():
    assert of(["x", "x"], ["<|assistant|>\n<think>\n", "Put thoughts in <think>, please."]).opened == (
        "<think>",
        "",
    )


def test_groups_are_numbered_in_order_of_appearance():
    assert numbered(["b", "a", "b", "c"]).tolist() == [0, 1, 0, 2]
    assert of(["x"] * 4, list("abab")).groups.tolist() == [0, 1, 0, 1]
    assert of(["x"] * 4, num_generations=2).groups.tolist() == [0, 0, 1, 1]
    assert of(["x"] * 4, list("abcd"), group=[5, 5, 2, 5]).groups.tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize("size", [0, 3, 2.0, True, "2"])
def test_a_group_size_that_does_not_divide_the_batch(size):
    with pytest.raises(InvalidValue, match="num_generations"):
        _ = of(["x"] * 4, num_generations=size).groups


def test_same_question_in_other_roles_is_another_prompt():
    one, other = [{"role": "user", "content": "q"}], [{"role": "system", "content": "q"}]
    assert of(["x"] * 3, [one, other, one]).groups.tolist() == [0, 1, 0]


def test_lengths():
    assert of(["x", "y"], completion_ids=[[1, 2, 3], np.asarray([4])]).lengths.tolist() == [3, 1]
    assert of(["x", "y"], length=np.asarray([3, 0])).lengths.tolist() == [3, 0]
    for bad in ([3, -1], [3, 1.5], [3, float("nan")], [3, None]):
        with pytest.raises(InvalidValue, match=r"length.*row 1"):
            _ = of(["x", "y"], length=bad).lengths
    with pytest.raises(InvalidValue, match="completion_ids"):
        _ = of(["x", "y"], completion_ids=[3, 4]).lengths
    with pytest.raises(InvalidValue, match=r"'completion_ids'.*given: answer"):
        _ = of(["x", "y"], answer=[1, 2]).lengths


def test_step_of_either_trainer():
    state = type("State", (), {"global_step": 7})()
    assert of(["x"], step=[3]).step == 3
    assert of(["x"], trainer_state=state).step == 7
    assert of(["x"]).step is None


def test_whole():
    assert whole("lengths", np.asarray([2.0, 0.0])).tolist() == [2, 0]
    with pytest.raises(InvalidValue, match="lengths, row 0"):
        whole("lengths", [float("inf")])
