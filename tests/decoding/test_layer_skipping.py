"""LAC against a slow token-by-token computation; the spec's invariants; planted Voids; both paths."""

from __future__ import annotations

import math

import pytest
import torch

from dovetail.core import InvalidValue, Limits
from dovetail.decoding import CosineSkipping, Greedy, L2AdaptiveComputation, RandomSkipping, chain
from dovetail.decoding.layer_skipping import lac_trace, layer_states, layer_usage
from dovetail.engine import Engine, LeanForward, Rows, TransformersForward

LAYERS = 6


@pytest.fixture(scope="module")
def deep(tiny_network, tiny_tokenizer):
    """An engine over six layers: room for Voids beyond the first two."""
    network = tiny_network("qwen3", num_hidden_layers=LAYERS).double()
    return Engine(network, tiny_tokenizer, name="deep")


@pytest.fixture(scope="module", params=["qwen3", "gemma2"])
def either(request, deep, tiny_network, tiny_tokenizer):
    """The lean and the fallback path."""
    if request.param == "qwen3":
        return deep
    return Engine(tiny_network("gemma2", num_hidden_layers=LAYERS).double(), tiny_tokenizer)


def states(seed=0, layers=LAYERS, rows=3, tokens=7):
    rng = torch.Generator().manual_seed(seed)
    steps = torch.randn(layers + 1, rows, tokens, 8, generator=rng, dtype=torch.float64)
    return steps.cumsum(0)


def slow(hidden, alpha):
    """The spec's steps 1 to 3, one token at a time."""
    active = torch.zeros(hidden.shape[0] - 1, *hidden.shape[1:3], dtype=torch.bool)
    for row in range(hidden.shape[1]):
        for token in range(hidden.shape[2]):
            seen = []
            for layer in range(hidden.shape[0] - 1):
                after, before = hidden[layer + 1, row, token].tolist(), hidden[layer, row, token].tolist()
                delta = math.sqrt(sum(x * x for x in after)) - math.sqrt(sum(x * x for x in before))
                threshold = alpha * (max(seen) - min(seen)) if seen else 0.0
                active[layer, row, token] = delta >= threshold
                seen.append(delta)
    return active


def greedy(method):
    return chain([method, Greedy()])


def ids(completions):
    return [c.token_ids for c in completions]


# --- the rule ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.8, 1.0])
def test_equals_the_slow_computation(alpha):
    hidden = states()
    assert torch.equal(lac_trace(hidden, alpha).active, slow(hidden, alpha))


def test_by_hand():
    # one dimension: norms 1, 4, 6, 7, 6.5, 10 -> changes 3, 2, 1, -0.5, 3.5
    hidden = torch.tensor([1.0, -4.0, 6.0, 7.0, -6.5, 10.0]).view(6, 1, 1, 1)
    trace = lac_trace(hidden, 0.5)
    assert trace.norms.flatten().tolist() == [4, 6, 7, 6.5, 10]
    assert trace.deltas.flatten().tolist() == [3, 2, 1, -0.5, 3.5]
    # ranges of earlier changes: -, 0, 3-2, 3-1, 3+0.5
    assert trace.thresholds.flatten().tolist() == [0, 0, 0.5, 1.0, 1.75]
    assert trace.active.flatten().tolist() == [True, True, True, False, True]
    assert layer_usage(trace.active) == 0.8
    # a change that equals the threshold is active: 1 >= 1 * (3 - 2)
    assert lac_trace(hidden, 1.0).active.flatten().tolist() == [True, True, True, False, True]


def test_invariants():
    hidden = states(1, rows=20)
    usages = []
    for alpha in (0.0, 0.2, 0.5, 0.8, 1.0):
        trace = lac_trace(hidden, alpha)
        usages.append(layer_usage(trace.active))
        assert torch.equal(lac_trace(hidden * 7.5, alpha).active, trace.active), "scale changes nothing"
        assert torch.equal(trace.active[0], trace.deltas[0] >= 0)
        alone = torch.cat([lac_trace(hidden[:, :, [i]], alpha).active for i in range(7)], 2)
        assert torch.equal(alone, trace.active), "tokens do not depend on each other"
    assert usages == sorted(usages, reverse=True)
    assert usages[0] > usages[-1]
    zero = lac_trace(hidden, 0.0)
    assert torch.equal(zero.active, zero.deltas >= 0)
    assert not zero.thresholds.any()


def test_usage_leaves_padding_out():
    active = torch.tensor([[[True, False, True]], [[True, False, False]]])
    assert layer_usage(active) == 0.5
    assert layer_usage(active, torch.tensor([[False, True, True]])) == 0.25


@pytest.mark.parametrize(
    ("hidden", "message"),
    [
        (torch.zeros(1, 2, 3, 4), r"hidden_states is .*\(1, 2, 3, 4\)"),
        (torch.zeros(3, 2, 4), "hidden_states"),
        (torch.full((3, 1, 1, 2), torch.nan), "NaN or infinity"),
        (torch.full((3, 1, 1, 2), torch.inf), "NaN or infinity"),
    ],
)
def test_impossible_states_are_named(hidden, message):
    with pytest.raises(InvalidValue, match=message):
        lac_trace(hidden)


# --- the decoding -----------------------------------------------------------------------------------


def test_counting_changes_nothing(either, tiny_prompts):
    prompts = tiny_prompts(6)
    plain = either.generate(prompts, Limits(12, logprobs=True))
    counted = greedy(L2AdaptiveComputation(skip=None)).generate(either, prompts, Limits(12, logprobs=True))
    assert ids(counted) == ids(plain)
    assert [c.logprobs for c in counted] == [c.logprobs for c in plain], "bit for bit"


@pytest.mark.parametrize("skip", [None, "readout"])
def test_reported_usage_is_the_traces(either, skip, tiny_prompts):
    """With the cache, token by token, in ragged batches that rows leave: as over the whole text at once."""
    prompts = tiny_prompts(7)
    engine = Engine(either.network, either.tokenizer, max_rows=3)
    for prompt, c in zip(
        prompts, L2AdaptiveComputation(skip=skip).generate(engine, prompts, Limits(9)), strict=True
    ):
        text = torch.tensor([[*prompt.ids, *c.token_ids[:-1]]])
        active = lac_trace(layer_states(engine.forward, text), 0.8).active[:, 0]
        read, written = active[:, : len(prompt.ids)], active[:, len(prompt.ids) :]
        assert c.columns["layers_pp"] == pytest.approx(read.double().mean(1).tolist())
        assert c.columns["usage_pp"] == pytest.approx(layer_usage(read[:, None]))
        if len(c.token_ids) == 1:
            assert c.columns["usage_rg"] is None
            assert c.columns["layers_rg"] is None
        else:
            assert c.columns["layers_rg"] == pytest.approx(written.double().mean(1).tolist())
            assert c.columns["usage_rg"] == pytest.approx(layer_usage(written[:, None]))


def run(engine, method, tokens=None):
    """Logits [1, T, V] of one pass under a method's hook, and the rows."""
    text = torch.arange(5, 17)[None] if tokens is None else tokens
    n = len(text)
    rows = Rows(torch.arange(n), torch.zeros(n, dtype=torch.int64), torch.ones(n, dtype=torch.int64),
                torch.ones(n, dtype=torch.bool))  # fmt: skip
    forward = engine.forward
    with torch.inference_mode():
        hook = method.hook(rows, forward.layers, None)
        return forward(forward.cache(n), text, all_logits=True, hook=hook).logits, rows


def head(engine, states):
    """Logits of hidden states that skip what is left of the network."""
    network = engine.network
    logits = network.lm_head(network.model.norm(states))
    cap = getattr(network.config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_readout_reads_the_last_active_layer(either, alpha):
    text = torch.arange(5, 17)[None]
    hidden = layer_states(either.forward, text)
    active = lac_trace(hidden, alpha).active[:, 0]  # [L, T]
    logits, _ = run(either, L2AdaptiveComputation(alpha=alpha))
    for token in range(text.shape[1]):
        last = max((layer + 1 for layer in range(LAYERS) if active[layer, token]), default=0)
        with torch.no_grad():
            expected = head(either, hidden[last, 0, token])
        torch.testing.assert_close(logits[0, token], expected)


def test_the_two_ends_of_a_readout(either):
    """All layers active: the plain network; none: the head on the embedding."""
    text = torch.arange(5, 17)[None]
    with torch.inference_mode():
        plain = either.forward(either.forward.cache(1), text, all_logits=True).logits
    everything, _ = run(either, RandomSkipping(rate_pp=0.0))
    torch.testing.assert_close(everything, plain)
    with torch.inference_mode():
        expected = head(either, either.forward.embed(text))
    for skip in ("readout", "residual"):
        nothing, _ = run(either, RandomSkipping(rate_pp=1.0, skip=skip))
        torch.testing.assert_close(nothing, expected)


def test_residual_passes_on_the_input_of_a_skipped_layer(either):
    """By layers that do nothing: rates of 1 in the middle are the network without those layers."""
    rates = (0.0, 0.0, 1.0, 0.0, 1.0, 0.0)
    logits, rows = run(either, RandomSkipping(rate_pp=rates, skip="residual"))
    assert rows.state["lac.pp"].tolist() == [[12, 12, 0, 12, 0, 12]]
    blocks = either.network.model.layers
    saved = [
        (p, p.detach().clone())
        for layer in (2, 4)
        for name, p in blocks[layer].named_parameters()
        if name.endswith(("o_proj.weight", "down_proj.weight"))
    ]
    try:
        with torch.no_grad():
            for parameter, _ in saved:
                parameter.zero_()
            removed = either.network(torch.arange(5, 17)[None]).logits
    finally:
        with torch.no_grad():
            for parameter, value in saved:
                parameter.copy_(value)
    torch.testing.assert_close(logits, removed, atol=1e-5, rtol=0)  # lean: cosines in float32


def test_residual_judges_what_is_really_passed_on(deep):
    """The change of a layer is taken from its own input: after a skipped layer that is the older state."""
    method = L2AdaptiveComputation(alpha=0.6, skip="residual")
    seen = []
    text = torch.arange(5, 17)[None]
    rows = Rows(torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), torch.ones(1),
                torch.ones(1, dtype=torch.bool))  # fmt: skip
    hook = method.hook(rows, LAYERS, None)

    def watch(layer, before, after):
        passed = hook(layer, before, after)
        seen.append((before[0].norm(dim=-1), after[0].norm(dim=-1), (passed == after).all(-1)[0]))
        return passed

    with torch.inference_mode():
        deep.forward(deep.forward.cache(1), text, hook=watch)
    deltas = torch.stack([after - before for before, after, _ in seen])
    active = torch.stack([a for _, _, a in seen])
    for layer in range(LAYERS):
        earlier = deltas[:layer]
        threshold = 0.6 * (earlier.amax(0) - earlier.amin(0)) if layer else torch.zeros(12)
        assert torch.equal(active[layer], deltas[layer] >= threshold)
    assert not active.all(), "the example has no Voids"
    assert torch.equal(rows.state["lac.pp"][0], active.sum(1))


def test_phases(deep, tiny_prompts):
    """Skipping only while reading leaves every later pass alone, and the other way round."""
    prompts = tiny_prompts(8)
    plain = deep.generate(prompts, Limits(8))
    written = {
        phases: ids(greedy(RandomSkipping(phases=phases)).generate(deep, prompts, Limits(8)))
        for phases in ("pp", "rg", "both")
    }
    assert [t[0] for t in written["rg"]] == [c.token_ids[0] for c in plain], "the prompt was read in full"
    assert [t[0] for t in written["pp"]] != [c.token_ids[0] for c in plain]
    assert [t[0] for t in written["pp"]] == [t[0] for t in written["both"]]
    assert written["rg"] != ids(plain)
    assert written["pp"] != written["both"]


def planted(tiny_network, strength, at=(2, 4, 6)):
    """Nine layers; those at ``at`` write ``strength`` times what they would."""
    network = tiny_network("qwen3", num_hidden_layers=9).double()
    with torch.no_grad():
        for layer in at:
            network.model.layers[layer].self_attn.o_proj.weight.mul_(strength)
            network.model.layers[layer].mlp.down_proj.weight.mul_(strength)
    return network


@pytest.mark.parametrize("path", [LeanForward, TransformersForward])
@pytest.mark.parametrize(("strength", "alpha"), [(0.0, 0.001), (0.0, 0.8), (0.01, 0.8)])
def test_planted_voids_are_found(path, strength, alpha, tiny_network):
    forward = path(planted(tiny_network, strength))
    text = torch.randint(0, 94, (4, 20), generator=torch.Generator().manual_seed(2))
    found = ~lac_trace(layer_states(forward, text), alpha).active[[2, 4, 6]]
    assert found.double().mean() >= 0.95
    # at layers 0 and 1 the threshold is 0, and a change of 0 is not below it
    early = path(planted(tiny_network, 0.0, at=(0, 1)))
    assert lac_trace(layer_states(early, text), alpha).active[:2].all()


def test_planted_voids_are_skipped_without_loss(tiny_network, tiny_tokenizer):
    """Both ways of skipping leave the logits as they are where all that is skipped are layers of zeros."""
    engine = Engine(planted(tiny_network, 0.0), tiny_tokenizer)
    text = torch.randint(0, 94, (2, 20), generator=torch.Generator().manual_seed(2))
    zeros = tuple(float(layer in (2, 4, 6)) for layer in range(9))
    with torch.inference_mode():
        plain = engine.forward(engine.forward.cache(2), text, all_logits=True).logits
    for skip in ("readout", "residual"):
        logits, _ = run(engine, RandomSkipping(rate_pp=zeros, skip=skip), text)
        torch.testing.assert_close(logits, plain)
        some, _ = run(engine, RandomSkipping(rate_pp=1 / 3, skip=skip), text)
        assert (some - plain).abs().max() > 0.1


# --- baselines --------------------------------------------------------------------------------------


def test_cosine_similarity_by_hand():
    method = CosineSkipping(threshold=0.8)
    before = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]])
    after = torch.tensor([[[5.0, 0.0], [4.0, 3.1], [-1.0, 0.0]]])  # similarities 1, 0.79, -1
    judge = method.judge(None, 1, None)
    assert judge(0, before, after).tolist() == [[False, True, True]]


def test_random_skipping_keeps_its_rates(deep, tiny_prompts):
    rates = (0.0, 0.1, 0.3, 0.5, 0.8, 1.0)
    method = RandomSkipping(rate_pp=rates, rate_rg=0.25, skip=None)
    written = method.generate(deep, tiny_prompts(60), Limits(20))
    read = torch.tensor([c.columns["layers_pp"] for c in written]).mean(0)
    torch.testing.assert_close(read, 1 - torch.tensor(rates), atol=0.08, rtol=0)
    assert read[0] == 1
    assert read[5] == 0
    lengths = torch.tensor([len(c.token_ids) - 1 for c in written if c.columns["usage_rg"] is not None])
    usage = torch.tensor([c.columns["usage_rg"] for c in written if c.columns["usage_rg"] is not None])
    assert abs(float((usage * lengths).sum() / lengths.sum()) - 0.75) < 0.04


def test_random_skipping_wants_a_rate_per_layer(deep, tiny_prompts):
    with pytest.raises(InvalidValue, match=r"rate_pp .*one for each of 6 layers"):
        RandomSkipping(rate_pp=(0.1, 0.2)).generate(deep, tiny_prompts(1), Limits(2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: L2AdaptiveComputation(alpha=1.5), "alpha is 1.5"),
        (lambda: L2AdaptiveComputation(alpha=-0.1), "alpha is -0.1"),
        (lambda: L2AdaptiveComputation(alpha=math.nan), "alpha is nan"),
        (lambda: L2AdaptiveComputation(skip="all"), "skip is 'all'"),
        (lambda: L2AdaptiveComputation(phases="now"), "phases is 'now'"),
        (lambda: L2AdaptiveComputation(temperature=-1.0), "temperature is -1.0"),
        (lambda: L2AdaptiveComputation(top_p=0.0), "top_p is 0.0"),
        (lambda: CosineSkipping(threshold=1.1), "threshold is 1.1"),
        (lambda: RandomSkipping(rate_pp=1.1), "rate_pp is 1.1"),
        (lambda: RandomSkipping(rate_rg=(0.1, math.nan)), "rate_rg is"),
    ],
)
def test_bad_parameters_are_named(make, message):
    with pytest.raises(InvalidValue, match=message):
        make()
