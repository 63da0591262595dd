"""LASER and its adaptive forms: table 2 by hand, and what must be equal."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from dovetail.core import InvalidValue, Score
from dovetail.rewards import Laser, LaserD, LaserDE
from dovetail.rewards.length import repeats
from dovetail.rewards.length_terms import rule_score

BASE = [1.0, 1.0, -0.5, -1.0, 1.0]
LENGTHS = [10, 30, 20, 50, 40]
SMALL = {"target": 10, "upper": 50, "interval": 10}


def random_case(seed=0, groups=30, k=8):
    rng = np.random.default_rng(seed)
    base = rng.choice([1.0, -0.5, -1.0], groups * k, p=[0.6, 0.3, 0.1])
    return base, rng.integers(1, 60, groups * k), np.repeat(np.arange(groups), k)


def call(reward, right, lengths, groups, step=None):
    texts = ["\\boxed{4}" if r else "\\boxed{5}" for r in right]
    given = {"reference": [4] * len(texts), "length": lengths, "group": groups}
    return reward(
        ["?"] * len(texts), texts, **given, **({} if step is None else {"step": [step] * len(texts)})
    )


def test_rule_score():
    assert rule_score(Score(1.0, 1.0, "4", True)) == 1
    assert rule_score(Score(0.0, 0.0, "5", True)) == -0.5
    assert rule_score(Score(1.0, 0.0, "4", False)) == -1  # right, but not in a box
    assert rule_score(Score(1.0, 1.0, "4", True), well_formed=False) == -1


def test_the_heading_of_the_official_code():
    texts = ["Final Answer \\boxed{4}", "\\boxed{4}"]
    given = {"reference": [4, 4], "length": [1, 1]}
    assert Laser(heading="Final Answer")(["?"] * 2, texts, **given) == [1.5, -1]
    assert Laser()(["?"] * 2, texts, **given) == [1.5, 1.5]


def test_laser_by_hand():
    assert Laser(target=30).shaped(BASE, LENGTHS).tolist() == [1.5, 1.5, -0.5, -1, 1]
    assert Laser(target=30, kind="penalty").shaped(BASE, LENGTHS).tolist() == [1, 1, -0.5, -1, 0.5]
    assert Laser(target=30, kind="hybrid").shaped(BASE, LENGTHS).tolist() == [1.5, 1.5, -0.5, -1, 0.5]
    assert Laser(target=30, alone=False).shaped(BASE, LENGTHS).tolist() == [0.5, 0.5, 0, 0, 0]


def test_laser_de_pays_long_wrong_answers_that_are_not_malformed():
    paid = LaserDE(**SMALL, pay_loops=True).shaped(BASE, LENGTHS, targets=[30, 10, 10, 10, 10])
    assert paid.tolist() == [1.5, 1.0, 0.0, -1.0, 1.0]
    with pytest.raises(InvalidValue, match="pay_loops"):
        LaserDE(**SMALL).shaped(BASE, LENGTHS)


def test_laser_de_does_not_pay_loops():
    loop, plain = [1, 2, 3] * 10, list(range(30))
    reward = LaserDE(**SMALL, refresh=0)
    texts = ["\\boxed{5}"] * 2
    assert reward(["?"] * 2, texts, reference=[4, 4], completion_ids=[loop, plain]) == [-0.5, 0.0]


@pytest.mark.parametrize("make", [Laser, LaserD, lambda **o: LaserDE(**o, pay_loops=True)])
def test_without_alpha_the_base_is_left(make):
    base, lengths, groups = random_case()
    assert (make(target=20, alpha=0.0).shaped(base, lengths, groups) == base).all()


def test_what_must_be_equal():
    base, lengths, groups = random_case()
    right = base == 1
    assert (Laser(target=10**9).shaped(base, lengths, groups) == base + 0.5 * right).all()
    paid = LaserD(**SMALL, refresh=0).shaped(base, lengths, groups)
    assert (paid == Laser(target=10).shaped(base, lengths, groups)).all()  # one target for all classes
    assert set(paid) <= {-1.0, -0.5, 1.0, 1.5}
    assert (paid[~right] == base[~right]).all()


def test_the_class_of_a_group_chooses_its_target():
    reward = LaserD(**SMALL, refresh=0)
    reward.memory.targets = {"easy": 10, "medium": 20, "hard": 30}
    base = [1] * 6 + [-0.5] * 2 + [1] * 3 + [-0.5] * 5 + [1] * 2 + [-0.5] * 6
    for length, expected in ((10, [1.5, 1.5, 1.5]), (20, [1, 1.5, 1.5]), (30, [1, 1, 1.5]), (31, [1, 1, 1])):
        paid = reward.shaped(base, [length] * 24, np.repeat([0, 1, 2], 8))
        assert [paid[0], paid[8], paid[16]] == expected


def test_targets_are_chosen_at_once_and_then_every_few_steps():
    reward = LaserD(**SMALL, refresh=2)
    right, groups = [True] * 8, [0] * 8
    assert reward.figures() == {}
    call(reward, right, [15] * 8, groups, step=0)
    assert reward.figures() == {
        "laser-d/target/easy": 15,
        "laser-d/target/medium": 15,
        "laser-d/target/hard": 15,
    }
    call(reward, right, [12] * 7 + [45], groups, step=1)
    assert reward.target_of("easy") == 15
    call(reward, right, [45] * 8, groups, step=2)  # from steps 0 and 1: 15 of 16 within 20
    assert reward.target_of("easy") == 20
    assert reward.target_of("hard") == 45  # an empty class: the longest in sight
    call(reward, right, [12] * 8, groups, step=3)
    assert reward.memory.chosen == 2


def test_calls_count_where_no_trainer_tells_the_step():
    reward = LaserD(**SMALL, refresh=2)
    for lengths in ([45] * 8, [12] * 8, [12] * 8):
        call(reward, [True] * 8, lengths, [0] * 8)
    assert reward.target_of("easy") == 20


def test_a_monitor_set_of_ones_own():
    reward = LaserD(**SMALL, refresh=0)
    call(reward, [True] * 8, [40] * 8, [0] * 8, step=0)
    assert reward.target_of("easy") == 10
    assert reward.fit([[1] * 8], [[25] * 8])["easy"] == 25
    assert reward.target_of("easy") == 25


def test_a_question_drawn_twice_counts_as_two():
    reward = LaserD(**SMALL)
    call(reward, [True] * 24, [15] * 24, [0] * 16 + [1] * 8, step=0)
    assert [len(row) for row in reward.memory.correct] == [8, 8, 8]


def test_groups_too_small_for_classes():
    with pytest.raises(InvalidValue, match="samples per question"):
        call(LaserD(**SMALL), [True] * 2, [5] * 2, [0, 0])


def test_a_checkpoint_goes_on_where_it_stopped():
    rng = np.random.default_rng(0)
    steps = [(rng.random(64) < 0.6, rng.integers(5, 60, 64)) for _ in range(8)]
    groups = np.repeat(np.arange(8), 8)
    whole, first = LaserD(**SMALL, refresh=3), LaserD(**SMALL, refresh=3)
    paid = [call(whole, *one, groups, step) for step, one in enumerate(steps)]
    for step in range(4):
        call(first, *steps[step], groups, step)
    resumed = LaserD(**SMALL, refresh=3)
    resumed.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert [call(resumed, *steps[step], groups, step) for step in range(4, 8)] == paid[4:]
    assert resumed.state_dict() == whole.state_dict()


def test_a_copy_has_its_own_memory():
    reward = LaserD(**SMALL)
    copied = copy.deepcopy(reward)
    call(copied, [True] * 8, [15] * 8, [0] * 8)
    assert reward.memory.targets is None


def test_repeats():
    assert not repeats([1] * 8)
    assert repeats([1, 2] * 5)
    assert not repeats(list(range(300)))
    assert repeats([*range(300), *[7, 8, 9, 10] * 4])
    assert not repeats([*range(100), 5, 6, 7, 8, *range(200, 260)])  # once again, but far apart: 4 < 2n
    assert repeats([*range(150), *range(10, 18)])  # any eight tokens twice
    assert repeats([3] * 40)  # six of one token, twice; three of one token would not do
    assert not repeats([*range(20), *[3] * 5, *range(40, 60)])
    assert not repeats([])


@pytest.mark.parametrize(
    ("field", "make"),
    [
        ("target", lambda: Laser(target=0)),
        ("alpha", lambda: Laser(alpha=-1)),
        ("kind", lambda: Laser(kind="bonus")),
        ("kind", lambda: LaserDE(kind="hybrid")),
        ("lower", lambda: LaserD(target=20, upper=10)),
        ("interval", lambda: LaserD(interval=0)),
        ("refresh", lambda: LaserD(refresh=-1)),
    ],
)
def test_impossible_parameters(field, make):
    with pytest.raises(InvalidValue, match=field):
        make()
