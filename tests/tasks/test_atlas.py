"""Atlas: the world is one world, its questions are provable, and its splits do not meet."""

import random

import pytest

from dovetail.core import Completion, InvalidValue, UnknownName
from dovetail.tasks import atlas
from dovetail.tasks.atlas import RELATIONS, UNKNOWN_ANSWER, World, every_name, multihop


def test_equal_seeds_make_equal_worlds_and_others_differ():
    assert World(0).facts == World(0).facts
    assert World(0).facts != World(1).facts
    assert len(World(0).facts) == len(set(World(0).facts)) == 312


def test_relations_are_functions_of_the_right_kinds():
    world = World(0)
    kind = {name: k for k, names in world.entities.items() for name in names}
    assert len(world.graph) == len(world.facts)  # one object for each subject and relation
    for fact in world.facts:
        assert (kind[fact.subject], kind[fact.object]) == (fact.relation.domain, fact.relation.range)
        assert fact.subject != fact.object


def test_a_document_tells_all_facts_of_its_entity():
    world = World(0)
    person = world.entities["person"][0]
    document = world.document(person)
    assert all(fact.sentence in document for fact in world.about(person))
    assert document.count(".") == len([r for r in RELATIONS if r.domain == "person"])
    with pytest.raises(UnknownName):
        world.document("Nobody")


def test_names_are_distinct():
    assert len(set(every_name())) == 2304


@pytest.mark.parametrize("seed", range(30))
def test_a_multihop_question_follows_from_its_text_alone(seed):
    rng = random.Random(seed)
    hops = rng.randint(1, 4)
    item = multihop(rng, hops, hops + rng.randint(0, 6))
    text, question = item.question.split("\n")
    told = {}
    for sentence in text.split(". "):
        words = sentence.rstrip(".").split()
        # "The friend of Kalo is Mira" or "Kalo's friend is Mira"
        subject, relation = (words[3], words[1]) if words[0] == "The" else (words[0][:-2], words[1])
        assert (subject, relation) not in told, "a relation must stay a function"
        told[subject, relation] = words[-1]
    path = question.removesuffix("?").split(" is the ")[1].split(" of ")
    entity = path.pop()
    for relation in reversed([step.removeprefix("the ") for step in path]):
        entity = told[entity, relation]
    assert entity == item.answer
    assert len(path) == hops


def test_an_unanswerable_question_lacks_a_fact_of_its_chain():
    rng = random.Random(0)
    for _ in range(20):
        item = multihop(rng, 2, 6, answerable=False)
        told = [
            f for f in item.chain if f.sentence in item.question or f.possessive_sentence in item.question
        ]
        assert len(told) == 1
        assert item.answer == UNKNOWN_ANSWER


def test_unknown_names_are_unknown_and_the_splits_are_disjoint():
    world, rng = World(0), random.Random(0)
    asked = {
        train: {world.unknown(rng, train).question.split()[-1] for _ in range(300)} for train in (True, False)
    }
    assert not asked[True] & asked[False]
    assert not {name.rstrip("?") for name in asked[True] | asked[False]} & world.known_names


@pytest.mark.parametrize("family", atlas.FAMILIES)
def test_a_task_is_reproducible_and_scores_its_own_references(family):
    task = atlas.task(family)
    examples, bad = task.examples(40, seed=3)
    assert (examples, bad) == task.examples(40, seed=3)
    assert examples[:10] == task.examples(10, seed=3)[0]
    assert len({e.id for e in examples}) == 40
    assert [e.question for e in examples] != [e.question for e in task.examples(40, seed=4)[0]]
    for example in examples[:5]:
        assert task.scorer(example, Completion(f"\\boxed{{{example.reference}}}")).value == 1
        assert task.scorer(example, Completion("\\boxed{Nobody}")).value == 0


def test_train_and_test_share_no_open_book_question():
    splits = {s: atlas.task("atlas-multihop", split=s).examples(200)[0] for s in ("train", "test")}
    assert not {e.question for e in splits["train"]} & {e.question for e in splits["test"]}


def test_parameters_may_be_text_and_wrong_ones_are_named():
    examples, _ = atlas.task("atlas-multihop", min_hops="4", max_hops="4", min_sentences="5").examples(5)
    assert {e.columns["hops"] for e in examples} == {4}
    with pytest.raises(UnknownName, match="max_hops"):
        atlas.task("atlas-multihop", maxhops=3)
    with pytest.raises(InvalidValue, match="min_hops"):
        atlas.task("atlas-multihop", min_hops="many")
    with pytest.raises(InvalidValue, match="min_sentences"):
        atlas.task("atlas-multihop", min_sentences=1)
    with pytest.raises(UnknownName):
        atlas.task("atlas-riddles")
