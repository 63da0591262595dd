"""What the recipe asks, writes and computes, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dovetail.recipes.barrel import (
    BARREL,
    PLAIN,
    PRACTICE,
    REWARD,
    SIZES,
    Answers,
    boundary,
    claims,
    facts,
    members,
    writer,
)
from dovetail.rewards import BoundaryReward
from dovetail.tasks.atlas import World

WORLD = World(0)


def test_nothing_is_asked_that_was_learned() -> None:
    learned, asked = facts(WORLD, SIZES["pico"], 0)
    assert len({e.question for e in learned + asked}) == 4 * 132
    for made in (learned, asked):
        assert sum(e.columns["stranger"] for e in made) == 132
        for e in made:
            subject = e.question.removesuffix("?").split()[-1]
            assert (subject in WORLD.known_names) is not e.columns["stranger"]
            assert " trade " not in e.question
    names = [
        {e.question.removesuffix("?").split()[-1] for e in made if e.columns["stranger"]}
        for made in (learned, asked)
    ]
    assert not names[0] & names[1]
    assert facts(WORLD, SIZES["pico"], 0) == (learned, asked)
    assert facts(WORLD, SIZES["pico"], 1)[0] != learned


def test_traces_are_worth_what_their_label_says() -> None:
    learned, _ = facts(WORLD, SIZES["pico"], 0)
    write, reward = writer(WORLD, learned, 0), BoundaryReward()
    for example in learned:
        gold = example.reference or ""
        known, unknown = (write(example.question, gold, k) for k in (True, False))
        assert reward.worth(known, [gold]) == 1
        assert reward.worth(unknown, [gold]) == -0.5
        assert gold not in unknown


RATES = [0.0] * 40 + [0.1] * 10 + [0.25] * 10 + [0.9] * 40


def answers(right: int, refused: int) -> Answers:
    """The last ones right, the first ones refused; two equal samples."""
    good, gave_up = np.zeros((2, 100)), np.zeros((2, 100))
    good[:, 100 - right :] = 1
    gave_up[:, :refused] = 1
    return Answers(good, gave_up, np.full((2, 100), 20))


def test_refusals_by_hit_rate() -> None:
    assert [len(members(RATES, b)) for b in range(5)] == [40, 10, 10, 0, 40]
    of = answers(40, 45)
    assert of.by_hit_rate(RATES) == [1.0, 0.5, 0.0, None, 0.0]
    gap = boundary(of, RATES, 0)
    assert gap is not None
    assert gap.value == pytest.approx(0.9)
    assert gap.interval[0] > 0.7
    assert boundary(of, [0.9] * 100, 0) is None


def test_runs_stand_side_by_side() -> None:
    one = {"right": [[1, 0]], "refused": [[0, 1]], "tokens": [[3, 5]]}
    both = Answers.of([one, one])
    assert both.right.shape == (2, 2)
    assert both.point()["truthfulness"] == 1
    assert both.arm(BARREL, [0.0, 1.0], 0).figures["tokens"].value == 4  # type: ignore[union-attr]


def test_verdicts_follow_from_the_answers() -> None:
    good = {
        "start": answers(55, 5),
        PLAIN: answers(55, 0),
        PRACTICE: answers(50, 10),
        REWARD: answers(53, 15),
        BARREL: answers(55, 45),
    }
    made = claims(good, RATES, 0)
    assert [c.verdict for c in made] == ["holds"] * 7
    assert [c.main for c in made] == [True, True, False, False, False, False, False]
    bad = {
        "start": answers(55, 5),
        PLAIN: answers(55, 35),
        PRACTICE: answers(55, 40),
        REWARD: answers(55, 40),
        BARREL: answers(5, 3),
    }
    assert [c.verdict for c in claims(bad, RATES, 0)] == ["fails"] * 7
