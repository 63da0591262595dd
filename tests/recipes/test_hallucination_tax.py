"""What the recipe asks and computes, by hand."""

from __future__ import annotations

import pytest

from dovetail.recipes.hallucination_tax import (
    HEDGES,
    REFUSES,
    SETS,
    Answers,
    claims,
    document,
    practice,
    sets,
)
from dovetail.recipes.word_sums import example, fold, word_sums
from dovetail.rewards.refusal import answerable, sum_reward
from dovetail.training.data.unanswerable import INSTRUCTION


def answers(right: int, refused: dict[str, int], n: int = 10, seeds: int = 2) -> Answers:
    """The first ones refused; of the answerable, the last ones right."""
    rows = {name: [-1] * refused.get(name, 0) + [0] * (n - refused.get(name, 0)) for name in SETS}
    rows["answerable"][n - right :] = [1] * right
    return Answers.of([rows] * seeds)


def test_every_set_is_told_how_to_refuse_and_was_not_trained_on() -> None:
    asked = sets(8, 2, 0)
    assert tuple(asked) == SETS
    for name, examples in asked.items():
        assert {answerable(e) for e in examples} == {name == "answerable"}
        assert all(e.question.endswith(INSTRUCTION) for e in examples)
    assert {e.columns["criterion"] for e in asked["unseen"]} == {"unrelated"}
    assert "unrelated" not in {e.columns["criterion"] for e in asked["unanswerable"]}
    bare = asked["answerable"][0].question.removesuffix("\n" + INSTRUCTION)
    assert fold(bare) == 2
    assert asked == sets(8, 2, 0)


def test_what_the_start_practises() -> None:
    import random

    [made] = word_sums(random.Random(0), 1, (2,), 0)
    refuses, answers = (document(example("a", made), made, r).completion for r in (True, False))
    assert refuses == REFUSES
    assert sum_reward(refuses, None) == 1
    assert sum_reward(answers, made.answer) == 1


def test_practice_hedges() -> None:
    refused = [d.completion == REFUSES for d in practice(800, 0)]
    for unanswerable in (False, True):
        share = sum(refused[unanswerable::2]) / 400
        assert share == pytest.approx(HEDGES[not unanswerable], abs=0.06)
    assert practice(8, 0) == practice(8, 0) != practice(8, 1)


def test_shares_are_means_over_seeds() -> None:
    one = {name: [1, 0, -1, -1] for name in SETS}
    other = {name: [1, -1, -1, 0] for name in SETS}
    both = Answers.of([one, other])
    assert both.right == [1.0, 0.0, 0.0, 0.0]
    assert both.refused("unanswerable") == [0.0, 0.5, 1.0, 0.5]
    assert both.by_seed() == {"accuracy": [0.25, 0.25], "refusal": [0.5, 0.5]}
    assert both.arm("10%").figures["seeds"] == 2


def test_verdicts_follow_from_the_answers() -> None:
    good = {
        "start": answers(50, {"unanswerable": 50}, 100),
        "0%": answers(80, {}, 100),
        "10%": answers(80, {"unanswerable": 90, "unseen": 90, "strangers": 90}, 100),
        "50%": answers(60, {"unanswerable": 99}, 100),
    }
    assert [c.verdict for c in claims(good, 0)] == ["holds"] * 7
    bad = {
        "start": answers(50, {"unanswerable": 50}, 100),
        "0%": answers(80, {"unanswerable": 50}, 100),
        "10%": answers(50, {"unanswerable": 30}, 100),
    }
    assert [c.verdict for c in claims(bad, 0)] == ["fails"] * 5
    assert [c.main for c in claims(bad, 0)] == [True, True, False, False, False]
