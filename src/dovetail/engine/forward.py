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
import torch.nn.functional as F
from torch import Tensor

LayerHook = Callable[[int, Tensor, Tensor], Tensor]
"""``hook(layer, before [B, T, d], after [B, T, d]) -> [B, T, d]``: sees and may replace a layer's output."""

_BLOCK = 64  # columns are allocated in blocks, so that a cache grows rarely


class Cache:
    """Keys and values of the rows.

    Attributes:
        stores: what holds keys and values: tensors [..., B, K, C, D], allocated when first written. Two for
            each layer (`write`), or the first alone for all layers (`block`).
        where: [B, C] int64, the logical position that a column holds for a row, -1 if none.
        used: columns in use; new tokens go to ``used``, ``used + 1``, ...
        positions: [B] int64, the logical position of each row's next token (= its length).
        holes: whether any used column is not valid for some row (if not, no mask is needed).
        shared: so many of the first columns hold the same keys and values for all rows (n samples of one
            prompt), which a network may read once for all of them.
    """

    def __init__(self, rows: int, layers: int, device: torch.device) -> None:
        self.stores: list[Tensor | None] = [None] * (2 * layers)
        self.where = torch.full((rows, 0), -1, dtype=torch.int64, device=device)
        self.positions = torch.zeros(rows, dtype=torch.int64, device=device)
        self.used = 0
        self.holes = False
        self.shared = 0

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
        # By a quarter at least: the copies of a long text then take time in proportion to its length.
        grown_to = max(need, self.capacity * 5 // 4)
        capacity = (grown_to + _BLOCK - 1) // _BLOCK * _BLOCK
        where = self.where.new_full((self.rows, capacity), -1)
        where[:, : self.used] = self.where[:, : self.used]
        self.where = where
        for place, old in enumerate(self.stores):
            if old is not None:
                grown = self.stores[place] = self._room(old, self.rows, capacity)
                grown[..., : self.used, :] = old[..., : self.used, :]
                grown[..., self.used :, :] = 0

    @staticmethod
    def _room(like: Tensor, rows: int, capacity: int) -> Tensor:
        """Not filled yet. What is not written must be 0: a masked column enters 0 * value, and 0 * NaN is
        NaN."""
        return like.new_empty(*like.shape[:-4], rows, like.shape[-3], capacity, like.shape[-1])

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Stores [B, K, T, D] at the next columns; returns all keys and values up to there (views)."""
        end = self.used + keys.shape[2]
        seen = []
        for place, new in ((2 * layer, keys), (2 * layer + 1, values)):
            store = self.stores[place]
            if store is None:
                store = self.stores[place] = self._room(new, self.rows, self.capacity).zero_()
            store[:, :, self.used : end] = new
            seen.append(store[:, :, :end])
        return seen[0], seen[1]

    def block(self, layers: int, heads: int, size: int, dtype: torch.dtype) -> Tensor:
        """[L, 2, B, K, C, D]: one store for the keys (0) and values (1) of all layers, in place of `write`.

        A step then slices once for all layers. The caller writes columns ``used`` and following itself.
        """
        store = self.stores[0]
        if store is None:
            like = torch.empty(layers, 2, 0, heads, 0, size, dtype=dtype, device=self.where.device)
            store = self.stores[0] = self._room(like, self.rows, self.capacity).zero_()
        return store

    def advance(self, where: Tensor, ragged: bool) -> None:
        """Counts T new columns; ``where`` [B, T] holds their logical positions, -1 for padding."""
        tokens = where.shape[1]
        self.where.narrow(1, self.used, tokens).copy_(where)
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
        self.shared = min(self.shared, self.used)
        self.holes = bool((self.where[:, : self.used] < 0).any())

    def retract(self, columns: int, lengths: Tensor, most: int) -> None:
        """`crop` where only the last ``columns`` can be concerned: nothing is read back from the device.

        Args:
            columns: how many the last passes have added.
            lengths: [B] int64, as for `crop`.
            most: of these columns, how many stay; a row keeps no token behind them.
        """
        self.used -= columns - most
        self.shared = min(self.shared, self.used)
        last = self.where[:, self.used - most : self.used]
        last.masked_fill_(last >= lengths[:, None], -1)
        self.positions = torch.minimum(self.positions, lengths)
        # A single row keeps all of the first columns.
        self.holes = self.holes or self.rows > 1

    def select(self, index: Tensor) -> Cache:
        """A cache with the rows at ``index`` [B']: leaves rows out, repeats (forks) or reorders them.

        Copies; columns that none of these rows uses are left out.
        """
        chosen = Cache(0, len(self.stores) // 2, self.where.device)
        where = self.where[index, : self.used]
        alive = (where >= 0).any(0)
        keep = None if bool(alive.all()) else alive.nonzero()[:, 0]
        chosen.where = where if keep is None else where[:, keep]
        chosen.used = chosen.where.shape[1]
        chosen.positions = self.positions[index]
        chosen.holes = self.holes and bool((chosen.where < 0).any())
        chosen.shared = self.shared if keep is None else int((keep < self.shared).sum())
        for place, store in enumerate(self.stores):
            if store is not None:
                part = store[..., : self.used, :].index_select(store.dim() - 4, index)
                chosen.stores[place] = part if keep is None else part.index_select(part.dim() - 2, keep)
        return chosen

    def fork(self, rows: int) -> Cache:
        """This cache's only row, ``rows`` times."""
        forked = self.select(torch.zeros(rows, dtype=torch.int64, device=self.where.device))
        forked.shared = forked.used
        return forked

    def leave(self, staying: Tensor) -> Tensor:
        """Takes all rows but ``staying`` [B'] (ascending) out, in place where that is cheaper than a copy.

        Rows from the end fill the gaps, so few rows are moved.

        Returns:
            [B'] int64: which of the old rows now stands at each place. Everything else that is kept of the
            rows must be indexed by it.
        """
        size = len(staying)
        alive = (self.where[staying, : self.used] >= 0).any(0)
        if 4 * int(alive.sum()) < 3 * self.used or 2 * size < self.rows:
            self._become(self.select(staying))
            return staying
        gaps = torch.ones(size, dtype=torch.bool, device=staying.device)
        gaps[staying[staying < size]] = False
        to, start = gaps.nonzero()[:, 0], staying[staying >= size]
        order = torch.arange(size, device=staying.device)
        order[to] = start
        for place, store in enumerate(self.stores):
            if store is not None:
                dim = store.dim() - 4
                used = store[..., : self.used, :]
                used.index_copy_(dim, to, used.index_select(dim, start))
                self.stores[place] = store.narrow(dim, 0, size)
        self.where = self.where[order]
        self.positions = self.positions[order]
        self.holes = self.holes and bool((self.where[:, : self.used] < 0).any())
        return order

    def _become(self, other: Cache) -> None:
        self.stores, self.where, self.positions = other.stores, other.where, other.positions
        self.used, self.holes, self.shared = other.used, other.holes, other.shared

    def join(self, *others: Cache) -> Cache:
        """The rows of all; narrower ones are moved right, so that all end at the same column."""
        parts = (self, *others)
        joined = Cache(0, len(self.stores) // 2, self.where.device)
        used = joined.used = max(p.used for p in parts)
        joined.positions = torch.cat([p.positions for p in parts])
        joined.holes = any(p.holes or p.used != used for p in parts)
        moved = [F.pad(p.where[:, : p.used], (used - p.used, 0), value=-1) for p in parts]
        joined.where = torch.cat(moved)
        for place in range(len(self.stores)):
            held = [store for p in parts if (store := p.stores[place]) is not None]
            if len(held) < len(parts):
                continue
            room = joined.stores[place] = self._room(held[0], joined.rows, used)
            first = 0
            for part, store in zip(parts, held, strict=True):
                rows = room.narrow(room.dim() - 4, first, part.rows)
                rows[..., : used - part.used, :] = 0
                rows[..., used - part.used :, :] = store[..., : part.used, :]
                first += part.rows
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
        first = cache.positions[:, None]
        return first if tokens == 1 else first + torch.arange(tokens, device=first.device)
    return torch.where(valid, cache.positions[:, None] + valid.cumsum(1) - 1, -1)
