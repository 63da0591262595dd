"""The questions are new, and the two folds have none in common."""

from __future__ import annotations

from dovetail.recipes.questions import BY_HEART, task
from dovetail.training.pico.corpus import held_out


def test_the_questions_are_new_and_no_fold_knows_the_other() -> None:
    families = (*BY_HEART, "chain-sum", "word-problem", "two terms")
    examples, bad = task(families, fold=0).examples(60, seed=3)
    assert not bad
    assert [e.columns["family"] for e in examples] == list(families) * 12
    assert all(e.columns["hard"] == (e.columns["family"] not in BY_HEART) for e in examples)
    assert all(held_out(e.question) for e in examples if e.columns["hard"])
    again, _ = task(families, fold=0).examples(60, seed=3)
    other, _ = task(families, fold=1).examples(60, seed=3)
    assert [e.question for e in again] == [e.question for e in examples]
    asked = {e.question for e in examples}
    assert len(asked) == 60
    assert not {e.question for e in other} & asked
