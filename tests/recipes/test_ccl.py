"""What the recipe practises, trains on and computes, by hand."""

from __future__ import annotations

import random

from dovetail.recipes.ccl import (
    ALONE,
    CHANGES,
    LEARNING,
    TEMPLATE,
    WAYS,
    Answers,
    claims,
    document,
    helped,
    hidden,
    parts,
    with_difficulty,
)
from dovetail.recipes.word_sums import word_sum, word_sum_examples
from dovetail.training.data import CustomizedCurriculum, GuidedPrompting


def test_the_practice_never_shows_a_long_problem_solved_alone() -> None:
    rng = random.Random(0)
    for _ in range(200):
        made = word_sum(rng, rng.choice(CHANGES))
        shown = hidden(rng, len(made.steps))
        written = document(made, shown)
        assert 1 <= written.completion.count("=") <= ALONE
        question, *first = (m["content"] for m in written.messages)
        assert question == made.question
        assert "".join(first).count("=") == shown == len(made.steps) - written.completion.count("=")
        assert "".join(first) + written.completion == made.completion


def test_ways_differ_in_their_data_only() -> None:
    kinds = [[type(part) for part in parts(way, 30)] for way in WAYS]
    assert kinds == [[], [CustomizedCurriculum], [GuidedPrompting, CustomizedCurriculum]]


def test_guided_problems_are_asked_as_the_start_has_practised() -> None:
    [asked] = word_sum_examples(8, CHANGES, 0, 0, "train")[-1:]
    found = {asked.id: {"accuracy": 0.0, "hint_steps": 4, "hint_accuracy": 0.5}}
    [hints, _] = parts(WAYS[-1], 30)
    [made] = hints.examples(with_difficulty([asked], found), 0)
    steps = asked.columns["solution"].split("\n")
    assert hints.ask(made, made.messages) == asked.messages
    first, rest = ("\n".join(part) for part in (steps[:4], steps[4:]))
    assert made.columns["begun"] == TEMPLATE.format(hint=f"{first}\n") == f"<think>\n{first}\n"
    assert made.columns["completion"] == f"{rest}\n</think>\n\n\\boxed{{{asked.reference}}}"


def test_hard_problems_are_asked_with_hints_too() -> None:
    asked = word_sum_examples(8, CHANGES, 2, 0, "reported")
    made = helped(asked)
    assert [e.columns["changes"] for e in made] == [6, 7, 8]
    assert [e.columns["begun"].count("=") for e in made] == [5, 6, 6]
    assert all(e.messages == a.messages for e, a in zip(made, asked[5:], strict=True))


def test_verdicts_follow_from_the_answers() -> None:
    changes = [c for c in CHANGES for _ in range(30)]

    def arm(reach: int, equal: float) -> Answers:
        """Solves problems up to a length, in two seeds."""
        right = [float(c <= reach) for c in changes]
        return Answers([right, right], changes, [], [[0.2] * 20 + [equal] * 10] * 2)

    reaches = {"uniform": arm(5, 0.9), "curriculum": arm(4, 0.9), "curriculum with hints": arm(8, 0.3)}
    good = {f"{learning}, {way}": reaches[way] for learning in LEARNING for way in WAYS}
    made = claims(good, 0)
    assert [c.verdict for c in made] == ["holds"] * 5
    assert [c.main for c in made] == [True, False, False, False, False]
    turned = {name: arm(8 - reaches_of, 0.9) for name, reaches_of in zip(good, (0, 4, 6) * 2, strict=True)}
    assert {c.verdict for c in claims(turned, 0)} == {"fails"}
    assert arm(5, 0.9).by_changes() == [1.0] * 5 + [0.0] * 3
