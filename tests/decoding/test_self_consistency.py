"""Majority votes: winner, ties, missing answers, costs."""

from __future__ import annotations

import pytest

from dovetail.core import Completion, Cost, InvalidValue, Limits, Prompt
from dovetail.decoding import Sampling, SelfConsistency
from dovetail.decoding.self_consistency import last_boxed


class Scripted:
    """An engine that gives the written texts in order."""

    provides = frozenset({"text"})
    name = "scripted"

    def __init__(self, *texts: str) -> None:
        self.texts, self.seeds = texts, []

    def generate(self, prompts, limits, step):
        self.seeds = [p.seed for p in prompts]
        return [Completion(t, (1, 2), cost=Cost(3, 2, 2.0, 0.5)) for t in self.texts]


def vote(*answers: str, **options) -> Completion:
    engine = Scripted(*(f"\\boxed{{{a}}}" if a else "no answer" for a in answers))
    return SelfConsistency(n=len(answers), **options).generate(engine, [Prompt((), "q", (1,), 5)], Limits())[
        0
    ]


def test_the_majority_wins():
    completion = vote("4", "5", "5", "", "4", "5")
    assert completion.text == "\\boxed{5}"
    assert completion.columns == {"votes": {"5": 3, "4": 2}, "samples": 6}
    assert completion.cost == Cost(18, 12, 12.0, 3.0)


def test_ties_go_to_the_first():
    assert vote("7", "8", "8", "7").text == "\\boxed{7}"
    assert vote("", "9", "").text == "\\boxed{9}"
    assert vote("", "").text == "no answer"


def test_votes_are_over_what_extract_finds():
    assert vote("10", "4", "14", "24", extract=lambda t: t[-2]).text == "\\boxed{4}"


def test_each_question_gets_its_own_samples(tiny_engine, tiny_prompts):
    prompts = tiny_prompts(3)
    engine = Scripted(*["x"] * 9)
    SelfConsistency(n=3).generate(engine, prompts, Limits())
    assert len(set(engine.seeds)) == 9
    assert [engine.seeds[0], engine.seeds[3], engine.seeds[6]] == [p.seed for p in prompts]
    single = SelfConsistency(n=1).generate(tiny_engine, prompts, Limits(8))
    plain = Sampling().generate(tiny_engine, prompts, Limits(8))
    assert [c.token_ids for c in single] == [c.token_ids for c in plain]


def test_bad_n():
    with pytest.raises(InvalidValue, match="n is 0"):
        SelfConsistency(n=0)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("\\boxed{1} then \\boxed{ 2 }", "2"),
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("<think>\\boxed{3}</think> nothing", ""),
        ("\\boxed{unclosed", ""),
        ("", ""),
    ],
)
def test_last_boxed(text, answer):
    assert last_boxed(text) == answer
