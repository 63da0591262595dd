"""BM25 against its formula, ranks of right passages, and figures by hand."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

import pytest

from dovetail.core import BadData, InvalidValue, MissingExtra, UnknownName
from dovetail.tasks.search import BM25, GoldRanker, retrieval_metrics, right

CORPUS = {"a": "Kalo lives in Bado", "b": "Mira lives in Bado, Bado and Bado", "c": "Toso sings", "d": "..."}


class Fixed:
    """Gives rankings by query."""

    def __init__(self, **rankings: list[str]) -> None:
        self.rankings, self.asked = rankings, []

    def search(self, queries: Sequence[str], k: int) -> list[list[str]]:
        self.asked.append((list(queries), k))
        return [self.rankings[q][:k] for q in queries]


def lucene(words: list[str], text: list[str], corpus: list[list[str]], k1: float, b: float) -> float:
    total = 0.0
    average = sum(map(len, corpus)) / len(corpus)
    for word in words:
        n = sum(word in t for t in corpus)
        idf = math.log(1 + (len(corpus) - n + 0.5) / (n + 0.5))
        tf = text.count(word)
        total += idf * tf / (tf + k1 * (1 - b + b * len(text) / average))
    return total


def test_scores_are_the_formulas() -> None:
    texts = [["kalo", "lives", "bado"], ["mira", "lives", "bado", "bado", "bado"], ["toso", "sings"], []]
    index = BM25(CORPUS, k1=0.9, b=0.4)
    for query in (["bado"], ["kalo", "bado"], ["lives", "lives"], ["sings", "mira"]):
        expected = [lucene(query, text, texts, 0.9, 0.4) for text in texts]
        found = index.search([" ".join(query)], 4)[0]
        order = sorted(
            (n for n, e in zip("abcd", expected, strict=True) if e > 0),
            key=lambda n: -expected["abcd".index(n)],
        )
        assert found == order
        ids = [index._index.vocab_dict[w] for w in query]
        assert index._index.get_scores_from_ids(ids) == pytest.approx(expected, rel=1e-5)


def test_what_shares_no_word_is_not_found() -> None:
    index = BM25(CORPUS)
    assert index.search(["sings", "nothing known", "", "the of"], 10) == [["c"], [], [], []]
    assert index.search(["lives bado"], 1) == [["b"]]
    assert index.search([], 3) == []


def test_equals_stand_in_the_order_of_the_corpus() -> None:
    index = BM25({f"p{i}": "home" for i in range(50)} | {"q": "other"})
    assert index.search(["home"], 30) == [[f"p{i}" for i in range(30)]]


def test_queries_are_cut_and_stopwords_may_stay() -> None:
    assert BM25(CORPUS, longest=1).search(["sings Kalo"], 4) == [["c"]]
    assert BM25(CORPUS, stopwords=False).search(["in"], 4) == [["a", "b"]]
    assert BM25(CORPUS).search(["in"], 4) == [[]]


@pytest.mark.parametrize(
    ("options", "name"), [({"k1": -1}, "k1"), ({"b": 1.5}, "b"), ({"longest": 0}, "longest")]
)
def test_impossible_parameters_are_named(options: dict, name: str) -> None:
    with pytest.raises(InvalidValue, match=name):
        BM25(CORPUS, **options)
    with pytest.raises(InvalidValue, match="k is 0"):
        BM25(CORPUS).search(["x"], 0)


def test_a_corpus_without_words_is_refused() -> None:
    for corpus in ({}, {"a": "...", "b": ""}):
        with pytest.raises(BadData, match="no text with a word"):
            BM25(corpus)


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bm25s", None)
    with pytest.raises(MissingExtra, match=r"dovetail\[retrieval\]"):
        BM25(CORPUS)


# --- ranks


def test_the_best_right_passage_counts() -> None:
    retriever = Fixed(x=["p", "q", "r"], y=["r", "q"], z=[])
    ranker = GoldRanker(retriever, {"1": ["r", "q"], "2": {"r": 0.0, "q": 2.0}, "3": {"s"}}, topk=3)
    assert ranker.rank(["x", "y", "z"], ["1", "2", "3"]) == [2, 2, -1]
    assert ranker(["y", "x"], ["1", "3"]) == [1, -1]
    assert retriever.asked == [(["x", "y", "z"], 3), (["y", "x"], 3)]
    assert GoldRanker(Fixed(x=["p", "q"]), {"1": ["q"]}, topk=1).rank(["x"], ["1"]) == [-1]
    assert ranker.rank([], []) == []


def test_queries_without_a_right_passage_are_refused_at_once() -> None:
    for judged in ([], {"p": 0.0}, set()):
        with pytest.raises(BadData, match="query '2' has no right passage"):
            GoldRanker(Fixed(), {"1": ["p"], "2": judged})
    with pytest.raises(InvalidValue, match=r"qrels\['1'\]"):
        GoldRanker(Fixed(), {"1": "passage"})
    with pytest.raises(InvalidValue, match="topk"):
        GoldRanker(Fixed(), {}, topk=0)


def test_what_a_ranker_cannot_rank_is_named() -> None:
    ranker = GoldRanker(Fixed(x=["p", "p"], y=["p"]), {"1": ["q"]})
    with pytest.raises(InvalidValue, match="'p' twice"):
        ranker.rank(["x"], ["1"])
    with pytest.raises(UnknownName, match="query id"):
        ranker.rank(["y"], ["2"])
    with pytest.raises(InvalidValue, match="query_ids"):
        ranker.rank(["y"], [])

    class Short:
        def search(self, queries: Sequence[str], k: int) -> list[list[str]]:
            return []

    with pytest.raises(InvalidValue, match="retriever"):
        GoldRanker(Short(), {"1": ["q"]}).rank(["y"], ["1"])


# --- figures


def test_figures_by_hand() -> None:
    qrels = {"1": ["a", "b"], "2": {"c": 3.0, "d": 1.0, "e": 0.0}, "3": {"x"}}
    run = {"1": ["p", "a", "q", "b"], "2": ["e", "d", "c"], "3": ["p", "q", "r", "x"]}
    found = retrieval_metrics(run, qrels, (3, 10))
    assert found["mrr@3"] == [1 / 2, 1 / 2, 0]
    assert found["mrr@10"] == [1 / 2, 1 / 2, 1 / 4]
    assert found["recall@3"] == [1 / 2, 1, 0]
    assert found["recall@10"] == [1, 1, 1]
    log3, log4, log5 = (math.log2(n) for n in (3, 4, 5))
    assert found["ndcg@3"] == pytest.approx(
        [(1 / log3) / (1 + 1 / log3), (1 / log3 + 3 / log4) / (3 + 1 / log3), 0]
    )
    assert found["ndcg@10"][0] == pytest.approx((1 / log3 + 1 / log5) / (1 + 1 / log3))
    assert right(qrels, "2") == {"c", "d"}


def test_bad_runs_are_named() -> None:
    with pytest.raises(UnknownName, match="query id"):
        retrieval_metrics({"9": []}, {"1": ["a"]})
    with pytest.raises(InvalidValue, match="twice"):
        retrieval_metrics({"1": ["a", "a"]}, {"1": ["a"]})
    for ks in ((), (0,)):
        with pytest.raises(InvalidValue, match="ks"):
            retrieval_metrics({"1": ["a"]}, {"1": ["a"]}, ks)
