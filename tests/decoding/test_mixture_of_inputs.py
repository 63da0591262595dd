"""Mixture of inputs: eq. 2 to 5 by hand, and its two ends: plain sampling and the distribution itself."""

from __future__ import annotations

import math

import pytest
import torch

from dovetail.core import InvalidValue, Limits
from dovetail.decoding import MixtureOfInputs, Sampling
from dovetail.decoding.mixture_of_inputs import moi_weights


def test_weights_by_hand():
    p = torch.tensor([[0.5, 0.25, 0.25, 0.0]])
    h = 1.5 * math.log(2) / math.log(4)  # 0.75
    w = moi_weights(p, torch.tensor([1]), beta=2.0)
    expected = torch.tensor([[h * 0.5, h * 0.25 + 3 - h, h * 0.25, 0.0]]) / 3
    torch.testing.assert_close(w, expected)


def test_the_official_codes_form_is_the_same():
    p = torch.rand(20, 9, generator=torch.Generator().manual_seed(0)).softmax(-1)
    y = torch.arange(20) % 9
    beta = 0.7
    h = (torch.special.entr(p).sum(-1) / math.log(9))[:, None]
    one_hot = torch.nn.functional.one_hot(y, 9)
    torch.testing.assert_close(
        moi_weights(p, y, beta), h * (p + beta * one_hot) / (1 + beta) + (1 - h) * one_hot
    )


def test_invariants():
    p = (torch.randn(50, 30, generator=torch.Generator().manual_seed(1)) * 2).softmax(-1)
    y = torch.arange(50) % 30
    for beta in (0.0, 0.5, 4.0):
        w = moi_weights(p, y, beta)
        torch.testing.assert_close(w.sum(-1), torch.ones(50))
        assert (w >= 0).all()
        assert (w.gather(1, y[:, None]) >= beta / (beta + 1) - 1e-6).all()
    sure = torch.zeros(1, 30)
    sure[0, 4] = 1.0
    assert torch.equal(moi_weights(sure, torch.tensor([4]), 1.0), sure)
    uniform = torch.full((1, 30), 1 / 30)
    torch.testing.assert_close(moi_weights(uniform, torch.tensor([4]), 0.0), uniform)
    assert moi_weights(torch.ones(1, 1), torch.tensor([0]), 1.0).tolist() == [[1.0]]


def test_the_two_ends(tiny_engine, tiny_prompts):
    prompts = tiny_prompts(6)
    sampled = Sampling(temperature=0.6, top_p=0.95).generate(tiny_engine, prompts, Limits(15))

    def written(**parameters):
        return [c.token_ids for c in MixtureOfInputs(**parameters).generate(tiny_engine, prompts, Limits(15))]

    plain = [c.token_ids for c in sampled]
    assert written(beta=math.inf) == plain
    assert written(mode="standard") == plain
    assert written(beta=1e12) == plain
    mixed = written()
    assert mixed != plain
    assert [t[0] for t in mixed] == [t[0] for t in plain], "the first token cannot differ"
    assert written(mode="direct") != mixed


def test_candidates_hold_the_sampled_token():
    p = torch.tensor([[0.4, 0.3, 0.2, 0.1]])
    choice = MixtureOfInputs(candidates=2)._among(p, torch.tensor([3]), 2)
    assert choice.ids.tolist() == [[0, 1, 3]]
    q = torch.tensor([4 / 7, 3 / 7])
    h = float(torch.special.entr(q).sum()) / math.log(2)
    expected = [h * 4 / 7 / 2, h * 3 / 7 / 2, (2 - h) / 2]
    assert choice.weights[0].tolist() == pytest.approx(expected, abs=1e-6)
    inside = MixtureOfInputs(candidates=2)._among(p, torch.tensor([1]), 2)
    assert inside.weights[0, 2] == 0
    assert float(inside.weights.sum()) == pytest.approx(1.0)


def test_candidates_of_the_whole_vocabulary_are_the_full_form(tiny_engine, tiny_prompts):
    prompts = tiny_prompts(4)
    full = MixtureOfInputs().generate(tiny_engine, prompts, Limits(10))
    for k in (100, 10**6):
        listed = MixtureOfInputs(candidates=k).generate(tiny_engine, prompts, Limits(10))
        assert [c.token_ids for c in full] == [c.token_ids for c in listed]


def test_bad_distributions_are_named():
    y = torch.tensor([0, 0])
    good = [0.5, 0.5]
    for bad in ([0.5, 0.4], [1.5, -0.5], [math.nan, 1.0]):
        with pytest.raises(ValueError, match=r"probs\[1\]"):
            moi_weights(torch.tensor([good, bad]), y, 1.0)
    with pytest.raises(ValueError, match=r"token id 2 is outside the vocabulary \[0, 2\)"):
        moi_weights(torch.tensor([good]), torch.tensor([2]), 1.0)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"beta": -0.5}, "beta is -0.5"),
        ({"mode": "soft"}, "mode is 'soft'"),
        ({"candidates": 0}, "candidates is 0"),
        ({"temperature": 0.0}, "distribution_temperature is None: must be given where temperature is 0"),
        ({"distribution_temperature": 0.0}, "distribution_temperature is 0.0"),
        ({"top_p": 0.0}, "top_p is 0.0"),
    ],
)
def test_bad_parameters_are_named(parameters, message):
    with pytest.raises(InvalidValue, match=message):
        MixtureOfInputs(**parameters)


def test_greedy_with_a_distribution_of_its_own(tiny_engine, tiny_prompts):
    method = MixtureOfInputs(temperature=0.0, distribution_temperature=1.0)
    first, again = (method.generate(tiny_engine, tiny_prompts(2, seed=s), Limits(5)) for s in (0, 0))
    assert [c.token_ids for c in first] == [c.token_ids for c in again]
