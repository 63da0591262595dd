"""Direct preference optimisation: the gradient is that of the published loss, pairs cut apart or not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from training_tools import rollouts

from dovetail.core import Example, InvalidValue
from dovetail.models.local import LocalModel
from dovetail.training import train
from dovetail.training.objectives import Preference
from dovetail.training.policy import Policy
from dovetail.training.rollouts import totals_of


def test_the_gradient_is_the_losss(tiny_network: Any) -> None:
    network = tiny_network("qwen3").double()
    policy, objective = Policy(network), Preference(beta=0.3)
    rows = rollouts([3, 7, 5, 2], [0, 0, 1, 1])
    # The reading is kept in float64: the pairs' weights must not lose digits.
    read = policy(rows).logprobs.detach()
    rows.logprobs = read
    rows.reference = read + 0.5 * torch.randn(read.shape, generator=torch.Generator().manual_seed(0))
    rows.advantages = objective.assign(rows)[:, None].expand(rows.mask.shape)
    rows.totals = totals_of(rows)
    for cut in ([0, 2], [3], [1]):  # no pair together
        loss, _ = objective.loss(policy, rows.select(cut))
        loss.backward()
    found = torch.cat([p.grad.flatten() for p in network.parameters()])
    network.zero_grad()
    ratios = ((policy(rows).logprobs - rows.reference) * rows.mask).sum(1)
    direct = -torch.nn.functional.logsigmoid(0.3 * (ratios[0::2] - ratios[1::2])).mean()
    direct.backward()
    torch.testing.assert_close(found, torch.cat([p.grad.flatten() for p in network.parameters()]))
    assert objective.figures(rows)["preference_loss"] == pytest.approx(float(direct.detach()))


def test_the_chosen_answer_is_preferred(learner: LocalModel) -> None:
    pairs = [Example.ask(f"e{i}", f"{i}?", chosen="yes", rejected="no!") for i in range(4)]
    options: dict[str, Any] = {"steps": 20, "batch": 8, "learning_rate": 3e-3, "max_new_tokens": 8}
    run = train(learner, pairs, objective=Preference(), **options)
    assert run.history[-1]["preferred"] == 1.0
    assert run.history[-1]["preference_loss"] < 0.6 < run.history[0]["preference_loss"]


def test_what_is_refused(learner: LocalModel) -> None:
    with pytest.raises(InvalidValue, match="beta"):
        Preference(beta=0.0)
    with pytest.raises(InvalidValue, match="e0: rejected"):
        train(learner, [Example.ask("e0", "?", chosen="a")], objective=Preference(), batch=2)
