"""The small interface between the engine and a network, and the cache that both implementations share.

Shapes: B rows, T new tokens, C cache columns, L layers, K key-value heads, D head size, d hidden size, V
vocabulary.

All rows write into the same columns of the cache at a step, so that writing is one slice copy. What a column
means to a row is kept beside it: ``valid`` says whether it holds a token of that row, ``positions`` which
logical position comes next. Ragged prompts, rejected drafts and rows that joined late are thus all the same
thing: columns that are not valid for a row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

LayerHook = Callable[[int, Tensor, Tensor], Tensor]
"""``hook(layer, before [B, T, d], after [B, T, d]) -> [B, T, d]``: sees and may replace a layer's output."""

_BLOCK = 64  # columns are allocated in blocks, so that a cache grows rarely


class Cache:
    """Keys and values of the rows.

    Attributes:
        keys, values: per layer [B, K, C, D]; values' D may differ from keys'. Layers are allocated when
            first written.
        where: [B, C] int64, the logical position that a column holds for a row, -1 if none.
        used: columns in use; new tokens go to ``used``, ``used + 1``, ...
        positions: [B] int64, the logical position of each row's next token (= its length).
        holes: whether any used column is not valid for some row (if not, no mask is needed).
    """

    def __init__(self, rows: int, layers: int, device: torch.device) -> None:
        self.keys: list[Tensor | None] = [None] * layers
        self.values: list[Tensor | None] = [None] * layers
        self.where = torch.full((rows, 0), -1, dtype=torch.int64, device=device)
        self.positions = torch.zeros(rows, dtype=torch.int64, device=device)
        self.used = 0
        self.holes = False

    @property
    def rows(self) -> int:
        return self.positions.shape[0]

    @property
    def capacity(self) -> int:
        return self.where.shape[1]

    @property
    def valid(self) -> Tensor:
        """[B, used] bool: the columns that hold a token of the row."""
        return self.where[:, : self.used] >= 0

    def reserve(self, columns: int) -> None:
        """Makes room for ``columns`` more tokens."""
        need = self.used + columns
        if need <= self.capacity:
            return
        grown = max(need, self.capacity + min(self.capacity, 1024))
        capacity = (grown + _BLOCK - 1) // _BLOCK * _BLOCK
        where = self.where.new_full((self.rows, capacity), -1)
        where[:, : self.used] = self.where[:, : self.used]
        self.where = where
        for store in (self.keys, self.values):
            for layer, old in enumerate(store):
                if old is not None:
                    # Zeros, not empty: a masked column still enters 0 * value, and 0 * NaN is NaN.
                    new = old.new_zeros(*old.shape[:2], capacity, old.shape[3])
                    new[:, :, : self.used] = old[:, :, : self.used]
                    store[layer] = new

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Stores [B, K, T, D] at the next columns; returns all keys and values up to there (views)."""
        stored_keys, stored_values = self.keys[layer], self.values[layer]
        if stored_keys is None or stored_values is None:
            stored_keys = self.keys[layer] = keys.new_zeros(*keys.shape[:2], self.capacity, keys.shape[3])
            stored_values = self.values[layer] = values.new_zeros(
                *values.shape[:2], self.capacity, values.shape[3]
            )
        end = self.used + keys.shape[2]
        stored_keys[:, :, self.used : end] = keys
        stored_values[:, :, self.used : end] = values
        return stored_keys[:, :, :end], stored_values[:, :, :end]

    def advance(self, where: Tensor, ragged: bool) -> None:
        """Counts T new columns; ``where`` [B, T] holds their logical positions, -1 for padding."""
        tokens = where.shape[1]
        self.where[:, self.used : self.used + tokens] = where
        self.used += tokens
        if ragged:
            self.holes = True
            self.positions = self.positions + (where >= 0).sum(1)
        else:
            self.positions = self.positions + tokens

    def crop(self, lengths: Tensor) -> None:
        """Forgets every token at logical position >= ``lengths`` [B] (a rejected draft, a backtrack)."""
        used = self.where[:, : self.used]
        used[used >= lengths[:, None]] = -1
        self.positions = torch.minimum(self.positions, lengths)
        alive = (used >= 0).any(0).nonzero()
        self.used = int(alive[-1]) + 1 if len(alive) else 0
        self.holes = bool((self.where[:, : self.used] < 0).any())

    def select(self, index: Tensor) -> Cache:
        """A cache with the rows at ``index`` [B']: leaves rows out, repeats (forks) or reorders them."""
        chosen = Cache(0, len(self.keys), self.where.device)
        where = self.where[index, : self.used]
        # Columns that no remaining row uses are given back, from both ends and in between.
        alive = (where >= 0).any(0)
        keep = None if bool(alive.all()) else alive.nonzero()[:, 0]
        chosen.where = where if keep is None else where[:, keep]
        chosen.used = chosen.where.shape[1]
        chosen.positions = self.positions[index]
        chosen.holes = self.holes and bool((chosen.where < 0).any())
        for source, target in ((self.keys, chosen.keys), (self.values, chosen.values)):
            for layer, stored in enumerate(source):
                if stored is not None:
                    part = stored[index, :, : self.used]
                    target[layer] = part if keep is None else part[:, :, keep]
        return chosen

    def join(self, other: Cache) -> Cache:
        """The rows of both; the narrower one is moved right, so that both end at the same column."""
        joined = Cache(0, len(self.keys), self.where.device)
        joined.used = max(self.used, other.used)
        joined.positions = torch.cat([self.positions, other.positions])

        def right(x: Tensor, used: int, dim: int, fill: float) -> Tensor:
            x = x.narrow(dim, 0, used)
            if used == joined.used:
                return x
            shape = list(x.shape)
            shape[dim] = joined.used - used
            return torch.cat([x.new_full(shape, fill), x], dim)

        joined.where = torch.cat([right(self.where, self.used, 1, -1), right(other.where, other.used, 1, -1)])
        joined.holes = self.holes or other.holes or self.used != other.used
        for mine, theirs, target in (
            (self.keys, other.keys, joined.keys),
            (self.values, other.values, joined.values),
        ):
            for layer, (a, b) in enumerate(zip(mine, theirs, strict=True)):
                if a is not None and b is not None:
                    target[layer] = torch.cat([right(a, self.used, 2, 0.0), right(b, other.used, 2, 0.0)])
        return joined


@dataclass(slots=True)
class Output:
    """What a forward pass gives.

    Attributes:
        logits: [B, V] of each row's last token, or [B, T, V] where all were asked for.
        hidden: [B, T, d] after the final norm, where asked for.
    """

    logits: Tensor
    hidden: Tensor | None = None


class Forward(ABC):
    """A network that reads tokens (or input embeddings) behind a cache.

    Attributes:
        layers, hidden_size, vocab_size: sizes of the network.
        device, dtype: of its weights.
        max_positions: the longest context it was made for.
    """

    layers: int
    hidden_size: int
    vocab_size: int
    device: torch.device
    dtype: torch.dtype
    max_positions: int

    def cache(self, rows: int) -> Cache:
        """An empty cache for ``rows`` rows."""
        return Cache(rows, self.layers, self.device)

    def refresh(self) -> None:  # noqa: B027 (most networks have nothing to follow)
        """Called before each generation: follow weights that training changed or moved."""

    @abstractmethod
    def embed(self, ids: Tensor) -> Tensor:
        """[...] int64 -> [..., d]: what the network itself makes of token ids, scaling included."""

    @abstractmethod
    def __call__(
        self,
        cache: Cache,
        ids: Tensor | None = None,
        embeds: Tensor | None = None,
        *,
        valid: Tensor | None = None,
        all_logits: bool = False,
        hidden: bool = False,
        hook: LayerHook | None = None,
    ) -> Output:
        """Reads T new tokens per row and moves the cache on.

        Args:
            cache: of the same rows.
            ids: [B, T] int64, or
            embeds: [B, T, d] in their place.
            valid: [B, T] bool, False for padding; None if there is none. A row's last token must be its
                last column for ``logits`` of the last token to be its own (pad on the left).
            all_logits: logits of all T tokens instead of the last.
            hidden: also give the last hidden states.
            hook: sees every layer's input and output and may replace the latter.
        """

    @abstractmethod
    def table(self) -> Tensor:
        """[V, d]: `embed` of every token."""

    def mix(self, weights: Tensor, ids: Tensor | None) -> Tensor:
        """[B, K] weights and ids -> [B, 1, d] weighted means of token embeddings, summed in float32 at least.

        Without ``ids`` the weights [B, V] are over the whole vocabulary.
        """
        if ids is None:
            table = self.table()
            wide = torch.promote_types(table.dtype, torch.float32)
            return (weights.to(wide) @ table.to(wide)).to(table.dtype)[:, None]
        embeddings = self.embed(ids)
        wide = torch.promote_types(embeddings.dtype, torch.float32)
        return torch.bmm(weights[:, None].to(wide), embeddings.to(wide)).to(embeddings.dtype)


def visible(cache: Cache, where: Tensor, window: int | None = None) -> Tensor:
    """[B, T, C + T] bool: what each new token may look at, itself always included.

    Args:
        cache: before the new tokens are counted.
        where: [B, T] logical positions of the new tokens, -1 for padding.
        window: sliding-window size, None for full attention.
    """
    columns = torch.cat([cache.where[:, : cache.used], where], 1)
    keys, queries = columns[:, None, :], where[:, :, None]
    seen = (keys >= 0) & (keys <= queries)
    if window is not None:
        seen &= keys > queries - window
    # A padding token sees itself: a row of the softmax without any key would be NaN.
    tokens = where.shape[1]
    itself = torch.eye(tokens, dtype=torch.bool, device=where.device)
    seen[:, :, cache.used :] |= itself
    return seen


def next_positions(cache: Cache, tokens: int, valid: Tensor | None) -> Tensor:
    """[B, T] logical positions of T new tokens, -1 where ``valid`` is False."""
    if valid is None:
        return cache.positions[:, None] + torch.arange(tokens, device=cache.positions.device)
    return torch.where(valid, cache.positions[:, None] + valid.cumsum(1) - 1, -1)
