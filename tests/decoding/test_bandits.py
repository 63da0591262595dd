"""Bandits: the spec's invariants, numbers by hand, and the regret of the theory's model."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dovetail.core import InvalidValue
from dovetail.decoding.bandits import (
    Bandits,
    EXP3Spec,
    FixedArm,
    RandomArm,
    Seen,
    UCBSpec,
    rounds_to_write,
    stopping_time_regret,
)

ONE = np.zeros(1, dtype=np.int64)
POLICIES = [UCBSpec(), UCBSpec(bonus="code"), EXP3Spec(), FixedArm(0), RandomArm()]


def seen(pulls, tokens, longest=4, losses=None, cost=None) -> Seen:
    pulls = np.array([pulls], dtype=float)
    return Seen(
        pulls,
        np.array([tokens], dtype=float),
        np.array([losses], dtype=float) if losses else np.zeros_like(pulls),
        pulls.sum(1),
        longest,
        np.array(cost, dtype=float) if cost else np.ones(pulls.shape[1]),
    )


def play(bandits: Bandits, tokens: list[float]) -> list[int]:
    """One run that is given these tokens, whatever it plays."""
    arms = []
    for t, brought in enumerate(tokens):
        arm = bandits.select(ONE, np.array([(t * 0.37 + 0.1) % 1]))
        bandits.update(ONE, arm, np.array([brought]))
        arms.append(int(arm[0]))
    return arms


def test_ucb_plays_every_arm_once_first():
    assert play(Bandits(UCBSpec(), 1, 5, 4), [1, 5, 2, 3, 4])[:5] == [0, 1, 2, 3, 4]


def test_the_radius_by_hand():
    radius = UCBSpec(delta=0.5).radius(seen([3, 1], [6, 2]))
    expected = [
        2 * math.sqrt((1 + n) / n**2 * (1 + 2 * math.log(2 * 16 * math.sqrt(1 + n) / 0.5))) for n in (3, 1)
    ]
    assert radius[0].tolist() == pytest.approx(expected)


def test_the_radius_shrinks_with_pulls_and_grows_with_rounds():
    for policy in (UCBSpec(), UCBSpec(bonus="code")):
        few, more = policy.radius(seen([2, 8], [4, 16]))[0]
        assert more < few
        assert policy.radius(seen([2, 80], [4, 160]))[0, 0] > few


def test_ucb_adds_the_radius_to_the_mean():
    # equal pulls, equal radii: the larger mean decides; far fewer pulls: the radius does
    assert UCBSpec().chances(seen([9, 9], [18, 19])).tolist() == [[0, 1]]
    assert UCBSpec().chances(seen([900, 9], [2700, 18])).tolist() == [[0, 1]]
    assert UCBSpec(exploration=0).chances(seen([900, 9], [2700, 18])).tolist() == [[1, 0]]


def test_the_released_codes_bonus_is_the_same_for_all_arms():
    state = seen([900, 9], [2700, 18])
    assert UCBSpec(bonus="code", shared_bonus=True).chances(state).tolist() == [[1, 0]]
    spread = UCBSpec(bonus="code", shared_bonus=True).radius(state)[0]
    assert spread[0] == spread[1] == pytest.approx(math.sqrt(6 * math.log(909) / 909))


def test_exp3_by_hand():
    bandits = Bandits(EXP3Spec(), 1, 2, 4)
    assert bandits.policy.chances(bandits.seen).tolist() == [[0.5, 0.5]]
    assert bandits.select(ONE, np.array([0.7])).tolist() == [1]
    bandits.update(ONE, np.array([1]), np.array([2.0]))
    assert bandits.seen.losses.tolist() == [[0, (4 + 1 - 2) / (4 * 0.5)]]  # the arm not played loses nothing
    eta = math.sqrt(math.log(2) / (2 * 2))
    worse = math.exp(-eta * 1.5)
    assert bandits.policy.chances(bandits.seen)[0].tolist() == pytest.approx(
        [1 / (1 + worse), worse / (1 + worse)]
    )


def test_exp3_chances_stay_positive_and_sum_to_one():
    bandits = Bandits(EXP3Spec(), 1, 3, 4)
    play(bandits, [1, 5] * 200)
    chances = bandits.policy.chances(bandits.seen)
    assert chances.sum() == pytest.approx(1)
    assert (chances > 0).all()
    huge = EXP3Spec().chances(seen([1, 1], [1, 1], losses=[1e9, 1e9 + 1]))
    assert np.isfinite(huge).all()


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_a_single_arm_is_always_played(policy):
    assert play(Bandits(policy, 1, 1, 4), [1, 5, 3, 2] * 5) == [0] * 20


@pytest.mark.parametrize("policy", [UCBSpec(exploration=0), EXP3Spec()], ids=repr)
def test_a_dear_arm_is_worth_its_tokens_per_cost(policy):
    """Twice the tokens at three times the cost are fewer tokens per second."""
    bandits = Bandits(policy, 1, 2, 7)
    bandits.seen.cost = np.array([1.0, 3.0])
    for t in range(1200):
        arm = bandits.select(ONE, np.array([(t * 0.618) % 1 or 0.5]))
        bandits.update(ONE, arm, np.array([2.0 + 2 * arm[0]]))
    assert bandits.seen.pulls[0, 0] > 800


def test_runs_are_independent():
    together = Bandits(UCBSpec(), 2, 3, 4)
    for t in range(30):
        arms = together.select(np.array([0, 1]), np.array([0.5, 0.5]))
        together.update(np.array([0, 1]), arms, np.array([1 + arms[0], 3 - arms[1]], dtype=float))
        assert t > 0 or arms.tolist() == [0, 0]
    alone = Bandits(UCBSpec(), 1, 3, 4)
    for _ in range(30):
        arm = alone.select(ONE, np.array([0.5]))
        alone.update(ONE, arm, 1.0 + arm)
    assert together.seen.pulls[0].tolist() == alone.seen.pulls[0].tolist()
    assert together.seen.pulls[0].argmax() == 2
    assert together.seen.pulls[1].argmax() == 0


def test_regret_is_far_below_that_of_chance():
    """Spec: 541 rounds of the best arm, 579 of UCBSpec, 590 of EXP3Spec, 813 of chance at 2000 tokens."""
    p, rng = np.array([0.3, 0.5, 0.7, 0.85]), np.random.default_rng(0)
    fixed = np.array([rounds_to_write(FixedArm(k), p, 4, 2000, 12, rng) for k in range(4)])
    means = (1 - p**5) / (1 - p)
    assert fixed.mean(1).tolist() == pytest.approx((2000 / means).tolist(), rel=0.02)
    regret = {
        policy: stopping_time_regret(rounds_to_write(policy, p, 4, 2000, 12, rng), fixed)
        for policy in (UCBSpec(), EXP3Spec(), RandomArm())
    }
    assert 25 < regret[UCBSpec()] < 55
    assert 30 < regret[EXP3Spec()] < 75
    assert regret[RandomArm()] > 230


def test_texts_bound_their_rounds():
    for policy in POLICIES:
        rounds = rounds_to_write(policy, np.array([0.2, 0.9]), 3, 100, 5, np.random.default_rng(1))
        assert ((rounds >= 100 / 4) & (rounds <= 100)).all()


def test_the_best_arm_may_change_half_way():
    swap = np.array([[0.9, 0.2], [0.2, 0.9]])
    rng = np.random.default_rng(2)
    adaptive = rounds_to_write(EXP3Spec(), swap, 4, 1000, 6, rng).mean()
    fixed = rounds_to_write(FixedArm(0), swap, 4, 1000, 6, rng).mean()
    assert adaptive < 0.9 * fixed


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: UCBSpec(delta=0.0), "delta is 0.0"),
        (lambda: UCBSpec(delta=1.0), "delta is 1.0"),
        (lambda: UCBSpec(exploration=-1.0), "exploration is -1.0"),
        (lambda: UCBSpec(bonus="none"), "bonus is 'none'"),
        (lambda: Bandits(UCBSpec(), 1, 0, 4), "arms is 0"),
        (lambda: Bandits(UCBSpec(), 1, 2, 0), "longest is 0"),
        (lambda: Bandits(FixedArm(2), 1, 2, 4).select(ONE, np.array([0.5])), "arm is 2"),
    ],
)
def test_bad_parameters_are_named(build, message):
    with pytest.raises(InvalidValue, match=message):
        build()


def test_bad_updates():
    bandits = Bandits(UCBSpec(), 1, 2, 4)
    for arm in (-1, 2):
        with pytest.raises(IndexError):
            bandits.update(ONE, np.array([arm]), np.array([1.0]))
    for tokens in (0.0, 6.0):
        with pytest.raises(ValueError, match="1 to 5"):
            bandits.update(ONE, np.array([0]), np.array([tokens]))
    bandits.update(ONE, np.array([1]), np.array([5.0]))  # a replay: nothing was selected
    with pytest.raises(RuntimeError, match="select"):
        Bandits(EXP3Spec(), 1, 2, 4).update(ONE, np.array([0]), np.array([1.0]))
