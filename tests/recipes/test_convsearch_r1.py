"""What ConvSearch-R1's recipe practises, searches and computes."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from dovetail.core.statistics import mean
from dovetail.recipes.convsearch_r1 import (
    BROKEN,
    COLD,
    DESCRIPTIONS,
    HABITS,
    LINES,
    MRR,
    ODDS,
    SIZES,
    Answers,
    Search,
    claims,
    document,
    reward,
    rewrite,
)
from dovetail.rewards.rank_incentive import parse_rewrite
from dovetail.tasks.conversations import examples

SEARCH = Search.of(replace(SIZES["smoke"], turns=80, reported=40), 3)


def test_turns_reported_are_about_nobody_of_the_training() -> None:
    first = [{e.columns["history"][0][0] for e in one} for one in (SEARCH.learned, SEARCH.reported)]
    assert not first[0] & first[1]
    assert set(SEARCH.ranker.qrels) == {e.id for e in SEARCH.learned}


def test_the_bare_query_finds_little_and_the_whole_question_all() -> None:
    raw = SEARCH.judged([e.question for e in SEARCH.reported])
    whole = SEARCH.judged([e.columns["standalone"] for e in SEARCH.reported])
    assert mean(raw["mrr@3"]).value < 0.3
    assert mean(whole["mrr@3"]).value > 0.95
    assert SEARCH.judged([""] * 40) == {name: [0.0] * 40 for name in whole}


def test_habits() -> None:
    rng = random.Random(0)
    for turn in SEARCH.conversations.turns(30):
        assert rewrite(turn, "bare", rng).query == turn.fact.relation.name
        assert rewrite(turn, "right", rng).query == f"{turn.fact.relation.name} of {turn.fact.subject}"
        assert rewrite(turn, "somebody", rng).query.split()[-1] in turn.names


def test_the_practice_breaks_the_form_as_often_as_it_says() -> None:
    rng = random.Random(0)
    turn = SEARCH.conversations.turns(1)[0]
    [asked] = examples([turn], "t")
    texts = [document(turn, asked, rng).completion for _ in range(1000)]
    parsed = [parse_rewrite(text) for text in texts]
    assert parsed.count(None) / 1000 == pytest.approx(BROKEN, abs=0.03)
    bare = Counter(one.query == turn.fact.relation.name for one in parsed if one is not None)
    share = ODDS[HABITS.index("bare")] / sum(ODDS)
    assert bare[True] / bare.total() == pytest.approx(share, abs=0.05)


def test_rewards_differ_in_their_shape_only() -> None:
    one, other = reward(LINES, SEARCH), reward(MRR, SEARCH)
    assert replace(other, shape="lines") == one == reward(COLD, SEARCH)
    asked = SEARCH.learned[0]
    text = "<think>a</think>\n<rewrite>{}</rewrite>"
    texts = [text.format(asked.columns["standalone"]), text.format("nothing known"), "junk"]
    for made, first in ((one, 2.0), (other, 1.0)):
        assert made(["?"] * 3, texts, id=[asked.id] * 3) == [first, 0, -0.1]


def test_verdicts_follow_from_the_figures() -> None:
    def answers(level: float, equal: float = 0.5) -> Answers:
        values = [min(1.0, level + 0.01 * (i % 3)) for i in range(60)]
        return Answers({"mrr@3": values, "recall@10": values}, [level], [equal] * 20)

    levels = {"raw query": 0.0, "initial": 0.2, "warm-up": 0.4, MRR: 0.6, COLD: 0.5}
    found = {name: answers(v) for name, v in levels.items()} | {LINES: answers(0.9, 0.2)}
    assert set(found) | {"standalone query"} == set(DESCRIPTIONS)
    good = claims(found, 0)
    assert [c.verdict for c in good] == ["holds"] * 7
    assert [c.main for c in good] == [True, True] + [False] * 5
    bad = claims(found | {LINES: answers(0.41, 0.9)}, 0)
    assert [c.verdict for c in bad if c.main] == ["fails", "fails"]


def test_turns_are_averaged_over_seeds() -> None:
    runs = [
        {"judged": {"mrr@3": [1.0, 0.0]}, "curves": {"zero_variance": [0.5, 0.25]}},
        {"judged": {"mrr@3": [0.0, 0.0]}, "curves": {"zero_variance": [1.0, 0.0]}},
    ]
    made = Answers.of(runs)
    assert made.figures == {"mrr@3": [0.5, 0.0]}
    assert made.by_seed == [0.5, 0.0]
    assert made.zero_variance == [0.5, 0.25, 1.0, 0.0]
