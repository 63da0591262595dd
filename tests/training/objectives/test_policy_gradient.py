"""Advantages worked by hand; the clipped loss against a direct one; what must not change gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from training_tools import rollouts

from dovetail.core import InvalidValue
from dovetail.training.objectives import PolicyGradient
from dovetail.training.policy import Policy
from dovetail.training.rollouts import Rollouts, totals_of

NAN = float("nan")


def assigned(objective: PolicyGradient, rows: Rollouts) -> Rollouts:
    rows.advantages = objective.assign(rows).float()[:, None].expand(rows.mask.shape)
    return rows


def test_group_mean_and_deviation() -> None:
    rows = rollouts([2] * 6, [0, 0, 0, 1, 1, 1], [[1.0], [0.0], [0.5], [2.0], [2.0], [2.0]])
    found = PolicyGradient(group_size=3).assign(rows)
    expected = [0.5 / 0.5001, -0.5 / 0.5001, 0.0, 0.0, 0.0, 0.0]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
    plain = PolicyGradient(group_size=3, scale="none").assign(rows)
    assert plain.tolist() == [0.5, -0.5, 0.0, 0.0, 0.0, 0.0]
    batch = PolicyGradient(group_size=3, scale="batch").assign(rows)
    deviation = torch.tensor([1.0, 0.0, 0.5, 2.0, 2.0, 2.0]).std(correction=0)
    torch.testing.assert_close(batch[0], 0.5 / (deviation.double() + 1e-4), atol=1e-6, rtol=1e-6)


def test_leave_one_out_is_the_mean_of_the_others() -> None:
    rows = rollouts([1] * 4, [0] * 4, [[4.0], [1.0], [2.0], [1.0]])
    found = PolicyGradient(group_size=4, baseline="leave-one-out", scale="none").assign(rows)
    torch.testing.assert_close(found, torch.tensor([4 - 4 / 3, 1 - 7 / 3, 0.0, 1 - 7 / 3]).double())


def test_weights_and_rewards_that_do_not_apply() -> None:
    rows = rollouts([2] * 4, [0, 0, 1, 1], [[1.0, NAN], [0.0, NAN], [1.0, 3.0], [NAN, NAN]])
    rows.weights = torch.tensor([1.0, 0.5], dtype=torch.float64)
    found = PolicyGradient(group_size=2, scale="none").assign(rows)
    assert found.tolist() == [0.5, -0.5, 0.0, 0.0]  # the last group has one completion that was judged
    assert rows.mask.any(1).tolist() == [True, True, True, False]


def test_each_reward_by_itself() -> None:
    """Eq. 5-7 of GDPO: a reward a hundred times larger does not drown the other."""
    rewards = [[0.0, 100.0], [1.0, 0.0], [1.0, 100.0], [0.0, 0.0]]
    rows = rollouts([1] * 4, [0] * 4, rewards)
    together = PolicyGradient(group_size=4).assign(rows)
    apart = PolicyGradient(group_size=4, decoupled=True).assign(rows)
    assert together[0] > together[1] + 1
    torch.testing.assert_close(apart[0], apart[1], atol=1e-3, rtol=0)
    assert apart[2] > 1.4
    assert apart[3] < -1.4


def test_truncated_completions_can_be_left_out() -> None:
    rows = rollouts([3, 3], [0, 0], [[1.0], [0.0]], reasons=["length", "stop"])
    PolicyGradient(group_size=2, drop_truncated=True).assign(rows)
    assert rows.mask.any(1).tolist() == [False, True]


def gradients(
    network: Any, objective: PolicyGradient, rows: Rollouts, cuts: list[list[int]]
) -> tuple[float, torch.Tensor]:
    network.zero_grad()
    rows.totals = totals_of(rows, 9)
    total = 0.0
    for cut in cuts:
        loss, _ = objective.loss(Policy(network), rows.select(cut))
        loss.backward()
        total += float(loss.detach())
    return total, torch.cat([p.grad.flatten() for p in network.parameters()])


@pytest.mark.parametrize("average", ["token", "sequence", "constant"])
def test_micro_batches_do_not_change_the_gradient(average: Any, tiny_network: Any) -> None:
    network = tiny_network("qwen3").double()
    objective = PolicyGradient(group_size=2, average=average, passes=2, kl=0.1)
    rows = assigned(objective, rollouts([3, 9, 4, 5], [0, 0, 1, 1], [[1.0], [0.0], [0.3], [0.9]]))
    generator = torch.Generator().manual_seed(1)
    read = Policy(network).read(rows)[0]
    rows.logprobs = read + 0.3 * torch.randn(read.shape, generator=generator)
    rows.reference = read + 0.3 * torch.randn(read.shape, generator=generator)
    whole = gradients(network, objective, rows, [[0, 1, 2, 3]])
    parts = gradients(network, objective, rows, [[2], [1, 3], [0]])
    assert whole[0] == pytest.approx(parts[0])
    torch.testing.assert_close(whole[1], parts[1])

    # The same by hand, row by row (eq. 3 and 4 of DeepSeekMath).
    policy = Policy(network).read(rows)[0]
    gains, kls, counts = [], [], []
    for i in range(4):
        n = len(rows.completions[i].token_ids)
        ratio = (policy[i, :n] - rows.logprobs[i, :n]).exp()
        a = rows.advantages[i, :n]
        gains.append(torch.minimum(ratio * a, ratio.clamp(0.8, 1.2) * a))
        log_ratio = rows.reference[i, :n] - policy[i, :n]
        kls.append(log_ratio.exp() - log_ratio - 1)
        counts.append(n)
    each = [0.1 * k - g for g, k in zip(gains, kls, strict=True)]
    by_hand = {
        "token": torch.cat(each).mean(),
        "sequence": torch.stack([e.mean() for e in each]).mean(),
        "constant": torch.cat(each).sum() / (4 * 9),
    }
    assert whole[0] == pytest.approx(float(by_hand[average]), rel=1e-5)


def test_idle_rows_add_nothing(tiny_network: Any) -> None:
    network = tiny_network("qwen3").double()
    objective = PolicyGradient(group_size=2)
    rows = assigned(objective, rollouts([3, 9, 4, 5], [0, 0, 1, 1], [[1.0], [0.0], [0.5], [0.5]]))
    idle = objective.idle(rows).tolist()
    assert idle == [False, False, True, True]
    loss, gradient = gradients(network, objective, rows, [[0, 1, 2, 3]])
    less, same = gradients(network, objective, rows, [[0, 1]])
    assert loss == pytest.approx(less)
    torch.testing.assert_close(gradient, same)
    assert objective.figures(rows) == {"zero_variance": 0.5}
    assert not PolicyGradient(group_size=2, kl=0.1).idle(rows).any()


def test_one_update_on_policy_raises_what_was_paid(tiny_network: Any) -> None:
    network = tiny_network("qwen3").double()
    objective = PolicyGradient(group_size=2)
    rows = assigned(objective, rollouts([4, 4], [0, 0], [[1.0], [0.0]]))
    before = Policy(network).read(rows)[0].sum(1)
    gradients(network, objective, rows, [[0, 1]])
    with torch.no_grad():
        for p in network.parameters():
            p -= 0.01 * p.grad
    after = Policy(network).read(rows)[0].sum(1)
    assert after[0] > before[0]
    assert after[1] < before[1]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("group_size", 1),
        ("baseline", "median"),
        ("scale", "std"),
        ("average", "mean"),
        ("kl", -1.0),
        ("passes", 0),
        ("clip_low", 2.0),
    ],
)
def test_impossible_values_are_named(field: str, value: Any) -> None:
    with pytest.raises(InvalidValue, match=field):
        PolicyGradient(**{field: value})
