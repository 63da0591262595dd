"""Agreement: a completion is paid the share of its group that gives the same answer. Needs no labels.

The self-consistency reward (SC-RL) that Agarwal et al., arXiv 2505.15134, compare entropy minimisation with,
as in Zuo et al., "TTRL", arXiv 2504.16084, whose reward is 1 for the majority's answer. It needs an answer
that can be told from the text; one that gives none is paid nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from dovetail.rewards.base import Batch, Floats, Reward
from dovetail.tasks import extraction


@dataclass(frozen=True)
class Agreement(Reward):
    """#{j : a_j = a_i} / N over the N completions of a group, itself included; 0 without an answer."""

    name = "agreement"

    def pay(self, batch: Batch) -> Floats:
        answers = [answer(opened, text) for opened, text in zip(batch.opened, batch.texts, strict=True)]
        groups = batch.groups.tolist()
        sizes = Counter(groups)
        votes = Counter((g, a) for g, a in zip(groups, answers, strict=True) if a)
        pairs = zip(groups, answers, strict=True)
        return np.asarray([votes[g, a] / sizes[g] if a else 0.0 for g, a in pairs])


def answer(opened: str, text: str) -> str:
    """The boxed or announced answer behind the thinking, in one spelling per value; "" without one."""
    said = extraction.after_thinking(opened + text)
    if said is None:
        return ""
    found = extraction.boxed(said) or extraction.announced(said)
    return extraction.canonical(found) if found else ""
