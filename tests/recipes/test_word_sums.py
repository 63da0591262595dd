"""Word sums add up, and folds have no question in common."""

from __future__ import annotations

import random

from dovetail.recipes.word_sums import example, fold, word_sum, word_sums


def test_every_step_holds_and_ends_in_the_answer() -> None:
    rng = random.Random(0)
    for changes in range(1, 10):
        made = word_sum(rng, changes)
        assert len(made.steps) == changes
        last = None
        for step in made.steps:
            left, right = step.split("=")
            assert eval(left) == int(right)
            assert last is None or left.startswith(last)
            last = right
        assert made.answer == last
        assert made.question.count(".") == changes + 1


def test_folds_are_apart_and_turns_are_kept() -> None:
    folds = [word_sums(random.Random(0), 30, (1, 2, 3), f) for f in range(3)]
    assert [{fold(m.question) for m in made} for made in folds] == [{0}, {1}, {2}]
    assert [len(m.steps) for m in folds[0][:4]] == [1, 2, 3, 1]
    assert example("a", folds[0][1]).columns["changes"] == 2
