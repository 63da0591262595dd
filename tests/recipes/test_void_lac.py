"""What the recipe builds and counts, on a tiny network."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from dovetail.core import Completion
from dovetail.decoding import L2AdaptiveComputation, RandomSkipping
from dovetail.recipes.measure import Answers
from dovetail.recipes.void_lac import Text, as_many, passes, plant, planting


@pytest.fixture(scope="module")
def model(tiny_network, tiny_tokenizer):
    network = tiny_network("qwen3", num_hidden_layers=4).double()
    return SimpleNamespace(network=network, tokenizer=tiny_tokenizer, name="tiny")


@pytest.fixture(scope="module")
def texts():
    rng = torch.Generator().manual_seed(0)
    ids = [tuple(torch.randint(0, 94, (n,), generator=rng).tolist()) for n in (9, 14, 11)]
    return [Text(one, 4, seed) for seed, one in enumerate(ids)]


def test_layers_of_zeros_change_nothing_and_are_found(model, texts):
    engine = plant(model, 0.0)
    at = planting(4)
    assert at == (2, 3, 5)
    assert engine.forward.layers == 7
    for text in texts:
        ids = torch.tensor([text.ids])
        with torch.no_grad():
            torch.testing.assert_close(engine.network(ids).logits, model.network(ids).logits)
    found = passes(engine, texts, L2AdaptiveComputation(skip=None))
    assert found.voids.shape == (3, 7)
    assert found.share(at) == [1.0, 1.0, 1.0]
    assert max(found.share([0])) < 1.0


def test_the_loss_is_that_of_what_was_written(model, texts):
    """However texts are batched, and counted over the answer's tokens alone."""
    engine = plant(model, 1.0)
    nothing = RandomSkipping(rate_pp=0.0, skip=None)
    together = passes(engine, texts, nothing).loss
    assert together == pytest.approx(passes(engine, texts, nothing, at_once=1).loss, abs=1e-5)
    for text, loss in zip(texts, together, strict=True):
        with torch.no_grad():
            logprobs = engine.network(torch.tensor([text.ids])).logits[0].log_softmax(-1)
        n = len(text.ids)
        assert loss == pytest.approx(-sum(float(logprobs[i - 1, text.ids[i]]) for i in range(n - 4, n)) / 4)


def test_as_many_are_counted_by_tokens():
    def wrote(tokens, read, written):
        columns = {"layers_pp": read, "layers_rg": written}
        return Completion("", tuple(range(tokens)), columns=columns)

    own = Answers([[wrote(3, [1.0, 0.5], [1.0, 0.0]), wrote(1, [1.0, 0.0], None)]], [])
    alike = torch.linspace(0, 1, 101)
    methods = as_many(own, torch.tensor([10, 30]), alike, "residual")
    # layer 1 is used for 5 of 40 read tokens and for none of 2 written ones; layer 0 for all
    assert methods["random by layer"].rate_pp == pytest.approx((0.0, 35 / 40))
    assert methods["random by layer"].rate_rg == pytest.approx((0.0, 1.0))
    assert methods["random"].rate_pp == pytest.approx(35 / 80)
    assert methods["random"].rate_rg == pytest.approx(0.5)
    assert methods["cosine"].threshold == pytest.approx(1 - 37 / 84)
    assert {m.skip for m in methods.values()} == {"residual"}
