"""Weights by hand; the limits in which it is plain policy gradient; what is weighted and what is not."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from training_tools import rollouts

from dovetail.core import InvalidValue
from dovetail.training.objectives import DifficultyWeights, PolicyGradient
from dovetail.training.objectives.difficulty import difficulty_weight
from dovetail.training.policy import Policy
from dovetail.training.rollouts import Rollouts, totals_of

NAN = float("nan")
NEAR: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}  # advantages are held in float32
# Two groups of two: mean overlaps of 0.9 and 0.2; and a format reward, which does not count as difficulty.
REWARDS = [[1.0, 1.0], [0.8, 0.0], [0.4, 1.0], [0.0, 1.0]]


def rows(rewards: Any = REWARDS, group: Any = (0, 0, 1, 1)) -> Rollouts:
    made = rollouts([3, 9, 4, 5][: len(rewards)], list(group), rewards)
    made.names = ("box-iou", "box-format")[: made.rewards.shape[1]]
    return made


def test_weights_by_hand_and_falling() -> None:
    m = torch.linspace(0, 1, 101, dtype=torch.float64)
    for kind in ("exp", "power", "log"):
        assert bool((difficulty_weight(m, kind).diff() <= 0).all())  # type: ignore[arg-type]
        assert float(difficulty_weight(m, kind).min()) >= 0  # type: ignore[arg-type]
    assert difficulty_weight(m).tolist()[0] == math.e
    assert difficulty_weight(m).tolist()[-1] == 1  # a perfect group's loss is as it was
    assert float(difficulty_weight(0.05, "power")) == 1
    assert float(difficulty_weight(0.55, "power", 2.0)) == pytest.approx(0.25)
    assert float(difficulty_weight(0.48, "log")) == pytest.approx(math.log(2))
    assert float(difficulty_weight(1.0, "log")) == 0  # -ln(1.02) would turn the gradient round
    assert difficulty_weight(m, "none").unique().tolist() == [1]


@pytest.mark.parametrize("m", [-0.1, 1.1, NAN])
def test_means_outside_the_unit_interval(m: float) -> None:
    with pytest.raises(InvalidValue, match="miou"):
        difficulty_weight(torch.tensor([0.5, m]))


def test_advantages_are_weighted_after_they_were_normalised() -> None:
    made = rows()
    objective = DifficultyWeights(group_size=2)
    plain = PolicyGradient(group_size=2).assign(made)
    weights = torch.tensor([0.1, 0.1, 0.8, 0.8], dtype=torch.float64).exp()
    torch.testing.assert_close(objective.weights(made), weights)
    torch.testing.assert_close(objective.assign(made), plain * weights)
    assert replace(objective, weight="none").assign(made).tolist() == plain.tolist()
    each = replace(objective, decoupled=True)
    torch.testing.assert_close(each.assign(made), PolicyGradient(2, decoupled=True).assign(made) * weights)


def test_groups_are_told_apart_wherever_their_rows_are() -> None:
    mixed = rows([REWARDS[i] for i in (2, 0, 3, 1)], (1, 0, 1, 0))
    found = DifficultyWeights(group_size=2).quality(mixed)
    torch.testing.assert_close(found, torch.tensor([0.2, 0.9, 0.2, 0.9], dtype=torch.float64))


def test_rewards_that_do_not_apply() -> None:
    made = rows([[1.0, 1.0], [NAN, 0.0], [NAN, 1.0], [NAN, 0.0]])
    objective = DifficultyWeights(group_size=2)
    assert objective.quality(made).tolist()[:2] == [1.0, 1.0]
    assert objective.quality(made).isnan().tolist() == [False, False, True, True]
    assert objective.weights(made).tolist() == [1.0] * 4
    assert bool(objective.assign(made).isfinite().all())


def test_equal_rewards_teach_nothing() -> None:
    made = rows([[0.5, 1.0]] * 4)
    assert DifficultyWeights(group_size=2).assign(made).tolist() == [0.0] * 4


def gradient(network: Any, objective: PolicyGradient, made: Rollouts) -> torch.Tensor:
    network.zero_grad()
    made.totals = totals_of(made, 9)
    made.advantages = objective.assign(made).float()[:, None].expand(made.mask.shape)
    objective.loss(Policy(network), made)[0].backward()
    return torch.cat([p.grad.flatten() for p in network.parameters()])


def test_a_common_difficulty_scales_the_gradient_and_the_divergence_is_left_alone(tiny_network: Any) -> None:
    network = tiny_network("qwen3").double()
    made = rows([[0.4, 1.0], [0.0, 1.0]] * 2)  # both groups have a mean of 0.2
    made.reference = Policy(network).read(made)[0] + 0.3
    plain, weighted = PolicyGradient(2, average="sequence"), DifficultyWeights(2, kl=0.0)
    policy = gradient(network, plain, made)
    assert float(policy.norm()) > 0
    torch.testing.assert_close(gradient(network, weighted, made), math.exp(0.8) * policy, **NEAR)
    with_kl = gradient(network, replace(plain, kl=0.5), made)
    both = gradient(network, replace(weighted, kl=0.5), made)
    torch.testing.assert_close(both - math.exp(0.8) * policy, with_kl - policy, **NEAR)


def test_figures_tell_who_pulls() -> None:
    made = rows([[1.0, 1.0], [0.8, 1.0], [0.4, 1.0], [0.0, 1.0]])

    def share(objective: DifficultyWeights) -> dict[str, float]:
        made.advantages = objective.assign(made).float()[:, None].expand(made.mask.shape)
        return dict(objective.figures(made))

    plain, weighted = share(DifficultyWeights(2, weight="none")), share(DifficultyWeights(2))
    assert plain["easy_share"] == pytest.approx(0.5, abs=1e-3)
    assert weighted["easy_share"] == pytest.approx(math.exp(0.1) / (math.exp(0.1) + math.exp(0.8)), abs=1e-3)
    assert weighted["difficulty_weight"] == pytest.approx((math.exp(0.1) + math.exp(0.8)) / 2)
    assert plain["zero_variance"] == 0


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("weight", {"weight": "linear"}),
        ("power", {"power": -1.0}),
        ("kl", {"kl": -1.0}),
        ("group_size", {"group_size": 1}),
    ],
)
def test_impossible_values_are_named(field: str, values: Any) -> None:
    with pytest.raises(InvalidValue, match=field):
        DifficultyWeights(**values)


def test_rewards_that_cannot_tell_difficulty_are_named() -> None:
    with pytest.raises(InvalidValue, match="box-iou, box-format"):
        DifficultyWeights(2, reward="iou").assign(rows())
    with pytest.raises(InvalidValue, match="'box-iou'"):
        DifficultyWeights(2).assign(rows([[1.5, 1.0]] * 4))
