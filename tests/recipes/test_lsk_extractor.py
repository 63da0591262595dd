"""LSKExtractor's recipe: what is taught in which language, and votes over languages."""

from __future__ import annotations

import pytest

from dovetail.recipes.lsk_extractor import ELSEWHERE, HOME, LANGUAGES, example, taught, voted
from dovetail.tasks.atlas import World


def test_every_topic_is_taught_whole_at_home_and_in_part_elsewhere():
    facts = World(seed=1).facts
    pairs = taught(facts, even=False, seed=0)
    at_home = [fact for fact, language in pairs if HOME[fact.relation.name] == language]
    assert set(at_home) == set(facts)
    assert len(pairs) - len(at_home) == pytest.approx(2 * ELSEWHERE * len(facts), rel=0.4)


def test_equal_copies_are_taught_the_same_facts_in_every_language():
    pairs = taught(World(seed=1).facts, even=True, seed=0)
    held = [{fact for fact, of in pairs if of == language} for language in LANGUAGES]
    assert held[0] == held[1] == held[2]


def test_a_vote_scores_as_its_answer_does():
    # answers are folded by the scorer, so they are not compared with the reference as it is written
    assert voted(["mira", "kalo", "mira"], [1.0, 0.0, 1.0]) == 1
    assert voted(["mira", "kalo", "mira"], [0.0, 1.0, 0.0]) == 0
    assert voted(["", "kalo", ""], [0.0, 1.0, 0.0]) == 1
    assert voted(["", "", ""], [0.0, 0.0, 0.0]) == 0


def test_a_question_in_every_language():
    held = example(World(seed=1).facts[0]).columns["translations"]
    assert list(held) == list(LANGUAGES)
    assert len({text.split()[0] for text in held.values()}) == 3
