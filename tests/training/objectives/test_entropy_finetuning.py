"""EM-FT: the loss by hand, its gradient, and that only the model's own distributions are moved."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from training_tools import examples, rollouts

import dovetail as dt
from dovetail.core import InvalidValue
from dovetail.rewards import TokenEntropy
from dovetail.training.objectives import EntropyFinetuning, PolicyGradient
from dovetail.training.policy import Reading
from dovetail.training.rollouts import totals_of


def reading(logits: torch.Tensor, rows) -> Reading:
    """Logits [M, V] of the tokens of ``rows``."""
    return Reading(logits, rows.tokens[rows.mask], rows.mask)


def test_the_loss_is_the_sum_per_completion_or_the_mean_per_token() -> None:
    rows = rollouts([1, 3])
    entropies = torch.tensor([[0.5, 0.0, 0.0], [1.0, 2.0, 3.0]])

    def policy(_):
        return SimpleNamespace(entropy=entropies)

    assert float(EntropyFinetuning().loss(policy, rows)[0]) == pytest.approx((0.5 + 6.0) / 2)
    token = EntropyFinetuning(reduction="token_mean")
    assert float(token.loss(policy, rows)[0]) == pytest.approx(6.5 / 4)


def test_shares_of_micro_batches_add_up() -> None:
    rows = rollouts([2, 3, 1])
    entropies = torch.rand(3, 3)
    rows.totals = totals_of(rows)
    for objective in (EntropyFinetuning(), EntropyFinetuning(reduction="token_mean")):
        whole = objective.loss(lambda _: SimpleNamespace(entropy=entropies), rows)[0]
        parts = sum(
            objective.loss(
                lambda r, i=i: SimpleNamespace(entropy=entropies[[i], : r.mask.shape[1]]), rows.select([i])
            )[0]
            for i in range(3)
        )
        torch.testing.assert_close(whole, parts)


def test_the_gradient_is_that_of_proposition_1() -> None:
    """dH/dz_i = -p_i (log p_i + H): one step of descent adds eta p_i (log p_i + H)."""
    rows = rollouts([2])
    logits = torch.randn(2, 7, dtype=torch.float64, requires_grad=True)
    EntropyFinetuning().loss(lambda r: reading(logits, r), rows)[0].backward()
    p = logits.detach().softmax(1)
    entropy = -(p * p.log()).sum(1, keepdim=True)
    torch.testing.assert_close(logits.grad, -p * (p.log() + entropy))


def test_a_certain_distribution_has_no_gradient() -> None:
    rows = rollouts([1])
    logits = torch.tensor([[200.0, 0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    EntropyFinetuning().loss(lambda r: reading(logits, r), rows)[0].backward()
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-12


def test_tokens_that_do_not_count_have_no_effect() -> None:
    rows = rollouts([3, 2])
    rows.mask[0] = False
    entropies = torch.tensor([[9.0, 9.0, 9.0], [1.0, 0.5, 0.0]])
    for objective, expected in (
        (EntropyFinetuning(), 1.5),
        (EntropyFinetuning(reduction="token_mean"), 0.75),
    ):
        loss, _ = objective.loss(lambda _: SimpleNamespace(entropy=entropies), rows)
        assert float(loss) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"group_size": 0}, "group_size is 0"),
        ({"reduction": "mean"}, "reduction is 'mean'"),
        ({"kl": -0.1}, "kl is -0.1"),
        ({"kl": float("nan")}, "kl is nan"),
    ],
)
def test_impossible_parameters(fields, message) -> None:
    with pytest.raises(InvalidValue, match=message):
        EntropyFinetuning(**fields)


@pytest.mark.parametrize("kl", [0.0, 0.5])
def test_entropy_falls_in_a_run_without_labels(learner, kl) -> None:
    options = {"steps": 6, "batch": 8, "learning_rate": 3e-3, "max_new_tokens": 6, "seed": 1}
    run = dt.train(
        learner,
        examples(),
        objective=EntropyFinetuning(kl=kl),
        rewards=[],
        **options,
    )
    _, entropy = run.curve("entropy")
    assert entropy[-1] < 0.9 * entropy[0]
    assert ("kl" in run.history[-1]) == (kl > 0)


def test_rewards_are_given_what_they_read(learner) -> None:
    run = dt.train(
        learner,
        examples(),
        objective=PolicyGradient(group_size=4, baseline="leave-one-out", scale="none"),
        rewards=[TokenEntropy()],
        steps=1,
        batch=8,
        max_new_tokens=6,
    )
    first = run.history[0]
    # The reward is minus the sum over a completion's tokens; the figure is the mean over all tokens.
    assert first["reward/token-entropy"] == pytest.approx(-first["entropy"] * first["length"], rel=1e-4)
