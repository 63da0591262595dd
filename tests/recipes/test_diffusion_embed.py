"""What the recipe's comparison rests on: equal sizes, equal texts, losses that see no padding."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from dovetail.recipes import diffusion_embed as recipe
from dovetail.recipes.diffusion_embed import SIZES, pretrained, tokenizer, triples
from dovetail.tasks.portraits import Portraits

SHAPE = SIZES["smoke"].shape


@pytest.fixture(scope="module")
def words() -> Any:
    return tokenizer()


def test_backbones_are_of_one_size(words: Any) -> None:
    kinds = ("diffusion", "causal", "untrained")
    shapes = [
        sorted((name, tuple(p.shape)) for name, p in recipe._new(kind, SHAPE, words, 0).named_parameters())
        for kind in kinds
    ]
    assert shapes[0] == shapes[1] == shapes[2]


def test_losses_do_not_see_padding_and_start_at_the_vocabulary(words: Any) -> None:
    ids, real = recipe._padded(
        words, ["The home is Bado.", "The boss is Mira. The home is Bado."], torch.device("cpu")
    )
    assert not bool(real.all())
    other = ids.masked_fill(~real, 7)
    for kind, loss in (("diffusion", recipe._masked_loss), ("causal", recipe._next_token_loss)):
        network = recipe._new(kind, SHAPE, words, 0)
        with torch.no_grad():
            values = [loss(network, each, real, np.random.default_rng(3)).item() for each in (ids, other)]
        assert values[0] == pytest.approx(values[1], abs=1e-6)
        assert values[0] == pytest.approx(math.log(len(words)), rel=0.1)


def test_equal_seeds_train_equally(words: Any) -> None:
    world = Portraits(1)
    made = [
        pretrained("diffusion", world, SIZES["smoke"], words, seed, torch.device("cpu")).lm_head.weight
        for seed in (1, 1, 2)
    ]
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_triples_are_of_all_sets() -> None:
    world = Portraits(1)
    made = triples(world, 60, 0)
    assert sum("not" in t.query.split() for t in made) == 15
    assert sum(len(t.positive.split()) > 60 for t in made) == 15
    assert sum(t.topic in world.seen for t in made) == 15


def test_claims_follow_from_the_scores() -> None:
    arms = [*recipe.ARMS, "diffusion, causal at test", "causal, mask opened, causal at test"]
    better = {"diffusion": 0.9, "causal, mask opened, causal at test": 0.5, "untrained": 0.1}
    scores = {
        arm: {kind: [better.get(arm, 0.6 if "at test" not in arm else 0.2)] * 40 for kind in recipe.SETS}
        for arm in arms
    }
    verdicts = [claim.verdict for claim in recipe._claims(scores, 0)]
    assert verdicts == ["holds", "holds", "fails", "holds", "holds", "holds", "holds"]
    scores["diffusion"] = scores["untrained"]
    assert recipe._claims(scores, 0)[0].verdict == "fails"
