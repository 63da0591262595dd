"""EM-INF against torch's own Adam; the spec's invariants."""

from __future__ import annotations

import math

import pytest
import torch

from dovetail.core import InvalidValue, Limits
from dovetail.decoding import AdaptiveTemperature, EntropyMinimization, Greedy, chain
from dovetail.decoding.entropy_minimization import minimize_entropy, token_entropy


@pytest.fixture
def logits():
    return torch.randn(40, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2


def reference(row, threshold, kl_weight, lr, steps):
    """One row, the official way: autograd, torch.optim.Adam, torch's kl_div."""
    z = row.clone().requires_grad_()
    original = row.softmax(-1)
    adam = torch.optim.Adam([z], lr=lr)
    for _ in range(steps):
        logp = z.log_softmax(-1)
        entropy = -(logp.exp() * logp).sum()
        if entropy < threshold:
            break
        loss = entropy + kl_weight * torch.nn.functional.kl_div(logp, original, reduction="sum")
        adam.zero_grad()
        loss.backward()
        adam.step()
    return z.detach()


@pytest.mark.parametrize(("threshold", "kl_weight", "steps"), [(0.3, 0.05, 3), (1.5, 0.0, 15), (0.1, 1.0, 8)])
def test_equals_adam_on_every_row(logits, threshold, kl_weight, steps):
    actual = minimize_entropy(logits, threshold, kl_weight, 0.1, steps)
    expected = torch.stack([reference(r, threshold, kl_weight, 0.1, steps) for r in logits])
    torch.testing.assert_close(actual, expected, atol=1e-9, rtol=0)


def test_the_argmax_stays_and_entropy_falls(logits):
    after = minimize_entropy(logits, 0.3, 0.05, 0.1, 15)
    assert torch.equal(after.argmax(-1), logits.argmax(-1))
    small = minimize_entropy(logits, 0.0, 0.0, 0.01, 5)
    assert (token_entropy(small) <= token_entropy(logits)).all()
    assert token_entropy(after).mean() < token_entropy(logits).mean() - 0.3


def test_unchanged_without_steps_or_when_confident(logits):
    assert torch.equal(minimize_entropy(logits, 0.3, 0.05, 0.1, 0), logits)
    assert torch.equal(minimize_entropy(logits, 99.0, 0.05, 0.1, 5), logits)
    sharp = logits.clone()
    sharp[7] *= 100
    assert torch.equal(minimize_entropy(sharp, 0.3, 0.05, 0.1, 5)[7], sharp[7])


def test_entropy_by_hand_and_masked_tokens():
    row = torch.tensor([[0.5, 0.25, 0.25, 0.0]]).log()
    assert token_entropy(row)[0] == pytest.approx(1.5 * math.log(2))
    after = minimize_entropy(row, 0.1, 0.05, 0.1, 3)
    assert after[0, 3] == -torch.inf
    assert after[0, :3].isfinite().all()
    assert token_entropy(after)[0] < token_entropy(row)[0]
    for broken in (torch.full((1, 4), -torch.inf), torch.full((1, 4), torch.nan)):
        with pytest.raises(ValueError, match="row 2"):
            token_entropy(torch.cat([row, row, broken]))


def test_greedy_is_unchanged(tiny_engine, tiny_prompts):
    prompts = tiny_prompts(5)
    greedy = Greedy().generate(tiny_engine, prompts, Limits(15))
    for method in (EntropyMinimization(n_grad_steps=8), AdaptiveTemperature()):
        stacked = chain([method, Greedy()]).generate(tiny_engine, prompts, Limits(15))
        assert [c.token_ids for c in stacked] == [c.token_ids for c in greedy]


def test_adaptive_temperature_meets_its_target(logits):
    method = AdaptiveTemperature(tol=1e-6, target_ratio=0.5)
    before, temperatures = token_entropy(logits), method.temperatures(logits)
    after = token_entropy(method.adjust(logits, None))
    torch.testing.assert_close(after, 0.5 * before, atol=1e-5, rtol=0)
    assert ((temperatures >= 0.01) & (temperatures <= 1.0)).all()
    assert torch.equal(method.adjust(logits, None).argsort(-1), logits.argsort(-1)), "scaling keeps the order"
    confident = torch.zeros(1, 30)
    confident[0, 0] = 200.0
    assert method.temperatures(confident)[0] == 1.0


def test_rows_do_not_depend_on_each_other(logits):
    method = AdaptiveTemperature()
    alone = torch.cat([method.temperatures(r[None]) for r in logits])
    assert torch.equal(method.temperatures(logits), alone)
    alone = torch.cat([minimize_entropy(r[None], 0.3, 0.05, 0.1, 5) for r in logits])
    torch.testing.assert_close(minimize_entropy(logits, 0.3, 0.05, 0.1, 5), alone, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EntropyMinimization(threshold=-1.0), "threshold is -1.0"),
        (lambda: EntropyMinimization(lr=0.0), "lr is 0.0"),
        (lambda: EntropyMinimization(n_grad_steps=-1), "n_grad_steps is -1"),
        (lambda: EntropyMinimization(n_grad_steps=1.5), "n_grad_steps is 1.5"),
        (lambda: EntropyMinimization(kl_weight=-0.1), "kl_weight is -0.1"),
        (lambda: AdaptiveTemperature(target_ratio=0.0), "target_ratio is 0.0"),
        (lambda: AdaptiveTemperature(t_min=0.0), "t_min is 0.0"),
        (lambda: AdaptiveTemperature(tol=0.0), "tol is 0.0"),
        (lambda: AdaptiveTemperature(max_iter=0), "max_iter is 0"),
        (lambda: AdaptiveTemperature(t_min=2.0), "t_min is 2.0: must be at most t_max"),
    ],
)
def test_bad_parameters_are_named(make, message):
    with pytest.raises(InvalidValue, match=message):
        make()
