"""What the recipe practises, asks and computes, by hand."""

from __future__ import annotations

import pytest

from dovetail.benchmarks.text_worlds import TransitionScorer
from dovetail.core import Completion
from dovetail.recipes.rlvr_world import Answers, claims, imitated, transitions


def test_reported_transitions_are_never_learned_from():
    asked = transitions(20, 1)
    assert len({e.question for e in asked}) == 20
    for kind in (1.0, 0.0):
        assert {e.columns["changed"] for e in transitions(5, 1, changed=kind)} == {bool(kind)}
    again = transitions(20, 1, asked)
    assert not {e.question for e in again} & {e.question for e in asked}


@pytest.mark.parametrize("whole", [0.0, 1.0])
def test_both_ways_of_writing_are_right(whole):
    for example in imitated(transitions(10, 0), whole, 0):
        text = example.columns["completion"]
        assert TransitionScorer()(example, Completion(text)).value == 1
        assert (text == example.reference) or whole
        assert not whole or text.count("\n") == 2


def arm(right: int, n: int = 50) -> Answers:
    """Of n questions that change something and n that do not, the first ``right`` of each right."""
    row = ([1.0] * right + [0.0] * (n - right)) * 2
    return Answers([row] * 2, [row] * 2, [[1.0] * 2 * n] * 2, [True] * n + [False] * n, [2.0, 4.0])


def test_figures_and_verdicts():
    assert arm(10).right(True) == arm(10).right(False) == [1.0] * 10 + [0.0] * 40
    figures = arm(10).arm("MLE").figures
    assert figures["seconds"] == 3
    assert figures["changed"].value == pytest.approx(0.2)  # type: ignore[union-attr]
    good = {"start": arm(5), "MLE": arm(10), "MLE, shortest": arm(20), "RL, binary": arm(30)}
    made = claims(good | {"RL, task-specific": arm(40)}, 0)
    assert [c.verdict for c in made] == ["holds"] * 6
    assert [c.main for c in made] == [True] + [False] * 5
    equal = claims(dict.fromkeys([*good, "RL, task-specific"], arm(20)), 0)
    assert "holds" not in [c.verdict for c in equal]
