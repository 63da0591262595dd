"""Masked diffusion models: attention to both sides, partial passes, and folders of three kinds."""

from __future__ import annotations

import json

import pytest
import torch
from models_checkpoints import build_tokenizer
from models_diffusion import build_diffusion, write_folder
from transformers import AutoModel

from dovetail.core import BadData, Limits, Unsupported
from dovetail.decoding import DelayedKVCache, Diffusion, Greedy
from dovetail.models import load
from dovetail.models.masked_diffusion import KeyValues, MaskedDiffusionLM


@pytest.fixture(scope="module")
def network():
    return build_diffusion().double()


def random_ids(rows, columns, seed=0):
    return torch.randint(0, 94, (rows, columns), generator=torch.Generator().manual_seed(seed))


def test_every_position_sees_both_sides(network):
    ids = random_ids(1, 9)
    changed = ids.clone()
    changed[0, 4] = (changed[0, 4] + 1) % 94
    with torch.inference_mode():
        moved = (network(ids) - network(changed)).abs().amax(-1)[0]
    assert (moved > 1e-6).all()


def test_some_positions_computed_again_are_the_whole_pass():
    """True positions, and keys and values of all columns: any part gives what the whole pass gives."""
    ids, some = random_ids(3, 20), _some_columns()
    positions = torch.arange(20) + torch.tensor([[0], [4], [9]])
    for layers, before in ((2, ids), (1, ids.scatter(1, some, random_ids(3, 13, seed=5)))):
        # with one layer even another past of the computed columns is forgotten
        network = build_diffusion(num_hidden_layers=layers).double()
        with torch.inference_mode():
            cache = KeyValues(3, 20)
            network(before, positions, cache)
            part = network(ids.gather(1, some), positions.gather(1, some), cache, columns=some)
            whole = network(ids, positions).gather(1, some[..., None].expand(-1, -1, 100))
        assert torch.allclose(part, whole, atol=1e-9)


def _some_columns():
    """[3, 13] columns, others in every row."""
    rng = torch.Generator().manual_seed(1)
    return torch.stack([torch.randperm(20, generator=rng)[:13].sort().values for _ in range(3)])


def test_rows_of_a_cache_can_be_taken_out(network):
    ids, some = random_ids(3, 20), _some_columns()
    left = torch.tensor([2, 0])
    with torch.inference_mode():
        cache = KeyValues(3, 20)
        network(ids, kv_cache=cache)
        part = network(ids.gather(1, some)[left], kv_cache=cache.select(left), columns=some[left])
        whole = network(ids, kv_cache=cache)[left].gather(1, some[left][..., None].expand(-1, -1, 100))
    assert torch.allclose(part, whole, atol=1e-9)


def test_padding_changes_nothing(network):
    ids = random_ids(1, 8)
    padded = torch.cat([torch.zeros(1, 3, dtype=torch.int64), ids], 1)
    real = torch.arange(11)[None] >= 3
    with torch.inference_mode():
        plain = network(ids)
        left = network(padded, (torch.arange(11)[None] - 3).clamp(min=0), attention_mask=real)
    assert torch.allclose(plain, left[:, 3:], atol=1e-9)


def test_only_wanted_logits(network):
    ids, wanted = random_ids(2, 8), torch.tensor([[1, 5], [0, 7]])
    triangle = torch.ones(8, 8, dtype=torch.bool).tril().expand(2, -1, -1)
    for mask in (None, triangle):
        caches = network.cache(2, 8), network.cache(2, 8)
        with torch.inference_mode():
            some = network(ids, kv_cache=caches[0], attention_mask=mask, wanted=wanted)
            all_ = network(ids, kv_cache=caches[1], attention_mask=mask)
        assert torch.allclose(some, all_.gather(1, wanted[..., None].expand(-1, -1, 100)), atol=1e-5)
        # keys and values are kept of every position
        for kept, whole in zip(caches[0].layers, caches[1].layers, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(kept, whole, strict=True))


def test_saved_and_loaded(tmp_path):
    network = build_diffusion(tie_word_embeddings=True, logit_shift=1, canvas_length=32)
    network.save_pretrained(tmp_path)
    ids = random_ids(2, 8)
    for cls in (MaskedDiffusionLM, AutoModel):
        again = cls.from_pretrained(tmp_path)
        assert isinstance(again, MaskedDiffusionLM)
        assert (again.config.logit_shift, again.config.canvas_length, again.config.mask_token_id) == (
            1,
            32,
            97,
        )
        assert again.lm_head.weight is again.model.embed_tokens.weight
        with torch.inference_mode():
            assert torch.equal(network(ids), again(ids))


@pytest.mark.parametrize("kind", ["own", "llada", "Dream"])
def test_folders_load_by_name_and_write(kind, tmp_path):
    features = {
        "own": {"qk_norm": True},
        "llada": {"qk_norm": False},
        "Dream": {"qk_norm": False, "qkv_bias": True},
    }
    shift = int(kind == "Dream")
    network = build_diffusion(
        vocab_size=400, mask_token_id=399, eos_token_id=2, logit_shift=shift, **features[kind]
    )
    folder, tokenizer = tmp_path / kind, build_tokenizer()
    if kind == "own":
        network.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    else:
        write_folder(folder, kind, network, tokenizer)
    model = load(str(folder), device="cpu")
    ids = random_ids(2, 12)
    with torch.inference_mode():
        assert torch.allclose(model.network(ids), network(ids), atol=1e-6)
    config = model.network.config
    assert (config.mask_token_id, config.logit_shift, config.eos_token_id) == (399, shift, 2)
    assert model.provides == {"diffusion"}
    for decoding in (Diffusion(), DelayedKVCache()):
        completion = model.complete("What is 1 + 1?", decoding, Limits(16))
        assert 1 <= len(completion.token_ids) <= 16
    assert model.complete("What is 1 + 1?", limits=Limits(16)).token_ids  # the plain sampler is the default
    with pytest.raises(Unsupported, match="it is a masked diffusion model"):
        model.complete("What is 1 + 1?", Greedy(), Limits(16))
    assert model.describe()["class"] == "MaskedDiffusionLM"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda c: c.pop("d_model"), BadData, "lacks 'd_model'"),
        (
            lambda c: c.update(mlp_hidden_size=64),
            BadData,
            "has other sizes of weights: model.layers.0.mlp.down",
        ),
        (lambda c: c.update(n_layers=3), BadData, "lacks weights: model.layers.2"),
        (lambda c: c.update(n_layers=1), BadData, "has unknown weights: model.layers.1"),
        (lambda c: c.update(block_type="sequential"), Unsupported, "only Llama's blocks"),
    ],
)
def test_damaged_folders_say_what_is_wrong(change, error, message, tmp_path):
    network = build_diffusion(vocab_size=400, qk_norm=False)
    folder = write_folder(tmp_path / "llada", "llada", network, build_tokenizer())
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(error, match=message):
        load(str(folder), device="cpu")
