"""BanditSpec's recipe: the simulation's claims, and the probabilities that the chi-square test goes by."""

from __future__ import annotations

import itertools

import pytest
import torch

from dovetail.recipes.banditspec import likely_texts, regret


def test_the_simulated_regret_comes_with_its_curve():
    arms, claims, series = regret("smoke", 0)
    assert len(arms) == len(series) == 4
    assert [c.main for c in claims] == [False] * 4
    chance, bandit = series["regret by tokens: random"], series["regret by tokens: UCBSpec"]
    assert chance["x"] == bandit["x"] == [100, 250]
    assert all(0 < a < b for a, b in zip(bandit["y"], chance["y"], strict=True))


def test_likely_texts_have_the_models_probabilities(tiny_engine):
    prompt, least = (5, 7, 9), 2e-4
    found = likely_texts(tiny_engine, prompt, 2, least)
    texts = list(itertools.product(range(100), repeat=2))
    ids = torch.tensor([[*prompt, first] for first in range(100)])
    with torch.inference_mode():
        logprobs = (tiny_engine.network(ids).logits[:, 2:] / 2.0).log_softmax(-1)
    both = {(a, b): float((logprobs[a, 0, a] + logprobs[a, 1, b]).exp()) for a, b in texts}
    ended = {text: p for text, p in found.items() if len(text) == 1}
    assert set(ended) <= {(94,)}
    expected = {text: p for text, p in both.items() if p >= least and text[0] != 94}
    assert len(expected) > 20
    assert {text: p for text, p in found.items() if len(text) == 2} == pytest.approx(expected)
