"""Soft thinking: the spec's invariants and numbers by hand."""

from __future__ import annotations

import math

import pytest
import torch

from dovetail.core import InvalidValue, Limits, Unsupported
from dovetail.decoding import Greedy, SoftThinking, describe
from dovetail.engine import Choice, Engine, Rows

END = 96  # </think> of the tiny tokenizer
PLAIN = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0}


def rows(n: int, thinking: bool = True) -> Rows:
    ones = torch.ones(n, dtype=torch.int64)
    return Rows(torch.arange(n) + 1, ones * 0, ones, torch.full((n,), thinking), END)


def logits_of(*probs: float) -> torch.Tensor:
    row = torch.full((1, 100), -torch.inf)
    row[0, : len(probs)] = torch.tensor(probs).log()
    return row


def test_concept_token_by_hand():
    method = SoftThinking(max_topk=2, temperature=1.0, top_p=0.9, top_k=3, min_p=0.0)
    concept = method.concept_token(logits_of(0.1, 0.4, 0.2, 0.3))
    # top-3: 4/9 3/9 2/9; mass before the third is 7/9 < 0.9: stays; the two largest are renormalized
    torch.testing.assert_close(concept.probs, torch.tensor([[4 / 7, 3 / 7]]))
    assert concept.ids.tolist() == [[1, 3]]
    entropy = -sum(p * math.log(p) for p in (0.1, 0.4, 0.2, 0.3))  # of all four, before any filter
    assert concept.entropy[0] == pytest.approx(entropy, abs=1e-6)


def test_entropy_is_after_temperature():
    concept = SoftThinking(temperature=0.5).concept_token(logits_of(0.8, 0.2))
    q = 0.64 / 0.68
    assert concept.entropy[0] == pytest.approx(-(q * math.log(q) + (1 - q) * math.log(1 - q)), abs=1e-6)


def test_without_temperature_the_models_own_entropy_counts():
    """At temperature 0 every distribution is one-hot: Cold Stop would end all thinking after a fixed time."""
    concept = SoftThinking(temperature=0.0).concept_token(logits_of(0.25, 0.75))
    assert concept.ids[0, 0] == 1
    assert concept.probs[0].tolist() == [1.0] + [0.0] * 9
    assert concept.entropy[0] == pytest.approx(-(0.25 * math.log(0.25) + 0.75 * math.log(0.75)), abs=1e-6)


def test_rows_sum_to_one_and_descend():
    logits = torch.randn(50, 100, generator=torch.Generator().manual_seed(0)) * 3
    for noise in (None, "gumbel", "dirichlet"):
        concept = SoftThinking(noise=noise, max_topk=7).concept_token(logits, rows(50))
        assert concept.probs.shape == concept.ids.shape == (50, 7)
        torch.testing.assert_close(concept.probs.sum(-1), torch.ones(50))
        assert (concept.probs.diff(dim=-1) <= 0).all()
        assert (concept.probs >= 0).all()


def test_noise_makes_the_rows_differ():
    logits = torch.zeros(4, 100)
    for noise in ("gumbel", "dirichlet"):
        concept = SoftThinking(noise=noise).concept_token(logits, rows(4))
        assert not torch.allclose(concept.probs[0], concept.probs[1])
    assert torch.equal(*SoftThinking().concept_token(logits, rows(4)).probs[:2])


def test_missing_candidates_have_no_weight():
    method = SoftThinking(max_topk=5, temperature=1.0, top_k=2, top_p=1.0)
    concept = method.concept_token(logits_of(0.5, 0.3, 0.2))
    assert concept.probs[0].tolist() == pytest.approx([0.625, 0.375, 0, 0, 0])


def test_max_topk_one_is_greedy_thinking(tiny_engine, tiny_prompts):
    prompts = tiny_prompts(6)
    greedy = Greedy().generate(tiny_engine, prompts, Limits(20))
    for parameters in ({"max_topk": 1}, {"temperature": 0.0}):
        method = SoftThinking(after_temperature=0.0, **parameters)  # some rows come to their answer
        soft = method.generate(tiny_engine, prompts, Limits(20))
        assert [c.token_ids for c in soft] == [c.token_ids for c in greedy]
    mixed = SoftThinking(max_topk=10).generate(tiny_engine, prompts, Limits(20))
    assert [c.token_ids for c in mixed] != [c.token_ids for c in greedy], "mixtures change nothing"


def test_the_mixture_lies_between_its_tokens(tiny_engine):
    forward = tiny_engine.forward
    weights, ids = torch.tensor([[0.5, 0.3, 0.2]]), torch.tensor([[3, 8, 20]])
    mixed = forward.mix(weights, ids)[0, 0]
    table = forward.embed(ids[0])
    torch.testing.assert_close(mixed, (weights.T.double() * table).sum(0), atol=1e-6, rtol=0)
    assert mixed.norm() <= table.norm(dim=-1).max()


def run_steps(method: SoftThinking, *steps: torch.Tensor, thinking: bool = True) -> list[tuple[Choice, bool]]:
    state, seen = rows(1, thinking), []
    method.begin(state)
    for logits in steps:
        choice = method.choose(logits, state)
        stop = method.stop(choice, state)
        seen.append((choice, stop is not None and bool(stop[0])))
        state.step = state.step + 1
    return seen


SURE, UNSURE = logits_of(0.9999999), logits_of(0.6, 0.4)


def test_cold_stop_fires_at_the_threshold_and_resets():
    method = SoftThinking(length_threshold=3, **PLAIN)
    tokens = [int(c.tokens) for c, _ in run_steps(method, SURE, SURE, UNSURE, SURE, SURE, SURE, UNSURE)]
    assert tokens[:5] == [0, 0, 0, 0, 0]
    assert tokens[5] == END, "the third confident step in a row ends thinking"
    never = [int(c.tokens) for c, _ in run_steps(SoftThinking(entropy_threshold=0.0, **PLAIN), *[SURE] * 300)]
    assert END not in never


def test_a_huge_entropy_threshold_stops_at_exactly_n():
    for n in (1, 4):
        method = SoftThinking(entropy_threshold=1e9, length_threshold=n, **PLAIN)
        tokens = [int(c.tokens) for c, _ in run_steps(method, *[UNSURE] * n)]
        assert tokens.index(END) == n - 1


def test_after_thinking_inputs_are_plain():
    method = SoftThinking(length_threshold=2, **PLAIN)
    steps = run_steps(method, UNSURE, SURE, SURE, UNSURE)
    assert steps[0][0].weights[0, :2].tolist() == pytest.approx([0.6, 0.4])
    assert steps[2][0].weights is None  # </think> itself
    assert steps[3][0].weights is None


def test_the_natural_end_must_be_the_most_probable_token():
    end = torch.full((1, 100), -torch.inf)
    end[0, END], end[0, 5] = math.log(0.6), math.log(0.4)
    steps = run_steps(SoftThinking(**PLAIN), end, UNSURE)
    assert int(steps[0][0].tokens) == END
    assert steps[1][0].weights is None
    end[0, END], end[0, 5] = math.log(0.4), math.log(0.6)
    steps = run_steps(SoftThinking(**PLAIN), end, UNSURE)
    assert int(steps[0][0].tokens) == 5
    assert steps[1][0].weights is not None, "still thinking"


def test_endless_confident_answers_are_aborted():
    steps = run_steps(SoftThinking(length_threshold=2, **PLAIN), SURE, SURE, SURE, SURE)
    assert [stop for _, stop in steps] == [False, False, False, True]
    steps = run_steps(SoftThinking(length_threshold=2, abort_answer=False, **PLAIN), *[SURE] * 6)
    assert not any(stop for _, stop in steps)


def test_a_closed_thinking_block_is_answered_normally(tiny_engine, tiny_prompts):
    completion = SoftThinking().generate(tiny_engine, tiny_prompts(1, thinking=False), Limits(8))[0]
    assert completion.columns["thinking_tokens"] == 0
    assert completion.columns["answer_tokens"] == len(completion.token_ids)


def test_what_is_reported(tiny_engine, tiny_prompts):
    method = SoftThinking(entropy_threshold=1e9, length_threshold=4, after_temperature=0.0)
    for c in method.generate(tiny_engine, tiny_prompts(4), Limits(12)):
        if END not in c.token_ids:
            continue
        thought = c.token_ids.index(END) + 1
        assert c.columns["thinking_tokens"] == thought <= 4
        assert c.columns["answer_tokens"] == len(c.token_ids) - thought
        assert c.columns["cold_stopped"] == (thought == 4)
        assert "</think>" in c.text


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"max_topk": 0}, "max_topk is 0"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"min_p": 1.0}, "min_p is 1.0"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"after_top_p": 2.0}, "after_top_p is 2.0"),
        ({"length_threshold": 0}, "length_threshold is 0"),
        ({"entropy_threshold": -0.1}, "entropy_threshold is -0.1"),
        ({"noise": "white"}, "noise is 'white'"),
        ({"gumbel_temperature": 0.0}, "gumbel_temperature is 0.0"),
    ],
)
def test_bad_parameters_are_named(parameters, message):
    with pytest.raises(InvalidValue, match=message):
        SoftThinking(**parameters)


def test_what_the_model_must_have(tiny_engine, tiny_prompts):
    with pytest.raises(InvalidValue, match="max_topk is 101"):
        SoftThinking(max_topk=101).generate(tiny_engine, tiny_prompts(1), Limits(4))
    without = Engine(tiny_engine.network, tiny_engine.tokenizer)
    without.think_end = None
    with pytest.raises(Unsupported, match="</think>"):
        SoftThinking().generate(without, tiny_prompts(1), Limits(4))


def test_defaults_are_the_papers():
    assert describe(SoftThinking()) == {
        "class": "SoftThinking",
        "max_topk": 10,
        "temperature": 0.6,
        "top_p": 0.95,
        "top_k": 30,
        "min_p": 0.001,
        "after_temperature": 0.6,
        "after_top_p": 0.95,
        "after_top_k": 30,
        "after_min_p": 0.0,
        "entropy_threshold": 0.01,
        "length_threshold": 256,
        "abort_answer": True,
        "noise": None,
        "gumbel_temperature": 0.5,
        "dirichlet_alpha": 1.0,
    }
