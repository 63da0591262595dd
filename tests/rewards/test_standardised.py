"""Each reward is standardised within its group before they are added up."""

from __future__ import annotations

import math

import pytest

from dovetail.core import InvalidValue
from dovetail.rewards import Bleu, StandardisedReward


def lengths(prompts, completions, **columns):
    return [100.0 * len(c) for c in completions]


def first_only(prompts, completions, **columns):
    return [1.0, None, 0.0, 0.0]


def test_by_hand():
    texts = ["a", "aaa", "b", "b"]
    paid = StandardisedReward([lengths])(["?"] * 4, texts, group=[0, 0, 1, 1])
    half = math.sqrt(2) / 2  # 100 and 300: mean 200, unbiased deviation 141.4
    assert paid == pytest.approx([-half, half, 0, 0])


def test_units_do_not_matter():
    texts, references = ["a b c d", "a b", "x"], [["a b c d"]] * 3
    alone = StandardisedReward([Bleu()])(["?"] * 3, texts, references=references)
    both = StandardisedReward([Bleu(), lengths])(["?"] * 3, texts, references=references)
    long = StandardisedReward([lengths])(["?"] * 3, texts)
    assert both == pytest.approx([(a + b) / 2 for a, b in zip(alone, long, strict=True)])
    assert sum(both) == pytest.approx(0)


def test_what_has_no_value_has_none_and_counts_for_nothing():
    paid = StandardisedReward([first_only])(["?"] * 4, ["a"] * 4, group=[0, 0, 1, 1])
    assert paid == [0, None, 0, 0]


def test_impossible_parameters():
    with pytest.raises(InvalidValue, match="members"):
        StandardisedReward([])
    with pytest.raises(InvalidValue, match="eps"):
        StandardisedReward([lengths], eps=0)


def test_state_of_members_is_kept():
    class Counts:
        seen = 0

        def update(self, rollouts):
            self.seen += 1

        def state_dict(self):
            return {"seen": self.seen}

        def load_state_dict(self, state):
            self.seen = state["seen"]

    one, other = StandardisedReward([Counts(), lengths]), StandardisedReward([Counts(), lengths])
    one.update(None)
    other.load_state_dict(one.state_dict())
    assert other.members[0].seen == 1
