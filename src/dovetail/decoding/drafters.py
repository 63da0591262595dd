"""Drafters: who guesses the next few tokens, for a speculative decoding to verify.

`PromptLookup` copies what followed the last time the text read like this (Saxena, "Prompt Lookup Decoding",
2023); `DraftModel` asks a smaller model of the same vocabulary. A drafter is what the user writes down;
`open` makes of it what runs during one call and keeps, for a model, the cache of what it has read.

A draft model draws with the target's own decoding and the target's own random numbers (Daliri, Musco and
Suresh, "Coupling without Communication and Drafter-Invariant Speculative Decoding", arXiv 2408.07978): where
the two models agree on the distribution they draw the same token.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dovetail.core import InvalidValue, Unsupported
from dovetail.engine import Cache, Rows, Stepwise

Ints = NDArray[np.int64]


@dataclass
class Texts:
    """The texts of the B rows in flight: prompt and what was written, the pending token included.

    Attributes:
        ids: [B, S] int64, each text from the left; what stands behind its end means nothing.
        lengths: [B], all at least 1.
        rows: for random numbers; ``step`` counts the tokens written, the pending one included.
    """

    ids: Ints
    lengths: Ints
    rows: Rows


@dataclass
class Draft:
    """Guesses of the tokens that follow.

    Attributes:
        tokens: [B, n] int64, on the target's device.
        counts: [B], how many of a row's guesses count.
    """

    tokens: Tensor
    counts: Ints


class Proposer:
    """A drafter at work. Drafters with equal ``source`` share one; this one keeps nothing."""

    def begin(self, prompts: Sequence[Sequence[int]]) -> Proposer:
        """One for the rows of these prompts."""
        return self

    def propose(self, texts: Texts, n: int) -> Draft:
        raise NotImplementedError

    def settle(self, accepted: Ints) -> None:
        """Called once per round: of each row's last draft the first ``accepted`` [B] tokens were kept."""

    def select(self, index: Tensor) -> Proposer:
        """The rows at ``index`` [B']."""
        return self

    def join(self, other: Proposer) -> Proposer:
        """These rows followed by ``other``'s."""
        return self


class Drafter(ABC):
    """What drafts, with its parameters. Subclasses are frozen dataclasses.

    Attributes:
        n: the longest draft, in tokens.
        label: for reports.
        source: what drafters must share to share a proposer.
    """

    n: int

    @property
    @abstractmethod
    def label(self) -> str: ...

    @property
    def source(self) -> object:
        return self

    def check(self, engine: Any) -> None:  # noqa: B027 (most fit every model)
        """Raises InvalidValue or Unsupported where it does not fit the target."""

    @abstractmethod
    def open(self, engine: Any, inner: Stepwise) -> Proposer:
        """At work for the target ``engine``, whose decoding is ``inner``."""


@dataclass(frozen=True)
class NoDraft(Drafter):
    """Drafts nothing: a round is a step of plain decoding."""

    n = 0
    label = "plain"

    def open(self, engine: Any, inner: Stepwise) -> Proposer:
        return _Nothing(engine.device)


@dataclass(frozen=True)
class PromptLookup(Drafter):
    """What followed the latest place whose last tokens are those of the text's end.

    The place with the longest match wins, of several the latest. Where it is near the end the draft goes
    round in a circle, as repetition does.

    Attributes:
        n: tokens of a draft.
        max_ngram: matching tokens beyond this count no more.
        min_ngram: with fewer matching tokens nothing is drafted.
    """

    n: int = 4
    max_ngram: int = 3
    min_ngram: int = 1

    def __post_init__(self) -> None:
        _at_least_one("n", self.n)
        _at_least_one("min_ngram", self.min_ngram)
        if self.max_ngram < self.min_ngram:
            raise InvalidValue("max_ngram", self.max_ngram, f"at least min_ngram ({self.min_ngram})")

    @property
    def label(self) -> str:
        return f"lookup-{self.n}"

    @property
    def source(self) -> object:
        return (PromptLookup, self.max_ngram, self.min_ngram)

    def open(self, engine: Any, inner: Stepwise) -> Proposer:
        return _Lookup(engine.device, self.max_ngram, self.min_ngram)


@dataclass(frozen=True)
class DraftModel(Drafter):
    """A smaller model of the same vocabulary.

    Attributes:
        model: a name for `dovetail.load` (read when first needed, then kept), a loaded model or its engine.
        n: tokens of a draft, a pass of the model each.
    """

    model: Any = "pico-draft"
    n: int = 4

    def __post_init__(self) -> None:
        _at_least_one("n", self.n)

    @property
    def label(self) -> str:
        return f"{self.model if isinstance(self.model, str) else self.model.name}-{self.n}"

    @property
    def source(self) -> object:
        return (DraftModel, self.model if isinstance(self.model, str) else id(self.model))

    def check(self, engine: Any) -> None:
        self._engine(engine)

    def open(self, engine: Any, inner: Stepwise) -> Proposer:
        return _Model(self._engine(engine), inner, engine.forward.vocab_size)

    def _engine(self, target: Any) -> Any:
        model = self.model
        if isinstance(model, str):
            model = _load(model, str(target.device), target.forward.dtype)
        draft = getattr(model, "engine", model)
        if "cache" not in draft.provides:
            raise Unsupported(f"{draft.name} cannot draft: its cache is out of reach; load it locally")
        own, needed = _vocabulary(draft.tokenizer), _vocabulary(target.tokenizer)
        if own is not needed and own != needed:
            raise InvalidValue(
                "drafter",
                draft.name,
                f"a model with the vocabulary of {target.name}: it has {len(own)} tokens of its own, "
                f"{target.name} has {len(needed)}",
            )
        return draft


class _Nothing(Proposer):
    def __init__(self, device: torch.device) -> None:
        self.device = device

    def propose(self, texts: Texts, n: int) -> Draft:
        rows = len(texts.lengths)
        return Draft(
            torch.empty(rows, 0, dtype=torch.int64, device=self.device), np.zeros(rows, dtype=np.int64)
        )


class _Lookup(Proposer):
    def __init__(self, device: torch.device, max_ngram: int, min_ngram: int) -> None:
        self.device, self.max_ngram, self.min_ngram = device, max_ngram, min_ngram

    def propose(self, texts: Texts, n: int) -> Draft:
        tokens, counts = look_up(texts.ids, texts.lengths, n, self.max_ngram, self.min_ngram)
        return Draft(torch.from_numpy(tokens).to(self.device), counts)


def look_up(ids: Ints, lengths: Ints, n: int, max_ngram: int, min_ngram: int) -> tuple[Ints, Ints]:
    """Drafts by copying: [B, n] tokens and [B] how many of them count (n, or 0 without a match).

    Args:
        ids: [B, S] texts from the left.
        lengths: [B].
    """
    rows = np.arange(len(lengths))[:, None]
    width = int(lengths.max())
    ids, last = ids[:, :width], lengths[:, None] - 1
    places = np.arange(width)
    same = places < last  # all places before the last
    matched = np.zeros(ids.shape, dtype=np.int64)
    for back in range(min(max_ngram, width - 1)):
        same[:, back:] &= ids[:, : width - back] == ids[rows, np.maximum(last - back, 0)]
        same[:, :back] = False
        matched += same
    # The longest match, the latest of them.
    best = (matched * width + places).argmax(1)[:, None]
    period = last - best
    following = best + 1 + np.arange(n) % np.maximum(period, 1)
    found = matched[rows, best][:, 0] >= min_ngram
    return ids[rows, np.minimum(following, last)], np.where(found, n, 0)


class _Model(Proposer):
    """A draft model with its cache.

    Attributes:
        vocabulary: of the target; embeddings may be padded beyond it.
        cache: of the rows' texts, as far as the model has read them; rows that lag behind catch up at the
            next draft.
        read: [B], how many tokens that is.
    """

    def __init__(self, engine: Any, inner: Stepwise, vocabulary: int) -> None:
        self.engine, self.inner, self.vocabulary = engine, inner, vocabulary
        self.forward = engine.forward
        self.plain = argmax_only(inner)
        self.cache: Cache | None = None
        self.read: Ints = np.zeros(0, dtype=np.int64)
        self._drafted = 0  # columns of the last draft that verification may take back
        self.forward.refresh()

    def begin(self, prompts: Sequence[Sequence[int]]) -> Proposer:
        new = _Model(self.engine, self.inner, self.vocabulary)
        new.cache = self.forward.cache(len(prompts))
        lengths = np.array([len(p) for p in prompts])
        ids = np.zeros((len(prompts), int(lengths.max())), dtype=np.int64)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = prompt
        new.read = np.zeros_like(lengths)
        new._catch_up(ids, lengths)
        return new

    def propose(self, texts: Texts, n: int) -> Draft:
        assert self.cache is not None
        logits = self._catch_up(texts.ids, texts.lengths)
        tokens: list[Tensor] = []
        rows = texts.rows
        for k in range(n):
            if k:
                logits = self.forward(self.cache, tokens[-1][:, None]).logits
                rows = rows if self.plain else _later(rows)
            if self.forward.vocab_size > self.vocabulary:
                logits = logits[:, : self.vocabulary]
            tokens.append(self.inner.choose(self.inner.adjust(_wide(logits), rows), rows).tokens)
        self._drafted = n - 1
        return Draft(torch.stack(tokens, 1), np.full(len(texts.lengths), n))

    def settle(self, accepted: Ints) -> None:
        if not self._drafted:
            return
        assert self.cache is not None
        kept = np.minimum(accepted, self._drafted)
        self.read = self.read + kept
        lengths = torch.from_numpy(self.read).to(self.forward.device)
        self.cache.retract(self._drafted, lengths, int(kept.max()))
        self._drafted = 0

    def select(self, index: Tensor) -> Proposer:
        assert self.cache is not None
        self.cache = self.cache.select(index)
        self.read = self.read[index.cpu().numpy()]
        return self

    def join(self, other: Proposer) -> Proposer:
        assert isinstance(other, _Model)
        assert self.cache is not None
        assert other.cache is not None
        self.cache = self.cache.join(other.cache)
        self.read = np.concatenate([self.read, other.read])
        return self

    def _catch_up(self, ids: Ints, lengths: Ints) -> Tensor:
        """Reads what the cache lacks of the texts; [B, V] logits of the token that follows."""
        assert self.cache is not None
        missing = lengths - self.read
        widest = int(missing.max())
        behind = np.arange(widest, 0, -1)  # padded on the left: the texts' ends stand in one column
        new = np.take_along_axis(ids, np.maximum(lengths[:, None] - behind, 0), 1)
        valid = None
        if int(missing.min()) < widest:
            valid = torch.from_numpy(behind <= missing[:, None]).to(self.forward.device)
        self.read = lengths.copy()
        tokens = torch.from_numpy(new).to(self.forward.device)
        return self.forward(self.cache, tokens, valid=valid).logits


def argmax_only(inner: Stepwise) -> bool:
    """Whether a decoding takes the most probable token, and so never looks at its rows."""
    return type(inner).choose is Stepwise.choose and type(inner).adjust is Stepwise.adjust


def _later(rows: Rows) -> Rows:
    """The same rows, one token further."""
    return Rows(rows.seeds, rows.step + 1, rows.alive, rows.thinking, rows.think_end)


def _wide(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


@lru_cache(maxsize=8)
def _vocabulary(tokenizer: Any) -> dict[str, int]:
    """Its tokens; kept, since a list of 150,000 takes longer to make than a text to write."""
    found: dict[str, int] = tokenizer.get_vocab()
    return found


@lru_cache(maxsize=4)
def _load(name: str, device: str, dtype: torch.dtype) -> Any:
    from dovetail.models import load

    return load(name, device=device, dtype=dtype)


def _at_least_one(name: str, value: int) -> None:
    if int(value) != value or value < 1:
        raise InvalidValue(name, value, "a whole number, at least 1")
