"""A pass of few tokens on a CPU, in numpy on torch's memory.

For a small network such a pass costs what its operations cost to launch, and numpy launches one in less
than half of torch's time. So all that stands between the products with the weights is numpy, in buffers that
are kept; so are small products of few rows (see `product`) and those of attention, many and tiny, which
torch's batched product is several times slower at. The softmax is torch's: one operation for numpy's five.
Weights, cache and results are the tensors of `LeanForward` themselves.

Shapes: B rows, T tokens, N = B T, K key-value heads, G queries per key-value head, H = K G + K heads that are
rotated, D head size, C columns, d hidden size, I inner size, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dovetail.engine.elementwise import squares

Array = np.ndarray[Any, Any]

_LIGHT = 1 << 18  # elements of a weight; for more OpenBLAS starts threads of its own
_NARROW = 8  # rows
_SOME = 32  # rows, for which a copy that lies the other way round pays (without AVX512)
_FEW = 24  # queries per key-value head
_TINY = 1200  # elements of a result
_WORTH_SHARING = 32  # columns
_VECTORS = torch.backends.cpu.get_cpu_capability() == "AVX512"


class Memory:
    """A matrix as torch and as numpy see it."""

    __slots__ = ("array", "tensor")

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.array = tensor, tensor.numpy()

    @classmethod
    def empty(cls, *shape: int, dtype: torch.dtype) -> Memory:
        return cls(torch.empty(shape, dtype=dtype))


class Weight(Memory):
    """[out, in]; ``transposed`` is torch's view of it as [in, out]."""

    __slots__ = ("_copy", "light", "transposed")

    def __init__(self, tensor: Tensor) -> None:
        super().__init__(tensor)
        self.transposed = tensor.t()
        self.light = tensor.numel() <= _LIGHT and self.array.flags.c_contiguous
        self._copy: Tensor | None = None

    def columns(self, rows: int) -> Tensor:
        """[in, out], as torch multiplies so many rows with it fastest.

        Without AVX512, MKL takes less time for some rows where a small matrix lies the other way round in
        memory. The copy is made when first asked for, and as old as this object: `Forward.refresh`.
        """
        if _VECTORS or not self.light or rows > _SOME:
            return self.transposed
        if self._copy is None:
            self._copy = self.transposed.contiguous()
        return self._copy


def product(x: Memory, weight: Weight, out: Memory) -> None:
    """``out`` [N, out] = ``x`` [N, in] times the weight.

    numpy's BLAS multiplies a matrix with one row in about half of torch's time, and with a few rows where
    `in_slices` is fast.
    """
    rows = len(x.array)
    if rows == 1 and weight.light:
        np.dot(weight.array, x.array[0], out.array[0])
    elif rows <= _NARROW and weight.light and _VECTORS:
        in_slices(x.array, weight.array.T, out.array)
    else:
        torch.mm(x.tensor, weight.columns(rows), out=out.tensor)


def in_slices(a: Array, b: Array, out: Array) -> None:
    """``out`` [..., M, N] = a [..., M, K] b [..., K, N] for a ``b`` that is transposed in memory.

    For AVX512 OpenBLAS has a kernel for tiny results, several times faster there; so N is taken in slices.
    """
    width = _TINY // a.shape[-2]
    for at in range(0, b.shape[-1], width):
        np.matmul(a, b[..., at : at + width], out[..., at : at + width])


def add_product(x: Memory, weight: Weight, onto: Memory, scratch: Memory) -> None:
    """``onto`` += ``x`` times the weight; ``scratch`` is as large as ``onto``."""
    if weight.light and len(x.array) <= (_NARROW if _VECTORS else 1):
        product(x, weight, scratch)
        onto.array += scratch.array
    else:
        onto.tensor.addmm_(x.tensor, weight.columns(len(x.array)))


@dataclass(slots=True)
class LayerWeights:
    """One layer. Norms are already multiplied by the root of their size, see `_normalize`."""

    norm_1: Array  # [1, d]
    qkv: Weight  # [(K G + 2 K) D, d]
    bias: Array | None
    qk_norm: Array | None  # [1, 1, H, D]
    out: Weight  # [d, K G D]
    norm_2: Array
    gate_up: Weight  # [2 I, d]
    down: Weight  # [d, I]


class _Buffers:
    """Memory for passes of B rows and T tokens, and the views of it that a layer needs."""

    def __init__(self, rows: int, tokens: int, kv: int, group: int, size: int, w: LayerWeights) -> None:
        heads, n, dtype = kv * group, rows * tokens, w.qkv.tensor.dtype
        inner = w.down.array.shape[1]
        self.h = Memory.empty(n, w.qkv.array.shape[1], dtype=dtype)
        self.qkv = Memory.empty(n, w.qkv.array.shape[0], dtype=dtype)
        self.attended = Memory.empty(n, heads * size, dtype=dtype)
        self.gate_up = Memory.empty(n, 2 * inner, dtype=dtype)
        self.acted = Memory.empty(n, inner, dtype=dtype)
        self.gate, self.up = self.gate_up.array[:, :inner], self.gate_up.array[:, inner:]
        self.gate_tensor, self.up_tensor = self.gate_up.tensor[:, :inner], self.gate_up.tensor[:, inner:]
        by_head = self.qkv.array.reshape(rows, tokens, heads + 2 * kv, size)
        self.qk = by_head[:, :, : heads + kv]  # [B, T, H, D]
        halves = (rows, tokens, heads + kv, 2, size // 2)
        self.swapped_qk = self.qk.reshape(halves)[:, :, :, ::-1]
        self.cos, self.sin = np.empty_like(self.qk), np.empty_like(self.qk)
        self.turned = np.empty_like(self.qk)
        self.sin_halves, self.turned_halves = self.sin.reshape(halves), self.turned.reshape(halves)
        new = by_head[:, :, heads:]
        self.new = new.reshape(rows, tokens, 2, kv, size).transpose(2, 0, 3, 1, 4)  # [2, B, K, T, D]
        # Queries and what attention makes of them, [K, B, T, G, D]. A lone token needs no copies.
        q = by_head[:, :, :heads].reshape(rows, tokens, kv, group, size).transpose(2, 0, 1, 3, 4)
        a = self.attended.array.reshape(rows, tokens, kv, group, size).transpose(2, 0, 1, 3, 4)
        self.copies = n > 1
        self.q, self.a = q, a
        self.q_copy = np.empty(q.shape, q.dtype) if self.copies else q
        self.a_copy = np.empty(a.shape, a.dtype) if self.copies else a
        self.queries, self.answers = (x.reshape(kv, rows, -1, size) for x in (self.q_copy, self.a_copy))
        self.root = np.empty((n, 1), q.dtype)
        self.roots = np.empty((rows, tokens, heads + kv, 1), q.dtype)


class _Scores(Memory):
    """[K, B, T G, C] scores of a pass, and which of them are for the ``shared`` first columns.

    Attributes:
        of_shared: [K, B T G, shared]; one product with one row's keys serves all rows.
        of_own: [K, B, T G, C - shared].
        mask: additive, [B or 1, T G, C], or None.
    """

    __slots__ = ("mask", "of_own", "of_shared", "shared")

    def __init__(self, b: _Buffers, columns: int, shared: int, mask: Tensor | None) -> None:
        kv, rows, queries, _ = b.queries.shape
        super().__init__(torch.empty(kv, rows, queries, columns, dtype=b.h.tensor.dtype))
        self.shared = shared
        self.of_shared = self.array.reshape(kv, rows * queries, columns)[..., :shared]
        self.of_own = self.array[..., shared:]
        self.mask: Array | None = None
        if mask is not None:
            group = b.q.shape[3]
            self.mask = mask.numpy()[:, 0, :, None].repeat(group, 2).reshape(-1, queries, columns)


class SmallPass:
    """The layers of one network and what follows them.

    Args:
        layers: their weights.
        norm: [d], of the last norm.
        head: [V, d], None if the network's head is no plain matrix.
        heads, kv_heads, size, eps: of the network's config.
    """

    def __init__(
        self,
        layers: Sequence[LayerWeights],
        norm: Array,
        head: Weight | None,
        heads: int,
        kv_heads: int,
        size: int,
        eps: float,
    ) -> None:
        self.layers, self.norm, self.head, self.eps = layers, norm, head, eps
        self.kv, self.group, self.size = kv_heads, heads // kv_heads, size
        # Queries are scaled as they are rotated.
        self.scales = np.ones((heads + kv_heads, 1), norm.dtype)
        self.scales[:heads] = size**-0.5
        self._buffers: dict[tuple[int, int], _Buffers] = {}

    def __call__(
        self,
        x: Tensor,
        rope: Tensor,
        where: Tensor,
        store: Tensor,
        start: int,
        shared: int,
        mask: Tensor | None,
    ) -> Tensor:
        """The hidden states [N, d] after the last layer; ``x`` is written over.

        Args:
            x: [N, d] embeddings, this call's own memory.
            rope: [positions, 2 D], cosines and signed sines, see `elementwise.rotate_`.
            where: [B, T] int64, positions; -1 for padding, which takes any.
            store: [L, 2, B, K, capacity, D]; columns ``start`` to ``start + T`` are written.
            shared: the first columns, which are the same in all rows.
            mask: additive, [B or 1, 1, T, start + T], or None.
        """
        rows, tokens = where.shape
        b = self._buffers.get((rows, tokens))
        if b is None:
            if len(self._buffers) > 12:
                self._buffers.clear()
            b = _Buffers(rows, tokens, self.kv, self.group, self.size, self.layers[0])
            self._buffers[rows, tokens] = b
        angles = rope.numpy().take(where.numpy(), 0)[:, :, None]  # [B, T, 1, 2 D]
        np.multiply(angles[..., : self.size], self.scales, b.cos)
        np.multiply(angles[..., self.size :], self.scales, b.sin)
        end = start + tokens
        seen = store.numpy()[..., :end, :]
        by_head = seen.swapaxes(2, 3)  # [L, 2, K, B, C, D]
        scores = _Scores(b, end, shared if rows > 1 and shared >= _WORTH_SHARING else 0, mask)
        states = Memory(x)
        for layer, new, keys, values in zip(
            self.layers, seen[..., start:, :], by_head[:, 0], by_head[:, 1], strict=True
        ):
            self._project(layer, b, states)
            new[...] = b.new
            self._attend(b, keys, values, scores)
            add_product(b.attended, layer.out, states, b.h)
            self._feed(layer, b, states)
        return x

    def logits(self, x: Tensor) -> Tensor:
        """[N, V] of hidden states [N, d] after the last layer."""
        assert self.head is not None
        h = Memory(torch.empty_like(x))
        _normalize(x.numpy(), self.norm, self.eps, np.empty((len(x), 1), h.array.dtype), h.array)
        out = Memory(x.new_empty(len(x), len(self.head.array)))
        product(h, self.head, out)
        return out.tensor

    def _project(self, layer: LayerWeights, b: _Buffers, x: Memory) -> None:
        """Queries, keys and values of the new tokens."""
        _normalize(x.array, layer.norm_1, self.eps, b.root, b.h.array)
        product(b.h, layer.qkv, b.qkv)
        if layer.bias is not None:
            b.qkv.array += layer.bias
        if layer.qk_norm is not None:
            _normalize(b.qk, layer.qk_norm, self.eps, b.roots, b.qk)
        np.multiply(b.swapped_qk, b.sin_halves, b.turned_halves)
        np.multiply(b.qk, b.cos, b.qk)
        np.add(b.qk, b.turned, b.qk)

    def _attend(self, b: _Buffers, keys: Array, values: Array, scores: _Scores) -> None:
        """``keys`` and ``values`` [K, B, C, D] -> ``b.attended``."""
        if b.copies:
            b.q_copy[...] = b.q
        keys = keys.swapaxes(-1, -2)
        s = scores.shared
        if s:
            np.matmul(b.queries.reshape(self.kv, -1, self.size), keys[:, 0, :, :s], scores.of_shared)
        if _VECTORS and b.queries.shape[2] <= _FEW:
            in_slices(b.queries, keys[..., s:], scores.of_own)
        else:
            np.matmul(b.queries, keys[..., s:], scores.of_own)
        if scores.mask is not None:
            scores.array += scores.mask
        torch.softmax(scores.tensor, -1, out=scores.tensor)
        np.matmul(scores.of_own, values[:, :, s:], b.answers)
        if s:
            b.answers += np.matmul(scores.of_shared, values[:, 0, :s]).reshape(b.answers.shape)
        if b.copies:
            b.a[...] = b.a_copy

    def _feed(self, layer: LayerWeights, b: _Buffers, x: Memory) -> None:
        _normalize(x.array, layer.norm_2, self.eps, b.root, b.h.array)
        product(b.h, layer.gate_up, b.gate_up)
        if len(x.array) > 1:
            torch.ops.aten.silu.out(b.gate_tensor, out=b.acted.tensor)
            b.acted.tensor.mul_(b.up_tensor)
        else:  # silu(gate) * up; silu(2 h) = h (1 + tanh h) does not overflow
            np.multiply(b.gate, 0.5, b.gate)
            acted = np.tanh(b.gate, b.acted.array)
            acted += 1
            acted *= b.gate
            acted *= b.up
        add_product(b.acted, layer.down, x, b.h)


def _normalize(x: Array, weight: Array, eps: float, root: Array, out: Array) -> None:
    """``out`` = x / sqrt(mean(x^2) + eps) * w, where ``weight`` is w times the root of the size n.

    Args:
        root: [..., 1], for the root of n (mean(x^2) + eps).
    """
    if len(x) == 1 and x.ndim == 2:  # a lone token: its root is a number
        np.multiply(x, 1 / math.sqrt(float(np.dot(x[0], x[0])) + x.shape[-1] * eps), out)
        out *= weight
        return
    squares(x, root[..., 0])
    root += x.shape[-1] * eps
    np.sqrt(root, root)
    np.divide(x, root, out)
    out *= weight
