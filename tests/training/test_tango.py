"""RL Tango: advantages by hand and in their limits, class weights, and both trainers in turn."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from training_tools import examples, rollouts, tiny_model

from dovetail.core import InvalidValue
from dovetail.rewards.verification import Layout
from dovetail.training import Settings
from dovetail.training.objectives import PolicyGradient
from dovetail.training.tango import (
    AlphaSchedule,
    ClassBalancer,
    GeneratorObjective,
    Tango,
    VerifierObjective,
    generator_advantages,
    normalised,
    step_ends,
    verifier_advantages,
)

# Two solutions of one question: the first right, of two steps; the second wrong, of one.
HAND: dict[str, Any] = {
    "outcome": torch.tensor([1.0, 0.0]),
    "judgments": [[1, -1], [-1]],
    "ends": [[1, 3], [0]],
    "lengths": [5, 2],
}


def test_advantages_by_hand():
    outcome, steps = generator_advantages(**HAND, alpha=0.0), generator_advantages(**HAND, alpha=1.0)
    # Outcomes 1 and 0: mean 1/2, deviation sqrt(1/2).
    assert outcome[0].tolist() == pytest.approx([0.5 / math.sqrt(0.5)] * 5, rel=1e-3)
    assert outcome[1].tolist() == pytest.approx([-0.5 / math.sqrt(0.5)] * 2, rel=1e-3)
    # Step rewards 1/2, -1/2, -1: mean -1/3, squared distances 25/36, 1/36, 16/36, deviation sqrt(7/12).
    a, b, c = (x / math.sqrt(7 / 12) for x in (5 / 6, -1 / 6, -2 / 3))
    assert steps[0].tolist() == pytest.approx([a + b, a + b, b, b, 0], rel=1e-3)
    assert steps[1].tolist() == pytest.approx([c, 0], rel=1e-3)
    assert a + b + c == pytest.approx(0)
    mixed = generator_advantages(**HAND, alpha=0.3)
    for row in (0, 1):
        assert torch.allclose(mixed[row], 0.3 * steps[row] + 0.7 * outcome[row])


def test_without_alpha_it_is_grpo_exactly():
    rewards = [[1.0], [0.0], [0.0], [1.0], [1.0], [1.0]]
    made = rollouts([4, 5, 3, 2, 6, 4], [0, 0, 0, 0, 1, 1], rewards)

    def judge(given):
        return [[1]] * 6, [[0]] * 6

    plain = PolicyGradient(group_size=2).assign(made)
    never = GeneratorObjective(group_size=2, judge=judge, alpha=AlphaSchedule(0.0, 0.0)).assign(made)
    nobody = GeneratorObjective(group_size=2).assign(made)
    assert torch.equal(plain, never)
    assert torch.equal(plain, nobody)
    given = generator_advantages(made.reward, [[1]] * 6, [[0]] * 6, [4, 5, 3, 2, 6, 4], 0.0, made.group)
    assert [float(row[0]) for row in given] == plain.tolist()


def test_equal_judgments_say_nothing():
    for advantage in ("grpo", "rloo", "reinforce++"):
        same = HAND | {"judgments": [[1, 1, 1], [1, 1, 1]], "ends": [[0, 1, 2], [0, 1, 2]], "lengths": [4, 4]}
        made = generator_advantages(**same, alpha=1.0, advantage=advantage)
        assert all(row.tolist() == [0] * 4 for row in made)


def test_however_many_steps_all_right_counts_one():
    # The sum of a solution's step rewards is 1 before normalisation: "rloo", which does not scale, shows it.
    made = generator_advantages(
        torch.zeros(2), [[1] * 4, [-1]], [[0, 1, 2, 3], [0]], [4, 1], 1.0, advantage="rloo"
    )
    pool = [0.25] * 4 + [-1.0]
    expected = [v - (sum(pool) - v) / 4 for v in pool]
    assert made[0].tolist() == pytest.approx([sum(expected[k:4]) for k in range(4)])
    assert sum(pool[:4]) == 1


def test_stopping_after_the_right_steps_is_paid_better():
    # Both have one right step; the first stops there, the second goes on and slips: so says the formula.
    stops, goes_on = generator_advantages(
        torch.zeros(2), [[1], [1, -1]], [[0], [0, 1]], [1, 2], 1.0, advantage="rloo"
    )
    assert float(stops[0]) > 0 > float(goes_on[0])


def test_missing_and_superfluous_judgments():
    short = generator_advantages(**HAND | {"judgments": [[1], [-1]]}, alpha=1.0)
    hole = generator_advantages(**HAND | {"judgments": [[1, None], [-1, 1, 1]]}, alpha=1.0)
    assert all(torch.equal(a, b) for a, b in zip(short, hole, strict=True))
    none = generator_advantages(**HAND | {"judgments": [[], []], "ends": [[], []]}, alpha=1.0)
    assert all(not row.any() for row in none)


def test_groups_and_batches():
    values = torch.tensor([1.0, 0.0, 3.0, 1.0], dtype=torch.float64)
    group = torch.tensor([0, 0, 1, 1])
    assert normalised(values, group, "rloo").tolist() == pytest.approx([1, -1, 2, -2])
    whole = (values - values.mean()) / (values.std() + 1e-4)
    assert torch.allclose(normalised(values, group, "reinforce++"), whole)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"alpha": 1.5}, "alpha"),
        ({"judgments": [[2, 1], [1]]}, r"judgments\[0\]"),
        ({"judgments": [[1], [1]], "strict": True}, r"judgments\[0\]"),
        ({"ends": [[1, 5], [0]]}, r"ends\[0\]"),
        ({"ends": [[3, 1], [0]]}, "ascending"),
        ({"lengths": [5]}, "equally many"),
        ({"outcome": torch.ones(1), "judgments": [[1]], "ends": [[0]], "lengths": [2]}, "at least 2"),
    ],
)
def test_impossible_advantages(changed, named):
    with pytest.raises(InvalidValue, match=named):
        generator_advantages(**HAND | {"alpha": 0.5} | changed)


def test_alpha_falls_exponentially():
    alpha = AlphaSchedule(0.1, 1e-3, 200)
    assert [alpha(s) for s in (0, 100, 200, 300)] == pytest.approx([0.1, 0.01, 1e-3, 1e-3])
    assert AlphaSchedule(0.0, 0.0)(7) == 0
    for bad in ({"start": 1.5}, {"end": 0.0}, {"start": 0.1, "end": 0.2}, {"steps": 0}):
        with pytest.raises(InvalidValue):
            AlphaSchedule(**bad)


def test_the_rarer_class_weighs_more():
    balancer = ClassBalancer(0.5)
    assert balancer.weights == (1, 1)
    balancer.update(4, 16)
    plus, minus = balancer.weights
    assert plus / minus == pytest.approx(2)
    assert 4 * plus + 16 * minus == pytest.approx(20)
    balancer.update(16, 4)  # running counts are 10 and 10 now
    assert balancer.weights == pytest.approx((1, 1))
    balancer.update(0, 20)
    assert balancer.right == 5
    assert balancer.weights[0] > balancer.weights[1]
    only = ClassBalancer()
    only.update(0, 9)
    assert all(map(math.isfinite, only.weights))
    other = ClassBalancer()
    other.load_state_dict(only.state_dict())
    assert other == only
    with pytest.raises(InvalidValue, match="decay"):
        ClassBalancer(1.0)


def test_verifier_advantages_by_hand():
    rewards = torch.tensor([1.8, 0.8, 0.8, 0.8])
    group = torch.tensor([0, 0, 1, 1])
    made = verifier_advantages(rewards, [True, True, False, False], 2.0, 0.5, group)
    assert made.tolist() == pytest.approx([2 * math.sqrt(0.5), -2 * math.sqrt(0.5), 0, 0], rel=1e-3)
    with pytest.raises(InvalidValue, match="at least 2"):
        verifier_advantages(rewards[:1], [True], 1, 1)
    with pytest.raises(InvalidValue, match="above 0"):
        verifier_advantages(rewards, [True] * 4, 0, 1)


def test_the_verifier_objective_counts_solutions_not_verifications():
    made = rollouts([3] * 4, [0, 0, 1, 1], [[1.8], [0.8], [0.8], [1.8]])
    for example, right in zip(made.examples, (True, True, False, False), strict=True):
        object.__setattr__(example, "columns", {"gold_correct": right})
    objective = VerifierObjective(group_size=2, balancer=ClassBalancer())
    first = objective.assign(made)
    assert torch.equal(first, VerifierObjective(group_size=2).assign(made))
    assert objective.state_dict() == {"right": 1.0, "wrong": 1.0}
    assert torch.allclose(first.abs(), first.abs()[0].expand(4))


def test_where_steps_end_in_tokens():
    text = "<think>\nab\nc\n</think>\nx"
    pieces = ["<think>", "\n", "a", "b\n", "c", "\n</", "think>", "\nx"]

    def decode(ids, skip_special_tokens):
        return "".join(pieces[i] for i in ids)

    assert step_ends(range(8), text, Layout(step=""), decode) == [3, 4]
    assert step_ends(range(8), text, Layout(), decode) == []


# --- both in turn ------------------------------------------------------------------------------------------

LINES = Layout("", "", "", "=", "y", "n", "{problem}{solution}")
SMALL = Settings(steps=4, batch=4, max_new_tokens=6, learning_rate=3e-3, samples_every=0, thinking=False)


def short(prompts: Any, completions: list[str], **columns: Any) -> list[float]:
    return [float(len(text) < 6) for text in completions]


@pytest.fixture
def pair(learner, tiny_network, tiny_tokenizer):
    return learner, tiny_model(copy.deepcopy(learner.network), tiny_tokenizer)


def tango(pair: Any, **changed: Any) -> Tango:
    generator, verifier = (tiny_model(copy.deepcopy(m.network), m.tokenizer) for m in pair)
    given = {"layout": LINES, "group": 2, "warmup": 1, "n_generator": 2, "settings": SMALL} | changed
    return Tango(generator, verifier, examples(), short, **given)


def weights(model: Any) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.network.parameters()])


def test_whose_turn_it_is_and_both_learn(pair):
    made = tango(pair, alpha_start=0.5)
    told = []
    generated, verified = made.run(lambda who, figures: told.append((who[0], int(figures["step"]))))
    assert told == [("v", 0), ("g", 0), ("g", 1), ("v", 1), ("g", 2), ("g", 3), ("v", 2)]
    assert len(generated.history) == 4
    assert len(verified.history) == 3
    for before, after in zip(pair, (made.generator, made.verifier), strict=True):
        assert not torch.equal(weights(before), weights(after))


def test_frozen_ones_stay_and_equal_seeds_agree(pair):
    one, other = tango(pair, train_verifier=False), tango(pair, train_verifier=False)
    one.run()
    other.run()
    assert torch.equal(weights(one.verifier), weights(pair[1]))
    assert torch.equal(weights(one.generator), weights(other.generator))
    still = tango(pair, train_generator=False, warmup=4)
    assert still.order() == ["verifier"] * 6
    still.run()
    assert torch.equal(weights(still.generator), weights(pair[0]))
    assert not torch.equal(weights(still.verifier), weights(pair[1]))


def test_one_that_takes_up_the_state_goes_on_to_the_same_weights(pair):
    whole, first = tango(pair), tango(pair)
    whole.run()
    for who in first.order()[:4]:
        (first.generating if who == "generator" else first.verifying).advance()
    rest = tango(pair)
    rest.load_state_dict(first.state_dict())
    rest.run()
    assert torch.equal(weights(whole.generator), weights(rest.generator))
    assert torch.equal(weights(whole.verifier), weights(rest.verifier))


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"n_generator": 0}, "n_generator"),
        ({"n_verifier": 0}, "n_verifier"),
        ({"group": 1}, "group"),
        ({"warmup": -1}, "warmup"),
        ({"gamma": -0.1}, "gamma"),
        ({"decay": 1.0}, "decay"),
        ({"alpha_start": 2.0}, "start"),
        ({"advantage": "ppo"}, "advantage"),
        ({"train_generator": False, "train_verifier": False}, "at least one"),
    ],
)
def test_impossible_parameters(pair, changed, named):
    with pytest.raises(InvalidValue, match=named):
        tango(pair, **changed)


def test_one_model_cannot_be_both(learner):
    with pytest.raises(InvalidValue, match="another copy"):
        Tango(learner, learner, examples(), short, settings=SMALL, group=2)
