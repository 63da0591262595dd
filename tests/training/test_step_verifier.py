"""The tiny verifier learns what there is to learn, from steps that carry their solution's label."""

from __future__ import annotations

import math

import pytest
import torch

from dovetail.core import InvalidValue, Limits
from dovetail.decoding import Sampling
from dovetail.decoding.self_consistency import resampled
from dovetail.training.step_verifier import LabelledSteps, collect, separation, train


def planted(n=3000, seed=0, noise=0.3):
    """Steps whose label is the sign of a product of two coordinates: no linear head can tell."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 6, generator=rng)
    labels = (x[:, 0] * x[:, 1] + noise * torch.randn(n, generator=rng) > 0).float()
    return LabelledSteps(x * 3 + 1, labels, torch.arange(n) // 4, torch.arange(n) % 4 == 3)


def test_it_learns_and_is_seeded():
    assert separation(train(planted(), epochs=30), planted(seed=1)) > 0.85
    small = planted(200)
    assert repr(train(small, epochs=2)) == repr(train(small, epochs=2))
    assert repr(train(small, epochs=2)) != repr(train(small, epochs=2, seed=1))


def test_nothing_to_learn_is_not_learned():
    data = planted()
    shuffled = data.labels[torch.randperm(len(data), generator=torch.Generator().manual_seed(2))]
    data = LabelledSteps(data.states, shuffled, data.questions, data.last)
    assert separation(train(data, epochs=10), planted(seed=1)) == pytest.approx(0.5, abs=0.08)


def test_separation_by_hand():
    class Fixed:
        weights = {  # noqa: RUF012
            "mean": torch.zeros(1),
            "scale": torch.ones(1),
            "in": torch.ones(1, 1),
            "bias": torch.zeros(1),
            "out": torch.ones(1),
            "shift": torch.zeros(()),
        }

    def data(values, labels):
        n = len(values)
        return LabelledSteps(
            torch.tensor(values)[:, None], torch.tensor(labels), torch.zeros(n), torch.ones(n)
        )

    assert separation(Fixed(), data([1.0, 2.0, 3.0], [0.0, 1.0, 1.0])) == 1.0
    assert separation(Fixed(), data([1.0, 2.0, 2.0, 3.0], [1.0, 0.0, 1.0, 0.0])) == (0 + 0 + 0.5 + 0) / 4
    assert math.isnan(separation(Fixed(), data([1.0], [1.0])))


def test_steps_carry_their_solutions_label(tiny_engine, tiny_prompts):
    prompts = tiny_prompts(3)
    judged = []

    def right(i, completion):
        judged.append((i, completion.token_ids))
        return float(len(completion.token_ids) % 2)

    data = collect(tiny_engine, prompts, Limits(24), right, n=4, max_steps=5, delimiter="I")
    samples = [
        c.token_ids
        for p in prompts
        for c in Sampling(temperature=0.8).generate(tiny_engine, resampled(p, 4), Limits(24))
    ]
    assert sorted(ids for _, ids in judged) == sorted(samples)
    assert data.states.shape == (len(data), 35)
    assert int(data.last.sum()) == 12
    assert len(data) > 12, "no solution had two steps"
    for question in range(3):
        expected = sum(len(ids) % 2 for i, ids in judged if i == question)
        assert data.labels[data.last & (data.questions == question)].sum() == expected


def test_one_kind_of_label_is_nothing_to_learn():
    data = planted()
    with pytest.raises(InvalidValue, match="right and wrong solutions"):
        train(LabelledSteps(data.states, torch.ones(len(data)), data.questions, data.last))
