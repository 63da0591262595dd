"""What a turn asks for follows from its conversation, and only from that."""

from __future__ import annotations

import re

import pytest

from dovetail.core import InvalidValue
from dovetail.tasks.conversations import Conversations, examples

MADE = Conversations(seed=4, people=40, longest=3)


def resolved(history: tuple[tuple[str, str], ...], question: str) -> tuple[str, str]:
    """(subject, relation) by the rules of the module's docstring, read off the texts."""
    topic = re.search(r"of (\w+)\?$", history[0][0])
    back = re.search(r"the (\w+) of that one\?", question)
    if back:
        return history[-1][1], back[1]
    their = re.search(r"their (\w+)\?", question)
    assert topic
    assert their
    return topic[1], their[1]


def test_the_right_passage_is_what_the_conversation_asks_for() -> None:
    turns = MADE.turns(120)
    assert {t.last for t in turns} == {True, False}
    assert {len(t.history) for t in turns} == {1, 2, 3}
    for turn in turns:
        assert (turn.fact.subject, turn.fact.relation.name) == resolved(turn.history, turn.question)
        assert turn.fact.subject not in turn.question
        assert turn.fact.subject in turn.names
        for i in range(1, len(turn.history)):  # earlier turns were answered by the same rules
            subject, relation = resolved(turn.history[:i], turn.history[i][0])
            assert MADE.world.graph[subject, relation] == turn.history[i][1]


def test_passages_are_all_facts_and_hold_the_answer() -> None:
    assert len(MADE.passages) == len(MADE.world.facts)
    [one] = examples(MADE.turns(1), "t")
    [gold] = one.columns["gold"]
    turn = MADE.turns(1)[0]
    assert MADE.passages[gold] == f"{turn.fact.subject}: {turn.fact.sentence}"
    assert one.reference == turn.standalone
    assert turn.standalone.endswith(f"is the {turn.fact.relation.name} of {turn.fact.subject}?")


def test_people_held_out_are_those_of_no_conversation_in_training() -> None:
    learned, held = (set(MADE.about(h)) for h in (False, True))
    assert not learned & held
    assert learned | held == set(MADE.world.entities["person"])
    for split, people in ((False, learned), (True, held)):
        topics = {re.search(r"of (\w+)\?$", t.history[0][0])[1] for t in MADE.turns(60, 1, split)}
        assert topics <= people


def test_equal_arguments_equal_turns() -> None:
    assert MADE.turns(20, 3) == Conversations(seed=4, people=40, longest=3).turns(20, 3)
    assert MADE.turns(20, 3) != MADE.turns(20, 2)
    assert len({(t.history, t.question) for t in MADE.turns(200)}) == 200


@pytest.mark.parametrize(
    ("options", "name"), [({"people": 7}, "people"), ({"longest": 0}, "longest"), ({"back": 1.1}, "back")]
)
def test_impossible_parameters_are_named(options: dict, name: str) -> None:
    with pytest.raises(InvalidValue, match=name):
        Conversations(**options)


def test_more_turns_than_there_are() -> None:
    with pytest.raises(InvalidValue, match="count"):
        Conversations(people=8, longest=1).turns(5000, held_out=True)
