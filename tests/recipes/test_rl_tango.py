"""The lists, the labels, and what the recipe computes, by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from dovetail.core import Example
from dovetail.recipes.rl_tango import (
    LAYOUT,
    LETTERS,
    SLIPS,
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
    slipped,
    solution,
    steps_right,
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
    gold = "Bakel l l \\boxed{yes}\nHazo a o \\boxed{no}\nGone e e \\boxed{no}\nSo l o e \\boxed{no}"
    assert judged(ASKED, bad) == gold
    said = LAYOUT.verification(judged(ASKED, bad), 3)
    assert said == ([1, -1, -1], 0, 1.0)
    assert (
        judged(ASKED, "Bakel l\nHazo l o\nGone l o e\nMore l o e x\n").split("\n")[3] == "- x - \\boxed{no}"
    )
    assert labels(ASKED, "<think>\nBakel  l\n\nHazo l x\n") == [1, -1]


def test_slips_are_other_letters_in_the_share_that_was_asked_for():
    made = lists(400, (6, 6), 0, "x")
    letters = [LAYOUT.solution(slipped(e, SLIPS)).answer.split() for e in made]
    pairs = [
        (y, x) for e, given in zip(made, letters, strict=True) for y, x in zip(gold(e), given, strict=True)
    ]
    assert {x for _, x in pairs} == set(LETTERS)
    assert sum(x != y for y, x in pairs) / len(pairs) == pytest.approx(SLIPS, abs=0.03)
    # A slip is carried along, so no later step is right.
    second = [g[0] == gold(e)[0] and g[1] != gold(e)[1] for e, g in zip(made, letters, strict=True)]
    e = made[second.index(True)]
    assert labels(e, slipped(e, SLIPS)) == [1, -1, -1, -1, -1, -1]


def gold(example: Example) -> list[str]:
    return str(example.reference).split()


def test_a_missing_step_is_not_a_right_one():
    assert steps_right(
        [ASKED] * 3, [solution(ASKED.question, ["l", "o", "e"]), "Bakel l\n", "Bakel k\n"]
    ) == (pytest.approx([1, 1 / 3, 0]))


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
        rights = [[1.0] * good + [0.0] * (100 - good)] * 2
        return Answers(rights, [said], rights, rights)

    start = arm(10, 40)
    better = {"start": start, "GRPO": arm(20, 0), "Tango": arm(60, 90), "Tango, frozen verifier": arm(30, 0)}
    better[TOLD] = arm(70, 0)
    assert [c.verdict for c in claims(better, 0)] == ["holds"] * 5
    assert better["Tango"].arm("Tango", 0).figures["greedy accuracy"].value == pytest.approx(0.6)
    equal = dict.fromkeys(better, start)
    assert "holds" not in [c.verdict for c in claims(equal, 0)]
