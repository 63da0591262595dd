"""Stacking: what fits is applied in order, what does not says why."""

from __future__ import annotations

import pytest
import torch

from dovetail.core import Limits, Unsupported
from dovetail.decoding import (
    EntropyMinimization,
    Greedy,
    MixtureOfInputs,
    Sampling,
    SelfConsistency,
    SoftThinking,
    StepwiseDecoding,
    chain,
    describe,
)


class Add(StepwiseDecoding):
    def adjust(self, logits, rows):
        return logits + torch.eye(logits.shape[1])[7] * 5

    def columns(self, rows, index):
        return {"added": True}


class Double(StepwiseDecoding):
    def adjust(self, logits, rows):
        return logits * 2


def test_adjustments_pass_through_in_order():
    zero = torch.zeros(1, 9)
    assert chain([Add(), Double(), Greedy()]).adjust(zero, None)[0, 7] == 10
    assert chain([Double(), Add(), Greedy()]).adjust(zero, None)[0, 7] == 5


def test_the_stack_is_really_applied(tiny_engine, tiny_prompts):
    prompts = tiny_prompts(3)
    plain = Greedy().generate(tiny_engine, prompts, Limits(10))
    added = chain([Add(), Greedy()]).generate(tiny_engine, prompts, Limits(10))
    voted = chain([Add(), SelfConsistency(n=2, inner=Greedy())]).generate(tiny_engine, prompts, Limits(10))
    assert [c.token_ids for c in plain] != [c.token_ids for c in added]
    assert [c.token_ids for c in voted] == [c.token_ids for c in added]
    assert all(c.columns["added"] for c in added)


def test_chains_flatten():
    inner = chain([Add(), Double()])
    assert [type(p) for p in chain([inner, Sampling()]).parts] == [Add, Double, Sampling]
    assert chain([Greedy()]) == Greedy()


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([Greedy(), Sampling()], "Greedy and Sampling both choose the token"),
        ([SoftThinking(), MixtureOfInputs()], "SoftThinking and MixtureOfInputs both choose"),
        (
            [SelfConsistency(), Greedy()],
            "SelfConsistency decides more than single steps, so it must come last",
        ),
        ([SoftThinking(), SelfConsistency()], "SoftThinking and Sampling both choose"),
        ([], "an empty stack"),
    ],
)
def test_what_does_not_fit_says_why(parts, message):
    with pytest.raises(Unsupported, match=message):
        chain(parts)


def test_description_names_every_parameter():
    record = describe(chain([EntropyMinimization(lr=0.2), SelfConsistency(n=3)]))
    assert record["class"] == "SelfConsistency"
    assert record["n"] == 3
    assert [p["class"] for p in record["inner"]["parts"]] == ["EntropyMinimization", "Sampling"]
    assert record["inner"]["parts"][0]["lr"] == 0.2


class Shift(StepwiseDecoding):
    """Adds to every layer's output what it is given, and keeps what it saw."""

    def __init__(self, by):
        self.by, self.seen = by, []

    def hook(self, rows, layers, valid):
        def hook(layer, before, after):
            self.seen.append(float(after))
            return after * 2 + self.by

        return hook


def test_hooks_pass_on_what_they_make_of_a_layer():
    first, second = Shift(1.0), Shift(10.0)
    hook = chain([first, Add(), second, Greedy()]).hook(None, 1, None)
    assert float(hook(0, torch.zeros(()), torch.tensor(3.0))) == (3 * 2 + 1) * 2 + 10
    assert (first.seen, second.seen) == ([3.0], [7.0])
    assert chain([Add(), Greedy()]).hook(None, 1, None) is None
    assert float(chain([Add(), first]).hook(None, 1, None)(0, torch.zeros(()), torch.tensor(3.0))) == 7.0
