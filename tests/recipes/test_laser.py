"""What LASER's recipe makes of its arms' answers."""

from __future__ import annotations

from dovetail.recipes.laser import BASELINE, DESCRIPTIONS, SIZES, Answers, claims, disordered, plane, rewards
from dovetail.rewards import Laser, LaserD


def test_every_arm_has_a_reward_and_a_description():
    made = rewards(30, 4)
    assert ["start", *made] == list(DESCRIPTIONS)
    for size in SIZES.values():
        assert set(size.arms) <= set(made)
    assert made[BASELINE].shaped([1, -0.5, -1], [5, 500, 5]).tolist() == [1, -0.5, -1]
    assert isinstance(made["laser"], Laser)
    assert isinstance(made["laser-d"], LaserD)
    assert made["laser-d"].target < made["laser"].target


def test_questions_are_averaged_over_seeds():
    found = Answers.of([{"right": [1, 0], "lengths": [10, 20]}, {"right": [1, 1], "lengths": [20, 40]}])
    assert found.right == [1, 0.5]
    assert found.lengths == [15, 30]
    assert found.by_seed() == {"accuracy": [0.5, 1.0], "tokens": [15, 30]}
    assert plane({"laser": found}) == {"arm": ["laser"], "tokens": [22.5], "accuracy": [0.75]}


def of(right: float, tokens: float, n: int = 400) -> Answers:
    return Answers([[float(i < right * n) for i in range(n)]], [[tokens + i % 3 for i in range(n)]])


def test_verdicts_follow_from_the_answers():
    answers = {BASELINE: of(0.7, 60), "truncation": of(0.5, 25), "laser": of(0.7, 40), "laser-d": of(0.7, 30)}
    found = {"laser-d": [{"targets": {"easy": [20, 20], "hard": [30, 20]}}]}
    assert {c.verdict for c in claims(answers, found, 0)} == {"holds"}
    longer = claims(answers | {"laser-d": of(0.5, 55)}, found, 0)
    assert [c.verdict for c in longer if c.main] == ["fails", "fails"]


def test_targets_in_the_wrong_order_are_counted():
    assert disordered({"easy": [20, 31, 40], "hard": [30, 30, 40]}) == 1
