"""Structure of Thought: the prompts, and reading what models make of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dovetail.comparison import parse
from dovetail.core import Example, InvalidValue, Message
from dovetail.prompting import ChainOfThought, DirectAnswer, StructureOfThought
from dovetail.prompting.structure_of_thought import ONLY_ANSWER, graph_of, parse_sot, read_json

ASKED = Example(
    "one", (Message("system", "Output the answer only."), Message("user", "A feeds B. What does A feed?"))
)


def test_the_instruction_follows_the_question_and_shows_the_notation():
    [message] = StructureOfThought().messages(ASKED)
    assert message.content.startswith("A feeds B. What does A feed?\n\n")
    assert '{"nodes": [{"id": "n1"' in message.content
    assert message.content.index("[Structure]") < message.content.index("[Answer]")
    [arrows] = StructureOfThought(notation="arrows").messages(ASKED)
    assert "->" in arrows.content
    assert "{" not in arrows.content


def test_a_system_message_that_asks_for_the_answer_alone_is_replaced():
    assert [m.role for m in StructureOfThought().messages(ASKED)] == ["user"]
    assert [m.role for m in ChainOfThought().messages(ASKED)] == ["user"]
    assert StructureOfThought(system=None).messages(ASKED)[0] == ASKED.messages[0]
    assert DirectAnswer().messages(ASKED) == [Message("system", ONLY_ANSWER), ASKED.messages[1]]
    assert DirectAnswer(instruction="Now.", system="").messages(ASKED)[0].content.endswith("feed?\n\nNow.")


def test_parameters_from_the_command_line():
    arm = parse("structure-of-thought:notation=arrows+sampling")
    assert arm.prompting == StructureOfThought(notation="arrows")
    with pytest.raises(InvalidValue, match="notation"):
        parse("structure-of-thought:notation=xml")
    for method in (StructureOfThought, ChainOfThought):
        with pytest.raises(InvalidValue, match="instruction"):
            method(instruction=" ")


def test_a_response_in_json():
    found = parse_sot(
        '[Structure] {"nodes": [{"id": "n1", "label": "A"}, {"id": "n2"}, {"label": "no id"}, 7], '
        '"links": [{"source": "n1", "target": "n2", "label": "feeds"}, {"source": "n1"}]}\n[Answer] B'
    )
    assert found.nodes == ({"id": "n1", "label": "A"}, {"id": "n2"})
    assert found.links == ({"source": "n1", "target": "n2", "label": "feeds"},)
    assert found.answer == "B"


def test_a_response_in_arrows():
    found = parse_sot("[structure]\nKalo -> Mira\n Mira->Bo -> Ba \n-> x\n[ANSWER] C")
    assert found.links == (
        {"source": "Kalo", "target": "Mira"},
        {"source": "Mira", "target": "Bo"},
        {"source": "Bo", "target": "Ba"},
    )
    assert [n["id"] for n in found.nodes] == ["Kalo", "Mira", "Bo", "Ba"]
    assert found.answer == "C"


def test_the_last_structure_with_an_answer_counts():
    text = "[Structure] {} [Answer] echoed\n[Structure]\na -> b\n[Answer] A"
    assert parse_sot(text).links == ({"source": "a", "target": "b"},)
    assert parse_sot(text).answer == "A"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("", None),
        ("B", None),
        ("[Answer] B", "B"),
        ("[Structure] {broken [Answer] B", "B"),
        ('[Structure] {"nodes": 3, "links": "x"} [Answer] B', "B"),
        ("[Structure] [1, 2] [Answer]", ""),
        ("[Answer] A [Structure] a -> b", "A [Structure] a -> b"),
    ],
)
def test_what_cannot_be_read_is_an_empty_structure(text, answer):
    found = parse_sot(text)
    assert (found.nodes, found.links, found.answer) == ((), (), answer)


def test_letters_whose_lower_case_is_longer_move_nothing():
    assert parse_sot("İİİ [Structure]\nİ -> b\n[Answer] A").answer == "A"
    assert parse_sot("İİİ [Structure]\nİ -> b\n[Answer] A").links == ({"source": "İ", "target": "b"},)


@given(st.text(alphabet='[]{}":,->\n AnswerStuc1', max_size=80))
def test_reading_never_raises(text):
    parse_sot(text)
    parse_sot("[Structure]" + text + "[Answer]" + text)
    graph_of(read_json(text))


def test_json_from_the_first_brace_to_the_last():
    assert read_json('so: {"a": 1} done', "[Nodes]") == {"a": 1}
    assert read_json('{"x": 0} [nodes] {"a": 1}', "[Nodes]") == {"a": 1}
    assert read_json('{"a": 1} and }', "[Nodes]") == {}
    assert read_json("{" * 100_000 + "}") == {}
