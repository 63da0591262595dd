"""The whole loop with tiny random models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from training_tools import examples

from dovetail.core import BadData, Example, InvalidValue, Message, UnknownName
from dovetail.models.local import LocalModel
from dovetail.tasks.scorers import scorer
from dovetail.training import Run, Settings, train
from dovetail.training.data import Data
from dovetail.training.judging import RewardFailed
from dovetail.training.monitors import Floor
from dovetail.training.objectives import Objective, PolicyGradient, Supervised
from dovetail.training.policy import Policy
from dovetail.training.rollouts import Rollouts
from dovetail.training.trainer import NotFinite

SMALL: dict[str, Any] = {
    "steps": 3,
    "batch": 16,
    "max_new_tokens": 8,
    "learning_rate": 3e-3,
    "samples_every": 1,
}
GROUPS = PolicyGradient(group_size=4)


def letters(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    """The share of lower-case letters."""
    return [sum(c.islower() for c in text) / max(1, len(text)) for text in completions]


def weights(run: Run) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in run.model.network.parameters()])


def test_policy_gradient_raises_the_reward_and_leaves_the_model(learner: LocalModel) -> None:
    before = [p.clone() for p in learner.network.parameters()]
    run = train(learner, examples(), objective=GROUPS, rewards=[letters], **SMALL | {"steps": 25})
    _, rewards = run.curve("reward/letters")
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.2
    assert all(torch.equal(a, b) for a, b in zip(before, learner.network.parameters(), strict=True))
    assert len(run.history) == 25
    expected = {"step", "loss", "gradient", "rate", "reward", "length", "truncated", "padding", "entropy"}
    assert expected <= set(run.history[0])
    assert run.samples[0].rewards.keys() == {"letters"}


def test_same_seed_same_weights(learner: LocalModel) -> None:
    runs = [
        train(learner, examples(), objective=GROUPS, rewards=[letters], seed=s, **SMALL) for s in (1, 1, 2)
    ]
    assert torch.equal(weights(runs[0]), weights(runs[1]))
    assert not torch.equal(weights(runs[0]), weights(runs[2]))


@pytest.mark.parametrize(
    "objective",
    [
        PolicyGradient(group_size=4, passes=2, minibatches=2, kl=0.05),
        PolicyGradient(group_size=4, decoupled=True, average="sequence", drop_truncated=True),
        PolicyGradient(group_size=2, baseline="leave-one-out", scale="none", average="constant"),
        PolicyGradient(group_size=1, baseline="none"),
    ],
)
def test_variants_run(objective: PolicyGradient, learner: LocalModel) -> None:
    run = train(learner, examples(), objective=objective, rewards=[letters], **SMALL)
    assert all(math.isfinite(f["loss"]) for f in run.history)
    assert ("kl" in run.history[-1]) == bool(objective.kl)
    if objective.kl:
        assert run.history[0]["kl"] > 0  # the second update of the first step has moved already
        assert "clipped" in run.history[0]


def test_results_do_not_depend_on_micro_batches(learner: LocalModel) -> None:
    learner.network.double()
    runs = [
        train(learner, examples(), objective=GROUPS, rewards=[letters], micro_batch_tokens=n, **SMALL)
        for n in (16, 4096)
    ]
    torch.testing.assert_close(weights(runs[0]), weights(runs[1]), atol=1e-9, rtol=0)


def test_supervised_learns_answers(learner: LocalModel) -> None:
    run = train(
        learner, examples(4), objective=Supervised(), held_out=examples(4), scorer=scorer("exact"),
        **SMALL | {"steps": 60, "batch": 4, "learning_rate": 1e-2},
    )  # fmt: skip
    assert run.history[-1]["loss"] < 0.1 < run.history[0]["loss"]
    assert run.final.accuracy.value == 1.0  # the end token is learned too
    assert run.gain.value > 0.5
    assert [e.step for e in run.evaluations] == [0, 60]


def test_muon(learner: LocalModel) -> None:
    options = SMALL | {"steps": 15, "batch": 4, "learning_rate": 0.02, "optimiser": "muon", "decay": 0.5}
    run = train(learner, examples(4), objective=Supervised(), **options)
    assert run.history[-1]["loss"] < run.history[0]["loss"] / 2
    assert run.history[-1]["rate"] < run.history[0]["rate"]


@dataclass(frozen=True)
class LowEntropy(Objective):
    """Learns without any reward: its worth is what the model was sure of."""

    group_size: int = 4
    reads = frozenset({"entropies"})

    def assign(self, rollouts: Rollouts) -> torch.Tensor:
        assert rollouts.entropies is not None
        return -rollouts.entropies

    def loss(self, policy: Policy, rollouts: Rollouts) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        assert rollouts.advantages is not None
        reading = policy(rollouts)
        share = rollouts.mean(reading.entropy)
        return share - 0.0 * rollouts.mean(reading.logprobs * rollouts.advantages), {
            "entropy": share.detach()
        }


def test_an_objective_needs_no_reward(learner: LocalModel) -> None:
    run = train(learner, examples(), objective=LowEntropy(), rewards=[], **SMALL | {"steps": 10})
    assert run.history[-1]["entropy"] < run.history[0]["entropy"] - 0.1
    assert "reward" not in run.history[0]


@dataclass
class Watcher(Data):
    """Draws only two examples, asks with a system message, counts what it saw."""

    seen: int = 0

    def draw(self, step: int, pool: Sequence[Example]) -> Sequence[Example]:
        return pool[:2]

    def ask(self, example: Example, messages: Sequence[Message]) -> Sequence[Message]:
        return [Message("system", "s!"), *messages]

    def update(self, rollouts: Rollouts) -> None:
        self.seen += len(rollouts)
        assert {e.id for e in rollouts.examples} <= {"e0", "e1"}
        assert all(p.text.startswith("s!") for p in rollouts.prompts)

    def figures(self) -> Mapping[str, float]:
        return {"seen": float(self.seen)}

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen}


def test_data_draws_asks_and_is_told(learner: LocalModel) -> None:
    mine = Watcher()
    run = train(learner, examples(), objective=GROUPS, rewards=[letters], data=[mine], **SMALL)
    assert run.history[-1]["seen"] == 48
    assert run.data[0].seen == 48
    assert mine.seen == 0  # the run has its own


def test_monitors_warn_and_stop(learner: LocalModel) -> None:
    warn, stop = Floor("reward", 2.0, steps=1), Floor("reward", 2.0, steps=2, stop=True)
    run = train(learner, examples(), objective=GROUPS, rewards=[letters], monitors=[warn, stop], **SMALL)
    assert [(a.step, a.stop) for a in run.alarms] == [(0, False), (1, True)]
    assert len(run.history) == 2
    assert run.stopped.startswith("Floor: reward is")


def test_weight_nought_is_logged_and_changes_nothing(learner: LocalModel) -> None:
    def noise(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
        return [float(hash(text) % 7) for text in completions]

    alone = train(learner, examples(), objective=GROUPS, rewards=[letters], **SMALL)
    watched = train(learner, examples(), objective=GROUPS, rewards=[letters, noise], weights=[1, 0], **SMALL)
    assert torch.equal(weights(alone), weights(watched))
    assert "reward/noise" in watched.history[0]


def test_long_prompts_are_left_out_and_counted(learner: LocalModel) -> None:
    long = Example.ask("long", "x" * 60)
    run = train(
        learner, [*examples(), long], objective=GROUPS, rewards=[letters], max_prompt_tokens=20, **SMALL
    )
    assert run.skipped == {"prompts too long": 1}
    assert run.history[-1]["skipped/prompts too long"] == 1
    with pytest.raises(BadData, match="none with a prompt of at most 20 tokens"):
        train(learner, [long], objective=GROUPS, rewards=[letters], max_prompt_tokens=20, **SMALL)


def test_equal_pay_everywhere_is_a_counted_skip(learner: LocalModel) -> None:
    run = train(
        learner,
        examples(),
        objective=GROUPS,
        rewards=[lambda completions, **_: [1.0] * len(completions)],
        **SMALL,
    )
    assert run.skipped == {"updates without a completion to learn from": 3}
    assert torch.equal(weights(run), torch.cat([p.flatten() for p in learner.network.parameters()]).detach())


def test_losses_that_are_not_finite(learner: LocalModel) -> None:
    @dataclass(frozen=True)
    class Broken(Supervised):
        def loss(self, policy: Policy, rollouts: Rollouts) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
            loss, figures = super().loss(policy, rollouts)
            return loss * (math.nan if rollouts.step != 1 else 1.0), figures

    run = train(learner, examples(), objective=Broken(), patience=1, **SMALL)
    assert run.skipped == {"updates that were not finite": 2}
    assert bool(weights(run).isfinite().all())
    with pytest.raises(NotFinite, match="2 updates in a row were not finite"):
        train(learner, examples(), objective=Broken(), patience=1, **SMALL | {"steps": 6})


def test_mistakes_are_named(learner: LocalModel) -> None:
    with pytest.raises(UnknownName, match="learning_rate"):
        train(learner, examples(), rewards=[letters], learning_rat=1.0)
    with pytest.raises(InvalidValue, match="batch"):
        train(learner, examples(), rewards=[letters], batch=12)
    with pytest.raises(InvalidValue, match="rewards is None"):
        train(learner, examples())
    with pytest.raises(InvalidValue, match="weights"):
        train(learner, examples(), rewards=[letters], weights=[1, 2])
    with pytest.raises(InvalidValue, match="e0: completion"):
        train(learner, [Example.ask("e0", "?")], objective=Supervised(), batch=1)
    with pytest.raises(RewardFailed, match="returned 0 values"):
        train(learner, examples(), objective=GROUPS, rewards=[lambda **_: []], **SMALL)
    with pytest.raises(InvalidValue, match="decay"):
        Settings(decay=2.0)


def test_held_out_examples_are_not_trained_on(learner: LocalModel) -> None:
    run = train(
        learner,
        examples(12),
        objective=GROUPS,
        rewards=[letters],
        held_out=4,
        scorer=scorer("exact"),
        **SMALL,
    )
    asked = set(run.final.ids)
    assert asked == {"e8", "e9", "e10", "e11"}
    assert not asked & {s.example_id for s in run.samples}
