"""Verifiers: hand-computed scores, saving, and wrong scores that are named."""

from __future__ import annotations

import math

import pytest
import torch

from dovetail.core import InvalidValue, Limits, Message, Prompt
from dovetail.decoding import HiddenStateVerifier, TextVerifier, TokenConfidence, Verifier, VGSearch
from dovetail.decoding.steps import Solutions
from dovetail.decoding.verifiers import checked, evidence


def solutions(**changes) -> Solutions:
    """Two solutions: of two steps (2 and 1 tokens) and of one step (2 tokens)."""
    half, quarter = math.log(0.5), math.log(0.25)
    values = {
        "prompts": [Prompt((Message("system", "s"), Message("user", "q")), "t"), Prompt((), "bare")],
        "counts": torch.tensor([2, 1]),
        "ends": torch.tensor([[2, 3, 0], [2, 0, 0]]),
        "scored": torch.tensor([1, 0]),
        "tokens": torch.tensor([[1, 2, 3, 0], [4, 5, 0, 0]]),
        "logprobs": torch.tensor([[half, half, quarter, 0], [0.0, quarter, -9.0, 0]]),
        "hidden": None,
        "decode": lambda ids: "".join(map(str, ids)),
    }
    return Solutions(**(values | changes))


def test_token_confidence_is_the_geometric_mean_so_far():
    scores = TokenConfidence().score(solutions())
    assert [len(s) for s in scores] == [2, 1]
    assert scores[0] == pytest.approx([0.5, (0.5 * 0.5 * 0.25) ** (1 / 3)])
    assert scores[1] == pytest.approx([0.5])
    assert TokenConfidence().reads(solutions()).tolist() == [0, 0]


WEIGHTS = {
    "mean": torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0]),
    "scale": torch.tensor([2.0, 1.0, 1.0, 1.0, 1.0]),
    "in": torch.tensor([[1.0, 0, 0, 0, 0], [0, -1.0, 0, 0, 0], [0, 0, 0, -1.0, 0]]),
    "bias": torch.tensor([0.0, 0.5, -1.0]),
    "out": torch.tensor([2.0, -1.0, 5.0]),
    "shift": torch.tensor(0.25),
}


def test_the_head_by_hand(tmp_path):
    hidden = torch.zeros(2, 3, 2)
    hidden[0, 0] = torch.tensor([3.0, 0.25])
    half, quarter = math.log(0.5), math.log(0.25)
    seen = evidence(solutions(hidden=hidden))
    assert seen[0, 0].tolist() == pytest.approx([3.0, 0.25, half, half, 2 * half])
    assert seen[0, 1, 2:].tolist() == pytest.approx([(2 * half + quarter) / 3, quarter, quarter])
    assert seen[1, 0, 2:].tolist() == pytest.approx([quarter / 2, quarter, quarter])
    # first step: relu [1, .25, log 2 - 1] = [1, .25, 0] -> 2 - .25 + .25; second: relu [-.5, .5, log 4 - 1]
    verifier = HiddenStateVerifier(WEIGHTS)
    logits = [2.0, -0.5 + 5 * (math.log(4) - 1) + 0.25]
    expected = [1 / (1 + math.exp(-x)) for x in logits]
    assert verifier.score(solutions(hidden=hidden))[0] == pytest.approx(expected)
    assert verifier.parameters == 5 + 5 + 15 + 3 + 3 + 1
    assert verifier.reads(solutions()).tolist() == [1, 1]
    verifier.save(tmp_path / "head.safetensors")
    again = HiddenStateVerifier.load(tmp_path / "head.safetensors")
    assert repr(again) == repr(verifier)
    assert again.score(solutions(hidden=hidden)) == verifier.score(solutions(hidden=hidden))


def test_a_head_for_another_model_says_so():
    with pytest.raises(InvalidValue, match="made for 2 hidden units"):
        HiddenStateVerifier(WEIGHTS).score(solutions(hidden=torch.zeros(2, 3, 5)))
    with pytest.raises(InvalidValue, match="must watch hidden states"):
        HiddenStateVerifier(WEIGHTS).score(solutions())


def test_a_function_of_texts():
    seen = []

    def function(questions, steps):
        seen.append((questions, steps))
        return [[0.5] * len(s) for s in steps]

    verifier = TextVerifier(function, parameters=10)
    assert verifier.score(solutions()) == [[0.5, 0.5], [0.5]]
    assert seen == [(["q", "bare"], [["12", "3"], ["45"]])]
    assert verifier.reads(solutions()).tolist() == [1, 2]  # "q123" and "bare45", four letters a token
    assert TextVerifier(function, count=lambda q, s: len(s)).reads(solutions()).tolist() == [2, 1]


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([[0.1, 0.2]], "scores of 1 candidates"),
        ([[0.1, 0.2], []], "candidate 1 is .*: must be one per step, of 1"),
        ([[0.1, float("nan")], [0.1]], r"candidate 0 is \[0.1, nan\]"),
        ([[0.1, 0.2], [1.5]], "candidate 1 .* in \\[0, 1\\]"),
    ],
)
def test_wrong_scores_are_named(scores, message):
    with pytest.raises(InvalidValue, match=message):
        checked(scores, [2, 1])
    assert checked([[0, 1], [0.5]], [2, 1]) == [[0.0, 1.0], [0.5]]


def test_a_search_refuses_a_broken_verifier(tiny_engine, tiny_prompts):
    class Broken(Verifier):
        def score(self, solutions):
            return [[float("nan")] * n for n in solutions.counts.tolist()]

    with pytest.raises(InvalidValue, match="verifier's scores of candidate 0"):
        VGSearch(verifier=Broken()).generate(tiny_engine, tiny_prompts(1), Limits(8))


def test_a_verifier_by_path(tmp_path, tiny_engine, tiny_prompts):
    size = tiny_engine.forward.hidden_size + 3
    path = tmp_path / "head.safetensors"
    rng = torch.Generator().manual_seed(0)
    weights = {
        "mean": torch.zeros(size),
        "scale": torch.ones(size),
        "in": torch.randn(4, size, generator=rng),
        "bias": torch.zeros(4),
        "out": torch.randn(4, generator=rng),
        "shift": torch.zeros(()),
    }
    HiddenStateVerifier(weights).save(path)
    prompts = tiny_prompts(3)
    options = {"n": 4, "max_steps": 4, "delimiter": "I"}
    by_path = VGSearch(verifier=str(path), **options).generate(tiny_engine, prompts, Limits(16))
    given = VGSearch(verifier=HiddenStateVerifier(weights), **options).generate(
        tiny_engine, prompts, Limits(16)
    )
    plain = VGSearch(**options).generate(tiny_engine, prompts, Limits(16))
    assert [c.token_ids for c in by_path] == [c.token_ids for c in given]
    assert [c.token_ids for c in by_path] != [c.token_ids for c in plain]
    assert all(c.columns["verifier_tokens"] > 0 for c in by_path)
    with pytest.raises(InvalidValue, match="the path of a saved HiddenStateVerifier"):
        VGSearch(verifier="nowhere.safetensors").generate(tiny_engine, prompts, Limits(16))
