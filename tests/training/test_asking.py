"""Columns of an example decide how it is put; a begun answer is read and never learned."""

from __future__ import annotations

from dataclasses import replace

from training_tools import examples

from dovetail.core import Message
from dovetail.decoding import Sampling
from dovetail.training import Settings
from dovetail.training.asking import put
from dovetail.training.objectives import Supervised
from dovetail.training.writing import Writer


def test_a_begun_answer_ends_the_prompt(learner) -> None:
    [example] = examples(1)
    plain = put(learner, example, seed=3)
    assert plain == learner.prompt(example.messages, seed=3)
    begun = put(learner, replace(example, columns={**example.columns, "begun": "1 "}), seed=3)
    assert begun.text == plain.text + "1 "
    assert begun.ids[: len(plain.ids)] == plain.ids
    assert len(begun.ids) > len(plain.ids)


def test_the_examples_own_mode_and_given_messages_win(learner) -> None:
    [example] = examples(1)
    asked = (Message("user", "another question"),)
    own = replace(example, columns={**example.columns, "thinking": False})
    assert put(learner, own, asked, thinking=True) == learner.prompt(asked, thinking=False)


def test_what_was_begun_is_not_learned(learner) -> None:
    [example] = examples(1)
    taught = replace(example, columns={"begun": "1 ", "completion": "2"})
    writer = Writer(learner, Supervised(), Sampling(), Settings(batch=1))
    prompt = writer.prompt(taught, lambda e: e.messages)
    [completion] = writer.roll(0, [(taught, prompt)]).completions
    assert completion.text == "2"
    assert prompt.text.endswith("1 ")
