"""Retrieval figures against hand-computed numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from dovetail.core import BadData, InvalidValue
from dovetail.tasks.retrieval import RetrievalSet, average_precision, ndcg, p_mrr, reciprocal_rank

VECTORS = {"east": (1.0, 0.0), "north": (0.0, 2.0), "both": (1.0, 1.0), "nothing": (0.0, 0.0)}


class Table:
    """Looks vectors up; notes what it was asked."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    def encode(self, texts: Sequence[str], batch_size: int = 32) -> NDArray[np.float32]:
        self.seen += texts
        return np.array([VECTORS[t if isinstance(t, str) else t[1]] for t in texts], dtype=np.float32)


def test_ndcg_by_hand() -> None:
    judged = {"a": 2.0, "b": 1.0, "c": 0.0, "d": -1.0}
    best = 2 + 1 / math.log2(3)
    assert ndcg(["a", "b", "x"], judged) == pytest.approx(1)
    assert ndcg(["b", "c", "a"], judged) == pytest.approx((1 + 2 / math.log2(4)) / best)
    assert ndcg(["d", "a"], judged) == pytest.approx(2 / math.log2(3) / best)
    assert ndcg(["x", "a"], judged, depth=1) == 0
    assert ndcg([], judged) == 0


def test_precision_and_rank_by_hand() -> None:
    judged = {"a": 1.0, "b": 3.0, "z": 0.0}
    assert average_precision(["a", "x", "b"], judged) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(["x", "a"], judged) == pytest.approx(0.25)
    assert reciprocal_rank(["z", "x", "b"], judged) == pytest.approx(1 / 3)
    assert reciprocal_rank(["z"], judged) == 0


def test_ranking_is_by_cosine_and_ties_keep_the_order() -> None:
    table = Table()
    found = RetrievalSet({n: n for n in VECTORS}, {"q": "both"}, {"q": {"both": 1}}, "Find:")
    ranking = found.rank(table)
    assert ranking == [["both", "east", "north", "nothing"]]
    assert table.seen[-1] == ("Find:", "both")
    assert found.evaluate(table) == {"ndcg@10": [1.0], "acc@1": [1.0], "map@1000": [1.0], "mrr": [1.0]}
    assert found.judge([["east", "both"]])["ndcg@10"] == [pytest.approx(1 / math.log2(3))]
    with pytest.raises(InvalidValue, match="0 rankings"):
        found.judge([])


def test_bad_judgements_are_named() -> None:
    with pytest.raises(BadData, match="'d9', which is not in the corpus"):
        RetrievalSet({"d": "x"}, {"q": "y"}, {"q": {"d9": 1}})
    with pytest.raises(BadData, match="query 'q2', which is not among"):
        RetrievalSet({"d": "x"}, {"q": "y"}, {"q": {"d": 1}, "q2": {"d": 1}})
    with pytest.raises(BadData, match="'q' has no relevant document"):
        RetrievalSet({"d": "x"}, {"q": "y"}, {"q": {"d": 0}})


def test_p_mrr_is_zero_where_nothing_moves_and_antisymmetric() -> None:
    before = {"q": {"a": 2, "b": 5}, "r": {"c": 1}}
    after = {"q": {"a": 8, "b": 4}, "r": {"c": 2}}
    assert p_mrr(before, before) == 0
    by_hand = 100 * (((1 - 2 / 8) + (4 / 5 - 1)) / 2 + (1 - 1 / 2)) / 2
    assert p_mrr(before, after) == pytest.approx(by_hand)
    assert p_mrr(after, before) == pytest.approx(-by_hand)
    with pytest.raises(BadData, match="'b' is ranked under one"):
        p_mrr(before, {**after, "q": {"a": 8}})
    with pytest.raises(InvalidValue, match="rank is 0"):
        p_mrr({"q": {"a": 0}}, {"q": {"a": 1}})
    with pytest.raises(BadData, match="no query"):
        p_mrr({}, {})
