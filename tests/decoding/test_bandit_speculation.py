"""BanditSpec: what is written is what the inner decoding writes, in fewer passes."""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import replace

import pytest
import torch
from scipy.stats import chisquare

from dovetail.comparison.arms import parse
from dovetail.core import InvalidValue, Limits, Message, Prompt, Unsupported
from dovetail.decoding import (
    BanditSpeculation,
    EntropyMinimization,
    Greedy,
    L2AdaptiveComputation,
    Sampling,
    SoftThinking,
    chain,
)
from dovetail.decoding.bandits import FixedArm, RandomArm, UCBSpec
from dovetail.decoding.drafters import DraftModel, NoDraft, PromptLookup
from dovetail.engine import Engine


@pytest.fixture(scope="module")
def drafters(tiny_engine, tiny_network, tiny_tokenizer):
    """Lookup, a draft model that is nearly always wrong, and one that is always right, of several lengths."""
    wrong = Engine(tiny_network("qwen3", seed=1, num_hidden_layers=1).double(), tiny_tokenizer, name="wrong")
    models = (DraftModel(wrong, 3), DraftModel(tiny_engine, 2), DraftModel(tiny_engine, 5))
    return (NoDraft(), PromptLookup(2), PromptLookup(6), *models)


def written(completions):
    return [(c.token_ids, c.text, c.finish_reason) for c in completions]


VARIANTS = [
    {},
    {"policy": "exp3"},
    {"policy": RandomArm()},
    {"shared": True},
    {"shared": True, "reward": "speed"},
    {"policy": "exp3", "shared": True, "reward": "speed"},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("inner", [Greedy(), Sampling(0.7, top_p=0.95)], ids=["greedy", "sampling"])
def test_what_is_written_is_the_inner_decodings(variant, inner, tiny_engine, tiny_prompts, drafters):
    """Token for token, with rows of different arms, draft lengths and ends side by side."""
    prompts, limits = tiny_prompts(6), Limits(24, logprobs=True)
    engine = Engine(tiny_engine.network, tiny_engine.tokenizer, max_rows=4, name="tiny")
    expected = inner.generate(engine, prompts, limits)
    found = BanditSpeculation(drafters=drafters, inner=inner, **variant).generate(engine, prompts, limits)
    assert written(found) == written(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-5)


@pytest.mark.parametrize("shared", [False, True])
def test_streaming_gives_each_text_when_it_is_written(shared, tiny_engine, tiny_prompts, drafters):
    prompts, limits = tiny_prompts(4), Limits(12)
    engine = Engine(tiny_engine.network, tiny_engine.tokenizer, max_rows=1, name="tiny")
    method = BanditSpeculation(drafters=drafters, shared=shared)
    whole = method.generate(engine, prompts, limits)
    stream = method.stream(engine, prompts, limits)
    for i, expected in enumerate(whole):  # one row at a time, so in order
        index, completion = next(stream)
        assert not torch.is_inference_mode_enabled()
        method.generate(engine, prompts[:1], limits)  # another call in between leaves no trace
        assert (index, completion.token_ids, completion.columns) == (i, expected.token_ids, expected.columns)
    assert next(stream, None) is None


def test_stop_strings_end_a_text_where_the_inner_decoding_ends_it(tiny_engine, tiny_prompts, drafters):
    prompts = tiny_prompts(6)
    free = Greedy().generate(tiny_engine, prompts, Limits(24))
    stop = tuple(c.text[5:7] for c in free[:3])
    limits = Limits(24, stop=stop)
    expected = written(Greedy().generate(tiny_engine, prompts, limits))
    assert {reason for _, _, reason in expected} == {"stop", "length"}
    assert written(BanditSpeculation(drafters=drafters).generate(tiny_engine, prompts, limits)) == expected


def test_a_modifier_acts_on_every_verified_place(tiny_engine, tiny_prompts, drafters):
    plain = chain([EntropyMinimization(threshold=0.1, lr=0.5), Sampling()])
    stacked = chain(
        [EntropyMinimization(threshold=0.1, lr=0.5), BanditSpeculation(drafters=drafters, inner=Sampling())]
    )
    prompts = tiny_prompts(4)
    expected = written(plain.generate(tiny_engine, prompts, Limits(16)))
    assert written(stacked.generate(tiny_engine, prompts, Limits(16))) == expected
    assert expected != written(Sampling().generate(tiny_engine, prompts, Limits(16)))


def test_the_end_of_the_context(tiny_network, tiny_tokenizer, tiny_prompts, drafters):
    engine = Engine(tiny_network("qwen3", max_position_embeddings=20).double(), tiny_tokenizer, name="short")
    prompts = tiny_prompts(5)
    expected = written(Greedy().generate(engine, prompts, Limits(50)))
    found = BanditSpeculation(drafters=drafters[:3]).generate(engine, prompts, Limits(50))
    assert written(found) == expected
    assert {c.finish_reason for c in found} == {"length"}


def test_rounds_and_costs(tiny_engine, tiny_prompts, drafters):
    longest = 5
    for policy in ("ucb", "exp3"):
        method = BanditSpeculation(policy, drafters[4:])
        for c in method.generate(tiny_engine, tiny_prompts(4), Limits(30)):
            rounds, more = c.columns["rounds"], len(c.token_ids) - 1  # the first comes with the prompt
            assert more / (longest + 1) <= rounds <= more
            assert c.columns["tokens_per_round"] == pytest.approx(more / rounds)
            assert sum(c.columns["pulls"].values()) == rounds
            assert c.cost.forward_passes == rounds + 1
            assert c.cost.tokens_written == len(c.token_ids)
    # The target itself as its drafter is always right.
    sure = BanditSpeculation(drafters=(DraftModel(tiny_engine, 5),))
    for c in sure.generate(tiny_engine, tiny_prompts(4), Limits(30)):
        assert c.columns["rounds"] == math.ceil((len(c.token_ids) - 1) / 6)


def test_seconds_are_shared_out_once(tiny_engine, tiny_prompts, drafters):
    prompts = tiny_prompts(8) * 4
    clock = time.perf_counter()
    found = BanditSpeculation(drafters=drafters).generate(tiny_engine, prompts, Limits(4))
    elapsed = time.perf_counter() - clock
    assert 0.5 * elapsed < sum(c.cost.seconds for c in found) <= elapsed


def test_every_text_has_its_own_bandit_or_all_share_one(tiny_engine, tiny_prompts, drafters):
    prompts = tiny_prompts(3)
    own = BanditSpeculation(drafters=drafters).generate(tiny_engine, prompts, Limits(30))
    for c in own:
        assert min(c.columns["pulls"].values()) >= 1, "UCBSpec plays every arm once per text"
    engine = Engine(tiny_engine.network, tiny_engine.tokenizer, max_rows=1)
    first, *others = BanditSpeculation(drafters=drafters, shared=True).generate(engine, prompts, Limits(10))
    assert max(first.columns["pulls"].values()) == 1
    pulls = [sum(c.columns["pulls"][arm] for c in (first, *others)) for arm in first.columns["pulls"]]
    assert pulls[0] < max(pulls), "what one text has taught is forgotten in the next"


def test_a_fixed_arm_and_its_label(tiny_engine, tiny_prompts, drafters):
    method = BanditSpeculation(FixedArm(2), drafters)
    for c in method.generate(tiny_engine, tiny_prompts(2), Limits(12)):
        assert c.columns["pulls"]["lookup-6"] == c.columns["rounds"]


def test_sampling_is_exact(tiny_network, tiny_tokenizer):
    """20,000 texts of three tokens over five: chi-square against the model's own probabilities."""
    network = tiny_network("qwen3", vocab_size=5, eos_token_id=None).double()
    engine = Engine(network, tiny_tokenizer, max_rows=20_000)
    prompt = Prompt((Message("user", ""),), "", (0, 1, 0, 1))
    prompts = [replace(prompt, seed=i) for i in range(20_000)]
    draft = Engine(tiny_network("qwen3", seed=3, vocab_size=5, num_hidden_layers=1).double(), tiny_tokenizer)
    arms = (PromptLookup(2), DraftModel(draft, 2))
    method = BanditSpeculation(RandomArm(), arms, inner=Sampling())
    completions = method.generate(engine, prompts, Limits(3))
    accepted = sum(len(c.token_ids) - 1 - c.columns["rounds"] for c in completions)
    assert accepted > 2000, "hardly any draft was accepted: nothing is tested"
    texts = list(itertools.product(range(5), repeat=3))
    ids = torch.tensor([[*prompt.ids, *text] for text in texts])
    with torch.inference_mode():
        logprobs = network(ids).logits[:, 3:6].log_softmax(-1)
    expected = logprobs.gather(2, ids[:, 4:, None]).sum((1, 2)).exp().numpy()
    counts = dict.fromkeys(texts, 0)
    for c in completions:
        counts[c.token_ids] += 1
    frequent = expected * len(prompts) >= 5
    observed = [counts[t] for t, f in zip(texts, frequent, strict=True) if f]
    rest = len(prompts) - sum(observed)
    wanted = expected[frequent] * len(prompts)
    p = chisquare([*observed, rest], [*wanted, len(prompts) - wanted.sum()]).pvalue
    assert p > 1e-3


def test_on_the_command_line():
    method = parse(
        "banditspec:policy=exp3,lengths=[2,5],shared=true,inner=(sampling:temperature=0.6)"
    ).decoding
    assert [arm.label for arm in method.arms] == ["lookup-2", "lookup-5"]
    assert method.inner == Sampling(0.6)
    named = parse("banditspec:drafter=pico-draft").decoding
    assert [arm.label for arm in named.arms][-1] == "pico-draft-8"
    assert BanditSpeculation(shared=True, reward="speed").arms[0] == NoDraft()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"policy": "best"}, "policy is 'best'"),
        ({"policy": FixedArm(9)}, "arm is 9"),
        ({"drafters": ()}, "drafters is"),
        ({"drafters": (NoDraft(),)}, "drafters is"),
        ({"lengths": (2, 0)}, "n is 0"),
        ({"reward": "joy", "shared": True}, "reward is 'joy'"),
        ({"reward": "speed"}, "reward is 'speed'.*shared"),
    ],
)
def test_bad_parameters_are_named(parameters, message):
    with pytest.raises(InvalidValue, match=message):
        BanditSpeculation(**parameters)


@pytest.mark.parametrize("inner", [SoftThinking(), L2AdaptiveComputation()], ids=lambda d: type(d).__name__)
def test_what_cannot_be_speculated_is_refused(inner):
    with pytest.raises(Unsupported, match=f"{type(inner).__name__} .*speculatively"):
        BanditSpeculation(inner=inner)
    with pytest.raises(Unsupported):
        chain([inner, BanditSpeculation()])


def test_bad_inputs(tiny_engine, tiny_network, tiny_tokenizer, tiny_prompts):
    empty = replace(tiny_prompts(1)[0], ids=())
    with pytest.raises(ValueError, match="at least one token"):
        BanditSpeculation().generate(tiny_engine, [empty], Limits(4))
    assert BanditSpeculation(UCBSpec()).generate(tiny_engine, [], Limits(4)) == []
    broken = tiny_network("qwen3")
    broken.model.norm.weight.data.fill_(math.nan)
    with pytest.raises(ValueError, match=r"NaN logits for prompts\[0\]"):
        BanditSpeculation().generate(Engine(broken, tiny_tokenizer), tiny_prompts(2), Limits(4))
