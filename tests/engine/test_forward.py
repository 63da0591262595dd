"""Both forwards against transformers' own, whatever happens to the cache."""

from __future__ import annotations

import pytest
import torch

from dovetail.core import Unsupported
from dovetail.engine import LeanForward, TransformersForward

LEAN = ["llama", "qwen2", "qwen3", "mistral"]
PATHS = [(LeanForward, f) for f in LEAN] + [
    (TransformersForward, f) for f in ["qwen3", "mistral", "mistral-window", "gpt-neox", "gpt2", "gemma2"]
]
LENGTHS = (8, 11, 12)


@pytest.fixture(scope="module", params=PATHS, ids=lambda p: f"{p[0].__name__}-{p[1]}")
def path(request, tiny_network):
    forward, family = request.param
    network = tiny_network(family)
    ids = torch.randint(0, 94, (3, 24), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = network(ids).logits
    return forward(network), ids, expected


def prefill(forward, ids, **options):
    """Rows of 8, 11 and 12 tokens, padded on the left."""
    cache = forward.cache(3)
    padded = torch.zeros(3, 12, dtype=torch.int64)
    for row, n in enumerate(LENGTHS):
        padded[row, 12 - n :] = ids[row, :n]
    valid = torch.arange(12) >= 12 - torch.tensor(LENGTHS)[:, None]
    with torch.no_grad():
        out = forward(cache, padded, valid=valid, **options)
    return cache, out


def close(actual, expected):
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=0)


def test_ragged_prefill(path):
    forward, ids, expected = path
    cache, out = prefill(forward, ids, all_logits=True)
    for row, n in enumerate(LENGTHS):
        close(out.logits[row, 12 - n :], expected[row, :n])
    assert cache.positions.tolist() == list(LENGTHS)
    assert cache.holes


@torch.no_grad()
def test_single_steps_and_several_at_once(path):
    forward, ids, expected = path
    cache, _ = prefill(forward, ids)
    for step in range(3):
        tokens = torch.stack([ids[row, n + step] for row, n in enumerate(LENGTHS)])[:, None]
        logits = forward(cache, tokens).logits
        close(logits, torch.stack([expected[row, n + step] for row, n in enumerate(LENGTHS)]))
    tokens = torch.stack([ids[row, n + 3 : n + 6] for row, n in enumerate(LENGTHS)])
    logits = forward(cache, tokens, all_logits=True).logits
    close(logits, torch.stack([expected[row, n + 3 : n + 6] for row, n in enumerate(LENGTHS)]))


@torch.no_grad()
def test_embeddings_in_place_of_ids(path):
    forward, ids, expected = path
    cache, _ = prefill(forward, ids)
    tokens = torch.stack([ids[row, n] for row, n in enumerate(LENGTHS)])[:, None]
    one_hot = torch.tensor([[0.0, 1.0]] * 3)
    mixed = forward.mix(one_hot, torch.cat([torch.zeros_like(tokens), tokens], 1))
    logits = forward(cache, embeds=mixed).logits
    close(logits, torch.stack([expected[row, n] for row, n in enumerate(LENGTHS)]))


@torch.no_grad()
def test_crop_fork_and_reorder(path):
    forward, ids, expected = path
    cache, _ = prefill(forward, ids)
    keep = torch.tensor([7, 11, 5])  # forget one token, none, and seven
    cache.crop(keep)
    cache = cache.select(torch.tensor([2, 0, 1, 0]))
    assert cache.positions.tolist() == [5, 7, 11, 7]
    tokens = torch.stack([ids[2, 5:8], ids[0, 7:10], ids[1, 11:14], ids[0, 7:10]])
    logits = forward(cache, tokens, all_logits=True).logits
    close(logits, torch.stack([expected[2, 5:8], expected[0, 7:10], expected[1, 11:14], expected[0, 7:10]]))


@torch.no_grad()
@pytest.mark.parametrize("rows", [1, 3])
def test_rejected_drafts_are_retracted(path, rows):
    """Four tokens are read, and each row keeps some of them: what follows is as if the rest never was."""
    forward, ids, expected = path
    cache = forward.cache(rows)
    forward(cache, ids[:rows, :8])
    drafted = ids[:rows, 8:12].clone()
    kept = torch.tensor([2, 0, 3])[:rows]
    for row, n in enumerate(kept.tolist()):
        drafted[row, n:] = (drafted[row, n:] + 7) % 94  # wrong ones
    forward(cache, drafted)
    lengths = 8 + kept
    cache.retract(4, lengths, int(kept.max()))
    assert cache.used == 8 + int(kept.max())
    assert cache.positions.tolist() == lengths.tolist()
    assert cache.holes == (rows > 1)
    for row, n in enumerate(lengths.tolist()):
        assert cache.where[row, : cache.used].tolist() == [*range(n), *[-1] * (cache.used - n)]
    for step in range(3):
        tokens = torch.stack([ids[row, n + step] for row, n in enumerate(lengths.tolist())])[:, None]
        logits = forward(cache, tokens).logits
        close(logits, torch.stack([expected[row, n + step] for row, n in enumerate(lengths.tolist())]))
    cache.retract(3, cache.positions, 3)  # all accepted: nothing is lost
    close(forward(cache, ids[:rows, 20:21]).logits, forward_again(forward, cache, ids[:rows, 20:21]))


def forward_again(forward, cache, tokens):
    """The logits of the last tokens, read once more."""
    cache.crop(cache.positions - tokens.shape[1])
    return forward(cache, tokens).logits


@torch.no_grad()
@pytest.mark.parametrize("staying", [[0, 2], [1, 2], [0, 1, 2], [1]])
def test_rows_leave_in_place(path, staying):
    forward, ids, expected = path
    cache, _ = prefill(forward, ids)
    order = cache.leave(torch.tensor(staying)).tolist()
    assert sorted(order) == staying
    assert cache.rows == len(staying)
    for step in range(2):
        tokens = torch.stack([ids[row, LENGTHS[row] + step] for row in order])[:, None]
        logits = forward(cache, tokens).logits
        close(logits, torch.stack([expected[row, LENGTHS[row] + step] for row in order]))
    cache.crop(cache.positions - 1)
    close(forward(cache, tokens).logits, logits)


@torch.no_grad()
@pytest.mark.parametrize("late", [4, 20])
def test_rows_join(path, late):
    forward, ids, expected = path
    cache, _ = prefill(forward, ids)
    other = forward.cache(1)
    forward(other, ids[2:3, :late])
    third = forward.cache(1)
    forward(third, ids[0:1, :2])
    joined = cache.join(other, third)
    tokens = torch.stack([ids[0, 8], ids[1, 11], ids[2, 12], ids[2, late], ids[0, 2]])[:, None]
    logits = forward(joined, tokens).logits
    rows = [expected[0, 8], expected[1, 11], expected[2, 12], expected[2, late], expected[0, 2]]
    close(logits, torch.stack(rows))


@torch.no_grad()
def test_layers_are_seen_and_replaced(path):
    forward, ids, expected = path
    seen = []

    def watch(layer, before, after):
        seen.append((layer, before.shape, after.shape))
        return after

    _, out = prefill(forward, ids, hook=watch, hidden=True)
    assert [s[0] for s in seen] == list(range(forward.layers))
    assert seen[0][1] == seen[0][2] == out.hidden.shape == (3, 12, forward.hidden_size)
    close(out.logits, torch.stack([expected[row, n - 1] for row, n in enumerate(LENGTHS)]))
    _, skipped = prefill(forward, ids, hook=lambda layer, before, after: before)
    assert not torch.allclose(skipped.logits, out.logits, atol=1e-2)


@torch.no_grad()
def test_many_steps_grow_the_cache(path):
    forward, ids, _ = path
    cache, _ = prefill(forward, ids)
    for _ in range(90):
        logits = forward(cache, torch.ones(3, 1, dtype=torch.int64)).logits
    text = torch.cat([ids[1, :11], torch.ones(90, dtype=torch.int64)])[None]
    close(logits[1], forward.network(text).logits[0, -1])


@torch.no_grad()
@pytest.mark.parametrize("network_sizes", [{}, {"small._WORTH_SHARING": 1}], ids=["apart", "shared"])
def test_forks_share_what_they_have_in_common(path, network_sizes, monkeypatch):
    """Rows come and go and their common columns mean the same; a shorter cache shares less."""
    for name, value in network_sizes.items():
        monkeypatch.setattr(f"dovetail.engine.{name}", value)
    forward, ids, _ = path

    def check(cache, texts):
        """Every row reads its next token as the network reads the row's whole text."""
        tokens = torch.tensor([text[-1:] for text in texts])
        expected = [forward.network(torch.tensor([text])).logits[0, -1] for text in texts]
        close(forward(cache, tokens).logits, torch.stack(expected))

    prompt = ids[0, :9].tolist()
    cache = forward.cache(1)
    forward(cache, ids[:1, :9])
    cache = cache.fork(4)
    assert cache.shared == 9
    texts = [[*prompt, 5 + row] for row in range(4)]
    check(cache, texts)
    cache, texts = cache.select(torch.tensor([3, 1, 1])), [[*texts[row], 50 + row] for row in (3, 1, 1)]
    check(cache, texts)
    other = forward.cache(1)
    forward(other, ids[1:2, :7])
    joined, both = cache.join(other), [[*text, 60] for text in texts] + [[*ids[1, :7].tolist(), 61]]
    assert joined.shared == 0
    check(joined, both)
    order = cache.leave(torch.tensor([0, 2])).tolist()
    texts = [[*texts[row], 70 + row] for row in order]
    assert cache.shared == 9
    check(cache, texts)
    cache.crop(torch.tensor([6, 8]))  # into what was shared: what is written next differs
    assert cache.shared == 8
    texts = [[*prompt[:6], 80], [*prompt[:8], 81]]
    check(cache, texts)
    cache.crop(torch.tensor([5, 5]))
    assert cache.shared == 5
    check(cache, [[*prompt[:5], 82], [*prompt[:5], 83]])


def test_the_right_forward_is_chosen(tiny_network):
    assert all(LeanForward.supports(tiny_network(f)) for f in LEAN)
    assert not any(LeanForward.supports(tiny_network(f)) for f in ["mistral-window", "gpt-neox", "gemma2"])
    dynamic = tiny_network(
        "llama", rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    )
    assert not LeanForward.supports(dynamic)


@torch.no_grad()
def test_lean_shares_the_networks_memory(tiny_network, tmp_path):
    network = tiny_network("qwen3")
    forward = LeanForward(network)
    ids = torch.arange(9)[None]
    for change in (
        lambda: network.model.layers[0].self_attn.k_proj.weight.mul_(1.5),  # an optimizer's step
        lambda: network.model.layers[1].self_attn.q_norm.weight.add_(0.3),
        lambda: network.load_state_dict(tiny_network("qwen3", seed=3).state_dict()),
        lambda: network.double(),  # moves every weight
    ):
        change()
        forward.refresh()
        # transformers' norms are in float32 even where the weights are in float64
        close(forward(forward.cache(1), ids).logits[0], network(ids).logits[0, -1])
    network.save_pretrained(tmp_path)
    again = type(network).from_pretrained(tmp_path, dtype=torch.float64)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))


@torch.no_grad()
def test_lean_calls_modules_that_are_no_plain_linear(tiny_network):
    class Shifted(torch.nn.Linear):  # what an adapter looks like from outside
        def forward(self, x):
            return super().forward(x) + 0.1

    network = tiny_network("qwen3")
    for layer in network.model.layers:
        for owner, name in (
            (layer.self_attn, "q_proj"),
            (layer.self_attn, "o_proj"),
            (layer.mlp, "down_proj"),
        ):
            plain = getattr(owner, name)
            shifted = Shifted(plain.in_features, plain.out_features, bias=False)
            shifted.load_state_dict(plain.state_dict())
            setattr(owner, name, shifted)
    forward, ids = LeanForward(network), torch.arange(9)[None]
    close(forward(forward.cache(1), ids).logits[0], network(ids).logits[0, -1])


def test_recurrent_networks_are_refused():
    from transformers import MambaConfig, MambaForCausalLM

    config = MambaConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, state_size=4)
    with pytest.raises(Unsupported, match="MambaForCausalLM keeps a recurrent state"):
        TransformersForward(MambaForCausalLM(config))


@torch.no_grad()
@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
@pytest.mark.parametrize(
    "limits",
    [
        {"lean._SMALL_PASS": 0},
        {"lean._SMALL_PASS": 0, "elementwise._SMALL": 0},
        {"lean._SMALL_PASS": 0, "elementwise._SMALL": 0, "lean._FEW": 0},
        {"lean._SMALL_PASS": 1000},
        {"lean._SMALL_PASS": 1000, "small._VECTORS": True, "small._TINY": 100, "small._NARROW": 50},
        {"lean._SMALL_PASS": 1000, "small._VECTORS": False},
        {"lean._SMALL_PASS": 1000, "small._LIGHT": 0},
    ],
    ids=lambda limits: "+".join(f"{name}={value}" for name, value in limits.items()),
)
def test_every_size_computes_the_same(family, limits, tiny_network, monkeypatch):
    """What is chosen by size (numpy or torch, fused attention or products) does not show in the results."""
    network = tiny_network(family)
    ids = torch.randint(0, 94, (3, 24), generator=torch.Generator().manual_seed(1))
    expected = network(ids).logits
    for name, value in limits.items():
        monkeypatch.setattr(f"dovetail.engine.{name}", value)
    forward = LeanForward(network)
    cache, out = prefill(forward, ids, all_logits=True)
    for row, n in enumerate(LENGTHS):
        close(out.logits[row, 12 - n :], expected[row, :n])
    embeds = forward.embed(torch.stack([ids[row, n] for row, n in enumerate(LENGTHS)])[:, None])
    kept = embeds.clone()
    logits = forward(cache, embeds=embeds).logits
    assert torch.equal(embeds, kept), "the caller's embeddings were written over"
    close(logits, torch.stack([expected[row, n] for row, n in enumerate(LENGTHS)]))
    tokens = torch.stack([ids[row, n + 1 : n + 4] for row, n in enumerate(LENGTHS)])
    logits = forward(cache, tokens, all_logits=True).logits
    close(logits, torch.stack([expected[row, n + 1 : n + 4] for row, n in enumerate(LENGTHS)]))
    whole = forward.cache(3)
    close(forward(whole, ids).logits, expected[:, -1])


@torch.no_grad()
def test_half_precision_stays_close(tiny_network):
    network = tiny_network("qwen3")
    ids = torch.arange(9)[None]
    exact = network(ids).logits[0, -1]
    network.to(torch.bfloat16)
    forward = LeanForward(network)
    cache = forward.cache(1)
    forward(cache, ids[:, :8])
    logits = forward(cache, ids[:, 8:]).logits[0].float()
    theirs = network(ids).logits[0, -1].float()
    error, usual = (logits - exact).abs().max(), (theirs - exact).abs().max()
    assert float(error) < 3 * float(usual), "further off than transformers in bfloat16"
