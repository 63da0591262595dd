"""The loop: limits, ends, joining and leaving, costs; whatever the decoding."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dovetail.core import Completion, InvalidValue, Limits, Prompt
from dovetail.engine import Choice, Engine, LeanForward, Stepwise, TransformersForward


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "mistral", "gpt-neox", "gpt2", "gemma2"])
def test_greedy_writes_what_transformers_writes(family, tiny_network, tiny_tokenizer, tiny_prompts):
    network = tiny_network(family)
    engine = Engine(network, tiny_tokenizer)
    assert isinstance(
        engine.forward, LeanForward if family in "llama qwen2 qwen3 mistral" else TransformersForward
    )
    prompts = tiny_prompts(6)
    for prompt, completion in zip(prompts, engine.generate(prompts, Limits(24)), strict=True):
        ids = torch.tensor([prompt.ids])
        mask = torch.ones_like(ids)
        out = network.generate(ids, attention_mask=mask, max_new_tokens=24, do_sample=False, pad_token_id=0)
        assert completion.token_ids == tuple(out[0, len(prompt.ids) :].tolist())


def test_rows_leave_and_join(tiny_engine, tiny_prompts):
    prompts = tiny_prompts(13)
    together = tiny_engine.generate(prompts, Limits(30))
    assert len({len(c.token_ids) for c in together}) > 1, "the example has no rows that leave early"
    narrow = Engine(tiny_engine.network, tiny_engine.tokenizer, max_rows=3)
    assert [c.token_ids for c in narrow.generate(prompts, Limits(30))] == [c.token_ids for c in together]
    alone = [narrow.generate([p], Limits(30))[0].token_ids for p in prompts]
    assert alone == [c.token_ids for c in together]


def test_ends(tiny_engine, tiny_prompts):
    prompts = tiny_prompts(13)
    short, long = (tiny_engine.generate(prompts, Limits(n)) for n in (5, 30))
    for a, b in zip(short, long, strict=True):
        assert a.token_ids == b.token_ids[:5]
        assert len(a.token_ids) <= 5
        assert len(b.token_ids) <= 30
        assert (b.finish_reason == "stop") == (b.token_ids[-1] == 94)
        assert (b.finish_reason == "length") == (len(b.token_ids) == 30 and b.token_ids[-1] != 94)
        assert "<eos>" not in b.text
    assert {c.finish_reason for c in long} == {"stop", "length"}


def test_stop_strings_cut_the_text_before_them(tiny_engine, tiny_prompts):
    prompts = tiny_prompts(4)
    whole = tiny_engine.generate(prompts, Limits(30))
    stop = whole[0].text[9:11]
    for free, cut in zip(whole, tiny_engine.generate(prompts, Limits(30, stop=(stop,))), strict=True):
        at = free.text.find(stop)
        if at < 0:
            assert cut.token_ids == free.token_ids
        else:
            assert cut.text == free.text[:at]
            assert cut.finish_reason == "stop"
            assert len(cut.token_ids) == at + 2, "writing goes on after the stop string"


def test_costs_count_every_token(tiny_engine, tiny_prompts):
    prompts = tiny_prompts(5)
    for prompt, c in zip(prompts, tiny_engine.generate(prompts, Limits(12)), strict=True):
        assert c.cost.tokens_read == len(prompt.ids)
        assert c.cost.tokens_written == len(c.token_ids) == c.cost.forward_passes
        assert c.cost.seconds > 0


def test_every_second_is_counted_once(tiny_network, tiny_tokenizer, tiny_prompts, monkeypatch):
    """Rows join while others write, done rows wait in the batch: the shares still sum to the time spent."""
    now = 0.0
    monkeypatch.setattr("dovetail.engine.engine.time.perf_counter", lambda: now)
    network = tiny_network("qwen3")

    class Slow(LeanForward):
        def __call__(self, *arguments, **options):
            nonlocal now
            now += 1.0
            return super().__call__(*arguments, **options)

    class Thoughtful(Stepwise):
        def choose(self, logits, rows):
            nonlocal now
            now += 0.5
            return super().choose(logits, rows)

    engine = Engine(network, tiny_tokenizer, forward=Slow(network), max_rows=20)
    alone = engine.generate(tiny_prompts(1), Limits(5), Thoughtful())[0]
    assert alone.cost.seconds == now == 1.5 * len(alone.token_ids)
    now = 0.0
    done = engine.generate(tiny_prompts(50), Limits(30), Thoughtful())
    assert len({len(c.token_ids) for c in done}) > 3
    assert sum(c.cost.seconds for c in done) == pytest.approx(now)


def test_logprobs_are_the_models_own(tiny_engine, tiny_prompts):
    prompt = tiny_prompts(1)[0]
    completion = tiny_engine.generate([prompt], Limits(6, logprobs=True))[0]
    with torch.no_grad():
        logits = (
            tiny_engine.network(torch.tensor([prompt.ids + completion.token_ids])).logits[0].log_softmax(-1)
        )
    n = len(prompt.ids)
    expected = [float(logits[n - 1 + i, t]) for i, t in enumerate(completion.token_ids)]
    assert completion.logprobs == pytest.approx(expected, abs=1e-5)
    assert tiny_engine.generate([prompt], Limits(6))[0].logprobs is None


def test_loglikelihood(tiny_engine, tiny_prompts):
    prompts = tiny_prompts(3)
    tails = ["ab", "xyz", ""]
    scores = tiny_engine.loglikelihood(prompts, tails)
    for prompt, tail, score in zip(prompts, tails, scores, strict=True):
        ids = tiny_engine.tokenizer.encode(tail, add_special_tokens=False)
        with torch.no_grad():
            logits = tiny_engine.network(torch.tensor([[*prompt.ids, *ids]])).logits[0].log_softmax(-1)
        n = len(prompt.ids)
        assert score == pytest.approx(sum(float(logits[n - 1 + i, t]) for i, t in enumerate(ids)), abs=1e-5)


def test_streaming_gives_the_same_tokens_one_by_one(tiny_engine, tiny_prompts):
    prompts = tiny_prompts(5)
    streamed: dict[int, list[int]] = {i: [] for i in range(5)}
    done: dict[int, Completion] = {}
    for index, event in tiny_engine.stream(prompts, Limits(20)):
        assert index not in done, "a token after the completion"
        if isinstance(event, Completion):
            done[index] = event
        else:
            streamed[index].append(event)
            assert torch.is_grad_enabled(), "the caller's code runs in inference mode"
    whole = tiny_engine.generate(prompts, Limits(20))
    assert [tuple(streamed[i]) for i in range(5)] == [c.token_ids for c in whole]
    assert [done[i].text for i in range(5)] == [c.text for c in whole]


def test_a_row_that_joins_late_keeps_its_own_room(tiny_engine, tiny_prompts):
    """Those in flight may have far to go when a prompt joins that nearly fills the context."""

    class Endless(Stepwise):
        def choose(self, logits, rows):
            return Choice(torch.full((len(rows),), 5))

        def stop(self, choice, rows):
            return (rows.seeds == 1000) & (rows.step >= 3)

    narrow = Engine(tiny_engine.network, tiny_engine.tokenizer, max_rows=2)
    prompts = [*tiny_prompts(2), Prompt((), "x", tuple([5] * 122), 7)]
    done = narrow.generate(prompts, Limits(40), Endless())
    assert [len(c.token_ids) for c in done] == [3, 40, 128 - 122]


def test_done_rows_that_wait_say_nothing_more(tiny_engine, tiny_prompts):
    """In a large batch a done row idles until others join it; it may come upon its end token again."""

    class Ends(Stepwise):
        def choose(self, logits, rows):
            return Choice(torch.where(rows.step >= rows.seeds - 1000, 94, 5))

    prompts = tiny_prompts(40)
    seen: dict[int, list[int | Completion]] = {i: [] for i in range(40)}
    for index, event in tiny_engine.stream(prompts, Limits(50), Ends()):
        seen[index].append(event)
    for prompt, (*tokens, last) in zip(prompts, seen.values(), strict=True):
        assert tokens == [5] * (prompt.seed - 1000) + [94]
        assert last.token_ids == tuple(tokens)


def test_equal_prompts_are_read_once(tiny_engine, tiny_prompts):
    prompt = tiny_prompts(1)[0]
    read = []
    forward = tiny_engine.forward

    class Counting(type(forward)):
        def __call__(self, cache, ids=None, embeds=None, **options):
            read.append(tuple((ids if ids is not None else embeds).shape[:2]))
            return super().__call__(cache, ids, embeds, **options)

    engine = Engine(tiny_engine.network, tiny_engine.tokenizer, forward=Counting(tiny_engine.network))
    copies = engine.generate([replace(prompt, seed=i) for i in range(4)], Limits(3))
    assert read[0] == (1, len(prompt.ids))
    assert len({c.token_ids for c in copies}) == 1  # greedy


def test_the_context_is_a_limit(tiny_engine, tiny_prompts):
    long = Prompt((), "x", tuple([5] * 120), 1)
    cut = tiny_engine.generate([long, tiny_prompts(1)[0]], Limits(40))
    assert len(cut[0].token_ids) <= 128 - 120
    with pytest.raises(InvalidValue, match=r"prompts\[1\] \(128 tokens\)"):
        tiny_engine.generate([tiny_prompts(1)[0], replace(long, ids=tuple([5] * 128))], Limits(4))
    with pytest.raises(InvalidValue, match=r"prompts\[0\]"):
        tiny_engine.generate([Prompt((), "")], Limits(4))
    assert tiny_engine.generate([], Limits(4)) == []


def test_done_rows_that_wait_stay_within_the_context(tiny_network, tiny_tokenizer, tiny_prompts):
    """Learned positions are a table: a row that ended at its last entry must not be read beyond it."""
    network = tiny_network("gpt2", max_position_embeddings=40, n_positions=40)
    engine = Engine(network, tiny_tokenizer)
    full = Prompt((), "x", tuple([5] * 38), 1)
    prompts = [full, *tiny_prompts(30)]
    seen = []
    forward = engine.forward

    class Watched(type(forward)):
        def __call__(self, cache, *arguments, **options):
            out = super().__call__(cache, *arguments, **options)
            seen.append(int(cache.where.max()))
            return out

    engine.forward = Watched(network)
    done = engine.generate(prompts, Limits(20))
    assert len(done[0].token_ids) <= 2
    assert max(len(c.token_ids) for c in done) > 10, "the full row has to wait for others"
    assert max(seen) == 39
    alone = [engine.generate([p], Limits(20))[0].token_ids for p in prompts[:6]]
    assert [c.token_ids for c in done[:6]] == alone


def test_a_method_may_abort_and_report(tiny_engine, tiny_prompts):
    class Three(Stepwise):
        def begin(self, rows):
            rows.state["three.seen"] = torch.zeros(len(rows), dtype=torch.int64)

        def choose(self, logits, rows):
            rows.state["three.seen"] = rows.state["three.seen"] + 1
            return Choice(torch.full((len(rows),), 7))

        def stop(self, choice, rows):
            return rows.state["three.seen"] >= rows.seeds % 5 + 1

        def columns(self, rows, index):
            return {"seen": int(rows.state["three.seen"][index])}

    prompts = tiny_prompts(12)
    for prompt, c in zip(prompts, tiny_engine.generate(prompts, Limits(20), Three()), strict=True):
        expected = prompt.seed % 5 + 1
        assert (len(c.token_ids), c.columns, c.finish_reason) == (expected, {"seen": expected}, "aborted")


class Watching(Stepwise):
    """Counts layers, real tokens and passes per row; replaces the last layer's output by zeros if told to."""

    def __init__(self, blank=False):
        self.blank = blank

    def begin(self, rows):
        rows.state["watch.tokens"] = torch.zeros(len(rows), dtype=torch.int64)
        rows.state["watch.passes"] = torch.zeros(len(rows), dtype=torch.int64)

    def hook(self, rows, layers, valid):
        def hook(layer, before, after):
            assert before.shape == after.shape
            if layer == layers - 1:
                real = torch.ones(after.shape[:2]) if valid is None else valid
                rows.state["watch.tokens"] = rows.state["watch.tokens"] + real.long().sum(1)
                rows.state["watch.passes"] = rows.state["watch.passes"] + 1
                return torch.zeros_like(after) if self.blank else after
            return after

        return hook

    def columns(self, rows, index):
        return {name: int(rows.state[f"watch.{name}"][index]) for name in ("tokens", "passes")}


@pytest.mark.parametrize("family", ["qwen3", "gemma2"])
def test_a_method_may_watch_every_pass(family, tiny_network, tiny_tokenizer, tiny_prompts):
    """Rows leave and join, equal prompts are read once each; every row's passes and tokens are its own."""
    engine = Engine(tiny_network(family).double(), tiny_tokenizer, max_rows=3)
    prompts = tiny_prompts(7)
    prompts.append(replace(prompts[2], seed=5))
    plain = engine.generate(prompts, Limits(20))
    watched = engine.generate(prompts, Limits(20), Watching())
    assert [c.token_ids for c in watched] == [c.token_ids for c in plain]
    for prompt, c in zip(prompts, watched, strict=True):
        # the last token is written, but never read
        assert c.columns == {
            "tokens": len(prompt.ids) + len(c.token_ids) - 1,
            "passes": len(c.token_ids),
        }


@pytest.mark.parametrize("family", ["qwen3", "gemma2"])
def test_a_method_may_replace_what_layers_give(family, tiny_network, tiny_tokenizer, tiny_prompts):
    engine = Engine(tiny_network(family), tiny_tokenizer)
    blank = engine.generate(tiny_prompts(3), Limits(5), Watching(blank=True))
    assert all(set(c.token_ids) == {0} for c in blank), "logits of nothing are equal: the first token wins"
