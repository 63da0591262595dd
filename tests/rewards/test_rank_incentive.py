from __future__ import annotations

import math
import warnings

import pytest

from dovetail.core import InvalidValue
from dovetail.rewards import RankIncentive
from dovetail.rewards.rank_incentive import parse_rewrite, rank_reward

GOOD = "<think>it = Paris</think>\n<rewrite>mayor of Paris</rewrite>"


def test_the_two_lines():
    assert [rank_reward(r) for r in (1, 10, 100)] == [2, 1, 0]
    assert rank_reward(5) == pytest.approx(-5 / 9 + 19 / 9)
    assert rank_reward(11) == pytest.approx(-11 / 90 + 10 / 9)
    assert rank_reward(10) - rank_reward(11) == pytest.approx(1 / 90)
    values = [rank_reward(r) for r in range(1, 101)]
    assert values == sorted(set(values), reverse=True)
    assert [rank_reward(r) for r in (101, 5000, -1, None)] == [0, 0, 0, 0]


@pytest.mark.parametrize("rank", [0, -2, 1.5, True])
def test_ranks_that_cannot_be(rank):
    with pytest.raises(InvalidValue, match="rank"):
        rank_reward(rank)


@pytest.mark.parametrize(
    ("text", "query"),
    [
        (GOOD, "mayor of Paris"),
        ("\n" + GOOD + "  ", "mayor of Paris"),
        ("<think>a\nb</think>\n<rewrite>x\ny</rewrite>", "x\ny"),
        (GOOD.replace("\n", ""), None),
        (GOOD.replace("\n", "\n\n"), None),
        (GOOD + "\nmore", None),
        ("<think>a</think>\n<rewrite> </rewrite>", None),
        ("<think>a</think>\n<rewrite>a</rewrite><rewrite>b</rewrite>", None),
        ("<rewrite>x</rewrite>", None),
        ("", None),
    ],
)
def test_parsing(text, query):
    found = parse_rewrite(text)
    assert (found.query if found else None) == query


def test_without_thinking():
    assert parse_rewrite("<rewrite>x</rewrite>", thinking=False).query == "x"
    assert parse_rewrite(GOOD, thinking=False) is None


def test_order_is_kept_where_some_do_not_parse():
    asked = []

    def ranker(queries, golds):
        asked.append((queries, golds))
        return [1, -1]

    paid = RankIncentive(ranker)(["?"] * 4, ["junk", GOOD, "", GOOD], gold=[1, 2, 3, 4])
    assert paid == [-0.1, 2.0, -0.1, 0.0]
    assert asked == [(["mayor of Paris"] * 2, [2, 4])]


def test_nothing_is_looked_up_where_nothing_parses():
    assert RankIncentive(ranker=None)(["?"], ["junk"]) == [-0.1]


def test_ranks_found_elsewhere():
    assert RankIncentive()(["?"] * 2, [GOOD] * 2, rank=[10, None]) == [1, 0]
    with pytest.raises(InvalidValue, match="'rank'"):
        RankIncentive()(["?"], [GOOD])


def test_a_ranker_that_miscounts():
    with pytest.raises(InvalidValue, match="ranker"):
        RankIncentive(lambda queries, golds: [])(["?"], [GOOD], gold=[1])


@pytest.mark.parametrize(
    ("field", "values"), [("topk", {"topk": 10}), ("malformed", {"malformed": float("inf")})]
)
def test_impossible_parameters(field, values):
    with pytest.raises(InvalidValue, match=field):
        RankIncentive(**values)


def test_other_shapes_by_hand():
    assert [rank_reward(r, shape="mrr@3") for r in (1, 2, 3, 4, None)] == [1, 1 / 2, 1 / 3, 0, 0]
    assert [rank_reward(r, shape="reciprocal") for r in (1, 4, 100, 101, -1)] == [1, 1 / 4, 1 / 100, 0, 0]
    assert rank_reward(3, shape="exponential") == pytest.approx(math.exp(-2))
    paid = RankIncentive(shape="mrr@3")(["?"] * 3, [GOOD, GOOD, "junk"], rank=[2, 9, 1])
    assert paid == [1 / 2, 0, -0.1]
    with pytest.raises(InvalidValue, match="shape"):
        RankIncentive(shape="mrr")


def test_a_ranker_that_searches_less_deep_than_is_paid_is_told():
    class Shallow:
        topk = 50

        def __call__(self, queries, golds):
            return [1] * len(queries)

    with pytest.warns(UserWarning, match="50 deep"):
        RankIncentive(Shallow())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RankIncentive(Shallow(), topk=50)
        RankIncentive(Shallow(), shape="mrr@3")
