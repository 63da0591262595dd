"""What every prompting method promises, run over all of them."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from types import SimpleNamespace

import pytest
from promptings import PROMPTINGS

from dovetail.comparison import compare, known, parse
from dovetail.core import Example, Message, Score, Task, Unsupported
from dovetail.decoding import describe
from dovetail.models.local import LocalModel
from dovetail.prompting import NAMES, Prompting

EXAMPLE = Example(
    "one",
    (
        Message("system", "Be brief."),
        Message("user", "Hello?"),
        Message("assistant", "Hello!"),
        Message("user", "Where is Kalo?"),
    ),
    "here",
    columns={"translations": {"English": "Where is Kalo?", "Other": "Ubi Kalo?"}},
)


@pytest.fixture(params=PROMPTINGS.values(), ids=PROMPTINGS.keys())
def prompting(request) -> Prompting:
    return request.param


def test_every_registered_name_is_tested():
    assert {name.partition(":")[0] for name in PROMPTINGS} == set(NAMES)
    assert {name for name, (slot, _, _) in known().items() if slot == "prompting"} == set(NAMES)


def test_the_same_example_gives_the_same_messages_and_stays_as_it_is(prompting):
    before = (EXAMPLE.messages, dict(EXAMPLE.columns))
    first, again = prompting.messages(EXAMPLE), prompting.messages(EXAMPLE)
    assert first == again
    assert (EXAMPLE.messages, dict(EXAMPLE.columns)) == before


def test_the_conversation_ends_with_the_question_and_keeps_its_turns(prompting):
    messages = prompting.messages(EXAMPLE)
    assert all(isinstance(m, Message) and m.content for m in messages)
    assert [m.role for m in messages if m.role != "system"] == ["user", "assistant", "user"]
    assert messages[-3:-1] == list(EXAMPLE.messages[1:3])
    assert "Kalo" in messages[-1].content


def test_an_example_without_a_question_is_refused(prompting):
    silent = Example("none", (Message("system", "Be brief."),), columns=dict(EXAMPLE.columns))
    with pytest.raises(Unsupported, match="none has no user message"):
        prompting.messages(silent)


def test_parameters_are_frozen_and_described(prompting):
    assert describe(prompting)["class"] == type(prompting).__name__
    with pytest.raises(FrozenInstanceError):
        setattr(prompting, fields(prompting)[0].name, None)


def test_a_remote_model(prompting):
    """Works by text alone, unless the method reads the model: then it says so."""
    remote = SimpleNamespace(provides=frozenset({"text", "logprobs"}), name="remote")
    assert not prompting.needs
    assert prompting.bound(remote) == prompting
    hungry = type("Hungry", (type(prompting),), {"needs": frozenset({"hidden"})})
    values = {f.name: getattr(prompting, f.name) for f in fields(prompting)}
    with pytest.raises(Unsupported, match="Hungry needs hidden, which remote does not give"):
        hungry(**values).bound(remote)


class Contains:
    name, extraction = "contains", "none"

    def __call__(self, example, completion) -> Score:
        return Score(1.0, 1.0, completion.text)

    def extract(self, text: str) -> str:
        return text


def test_as_an_arm_with_any_decoding(prompting, tiny_network, tiny_tokenizer):
    model = LocalModel(tiny_network("qwen3", max_position_embeddings=1024), tiny_tokenizer, name="tiny")
    task = Task("one", lambda limit, seed: ([EXAMPLE], []), Contains())
    arms = {"asked": [prompting], "voted": [prompting, "self-consistency:n=2"]}
    report = compare(model, task, arms, max_new_tokens=3, progress=False)
    question = prompting.messages(EXAMPLE)[-1].content
    assert [question in outcome.prompt for outcome in report.outcomes] == [True, True]
    assert not any(outcome.error for outcome in report.outcomes)


def test_two_that_put_the_question_cannot_be_stacked():
    with pytest.raises(Unsupported, match="both put the question"):
        parse("direct+structure-of-thought")
