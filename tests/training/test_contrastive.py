"""Contrastive losses by hand, equal gradients in chunks, low-rank additions, and a tuning that learns."""

from __future__ import annotations

import copy
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dovetail.core import InvalidValue, Unsupported
from dovetail.models.embedding import DiffusionEmbedder
from dovetail.training.contrastive import (
    ContrastiveTuning,
    ExplicitNegatives,
    InfoNCE,
    LowRank,
    Triple,
    low_rank,
    merge,
)

sys.path.append(str(Path(__file__).parents[1] / "models"))
from models_checkpoints import build_tokenizer
from models_diffusion import build_diffusion

WORDS = ["river", "town", "answer", "think", "Who", "know", "lies", "founded"]
TRIPLES = [
    Triple(f"the {word}", f"a {word} is here", (f"no {word}", f"not {word} here"), "Find:", topic=word)
    for word in WORDS
]


@pytest.fixture
def embedder() -> DiffusionEmbedder:
    return DiffusionEmbedder(build_diffusion(vocab_size=400, mask_token_id=399), build_tokenizer())


def test_infonce_by_hand() -> None:
    queries, texts = torch.tensor([[3.0, 0.0], [0.0, 1.0]]), torch.tensor([[2.0, 0.0], [0.0, 5.0]])
    expected = math.log(1 + math.exp(-20))
    assert InfoNCE()(queries, texts).item() == pytest.approx(expected, abs=1e-6)
    negatives = torch.tensor([[[3.0, 4.0]], [[0.0, -1.0]]])
    first = math.log(math.exp(2) + 1 + math.exp(1.2) + 1) - 2
    second = math.log(math.exp(2) + 1 + math.exp(1.6) + math.exp(-2)) - 2
    made = InfoNCE(scale=2.0)(queries, texts, negatives).item()
    assert made == pytest.approx((first + second) / 2, rel=1e-5)
    dot = InfoNCE(scale=1.0, similarity="dot")(queries, texts).item()
    assert dot == pytest.approx((math.log(1 + math.exp(-6)) + math.log(1 + math.exp(-5))) / 2, rel=1e-4)


def test_infonce_of_one_row_is_zero_and_falls_with_the_scale() -> None:
    torch.manual_seed(0)
    one = torch.randn(1, 4)
    assert InfoNCE()(one, torch.randn(1, 4)).item() == 0
    queries = torch.eye(4)
    losses = [InfoNCE(scale)(queries, queries + 0.3).item() for scale in (1.0, 5.0, 20.0)]
    assert losses == sorted(losses, reverse=True)


def test_explicit_negatives_by_hand() -> None:
    queries, texts = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 1.0]])
    negatives = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
    assert ExplicitNegatives()(queries, texts, negatives).item() == pytest.approx(
        math.log(math.exp(3) + math.exp(2) + math.exp(1)) - 3
    )
    assert ExplicitNegatives(scale_by_dim=True)(queries, texts, negatives).item() == pytest.approx(
        math.log(math.exp(1.5) + math.exp(1) + math.exp(0.5)) - 1.5
    )
    with pytest.raises(InvalidValue, match="negatives"):
        ExplicitNegatives()(queries, texts)
    for loss in (InfoNCE(), ExplicitNegatives()):
        with pytest.raises(InvalidValue, match="positives"):
            loss(queries, torch.ones(2, 2), negatives)


def test_chunks_give_the_same_gradients(embedder: DiffusionEmbedder) -> None:
    grads = []
    for chunk in (None, 5):
        embedder.model.zero_grad()
        settings = ContrastiveTuning(lora_r=None, chunk=chunk)
        loss = settings._backward(embedder, TRIPLES, 0)
        grads.append(torch.cat([p.grad.flatten() for p in embedder.model.parameters() if p.grad is not None]))
        assert loss > 0
    assert float(grads[0].norm()) > 1e-3
    torch.testing.assert_close(grads[0], grads[1], atol=1e-5, rtol=1e-4)


def test_a_step_has_the_loss_of_its_texts(embedder: DiffusionEmbedder) -> None:
    queries = embedder.encode([(t.instruction, t.query) for t in TRIPLES])
    positives = embedder.encode([t.positive for t in TRIPLES])
    negatives = embedder.encode([n for t in TRIPLES for n in t.negatives])
    expected = InfoNCE()(*(torch.from_numpy(part) for part in (queries, positives, negatives))).item()
    for chunk in (None, 3):
        loss = ContrastiveTuning(lora_r=None, chunk=chunk)._backward(embedder, TRIPLES, 0)
        assert loss == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("options", [{"lora_r": 4}, {"lora_r": None}, {"lora_r": 4, "chunk": 16}])
def test_tuning_learns(embedder: DiffusionEmbedder, options: dict[str, Any]) -> None:
    settings = ContrastiveTuning(batch=8, lr=1e-2, warmup=2, steps=12, **options)
    before = torch.get_rng_state()
    losses = settings.run(embedder, TRIPLES)
    assert torch.equal(before, torch.get_rng_state())
    assert np.mean(losses[-3:]) < 0.6 * np.mean(losses[:3])
    assert not embedder.training
    assert all(p.requires_grad for p in embedder.model.parameters())
    assert not any(isinstance(m, LowRank) for m in embedder.model.modules())


def test_equal_seeds_tune_equally_and_low_rank_leaves_the_rest(embedder: DiffusionEmbedder) -> None:
    other = copy.deepcopy(embedder)
    fresh = copy.deepcopy(embedder)
    settings = ContrastiveTuning(batch=4, lr=1e-2, warmup=0, steps=3, lora_r=2)
    assert settings.run(embedder, TRIPLES) == settings.run(other, TRIPLES)
    changed = {
        name
        for (name, new), old in zip(embedder.model.named_parameters(), fresh.model.parameters(), strict=True)
        if not torch.equal(new, old)
    }
    assert len(changed) == 2 * 7
    assert not any("norm" in name or "embed" in name or "lm_head" in name for name in changed)


def test_merging_changes_nothing_that_is_seen(embedder: DiffusionEmbedder) -> None:
    plain = embedder.encode(["the river"])
    added = low_rank(embedder.model, 3, seed=1)
    np.testing.assert_array_equal(embedder.encode(["the river"]), plain)  # B is zeros
    with torch.no_grad():
        for parent, name in added:
            getattr(parent, name).b.normal_(std=0.1)
    tuned = embedder.encode(["the river"])
    assert np.abs(tuned - plain).max() > 1e-3
    forgotten = copy.deepcopy(embedder)
    merge(embedder.model, added)
    np.testing.assert_allclose(embedder.encode(["the river"]), tuned, atol=1e-4)
    wrapped = [
        (parent, name)
        for parent in forgotten.model.modules()
        for name, child in parent.named_children()
        if isinstance(child, LowRank)
    ]
    merge(forgotten.model, wrapped, keep=False)
    np.testing.assert_array_equal(forgotten.encode(["the river"]), plain)
    with pytest.raises(Unsupported, match="no linear layers named q_proj"):
        low_rank(torch.nn.Linear(2, 2), 2)


def test_batches_hold_no_topic_twice() -> None:
    doubled = [*TRIPLES, *TRIPLES]
    settings = ContrastiveTuning(batch=4)
    seen: list[int] = []
    for rows in settings.batches(doubled, 4):
        assert len({doubled[i].topic for i in rows}) == len(rows) == 4
        seen += rows
    assert sorted(seen) == list(range(16))
    with pytest.warns(UserWarning, match="batches of 8 triples, not 12"):
        assert all(len(rows) == 8 for rows in ContrastiveTuning(batch=12).batches(doubled, 3))
    free = [Triple("a", "b")] * 3
    assert [len(rows) for rows in ContrastiveTuning(batch=2).batches(free, 3)] == [2, 2, 2]


def test_rate_rises_and_falls() -> None:
    settings = ContrastiveTuning(warmup=4)
    rates = [settings.rate(step, 12) for step in range(12)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == 1.0
    assert rates[-1] == pytest.approx(1 / 8)


def test_mistakes_are_named(embedder: DiffusionEmbedder) -> None:
    with pytest.raises(InvalidValue, match="triples"):
        ContrastiveTuning().run(embedder, [])
    with pytest.raises(InvalidValue, match="negatives of triple 1"):
        ContrastiveTuning().run(embedder, [Triple("a", "b"), Triple("a", "b", ("c",))])
    for name, value in (("batch", 0), ("lr", 0.0), ("lora_r", 0), ("lora_dropout", 1.0), ("warmup", -1)):
        with pytest.raises(InvalidValue, match=f"^{name} is"):
            ContrastiveTuning(**{name: value})  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match="scale"):
        InfoNCE(scale=0)
    with pytest.raises(InvalidValue, match="similarity"):
        InfoNCE(similarity="l2")  # type: ignore[arg-type]


def test_a_loss_that_is_not_finite_stops_the_tuning(embedder: DiffusionEmbedder) -> None:
    plain = copy.deepcopy(embedder.model.state_dict())

    class Broken(InfoNCE):
        def __call__(self, *tensors: Any) -> Any:
            return super().__call__(*tensors) * math.nan

    with pytest.raises(FloatingPointError, match="step 0"):
        ContrastiveTuning(loss=Broken(), steps=2).run(embedder, TRIPLES)
    for name, value in embedder.model.state_dict().items():
        assert torch.equal(value, plain[name])
