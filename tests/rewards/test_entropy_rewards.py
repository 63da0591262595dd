"""Entropy as a reward: hand-computed sums, and what cannot be read."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dovetail.core import InvalidValue
from dovetail.rewards import Agreement, SequenceEntropy, TokenEntropy

GIVEN = {"prompts": ["?"] * 3, "completions": ["a", "bb", "c"]}


def test_sums_over_tokens() -> None:
    entropies = [[math.log(2)], [0.5, 0.25], [0.0, 0.0, 0.0]]
    assert TokenEntropy()(**GIVEN, entropies=entropies) == pytest.approx([-math.log(2), -0.75, 0.0])
    logprobs = [torch.tensor([-1.0, -2.0]), np.asarray([-0.5]), (0.0,)]
    assert SequenceEntropy()(**GIVEN, logprobs=logprobs) == pytest.approx([-3.0, -0.5, 0.0])


@pytest.mark.parametrize("bad", [[], 3.0, ["x"], [[1.0]], [math.nan], [math.inf], None])
def test_what_is_no_list_of_numbers_is_named(bad: object) -> None:
    for reward, name in ((TokenEntropy(), "entropies"), (SequenceEntropy(), "logprobs")):
        with pytest.raises(InvalidValue, match=f"column '{name}', row 1"):
            reward(**GIVEN, **{name: [[0.1], bad, [0.2]]})
        with pytest.raises(InvalidValue, match=name):
            reward(**GIVEN)


def test_agreement_is_the_share_of_the_group() -> None:
    texts = [
        "<think>x</think>\\boxed{4}",
        "\\boxed{4.0}",
        "\\boxed{5}",
        "nothing",
        "\\boxed{4}",
        "\\boxed{4}",
    ]
    paid = Agreement()(prompts=["a"] * 4 + ["b"] * 2, completions=texts)
    assert paid == pytest.approx([0.5, 0.5, 0.25, 0.0, 1.0, 1.0])


def test_no_answer_at_all_pays_nothing() -> None:
    assert Agreement()(prompts=["a"] * 2, completions=["<think>\\boxed{4}", ""]) == [0.0, 0.0]
