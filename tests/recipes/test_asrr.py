"""What ASRR's recipe asks, and what it makes of the answers."""

from __future__ import annotations

from dovetail.recipes.asrr import (
    BASELINE,
    DESCRIPTIONS,
    REWARDS,
    SIZES,
    Answers,
    arm_of,
    claims,
    questions,
    sums,
)


def of(right: float, tokens: float, n: int = 400) -> Answers:
    rights = [float(i < right * n) for i in range(n)]
    return Answers([rights], [[tokens + i % 3 for i in range(n)]], [[float(tokens > 10)] * n])


def test_arms():
    assert set(REWARDS) <= set(DESCRIPTIONS)
    assert REWARDS[BASELINE].shaped([1, 0], [5, 500]).tolist() == [1, 0]
    figures = arm_of("asrr", {"easy": of(1.0, 8), "hard": of(0.5, 60)}).figures
    assert figures["reasoned_easy"].value == 0
    assert figures["reasoned_hard"].value == 1
    assert figures["accuracy_hard"].value == 0.5


def test_easy_and_hard_questions_in_turn_without_the_reported_hard_ones():
    tasks = sums()
    asked = {kind: task.examples(4, 777)[0] for kind, task in tasks.items()}
    made = questions(tasks, asked, SIZES["smoke"], 0)
    assert [e.id.partition("-")[0] for e in made] == ["easy", "hard"] * (len(made) // 2)
    assert len({e.id for e in made}) == len(made) > 0
    assert not {e.question for e in made[1::2]} & {e.question for e in asked["hard"]}


def test_verdicts_follow_from_the_answers():
    base = {"easy": of(1.0, 20), "hard": of(0.5, 60)}
    good = {BASELINE: base, "asrr": {"easy": of(1.0, 8), "hard": of(0.5, 60)}}
    always = {"unconditional": {"easy": of(1.0, 8), "hard": of(0.3, 10)}}
    assert {c.verdict for c in claims(good | always, 0)} == {"holds"}
    bad = {BASELINE: base, "asrr": {"easy": of(1.0, 20), "hard": of(0.3, 30)}}
    assert [c.verdict for c in claims(bad | always, 0)[:2]] == ["fails", "fails"]
