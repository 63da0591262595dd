"""What every decoding promises, run over all of them."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from types import SimpleNamespace

import pytest
from decodings import DECODINGS, DIFFUSIONS

from dovetail.core import Limits, Unsupported
from dovetail.decoding import NAMES, Decoding, describe
from dovetail.engine import Engine


@pytest.fixture(params=DECODINGS.values(), ids=DECODINGS.keys())
def decoding(request) -> Decoding:
    return request.param


def tokens(completions):
    return [c.token_ids for c in completions]


def test_every_registered_name_is_tested():
    tested = {part for name in [*DECODINGS, *DIFFUSIONS] for part in name.partition(":")[0].split("+")}
    assert tested == set(NAMES)


def test_same_seed_same_tokens(decoding, tiny_engine, tiny_prompts):
    prompts = tiny_prompts(4)
    first, again = (tokens(decoding.generate(tiny_engine, prompts, Limits(16))) for _ in range(2))
    assert first == again, "state has leaked from one call into the next"


def test_the_seed_matters_where_there_is_chance(decoding, tiny_engine, tiny_prompts):
    prompts = tiny_prompts(6, thinking=False)  # soft thinking itself is free of chance
    other = [replace(p, seed=p.seed + 99) for p in prompts]
    same = tokens(decoding.generate(tiny_engine, prompts, Limits(16))) == tokens(
        decoding.generate(tiny_engine, other, Limits(16))
    )
    assert same == (type(decoding).__name__ == "Greedy")


def test_batch_equals_single(decoding, tiny_engine, tiny_prompts):
    prompts = tiny_prompts(5)
    together = tokens(decoding.generate(tiny_engine, prompts, Limits(16)))
    alone = [tokens(decoding.generate(tiny_engine, [p], Limits(16)))[0] for p in prompts]
    narrow = type(tiny_engine)(tiny_engine.network, tiny_engine.tokenizer, max_rows=2)
    assert together == alone == tokens(decoding.generate(narrow, prompts, Limits(16)))


def test_limits_ends_and_costs(decoding, tiny_engine, tiny_prompts):
    prompts = tiny_prompts(6)
    for prompt, c in zip(prompts, decoding.generate(tiny_engine, prompts, Limits(9)), strict=True):
        assert 1 <= len(c.token_ids) <= 9
        assert 94 not in c.token_ids[:-1], "writing went on after the end token"
        assert (c.finish_reason == "stop") == (c.token_ids[-1] == 94) or c.finish_reason == "aborted"
        assert c.cost.tokens_written >= len(c.token_ids)
        assert c.cost.tokens_read >= len(prompt.ids)
        assert c.cost.forward_passes > 0
        assert c.cost.seconds > 0


def test_stop_strings(decoding, tiny_engine, tiny_prompts):
    prompts = tiny_prompts(6)
    stop = ("A", "BC", "z")
    for c in decoding.generate(tiny_engine, prompts, Limits(16, stop=stop)):
        assert not any(s in c.text for s in stop)


def test_the_fallback_path(decoding, tiny_network, tiny_tokenizer, tiny_prompts):
    engine = Engine(tiny_network("gemma2").double(), tiny_tokenizer)
    prompts = tiny_prompts(3)
    together = tokens(decoding.generate(engine, prompts, Limits(8)))
    assert together == [tokens(decoding.generate(engine, [p], Limits(8)))[0] for p in prompts]


def test_a_remote_model(decoding, tiny_prompts):
    """Whatever needs logits says so before anything is asked of the server."""
    asked = []
    remote = SimpleNamespace(
        provides=frozenset({"text", "logprobs"}), name="remote", generate=lambda *a: asked.append(a) or []
    )
    if {"logits", "embeddings"} & decoding.needs or "em+" in str(describe(decoding)):
        with pytest.raises(Unsupported, match="logits"):
            decoding.generate(remote, tiny_prompts(1), Limits(4))
        assert not asked
    elif type(decoding).__name__ in ("Greedy", "Sampling"):
        decoding.generate(remote, tiny_prompts(1), Limits(4))
        assert asked
        assert asked[0][2].api_parameters() is not None


def test_parameters_are_frozen_and_described(decoding):
    name = next(iter(describe(decoding).keys() - {"class"}), None)
    assert describe(decoding)["class"] == type(decoding).__name__
    if name is not None:
        with pytest.raises(FrozenInstanceError):
            setattr(decoding, name, 1)
