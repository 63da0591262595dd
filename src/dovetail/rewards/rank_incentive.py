"""ConvSearch-R1's reward: a rewritten query is paid by the rank at which it brings up the right passage.

"ConvSearch-R1: Enhancing Query Reformulation for Conversational Search with Reasoning via
Reinforcement Learning", arXiv 2505.15776 (EMNLP 2025): equations 1 and 2. MRR@3 is zero for nearly every
query of an untrained rewriter; this reward falls in two straight lines down to rank 100, so that most groups
have something to learn from.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from dovetail.core import InvalidValue
from dovetail.rewards.base import Batch, Reward

#: ``ranker(queries, golds) -> ranks`` of the best right passage, from 1; -1 or None where none was found.
Ranker = Callable[[Sequence[str], Sequence[Any]], Sequence[int | None]]
Shape = Literal["lines", "exponential", "reciprocal", "mrr@3"]


class Rewrite(NamedTuple):
    """A completion's parts."""

    think: str
    query: str


@dataclass(frozen=True)
class RankIncentive(Reward):
    """2 at rank 1, 1 at rank 10, 0 from rank ``topk`` on; ``malformed`` for what holds no query.

    Attributes:
        ranker: looks up the rewrites that parse, such as `tasks.search.GoldRanker`. None reads the column
            ``rank``, for ranks found elsewhere.
        column: what the ranker knows the right passages by, such as their ids.
        topk: how deep is searched; the reward's second line ends there.
        malformed: delta, for completions that are not ``<think>..</think>``, a line break,
            ``<rewrite>..</rewrite>``.
        thinking: False asks for the rewrite alone.
        shape: "lines" is eq. 1; the others are what the paper compares it with (`rank_reward`).
    """

    ranker: Ranker | None = None
    column: str = "gold"
    topk: int = 100
    malformed: float = -0.1
    thinking: bool = True
    shape: Shape = "lines"

    name = "rank-incentive"

    def __post_init__(self) -> None:
        if not self.topk > 10:
            raise InvalidValue("topk", self.topk, "above 10, where the reward's second line begins")
        if not np.isfinite(self.malformed):
            raise InvalidValue("malformed", self.malformed, "a finite number")
        if self.shape not in get_args(Shape):
            raise InvalidValue("shape", self.shape, " or ".join(map(repr, get_args(Shape))))
        searched = getattr(self.ranker, "topk", self.topk)
        if self.shape == "lines" and searched < self.topk:
            text = f"the ranker searches {searched} deep and ranks down to {self.topk} are paid"
            warnings.warn(f"{text}: those beyond count as not found", stacklevel=2)

    def pay(self, batch: Batch) -> Sequence[float]:
        texts = [opened + text for opened, text in zip(batch.opened, batch.texts, strict=True)]
        parsed = [parse_rewrite(text, self.thinking) for text in texts]
        rows = [row for row, rewrite in enumerate(parsed) if rewrite is not None]
        paid = [self.malformed] * len(batch)
        ranks = self.ranks(batch, rows, [r.query for r in parsed if r is not None]) if rows else []
        for row, rank in zip(rows, ranks, strict=True):
            paid[row] = rank_reward(rank, self.topk, self.shape)
        return paid

    def ranks(self, batch: Batch, rows: Sequence[int], queries: Sequence[str]) -> list[int | None]:
        """The rank of each of ``rows``' right passages.

        Raises:
            InvalidValue: the ranker gave another number of ranks than there are queries.
        """
        found = batch.column("rank" if self.ranker is None else self.column)
        if self.ranker is None:
            return [found[row] for row in rows]
        ranks = list(self.ranker(list(queries), [found[row] for row in rows]))
        if len(ranks) != len(queries):
            raise InvalidValue("ranker", f"{len(ranks)} ranks", f"one for each of {len(queries)} queries")
        return ranks


def rank_reward(rank: int | None, topk: int = 100, shape: Shape = "lines") -> float:
    """Eq. 1, or exp(1 - rank), 1 / rank, or 1 / rank down to rank 3. ``rank`` counts from 1; None or -1 means
    not found.

    >>> [round(rank_reward(r), 3) for r in (1, 10, 11, 100, 101, None)]
    [2.0, 1.0, 0.989, 0.0, 0.0, 0.0]
    """
    if rank is None or rank == -1:
        return 0.0
    if isinstance(rank, bool) or rank != int(rank) or rank < 1:
        raise InvalidValue("rank", rank, "a whole number from 1, or -1 or None for not found")
    if shape != "lines":
        deepest = 3 if shape == "mrr@3" else topk
        paid = math.exp(1 - rank) if shape == "exponential" else 1 / rank
        return paid if rank <= deepest else 0.0
    if rank <= 10:
        return (19 - rank) / 9
    # At topk = 100 this is eq. 1's second line: -rank / 90 + 10 / 9.
    return max(0.0, (topk - rank) / (topk - 10))


def parse_rewrite(text: str, thinking: bool = True) -> Rewrite | None:
    """The parts of ``<think>..</think>``, one line break, ``<rewrite>..</rewrite>``; None where the text is
    anything else, or the rewrite is blank."""
    text = text.strip()
    think = ""
    if thinking:
        if not text.startswith("<think>"):
            return None
        think, closed, text = text.removeprefix("<think>").partition("</think>\n")
        if not closed or text[:1].isspace():
            return None
    if not (text.startswith("<rewrite>") and text.endswith("</rewrite>")):
        return None
    query = text.removeprefix("<rewrite>").removesuffix("</rewrite>").strip()
    if not query or any(mark in query for mark in ("<rewrite>", "</rewrite>", "<think>", "</think>")):
        return None
    return Rewrite(think.strip(), query)
