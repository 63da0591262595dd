"""Portraits: what is right is what the facts say, and nothing that is asked later is told before."""

from __future__ import annotations

import random
import re

import pytest

from dovetail.core import InvalidValue, UnknownName
from dovetail.tasks.portraits import ASKED, RELATIONS, SETS, TOLD, Portraits

WORLD = Portraits(seed=3)


def told(text: str) -> dict[str, str]:
    """relation -> object, of people alone."""
    return {r: v for r, v in re.findall(r"The (\w+) is (\w+)\.", text) if r in RELATIONS}


def named(text: str) -> str | None:
    found = re.search(r"(?:This is|That was) (\w+)\.", text)
    return found and found[1]


def negated(query: str) -> tuple[str, str]:
    found = re.search(r"The (\w+) is not (\w+)\.", query)
    assert found
    return found[1], found[2]


def right(query: str, text: str, kind: str) -> bool:
    """The definition of relevance, read off the texts."""
    if kind == "recall":
        people = [n for n, facts in WORLD.facts.items() if told(query).items() <= facts.items()]
        return any(told(text).items() <= WORLD.facts[n].items() for n in people)
    if not told(query).items() <= told(text).items() or named(query) != named(text):
        return False
    if kind == "logic":
        no, wrong = negated(query)
        return told(text).get(no, wrong) != wrong
    return True


def test_equal_seeds_give_equal_people_and_others_do_not() -> None:
    assert Portraits(3).facts == WORLD.facts
    assert Portraits(4).facts != WORLD.facts
    assert len(WORLD.names) == len(set(WORLD.names)) == 40
    assert set(WORLD.seen) | set(WORLD.unseen) == set(WORLD.names)
    assert not set(WORLD.seen) & set(WORLD.unseen)
    objects = {value for facts in WORLD.facts.values() for value in facts.values()}
    assert not objects & set(WORLD.names)
    assert len(objects) > 40


@pytest.mark.parametrize("kind", SETS)
def test_relevant_is_what_the_facts_say(kind: str) -> None:
    found = WORLD.retrieval(kind, queries=25)
    assert len(found.queries) == 25
    for query, judged in found.qrels.items():
        expected = {d for d, text in found.corpus.items() if right(found.queries[query], text, kind)}
        assert set(judged) <= expected
        if kind != "recall":  # where two people may share all facts that a text tells
            assert set(judged) == expected
    again = WORLD.retrieval(kind, queries=25)
    assert (again.corpus, again.queries) == (found.corpus, found.queries)


@pytest.mark.parametrize("kind", SETS)
def test_pairings_are_right_and_wrong(kind: str) -> None:
    rng = random.Random(0)
    for _ in range(40):
        made = WORLD.pairing(rng, kind)
        assert right(made.query, made.text, kind)
        if kind != "recall":
            assert not right(made.query, made.wrong, kind)
        assert told(made.wrong).keys() == told(made.text).keys()


def test_long_texts_have_name_and_fact_at_their_ends() -> None:
    found = WORLD.retrieval("long", queries=40)
    assert {named(text) for text in found.queries.values()} <= set(WORLD.unseen)
    first = set()
    for text in found.corpus.values():
        sentences = text.removesuffix(".").split(". ")
        assert len(sentences) == 14
        assert all(" of " in s for s in sentences[1:-1])
        first.add(sentences[0].split()[0])
    assert first == {"This", "The"}
    query, judged = next(iter(found.qrels.items()))
    halves = [
        d for d, t in found.corpus.items() if named(t) == named(found.queries[query]) and d not in judged
    ]
    assert len(halves) == 11


def test_recall_shares_no_relation_and_names_no_one() -> None:
    found = WORLD.retrieval("recall", queries=30)
    assert all(told(text).keys() == set(TOLD) for text in found.corpus.values())
    assert all(told(text).keys() == set(ASKED) for text in found.queries.values())
    assert not any(name in text for text in found.corpus.values() for name in WORLD.names)
    rng = random.Random(1)
    assert {WORLD.pairing(rng, "recall").person for _ in range(200)} == set(WORLD.seen)
    assert all(named(WORLD.pairing(rng, "long").query) in WORLD.seen for _ in range(50))


def test_logical_queries_are_in_no_pairing() -> None:
    rng = random.Random(2)
    trained = {WORLD.pairing(rng, "logic").query for _ in range(500)}
    assert len(trained) > 300
    assert not trained & set(WORLD.retrieval("logic").queries.values())


def test_texts_tell_the_truth_about_whom_they_name() -> None:
    rng = random.Random(1)
    places = set()
    for _ in range(80):
        text = WORLD.text(rng)
        name = named(text)
        places.add((text.startswith("This is"), name is None))
        if name:
            assert told(text).items() <= WORLD.facts[name].items()
    assert places == {(True, False), (False, False), (False, True)}


def test_mistakes_are_named() -> None:
    with pytest.raises(InvalidValue, match="people"):
        Portraits(people=3)
    with pytest.raises(InvalidValue, match="filler"):
        Portraits(filler=17)
    for use in (WORLD.retrieval, lambda kind: WORLD.pairing(random.Random(0), kind)):
        with pytest.raises(UnknownName, match="did you mean long"):
            use("lon")
