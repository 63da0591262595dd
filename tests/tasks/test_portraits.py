"""Portraits: what is relevant is what the facts say, and no text gives it away."""

from __future__ import annotations

import random
import re

import pytest

from dovetail.core import InvalidValue, UnknownName
from dovetail.tasks.portraits import ASKED, RELATIONS, SETS, TOLD, Portraits

WORLD = Portraits(seed=3)


def told(text: str) -> dict[str, str]:
    """relation -> object, of the person alone."""
    return {r: v for r, v in re.findall(r"The (\w+) is (\w+)\.", text) if r in RELATIONS}


def test_equal_seeds_give_equal_people_and_others_do_not() -> None:
    assert Portraits(3).facts == WORLD.facts
    assert Portraits(4).facts != WORLD.facts
    assert len(WORLD.names) == len(set(WORLD.names)) == 40
    assert set(WORLD.seen) | set(WORLD.unseen) == set(WORLD.names)
    assert not set(WORLD.seen) & set(WORLD.unseen)
    objects = {value for facts in WORLD.facts.values() for value in facts.values()}
    assert not objects & set(WORLD.names)
    assert len(objects) > 40


@pytest.mark.parametrize("kind", ["short", "long"])
def test_relevant_texts_are_those_about_the_person(kind: str) -> None:
    found = WORLD.retrieval(kind, queries=30, texts=2)
    assert len(found.corpus) == 80
    for query, judged in found.qrels.items():
        asked = told(found.queries[query])
        assert asked.keys() == set(ASKED)
        people = {n for n in WORLD.unseen if asked.items() <= WORLD.facts[n].items()}
        for document in judged:
            assert told(found.corpus[document]).keys() == set(TOLD)
            assert any(told(found.corpus[document]).items() <= WORLD.facts[n].items() for n in people)
    assert not any(name in text for text in found.corpus.values() for name in WORLD.names)
    sentences = {text.count(".") for text in found.corpus.values()}
    assert sentences == {3 if kind == "short" else 15}


def test_logical_queries_have_everyone_of_whom_they_are_true() -> None:
    found = WORLD.retrieval("logic", queries=40, texts=1)
    about = dict(zip(found.corpus, WORLD.names, strict=True))
    for query, text in found.queries.items():
        match = re.fullmatch(r"The (\w+) is (\w+)\. The (\w+) is not (\w+)\.", text)
        assert match
        yes, value, no, other = match.groups()
        right = {n for n, f in WORLD.facts.items() if f[yes] == value and f[no] != other}
        assert {about[d] for d in found.qrels[query]} == right
        assert any(f[yes] == value and f[no] == other for f in WORLD.facts.values())


@pytest.mark.parametrize("kind", SETS)
def test_pairings_are_right_and_share_no_fact_with_the_query(kind: str) -> None:
    rng = random.Random(0)
    for _ in range(30):
        made = WORLD.pairing(rng, kind)
        facts = WORLD.facts[made.person]
        assert told(made.text).items() <= facts.items()
        assert not told(made.text).keys() & told(made.query).keys()
        assert made.person not in made.query + made.text
        if kind == "logic":
            no, other = re.findall(r"The (\w+) is not (\w+)\.", made.query)[0]
            assert facts[no] != other
            assert no not in told(made.text)
        else:
            assert made.person in WORLD.seen
            assert told(made.query).items() <= facts.items()
        assert told(made.wrong).keys() == told(made.text).keys()


def test_logical_queries_are_in_no_pairing() -> None:
    rng = random.Random(2)
    trained = {WORLD.pairing(rng, "logic").query for _ in range(200)}
    assert len(trained) > 30
    assert not trained & set(WORLD.retrieval("logic").queries.values())


def test_texts_tell_the_truth_about_whom_they_name() -> None:
    rng = random.Random(1)
    places = set()
    for _ in range(80):
        text = WORLD.text(rng)
        named = re.search(r"(This is|That was) (\w+)\.", text)
        places.add(named and named[1])
        if named:
            assert told(text).items() <= WORLD.facts[named[2]].items()
    assert places == {"This is", "That was", None}


def test_mistakes_are_named() -> None:
    with pytest.raises(InvalidValue, match="people"):
        Portraits(people=3)
    with pytest.raises(InvalidValue, match="filler"):
        Portraits(filler=17)
    with pytest.raises(UnknownName, match="did you mean long"):
        WORLD.retrieval("lon")
