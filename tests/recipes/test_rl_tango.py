"""The lists, the labels, and what the recipe computes, by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from dovetail.core import Example
from dovetail.recipes.rl_tango import (
    LAYOUT,
    TOLD,
    Answers,
    Labelled,
    balanced_f1,
    claims,
    f1,
    f1_gain,
    judged,
    labels,
    lists,
    right,
    solution,
)

ASKED = Example.ask("a", "Last letters: Bakel Hazo Gone", "l o e")


def test_solutions_and_their_labels():
    good = solution(ASKED.question, ["l", "o", "e"])
    assert good == "<think>\nBakel l\nHazo l o\nGone l o e\n</think>\n\n\\boxed{l o e}"
    assert labels(ASKED, good) == [1, 1, 1]
    assert right([ASKED], [good]) == [1]
    bad = solution(ASKED.question, ["l", "a", "e"])
    assert labels(ASKED, bad) == [1, -1, -1]
    assert right([ASKED], [bad]) == [0]
    gold = "l \\boxed{yes}\nl o \\boxed{no}\nl o e \\boxed{no}\nSo l o e \\boxed{no}"
    assert judged(ASKED, bad) == gold
    said = LAYOUT.verification(judged(ASKED, bad), 3)
    assert said == ([1, -1, -1], 0, 1.0)
    assert labels(ASKED, "<think>\nBakel  l\n\nHazo l x\n") == [1, -1]


def test_true_judgments_stand_at_the_ends_of_steps():
    ids = list(range(4))
    words = ["<think>\nBakel l\n", "Hazo l a\n", "Gone l o e\n</think>", "\n\n\\boxed{l o e}"]
    completion = SimpleNamespace(token_ids=ids, text="".join(words))
    tokenizer = SimpleNamespace(decode=lambda ids, **_: "".join(words[i] for i in ids))
    told = SimpleNamespace(generator=SimpleNamespace(tokenizer=tokenizer), layout=LAYOUT)
    rollouts = SimpleNamespace(examples=[ASKED], completions=[completion])
    assert Labelled.judge(told, rollouts) == ([[1, -1, 1]], [[0, 1, 2]])


def test_lists_ask_for_the_last_letters():
    made = lists(20, (4, 6), 0, "x")
    assert made == lists(20, (4, 6), 0, "x")
    assert {len(str(e.reference).split()) for e in made} == {4, 5, 6}
    assert all(str(e.reference).split() == [name[-1] for name in e.question.split()[2:]] for e in made)


def test_f1_is_the_harmonic_mean_of_both_accuracies():
    # Right ones: 3 of 4 hit; wrong ones: 1 of 2.
    assert balanced_f1([[1, 1]] * 3 + [[1, 0], [0, 1], [0, 0]]) == pytest.approx(2 * 0.75 * 0.5 / 1.25)
    assert balanced_f1([[1, 1]] * 3) == 0
    one = [[[1, 1], [1, 1], [0, 0]], [[0, 1], [0, 1], [1, 1]]]
    assert f1([one], "outcome") == 1
    assert f1([one], "steps") == pytest.approx(2 / 3)
    worse = [[[1, 0], [1, 1], [0, 0]], [[0, 1], [0, 1], [1, 1]]]
    found = f1_gain([one], [worse], "outcome", 0)
    assert found.value == 1
    assert found.interval[0] <= 1 <= found.interval[1]


def test_verdicts_follow_from_the_answers():
    def arm(good: int, hits: int) -> Answers:
        said = [[[i % 2, int(i < hits)], [i % 2, int(i < hits)]] for i in range(100)]
        return Answers([[1.0] * good + [0.0] * (100 - good)] * 2, [said])

    start = arm(10, 40)
    better = {"start": start, "GRPO": arm(20, 0), "Tango": arm(60, 90), "Tango, frozen verifier": arm(30, 0)}
    better[TOLD] = arm(70, 0)
    assert [c.verdict for c in claims(better, 0)] == ["holds"] * 5
    equal = dict.fromkeys(better, start)
    assert "holds" not in [c.verdict for c in claims(equal, 0)]
