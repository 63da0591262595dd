"""VG-Search: schedule and counters, a slow beam search beside it, Best-of-N as its limit, the choice of g."""

from __future__ import annotations

from dataclasses import replace

import pytest
import simulated
import torch
from scipy.stats import fisher_exact

from dovetail.core import InvalidValue, Limits
from dovetail.core.seeds import stream
from dovetail.decoding import AdaptiveVGSearch, Sampling, VGSearch
from dovetail.decoding.self_consistency import resampled
from dovetail.decoding.verification_granularity import choose_g, flops, measure
from dovetail.engine import Rows


def columns(found, *names):
    return [sum(c.columns[name] for c in found) / len(found) for name in names]


@pytest.mark.parametrize(
    ("g", "first_chunk", "chunks"),
    [
        (1, "step", [1] * 7),
        (2, "step", [1, 2, 2, 2]),
        (3, "step", [1, 3, 3]),
        (4, "step", [1, 4, 2]),
        (7, "step", [1, 6]),
        (3, "g", [3, 3, 1]),
        (7, "g", [7]),
    ],
)
def test_the_schedule_covers_max_steps(g, first_chunk, chunks):
    assert VGSearch(g=g, max_steps=7, first_chunk=first_chunk).chunks() == chunks


@pytest.mark.parametrize(
    ("g", "steps", "verified", "calls"),
    [(1, 192, 192, 12), (2, 132, 112, 7), (3, 108, 80, 5), (4, 96, 64, 4), (6, 84, 48, 3), (12, 72, 32, 2)],
)
def test_counters_of_the_simulated_table(g, steps, verified, calls):
    _, found = simulated.run(0.95, 0.3, g, runs=3)
    assert columns(found, "steps", "verified", "verifier_calls") == [steps, verified, calls]
    assert all(c.cost.tokens_written == steps and len(c.token_ids) == 12 for c in found)


@pytest.mark.parametrize(
    ("q", "sigma", "g", "accuracy"),
    # 1,500 runs of another implementation gave these
    [
        (0.95, 0.3, 6, 1.0),
        (0.95, 1.0, 2, 0.987),
        (0.95, 1.0, 12, 0.841),
        (0.7, 1.0, 1, 0.838),
        (0.7, 1.0, 2, 0.447),
    ],
)
def test_accuracy_of_the_simulated_table(q, sigma, g, accuracy):
    right, theirs = round(100 * simulated.run(q, sigma, g, runs=100)[0]), round(1500 * accuracy)
    assert fisher_exact([[right, 100 - right], [theirs, 1500 - theirs]]).pvalue > 0.01


def test_strong_generators_get_rare_checks_and_weak_ones_frequent_checks():
    def chosen(q, sigma):
        profile = {}
        for g in (1, 2, 4):
            accuracy, found = simulated.run(q, sigma, g, runs=50)
            profile[g, 16] = (accuracy, columns(found, "flops")[0])
        assert [f for _, f in profile.values()] == sorted((f for _, f in profile.values()), reverse=True)
        return choose_g(profile, "CM")[0]

    assert chosen(0.95, 0.3) >= 2
    assert chosen(0.7, 1.0) == 1


def test_the_formula_matches_the_counters():
    """Where every round is a whole one; round 0 of the search writes one step, the formula's g - 1 + B2."""
    n, width, g, steps = 16, 4, 3, 13
    _, found = simulated.run(0.9, 0.5, g, n=n, runs=2, max_steps=steps)
    weights, verifier = 3, 0
    rounds = flops(n // width, width, steps - 1, g, 1, weights, verifier, 0)
    assert columns(found, "flops") == [rounds + 2 * weights * (n + 1)]  # round 0, and the prompt's one token
    assert flops(2, 4, 12, 2, 10, 1e6, 1e5, 20) == 2 * 2 * 6 * (10 * 5 * 1e6 + 20 * 4 * 1e5)


# --- a slow beam search beside it ----------------------------------------------------------------------


def slow_beam_search(engine, prompt, n, width, max_steps, delimiter, limit):
    """Beam by beam and token by token, each from scratch; scores are mean token probabilities."""
    sampling, finished = Sampling(temperature=0.8), []

    def one_step(ids, seed, last):
        while True:
            tokens = torch.tensor([[*prompt.ids, *ids]])
            logits = engine.forward(engine.forward.cache(1), tokens).logits
            one = torch.ones(1, dtype=torch.int64)
            rows = Rows(torch.tensor([seed]), one * len(ids), one, one > 0)
            ids = [*ids, int(sampling.choose(logits, rows).tokens)]
            if ids[-1] == 94 or len(ids) == limit:
                return ids, True
            if delimiter == chr(33 + ids[-1]) and not last and ids[-1] < 94:
                return ids, False

    def score(ids):
        tokens = torch.tensor([[*prompt.ids, *ids]])
        out = engine.forward(engine.forward.cache(1), tokens, all_logits=True)
        logprobs = out.logits[0, len(prompt.ids) - 1 : -1].log_softmax(-1)
        return float(logprobs[torch.arange(len(ids)), ids].mean().exp())

    beams, seeds = [[]] * n, [p.seed for p in resampled(prompt, n)]
    for turn in range(max_steps):
        grown = [one_step(b, s, turn == max_steps - 1) for b, s in zip(beams, seeds, strict=True)]
        finished += [(score(ids), ids) for ids, done in grown if done]
        going = list(dict.fromkeys(tuple(ids) for ids, done in grown if not done))
        kept = sorted(going, key=lambda ids: -score(ids))[: n // width]
        if not kept or len(finished) >= n:
            break
        order = [going.index(k) for k in kept]
        kept = [k for _, k in sorted(zip(order, kept, strict=True))]
        beams = [list(kept[i % len(kept)]) for i in range(n)]
        seeds = [stream(prompt.seed, "branch", turn + 1, j) for j in range(n)]
    return tuple(max(finished, key=lambda f: f[0])[1])


@torch.inference_mode()
def test_g_1_is_beam_search(tiny_engine, tiny_prompts):
    prompts = tiny_prompts(4)
    delimiter = "I"
    search = VGSearch(n=4, beam_width=2, g=1, max_steps=4, delimiter=delimiter)
    found = search.generate(tiny_engine, prompts, Limits(24))
    assert sum(c.columns["verifier_calls"] for c in found) > len(found), "nothing was ever pruned"
    slow = [slow_beam_search(tiny_engine, p, 4, 2, 4, delimiter, 24) for p in prompts]
    assert [c.token_ids for c in found] == slow


def test_g_of_all_steps_is_best_of_n(tiny_engine, tiny_prompts):
    """The same n samples, token for token, as the engine writes; the verifier is called once."""
    prompts = tiny_prompts(5)
    search = VGSearch(n=4, g=6, max_steps=6, first_chunk="g", delimiter="I")
    found = search.generate(tiny_engine, prompts, Limits(20, logprobs=True))
    for prompt, c in zip(prompts, found, strict=True):
        samples = Sampling(temperature=0.8).generate(
            tiny_engine, resampled(prompt, 4), Limits(20, logprobs=True)
        )
        best = max(samples, key=lambda s: sum(s.logprobs) / len(s.logprobs))
        assert c.token_ids == best.token_ids
        assert c.cost.tokens_written == sum(len(s.token_ids) for s in samples)
        assert c.columns["verifier_calls"] == 1
        assert c.columns["finished"] == c.columns["verified"] == 4


def test_no_beam_goes_on_after_its_end_or_beyond_max_steps(tiny_engine, tiny_prompts):
    search = VGSearch(n=8, g=2, max_steps=3, delimiter="I")
    for c in search.generate(tiny_engine, tiny_prompts(4), Limits(24)):
        assert 94 not in c.token_ids[:-1]
        assert c.columns["steps"] <= 8 + 2 + 8
        assert c.columns["finished"] >= 1


def test_lookahead_is_paid_for_and_forgotten(tiny_engine, tiny_prompts):
    prompts = tiny_prompts(4)
    plain = VGSearch(n=4, g=4, max_steps=4, first_chunk="g", delimiter="I")
    ahead = replace(plain, lookahead=1)
    a, b = (s.generate(tiny_engine, prompts, Limits(20)) for s in (plain, ahead))
    assert [c.columns["steps"] for c in a] == [c.columns["steps"] for c in b], "all beams had ended"
    plain, ahead = (replace(s, g=1) for s in (plain, ahead))
    a, b = (s.generate(tiny_engine, prompts, Limits(20)) for s in (plain, ahead))
    assert sum(c.columns["steps"] for c in b) > sum(c.columns["steps"] for c in a)
    assert all(len(c.token_ids) <= 20 for c in b)


def test_equal_candidates_count_once():
    search = VGSearch(n=4, beam_width=2)
    assert search.keep([0.1, 0.9, 0.5, 0.7], [False, True, False, False], [0, 1, 2, 3]) == [3, 2]
    _, twins = simulated.run(1.0, 1.0, 1, n=4, runs=20, beam_width=2, filter_duplicates=True)
    # with q = 1 all four are equal: one survives, and is forked to four
    assert columns(twins, "steps") == [4 * 12]


# --- the choice of g -----------------------------------------------------------------------------------

PROFILE = {
    (1, 8): (0.80, 9.0),
    (2, 8): (0.80, 6.0),
    (3, 8): (0.796, 5.0),
    (4, 8): (0.70, 4.0),
    (1, 4): (0.7, 4.5),
}


def test_choose_g():
    assert choose_g(PROFILE) == (3, 8)
    assert choose_g(PROFILE, tolerance=0.0) == (2, 8)
    assert choose_g(PROFILE, tolerance=0.5) == (4, 8)
    assert choose_g(PROFILE, "AM") == (2, 8)  # a tie goes to the cheaper one
    assert choose_g(PROFILE, "AM", budget=5.5) == (3, 8)
    assert choose_g(PROFILE, "AM", budget=4.0) == (4, 8)
    grouped = {(*k, "easy"): v for k, v in PROFILE.items()} | {(1, 8, "hard"): (0.3, 9.0)}
    assert choose_g(grouped, difficulty="easy") == (3, 8)
    assert choose_g(grouped, difficulty="hard") == (1, 8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"profile": {}}, "profile is {}: must be not empty"),
        ({"budget": 1.0}, r"at least the cheapest cost, 4\.0"),
        ({"budget": 4.0, "tolerance": 0.0}, "as accurate as g = 1"),
        ({"difficulty": "hard"}, "difficulty 'hard'"),
        ({"profile": {(2, 8): (0.8, 6.0)}}, "one with g = 1"),
        ({"mode": "XM"}, "mode is 'XM'"),
    ],
)
def test_a_choice_that_cannot_be_made(arguments, message):
    with pytest.raises(InvalidValue, match=message):
        choose_g(**{"profile": PROFILE, **arguments})


def test_adaptive_search_is_the_chosen_one(tiny_engine, tiny_prompts):
    search = VGSearch(n=4, beam_width=2, max_steps=4, delimiter="I")
    prompts = tiny_prompts(3)
    profile = measure(search, tiny_engine, prompts, Limits(16), lambda i, c: 1.0, [(1, 4), (2, 4)])
    assert {k: v[0] for k, v in profile.items()} == {(1, 4): 1.0, (2, 4): 1.0}
    adaptive = AdaptiveVGSearch(tuple((*k, *v) for k, v in profile.items()), search=search)
    found = adaptive.generate(tiny_engine, prompts, Limits(16))
    assert adaptive.chosen == replace(search, g=2)
    assert [c.token_ids for c in found] == [
        c.token_ids for c in adaptive.chosen.generate(tiny_engine, prompts, Limits(16))
    ]
    assert {(c.columns["g"], c.columns["n"]) for c in found} == {(2, 4)}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n": 6}, "n is 6: must be a multiple of beam_width, 4"),
        ({"n": 2}, "n is 2"),
        ({"n": 0}, "n is 0"),
        ({"beam_width": 0}, "beam_width is 0"),
        ({"g": 0}, "g is 0"),
        ({"g": 1.5}, "g is 1.5"),
        ({"agg": "mean"}, "agg is 'mean'"),
        ({"pick": "best"}, "pick is 'best'"),
        ({"first_chunk": "all"}, "first_chunk"),
        ({"max_steps": 0}, "max_steps is 0"),
        ({"lookahead": -1}, "lookahead is -1"),
        ({"delimiter": ""}, "delimiter"),
        ({"inner": Sampling(temperature=0.0)}, "equal beams are no search"),
    ],
)
def test_impossible_parameters(values, message):
    with pytest.raises(InvalidValue, match=message):
        VGSearch(**values)


def test_g_beyond_max_steps_is_max_steps():
    with pytest.warns(UserWarning, match="g = 20 counts as max_steps = 12"):
        search = VGSearch(g=20, first_chunk="g")
    assert search.chunks() == [12]
