"""dKV-Cache and the sampler below it: what is computed at which step, and that nothing else changes.

The promises of every decoding (`test_contract`) are kept on a masked diffusion engine, too.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from decodings import DIFFUSIONS
from test_contract import (  # noqa: F401 (run here with this module's engine and decodings)
    test_batch_equals_single,
    test_limits_ends_and_costs,
    test_parameters_are_frozen_and_described,
    test_same_seed_same_tokens,
    test_stop_strings,
)

from dovetail.core import InvalidValue, Limits, Unsupported
from dovetail.decoding import DelayedKVCache, Diffusion, EntropyMinimization, Greedy, SelfConsistency, chain
from dovetail.decoding.delayed_kv_cache import nearest_masked
from dovetail.engine import DiffusionEngine, Moment, Unmasking

sys.path.append(str(Path(__file__).parents[1] / "models"))
from models_diffusion import build_diffusion

LENGTH = 24
WHOLE = {"block_length": 8, "stop_at_end": False}


@pytest.fixture(params=DIFFUSIONS.values(), ids=DIFFUSIONS.keys())
def decoding(request):
    return request.param


@pytest.fixture(scope="module")
def tiny_engine(tiny_tokenizer):
    return DiffusionEngine(build_diffusion().double(), tiny_tokenizer, name="tiny")


def written(decoding, engine, prompts, length=LENGTH):
    return [c.token_ids for c in decoding.generate(engine, prompts, Limits(length))]


class Spy:
    """Stands for a network and keeps what every pass was asked for."""

    def __init__(self, network):
        self.network, self.config, self.device, self.cache = (
            network,
            network.config,
            network.device,
            network.cache,
        )
        self.passes = []

    def canvas(self, ids, columns):
        """The whole rows' ids: what a pass does not compute stands as it last did."""
        if columns is None:
            return ids.clone()
        return self.passes[-2].whole.scatter(1, columns, ids)

    def __call__(self, ids, positions, cache, *, columns, attention_mask, wanted):
        logits = self.network(
            ids, positions, cache, columns=columns, attention_mask=attention_mask, wanted=wanted
        )
        self.passes.append(SimpleNamespace(ids=ids.clone(), columns=columns, logits=logits.clone()))
        self.passes[-1].whole = self.canvas(ids, columns)
        return logits


@pytest.fixture
def watched(tiny_engine, tiny_prompts):
    """``watched(decoding)`` -> the passes that it took over 3 ragged rows, and the engine's final ids."""

    def run(decoding, network=tiny_engine.network, length=LENGTH):
        spy = Spy(network)
        engine = DiffusionEngine(spy, tiny_engine.tokenizer)
        completions = decoding.generate(engine, tiny_prompts(3), Limits(length))
        return spy.passes, completions

    return run


def computed(passes):
    return sum(p.ids.shape[1] for p in passes)


def columns(one, row=0):
    return None if one.columns is None else one.columns[row].tolist()


# --- the sampler


def test_steps_commit_equal_shares_block_by_block(watched):
    passes, _ = watched(Diffusion(steps=9, **WHOLE))
    start = passes[0].ids.shape[1] - LENGTH
    left = [(p.ids[:, start:] == 97).sum(1) for p in passes]
    assert all((n == n[0]).all() for n in left)
    # 8 tokens in 3 steps: the first steps take one more
    assert [int(a[0] - b[0]) for a, b in pairwise(left)] == [3, 3, 2, 3, 3, 2, 3, 3]
    for i, p in enumerate(passes):
        done = i // 3
        assert not (p.ids[:, start : start + 8 * done] == 97).any(), "a block began before the last was full"
        assert (p.ids[:, start + 8 * (done + 1) :] == 97).all(), "a block was written before its turn"


def test_what_is_committed_stays_and_prompts_stay(watched):
    passes, completions = watched(Diffusion(temperature=0.5, **WHOLE))
    for before, after in pairwise(p.ids for p in passes):
        committed = before != 97
        assert torch.equal(before[committed], after[committed])
    assert all(97 not in c.token_ids for c in completions)


def test_the_most_confident_tokens_come_first(watched, tiny_engine, tiny_prompts):
    passes, _ = watched(Diffusion(**WHOLE))
    with torch.inference_mode():
        (prompt,) = tiny_prompts(1)
        ids = torch.tensor([[*prompt.ids, *[97] * LENGTH]])
        probs = tiny_engine.network(ids)[0, len(prompt.ids) : len(prompt.ids) + 8].softmax(-1)
        probs[:, 97] = 0
    best = int(probs.amax(-1).argmax())
    start = passes[0].ids.shape[1] - LENGTH
    assert int(passes[1].ids[0, start + best]) == int(probs[best].argmax())
    assert (passes[1].ids[0, start:] != 97).sum() == 1


@pytest.mark.parametrize("remasking", ["topk_margin", "entropy"])
def test_dreams_confidences(remasking):
    probs = torch.tensor([[[0.5, 0.45, 0.05], [0.4, 0.3, 0.3], [0.48, 0.26, 0.26]]])
    target = torch.tensor([[4, 5, 6]])
    # leads 0.05, 0.1, 0.22; entropies 0.856, 1.089, 1.053
    chosen = Diffusion(remasking=remasking).choose(probs.log(), target, None, Moment(4, 7, 0, 1))
    assert chosen[1].tolist() == ([[6]] if remasking == "topk_margin" else [[4]])


def test_temperature_draws_from_the_softmax():
    canvas = SimpleNamespace(seeds=torch.arange(4000), start=0, passes=3)
    logits = torch.tensor([0.0, 1.0, 2.0]).expand(4000, 1, 3)
    noisy = Diffusion(temperature=1.0)._noisy(logits, torch.zeros(4000, 1, dtype=torch.int64), canvas)
    drawn = torch.bincount(noisy.argmax(-1)[:, 0], minlength=3) / 4000
    assert torch.allclose(drawn.double(), logits[0, 0].double().softmax(-1), atol=0.03)


def test_stopping_at_the_end_changes_no_text(tiny_engine, tiny_prompts):
    prompts = tiny_prompts(12)
    network = build_diffusion(3)
    with torch.no_grad():
        network.lm_head.weight[94] *= 2.5  # ends are likely
    engine = DiffusionEngine(network.double(), tiny_engine.tokenizer)
    for kind in (Diffusion, DelayedKVCache):
        early, late = (
            kind(block_length=4, stop_at_end=s).generate(engine, prompts, Limits(16)) for s in (True, False)
        )
        assert [c.token_ids for c in early] == [c.token_ids for c in late]
        saved = [b.cost.forward_passes - a.cost.forward_passes for a, b in zip(early, late, strict=True)]
        assert min(saved) == 0
        assert max(saved) > 0


def test_more_steps_than_tokens_warn(tiny_engine, tiny_prompts):
    with pytest.warns(UserWarning, match="100 steps for 10 tokens"):
        (one,) = Diffusion(steps=100).generate(tiny_engine, tiny_prompts(1), Limits(10))
    assert one.cost.forward_passes == 10


def test_the_default_of_the_engine_is_the_plain_sampler(tiny_engine, tiny_prompts):
    prompts = tiny_prompts(3)
    default = [c.token_ids for c in tiny_engine.generate(prompts, Limits(LENGTH), Unmasking())]
    assert default == written(Diffusion(), tiny_engine, prompts)


# --- the cache


@pytest.mark.parametrize("variant", ["decode", "greedy"])
def test_a_refresh_at_every_step_is_no_cache(variant, tiny_engine, tiny_prompts):
    prompts, order = tiny_prompts(4), "random" if variant == "greedy" else "low_confidence"
    cached = DelayedKVCache(variant=variant, remasking=order, refresh_interval=1, **WHOLE)
    assert written(cached, tiny_engine, prompts) == written(
        Diffusion(remasking=order, **WHOLE), tiny_engine, prompts
    )
    assert all(c.columns["cache_ratio"] == 0 for c in cached.generate(tiny_engine, prompts, Limits(LENGTH)))


def test_decode_computes_what_was_masked_a_step_ago(watched):
    passes, completions = watched(DelayedKVCache(refresh_interval=4, **WHOLE))
    start = passes[0].ids.shape[1] - LENGTH
    for i, p in enumerate(passes):
        step = i % 8
        if step <= 1 or step % 4 == 0:
            assert p.columns is None
            continue
        masked = 24 - i
        # the masked positions and the one that the last step committed
        assert p.columns.shape[1] == masked + 1
        assert int((p.ids == 97).sum(1)[0]) == masked
        assert int(p.columns.min()) >= start
    computed = sum(p.ids.shape[1] if p.columns is None else p.columns.shape[1] for p in passes)
    widest = max(completions, key=lambda c: c.cost.tokens_read)
    assert widest.columns["computed_positions"] == computed
    assert widest.columns["cache_ratio"] == pytest.approx(1 - computed / (24 * passes[0].ids.shape[1]))


def test_refreshes_may_be_counted_through_the_whole_canvas(watched):
    passes, _ = watched(DelayedKVCache(refresh_interval=10, restart=False, **WHOLE))
    assert [i for i, p in enumerate(passes) if p.columns is None] == [0, 1, 10, 20]
    # the token that ended a block is computed once more in the next one's first step
    assert all(p.columns.shape[1] == 24 - i + 1 for i, p in enumerate(passes) if p.columns is not None)


def test_without_delay_only_masked_positions_are_computed(watched):
    passes, _ = watched(DelayedKVCache(refresh_interval=4, delay=0, **WHOLE))
    assert [p.columns is None for p in passes[:8]] == [True, False, False, False, True, False, False, False]
    assert all((p.ids == 97).all() for p in passes if p.columns is not None)


def test_the_first_two_steps_are_those_of_no_cache(watched):
    plain, _ = watched(Diffusion(**WHOLE))
    cached, _ = watched(DelayedKVCache(**WHOLE))
    for a, b in zip(plain[:2], cached[:2], strict=True):
        assert torch.equal(a.logits, b.logits)


def test_one_layer_is_lossless_under_a_delay_and_lossy_without(watched):
    """With one layer keys and values depend on the token itself: those of a committed one never change."""
    network = build_diffusion(num_hidden_layers=1).double()
    plain, _ = watched(Diffusion(**WHOLE), network)
    cached, _ = watched(DelayedKVCache(refresh_interval=100, **WHOLE), network)
    hasty, _ = watched(DelayedKVCache(refresh_interval=100, delay=0, **WHOLE), network)
    assert all(torch.allclose(a.logits, b.logits, atol=1e-9) for a, b in zip(plain, cached, strict=True))
    assert any(c.columns is not None for c in cached)
    assert not all(torch.allclose(a.logits, b.logits, atol=1e-3) for a, b in zip(plain, hasty, strict=True))


def test_greedy_computes_the_next_the_last_and_a_window(watched):
    greedy = DelayedKVCache(variant="greedy", remasking="random", refresh_interval=4, window=2, **WHOLE)
    passes, completions = watched(greedy)
    for i, p in enumerate(passes):
        if i % 4 == 0:
            assert p.columns is None
        else:
            masked = 24 - i
            assert p.columns.shape[1] == 2 + min(2, masked - 1)
    assert completions[0].columns["cache_ratio"] > 0.6


def test_greedy_takes_the_baselines_order(watched):
    orders = []
    for decoding in (
        Diffusion(remasking="random", **WHOLE),
        DelayedKVCache(variant="greedy", remasking="random", window=3, **WHOLE),
    ):
        passes, _ = watched(decoding)
        start = passes[0].ids.shape[1] - LENGTH
        masks = [_masks(p, start) for p in passes]
        orders.append(masks)
    assert all(a is None or b is None or torch.equal(a, b) for a, b in zip(*orders, strict=True))


def _masks(one, start):
    return one.ids[:, start:] == 97 if one.columns is None else None


def test_prefill_and_pd_never_touch_the_prompt_again(watched):
    for decoding in (DelayedKVCache(variant="prefill", **WHOLE), DelayedKVCache(variant="pd", **WHOLE)):
        passes, _ = watched(decoding)
        start = passes[0].ids.shape[1] - LENGTH
        assert passes[0].columns is None
        assert all(int(p.columns.min()) >= start for p in passes[1:])
    sizes = [p.columns.shape[1] for p in passes[1:]]
    assert sizes[:6] == [24, 23, 22, 24, 20, 19]  # "pd" refreshes the canvas at every fourth step
    passes, _ = watched(DelayedKVCache(variant="prefill", **WHOLE))
    assert {p.columns.shape[1] for p in passes[1:]} == {24}


def test_a_shifted_head_shifts_what_is_computed(watched):
    """Dream: the logits of a position come from the one before."""
    network = build_diffusion(logit_shift=1).double()
    plain, completions = watched(Diffusion(**WHOLE), network)
    cached, _ = watched(DelayedKVCache(refresh_interval=4, **WHOLE), network)
    own, _ = watched(DelayedKVCache(refresh_interval=4, **WHOLE))
    start = plain[0].ids.shape[1] - LENGTH
    assert torch.equal(plain[0].logits, cached[0].logits)
    first = next(p for p in cached if p.columns is not None)
    assert first.columns.shape == next(p for p in own if p.columns is not None).columns.shape
    assert int(cached[-1].columns.min()) < start + LENGTH - 1
    row = max(range(3), key=lambda r: completions[r].cost.tokens_read)  # the one without padding
    with torch.inference_mode():
        before = network(plain[0].ids[row : row + 1])[0, start - 1]
    assert torch.allclose(plain[0].logits[row, 0], before, atol=1e-9)


def test_a_shifted_head_may_keep_a_position_until_its_own_token_is_committed_too(watched):
    network = build_diffusion(logit_shift=1).double()
    order = {"remasking": "random", "refresh_interval": 100, **WHOLE}
    before, _ = watched(DelayedKVCache(**order), network)
    both, _ = watched(DelayedKVCache(shifted="both", **order), network)
    mask = network.config.mask_token_id
    late = 0
    for last, one in pairwise(both):
        if one.columns is None:
            continue
        for row in range(3):
            masked = (one.whole[row] == mask).nonzero()[:, 0].tolist()
            fresh = ((last.whole[row] == mask) & (one.whole[row] != mask)).nonzero()[:, 0].tolist()
            own = {*masked, *fresh}
            assert set(columns(one, row)) == own | {c - 1 for c in own}
            assert columns(one, row) == sorted(columns(one, row))
            late += len(own - {c - 1 for c in own})
    assert late > 0  # random order: some tokens were committed after the one that follows them
    assert computed(both) > computed(before)


def test_keeping_both_is_lossless_in_one_layer_and_next_alone_is_not(watched):
    network = build_diffusion(logit_shift=1, num_hidden_layers=1).double()
    order = {"remasking": "random", **WHOLE}
    _, plain = watched(Diffusion(**order), network)
    _, both = watched(DelayedKVCache(shifted="both", refresh_interval=100, **order), network)
    _, alone = watched(DelayedKVCache(refresh_interval=100, **order), network)
    assert [c.token_ids for c in both] == [c.token_ids for c in plain]
    assert [c.token_ids for c in alone] != [c.token_ids for c in plain]


def test_the_window_alternates_between_the_sides():
    masked = torch.tensor([[1, 1, 0, 1, 1, 1, 0, 1, 1]], dtype=torch.bool)
    taken = torch.tensor([[4]])

    def near(window, centres=taken):
        return sorted(nearest_masked(masked, taken, centres, window)[0].tolist())

    assert near(0) == []
    assert near(1) == [3]  # left first
    assert near(2) == [3, 5]
    assert near(3) == [1, 3, 5]  # 2 is committed
    assert near(99) == [0, 1, 3, 5, 7, 8]
    assert near(2, torch.tensor([[6]])) == [5, 7]
    assert near(2, torch.tensor([[2]])) == [1, 3]


# --- what does not fit


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"block_length": 0}, "block_length is 0"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"remasking": "best"}, "remasking is 'best'"),
        ({"variant": "lazy"}, "variant is 'lazy'"),
        ({"refresh_interval": 0}, "refresh_interval is 0"),
        ({"delay": 2}, "delay is 2"),
        ({"window": -1}, "window is -1"),
        ({"centre": "left"}, "centre is 'left'"),
        ({"shifted": "own"}, "shifted is 'own'"),
        ({"variant": "greedy"}, "remasking is 'low_confidence'"),
    ],
)
def test_impossible_parameters(fields, message):
    with pytest.raises(InvalidValue, match=message):
        DelayedKVCache(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"block_length": 7}, r"block_length is 7: must be a divisor of the canvas \(24 tokens\)"),
        ({"block_length": 8, "steps": 10}, r"steps is 10: must be a multiple of the number of blocks \(3\)"),
    ],
)
def test_blocks_and_steps_must_fit_the_canvas(fields, message, tiny_engine, tiny_prompts):
    with pytest.raises(InvalidValue, match=message):
        Diffusion(**fields).generate(tiny_engine, tiny_prompts(1), Limits(LENGTH))


def test_bad_prompts_are_named(tiny_engine, tiny_prompts):
    from dataclasses import replace

    (prompt,) = tiny_prompts(1)
    for ids, message in (
        ((), "at least one token"),
        ((1, 97), "without the mask token"),
        ((1,) * 110, "at most 104 tokens"),
    ):
        with pytest.raises(InvalidValue, match=message):
            Diffusion().generate(tiny_engine, [replace(prompt, ids=ids)], Limits(LENGTH))
    with pytest.raises(Unsupported, match="log-probabilities"):
        Diffusion().generate(tiny_engine, [prompt], Limits(LENGTH, logprobs=True))


def test_causal_models_are_refused(tiny_prompts):
    causal = SimpleNamespace(provides=frozenset({"text", "logits"}), name="pico")
    with pytest.raises(
        Unsupported, match="DelayedKVCache writes with a masked diffusion model, and pico is none"
    ):
        DelayedKVCache().generate(causal, tiny_prompts(1), Limits(LENGTH))


@pytest.mark.parametrize("other", [Greedy(), EntropyMinimization(), SelfConsistency()])
def test_decodings_of_causal_models_are_refused(other, tiny_engine, tiny_prompts):
    with pytest.raises(Unsupported, match="tiny does not give: it is a masked diffusion model"):
        other.generate(tiny_engine, tiny_prompts(1), Limits(LENGTH))
    with pytest.raises(Unsupported, match="does not take step modifiers"):
        chain([EntropyMinimization(), DelayedKVCache()])
