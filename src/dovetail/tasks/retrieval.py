"""Retrieval: texts, queries, which text answers which query; and the figures that rankings are judged by.

nDCG (Jarvelin and Kekalainen 2002) with gain = relevance, as trec_eval has it; MAP, reciprocal rank and
accuracy at 1 as usual; p-MRR is FollowIR's (Weller et al., arXiv 2403.15246), for rankings under an
instruction and under a changed one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from dovetail.core import BadData, InvalidValue


class Encoder(Protocol):
    """Whatever turns texts into vectors: `models.embedding.DiffusionEmbedder`, a SentenceTransformer."""

    def encode(self, texts: Sequence[str], batch_size: int = 32) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class RetrievalSet:
    """A corpus, queries, and relevance.

    Attributes:
        corpus, queries: id -> text.
        qrels: query id -> (document id -> relevance; what is not named has 0).
        instruction: read before every query.

    Raises:
        BadData: a query or document that is judged and not there, a query without any relevant document.
    """

    corpus: Mapping[str, str]
    queries: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, float]]
    instruction: str = ""

    def __post_init__(self) -> None:
        for query, judged in self.qrels.items():
            if query not in self.queries:
                raise BadData(f"qrels judge the query {query!r}, which is not among the queries")
            for document in judged:
                if document not in self.corpus:
                    raise BadData(f"qrels of {query!r} name {document!r}, which is not in the corpus")
        for query in self.queries:
            if not any(relevance > 0 for relevance in self.qrels.get(query, {}).values()):
                raise BadData(f"the query {query!r} has no relevant document in the qrels")

    def rank(self, encoder: Encoder, batch_size: int = 32, deepest: int = 1000) -> list[list[str]]:
        """For each query, document ids by falling cosine; equals stand in the corpus's order."""
        names = list(self.corpus)
        prompts: list[str] | list[tuple[str, str]] = list(self.queries.values())
        if self.instruction:
            prompts = [(self.instruction, text) for text in self.queries.values()]
        documents = _unit(encoder.encode(list(self.corpus.values()), batch_size=batch_size))
        queries = _unit(encoder.encode(prompts, batch_size=batch_size))  # type: ignore[arg-type]
        # Rounded, so that documents of the same text tie whatever batch they were encoded in.
        order = np.argsort(-np.round(queries @ documents.T, 6), axis=1, kind="stable")[:, :deepest]
        return [[names[i] for i in row] for row in order]

    def judge(self, rankings: Sequence[Sequence[str]]) -> dict[str, list[float]]:
        """Figures per query, in the queries' order: ``ndcg@10``, ``acc@1``, ``map@1000``, ``mrr``.

        Raises:
            InvalidValue: another number of rankings than of queries.
        """
        if len(rankings) != len(self.queries):
            raise InvalidValue(
                "rankings", f"{len(rankings)} rankings", f"one for each of {len(self.queries)} queries"
            )
        figures: dict[str, list[float]] = {"ndcg@10": [], "acc@1": [], "map@1000": [], "mrr": []}
        for query, ranking in zip(self.queries, rankings, strict=True):
            judged = self.qrels[query]
            figures["ndcg@10"].append(ndcg(ranking, judged, 10))
            figures["acc@1"].append(float(bool(ranking) and judged.get(ranking[0], 0) > 0))
            figures["map@1000"].append(average_precision(ranking[:1000], judged))
            figures["mrr"].append(reciprocal_rank(ranking, judged))
        return figures

    def evaluate(self, encoder: Encoder, batch_size: int = 32) -> dict[str, list[float]]:
        """`judge` of what the encoder ranks."""
        return self.judge(self.rank(encoder, batch_size))


def ndcg(ranking: Sequence[str], judged: Mapping[str, float], depth: int = 10) -> float:
    """Discounted gain of the first ``depth`` documents over that of the best order; in [0, 1]."""
    best = _dcg(sorted((gain for gain in judged.values() if gain > 0), reverse=True)[:depth])
    return _dcg([max(0.0, judged.get(document, 0.0)) for document in ranking[:depth]]) / best if best else 0.0


def average_precision(ranking: Sequence[str], judged: Mapping[str, float]) -> float:
    """Mean over the relevant documents of the precision at their ranks (0 for those not ranked)."""
    relevant = {document for document, gain in judged.items() if gain > 0}
    found, total = 0, 0.0
    for rank, document in enumerate(ranking, 1):
        if document in relevant:
            found += 1
            total += found / rank
    return total / len(relevant) if relevant else 0.0


def reciprocal_rank(ranking: Sequence[str], judged: Mapping[str, float]) -> float:
    """1 over the rank of the first relevant document; 0 if there is none."""
    for rank, document in enumerate(ranking, 1):
        if judged.get(document, 0.0) > 0:
            return 1 / rank
    return 0.0


def p_mrr(original: Mapping[str, Mapping[str, int]], changed: Mapping[str, Mapping[str, int]]) -> float:
    """How far rankings follow a changed instruction, from -100 (opposite) over 0 (not at all) to 100.

    Args:
        original, changed: query id -> (document id -> its rank, from 1) of the documents that the changed
            instruction makes irrelevant.

    Raises:
        BadData: the two do not hold the same queries and documents; names one.
    """
    values = []
    for query in sorted(original.keys() | changed.keys()):
        before, after = original.get(query, {}), changed.get(query, {})
        if lacking := sorted(before.keys() ^ after.keys()):
            raise BadData(f"query {query!r}: {lacking[0]!r} is ranked under one instruction only")
        if before:
            values.append(sum(_moved(before[d], after[d]) for d in before) / len(before))
    if not values:
        raise BadData("no query has a document that the changed instruction makes irrelevant")
    return 100 * sum(values) / len(values)


def _moved(before: int, after: int) -> float:
    if min(before, after) < 1:
        raise InvalidValue("rank", min(before, after), "at least 1")
    return after / before - 1 if before > after else 1 - before / after


def _dcg(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(rank + 2) for rank, gain in enumerate(gains))


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return cast(NDArray[np.float32], vectors / np.where(lengths > 0, lengths, 1))
