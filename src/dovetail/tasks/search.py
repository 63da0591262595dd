"""Search: BM25 over texts, the rank at which a right passage comes up, and figures of rankings.

BM25 is that of Lucene (Robertson and Zaragoza 2009; the defaults k1 = 0.9, b = 0.4 are Pyserini's), by the
package bm25s (Lu, arXiv 2407.03618), which scores all texts with one sparse row per word. Any other retriever
that has `search` can stand in its place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from dovetail.core import BadData, InvalidValue, MissingExtra, UnknownName
from dovetail.tasks.retrieval import ndcg, reciprocal_rank

Qrels = Mapping[str, Mapping[str, float] | Sequence[str] | set[str] | frozenset[str]]


class Retriever(Protocol):
    """Whatever finds texts: ``search(queries, k)`` gives at most k different ids per query, best first."""

    def search(self, queries: Sequence[str], k: int) -> Sequence[Sequence[str]]: ...


@dataclass(frozen=True)
class BM25:
    """An index of texts in memory.

    Attributes:
        corpus: id -> text.
        k1: how soon more of the same word stops to count.
        b: how far long texts are marked down, in [0, 1].
        stopwords: leave English function words out.
        longest: words of a query that are read (paper: 512).
    """

    corpus: Mapping[str, str]
    k1: float = 0.9
    b: float = 0.4
    stopwords: bool = True
    longest: int = 512
    _index: Any = field(init=False, repr=False, compare=False)
    _names: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.k1 < math.inf:
            raise InvalidValue("k1", self.k1, "a finite number >= 0")
        if not 0 <= self.b <= 1:
            raise InvalidValue("b", self.b, "in [0, 1]")
        if self.longest < 1:
            raise InvalidValue("longest", self.longest, "at least 1")
        try:
            import bm25s
        except ImportError as error:
            raise MissingExtra("bm25s", "retrieval") from error
        words = self._words(list(self.corpus.values()))
        if not any(words):
            raise BadData("the corpus has no text with a word in it: BM25 has nothing to index")
        index = bm25s.BM25(k1=self.k1, b=self.b, method="lucene")
        index.index(words, show_progress=False)
        object.__setattr__(self, "_index", index)
        object.__setattr__(self, "_names", tuple(self.corpus))

    def search(self, queries: Sequence[str], k: int) -> list[list[str]]:
        """For each query at most ``k`` ids by falling score; what shares no word with it is never found.
        Equals stand in the corpus's order."""
        if k < 1:
            raise InvalidValue("k", k, "at least 1")
        known = self._index.vocab_dict
        found: list[list[str]] = []
        for words in self._words(queries):
            asked = [known[word] for word in words[: self.longest] if word in known]
            if not asked:
                found.append([])
                continue
            scores = self._index.get_scores_from_ids(asked)
            hit = scores.nonzero()[0]
            best = sorted(hit, key=lambda i: (-scores[i], i))[:k]
            found.append([self._names[i] for i in best])
        return found

    def _words(self, texts: Sequence[str]) -> list[list[str]]:
        import bm25s

        stopwords = "english" if self.stopwords else []
        words: list[list[str]] = bm25s.tokenize(
            list(texts), stopwords=stopwords, return_ids=False, show_progress=False, allow_empty=False
        )
        return [[word for word in row if word] for row in words]


@dataclass(frozen=True)
class GoldRanker:
    """The rank of the best right passage of a query; called, it is `rewards.RankIncentive`'s ranker.

    Attributes:
        retriever: is asked with the rewritten queries, all at once.
        qrels: query id -> its right passages: ids, or id -> relevance (right if above 0).
        topk: how deep is searched.

    Raises:
        BadData: a query without a right passage; such samples teach nothing and are to be left out.
    """

    retriever: Retriever
    qrels: Qrels
    topk: int = 100

    def __post_init__(self) -> None:
        if self.topk < 1:
            raise InvalidValue("topk", self.topk, "at least 1")
        for id in self.qrels:
            if not right(self.qrels, id):
                raise BadData(f"query {id!r} has no right passage in the qrels: leave it out")

    def __call__(self, queries: Sequence[str], golds: Sequence[Any]) -> list[int]:
        """``golds`` are query ids: ``RankIncentive(ranker, column="id")``."""
        return self.rank(queries, golds)

    def rank(self, queries: Sequence[str], query_ids: Sequence[str]) -> list[int]:
        """Ranks from 1, in order; -1 where no right passage is among the first ``topk``.

        Raises:
            InvalidValue: unequal lengths; or the retriever gave another number of rankings, or an id twice.
            UnknownName: the qrels know no such query.
        """
        if len(queries) != len(query_ids):
            raise InvalidValue(
                "query_ids", f"{len(query_ids)} ids", f"one for each of {len(queries)} queries"
            )
        wanted = []
        for id in query_ids:
            if id not in self.qrels:
                raise UnknownName("query id", str(id), map(str, self.qrels))
            wanted.append(right(self.qrels, id))
        rankings = list(self.retriever.search(list(queries), self.topk)) if len(queries) else []
        if len(rankings) != len(queries):
            raise InvalidValue(
                "retriever", f"{len(rankings)} rankings", f"one for each of {len(queries)} queries"
            )
        return [_rank(ids, gold, self.topk) for ids, gold in zip(rankings, wanted, strict=True)]


def right(qrels: Qrels, id: str) -> frozenset[str]:
    """The right passages of a query."""
    judged = qrels[id]
    if isinstance(judged, str):
        raise InvalidValue(f"qrels[{id!r}]", judged, "a list of passage ids, not a bare text")
    if isinstance(judged, Mapping):
        return frozenset(passage for passage, relevance in judged.items() if relevance > 0)
    return frozenset(judged)


def retrieval_metrics(
    run: Mapping[str, Sequence[str]], qrels: Qrels, ks: Sequence[int] = (3, 10, 100)
) -> dict[str, list[float]]:
    """Figures per query, in the order of ``run``: ``mrr@k``, ``ndcg@k`` and ``recall@k`` for each k.

    The reciprocal rank is 0 below rank k, which trec_eval's recip_rank is not.

    Args:
        run: query id -> passage ids, best first.

    Raises:
        UnknownName, InvalidValue: a query without judgements, an id ranked twice, a k below 1.
    """
    if not ks or min(ks) < 1:
        raise InvalidValue("ks", ks, "depths of at least 1")
    figures: dict[str, list[float]] = {f"{name}@{k}": [] for name in ("mrr", "ndcg", "recall") for k in ks}
    for id, ranking in run.items():
        if id not in qrels:
            raise UnknownName("query id", str(id), map(str, qrels))
        _different(ranking)
        gold = right(qrels, id)
        given = qrels[id]
        judged = dict(given) if isinstance(given, Mapping) else dict.fromkeys(gold, 1.0)
        for k in ks:
            figures[f"mrr@{k}"].append(reciprocal_rank(ranking[:k], judged))
            figures[f"ndcg@{k}"].append(ndcg(ranking, judged, k))
            figures[f"recall@{k}"].append(len(gold & set(ranking[:k])) / len(gold) if gold else 0.0)
    return figures


def _rank(ids: Sequence[str], gold: frozenset[str], topk: int) -> int:
    _different(ids)
    return next((rank for rank, id in enumerate(ids[:topk], 1) if id in gold), -1)


def _different(ids: Sequence[str]) -> None:
    if len(set(ids)) < len(ids):
        twice = next(id for i, id in enumerate(ids) if id in ids[:i])
        raise InvalidValue("ranking", f"{twice!r} twice", "every passage at one rank")
