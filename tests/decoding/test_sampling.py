"""Filters by hand-computed numbers; draws against their distribution."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from dovetail.core import InvalidValue, seeds
from dovetail.decoding import Sampling
from dovetail.decoding.sampling import draw, filtered
from dovetail.engine import Rows

P = torch.tensor([[0.1, 0.4, 0.2, 0.3]])


def rows(n: int) -> Rows:
    streams = torch.tensor([seeds.stream(0, i) for i in range(n)])
    ones = torch.ones(n, dtype=torch.int64)
    return Rows(streams, ones * 0, ones, ones.bool())


@pytest.mark.parametrize(
    ("top_k", "top_p", "min_p", "expected"),
    [
        (0, 1.0, 0.0, [0.4, 0.3, 0.2, 0.1]),
        (2, 1.0, 0.0, [4 / 7, 3 / 7]),
        (0, 0.7, 0.0, [4 / 7, 3 / 7, 0, 0]),  # 0.2 has 0.7 in front of it: out
        (0, 0.71, 0.0, [4 / 9, 3 / 9, 2 / 9, 0]),
        (0, 1.0, 0.5, [4 / 9, 3 / 9, 2 / 9, 0]),
        (0, 1e-9, 0.0, [1, 0, 0, 0]),
        # top-p acts on what top-k renormalized: after top-3, 4/9 + 3/9 = 0.777 lie in front of the third
        (3, 0.75, 0.0, [4 / 7, 3 / 7, 0]),
        (0, 0.71, 0.8, [1, 0, 0, 0]),
    ],
)
def test_filters_by_hand(top_k, top_p, min_p, expected):
    if min_p == 0.8:
        expected = [1, 0, 0, 0]  # 3/9 < 0.8 * 4/9
    probs, ids = filtered(P, top_k, top_p, min_p)
    torch.testing.assert_close(probs[0], torch.tensor(expected, dtype=torch.float32))
    assert ids[0, : len(expected)].tolist() == [1, 3, 2, 0][: len(expected)]


def test_draws_follow_the_distribution():
    n = 20_000
    drawn = draw(P.expand(n, -1), rows(n))
    assert (
        stats.chisquare(torch.bincount(drawn, minlength=4).numpy(), (P[0] * n).double().numpy()).pvalue
        > 0.001
    )


def test_sampling_follows_the_filtered_distribution():
    n = 20_000
    choice = Sampling(temperature=0.5, top_k=3).choose(P.log().expand(n, -1), rows(n))
    expected = torch.tensor([0.0, 16 / 29, 4 / 29, 9 / 29])  # squares of 0.4, 0.2, 0.3
    counts = torch.bincount(choice.tokens, minlength=4)
    assert counts[0] == 0
    assert (
        stats.chisquare(counts[1:].numpy(), (expected[1:] * n).double().numpy(), sum_check=False).pvalue
        > 0.001
    )


def test_impossible_tokens_are_never_drawn():
    logits = torch.full((500, 6), -torch.inf)
    logits[:, 4] = 0.0
    assert (Sampling().choose(logits, rows(500)).tokens == 4).all()
    assert (Sampling(temperature=0.0).choose(logits, rows(500)).tokens == 4).all()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.1}, "top_p is 1.1"),
        ({"top_k": -1}, "top_k is -1"),
        ({"top_k": 1.5}, "top_k is 1.5"),
        ({"min_p": 1.0}, "min_p is 1.0"),
    ],
)
def test_bad_parameters_are_named(parameters, message):
    with pytest.raises(InvalidValue, match=message):
        Sampling(**parameters)


def test_parameters_for_servers():
    assert Sampling(temperature=0.6, top_p=0.9).api_parameters() == {"temperature": 0.6, "top_p": 0.9}
    assert Sampling(top_k=5, min_p=0.1).api_parameters()["extra_body"] == {"top_k": 5, "min_p": 0.1}
