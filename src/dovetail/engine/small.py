"""A pass of few tokens on a CPU, in numpy on torch's memory.

For a small network such a pass costs what its operations cost to launch, and numpy launches one in less
than half of torch's time. So all that stands between the products with the weights is numpy, in buffers that
are kept; the products stay torch's, whose threads pay for large networks. Weights, cache and results are
the tensors of `LeanForward` themselves.

Shapes: B rows, T tokens, N = B T, K key-value heads, G queries per key-value head, D head size, C columns, d
hidden size, I inner size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dovetail.engine.elementwise import squares

Array = np.ndarray[Any, Any]


@dataclass(slots=True)
class LayerWeights:
    """Products as [in, out] views; norms already multiplied by the root of their size, see `_normalize`."""

    norm_1: Array  # [d]
    qkv: Tensor  # [d, (K G + 2 K) D]
    bias: Array | None
    qk_norm: Array | None  # [K G + K, D]
    out: Tensor  # [K G D, d]
    norm_2: Array
    gate_up: Tensor  # [d, 2 I]
    down: Tensor  # [I, d]


class _Buffers:
    """Memory for passes of B rows and T tokens, and the views of it that a layer needs."""

    def __init__(self, rows: int, tokens: int, kv: int, group: int, size: int, w: LayerWeights) -> None:
        heads, n, dtype = kv * group, rows * tokens, w.qkv.dtype
        self.h = torch.empty(n, w.qkv.shape[0], dtype=dtype)
        self.qkv = torch.empty(n, w.qkv.shape[1], dtype=dtype)
        self.attended = torch.empty(n, heads * size, dtype=dtype)
        self.gate_up = torch.empty(n, w.gate_up.shape[1], dtype=dtype)
        inner = w.gate_up.shape[1] // 2
        self.acted = torch.empty(n, inner, dtype=dtype)
        self.h_, self.qkv_, self.acted_ = self.h.numpy(), self.qkv.numpy(), self.acted.numpy()
        self.gate, self.up = self.gate_up.numpy()[:, :inner], self.gate_up.numpy()[:, inner:]
        by_head = self.qkv_.reshape(rows, tokens, heads + 2 * kv, size)
        half = size // 2
        self.qk = by_head[:, :, : heads + kv]
        self.halves = self.qk[..., :half], self.qk[..., half:]
        self.swapped = np.empty(self.qk.shape, self.qk.dtype)
        self.swapped_halves = self.swapped[..., :half], self.swapped[..., half:]
        q = by_head[:, :, :heads]
        self.q = q.reshape(rows, tokens, kv, group, size).transpose(0, 2, 1, 3, 4)  # [B, K, T, G, D]
        new = by_head[:, :, heads:]
        self.new = new.reshape(rows, tokens, 2, kv, size).transpose(2, 0, 3, 1, 4)  # [2, B, K, T, D]
        attended = self.attended.numpy().reshape(rows, tokens, kv, group, size)
        self.a = attended.transpose(0, 2, 1, 3, 4)
        self.root = np.empty((n, 1), self.qk.dtype)
        self.roots = np.empty((rows, tokens, heads + kv, 1), self.qk.dtype)


class SmallPass:
    """The layers of one network.

    Args:
        layers: their weights.
        heads, kv_heads, size, eps: of the network's config.
    """

    def __init__(
        self, layers: Sequence[LayerWeights], heads: int, kv_heads: int, size: int, eps: float
    ) -> None:
        self.layers, self.eps = layers, eps
        self.kv, self.group, self.size = kv_heads, heads // kv_heads, size
        self.scale = size**-0.5
        self._buffers: dict[tuple[int, int], _Buffers] = {}

    def __call__(
        self, x: Tensor, cos: Tensor, sin: Tensor, store: Tensor, start: int, mask: Tensor | None
    ) -> Tensor:
        """The hidden states [N, d] after the last layer; ``x`` is written over.

        Args:
            x: [N, d] embeddings, this call's own memory.
            cos, sin: [B, T, 1, D], see `elementwise.rotate_`.
            store: [L, 2, B, K, capacity, D]; columns ``start`` to ``start + T`` are written.
            mask: additive, [B, 1, T, start + T], or None.
        """
        rows, tokens = cos.shape[:2]
        b = self._buffers.get((rows, tokens))
        if b is None:
            if len(self._buffers) > 32:
                self._buffers.clear()
            b = _Buffers(rows, tokens, self.kv, self.group, self.size, self.layers[0])
            self._buffers[rows, tokens] = b
        half, end = self.size // 2, start + tokens
        cosines, sines = cos.numpy(), sin.numpy()
        angles = cosines, sines[..., :half], sines[..., half:]
        seen = store.numpy()[..., :end, :]
        hidden = None if mask is None else mask.numpy()[:, :, :, None]
        for layer, cache in zip(self.layers, seen, strict=True):
            self._attend(layer, b, x, angles, cache, start, hidden)
            self._feed(layer, b, x)
        return x

    def _attend(
        self,
        layer: LayerWeights,
        b: _Buffers,
        x: Tensor,
        angles: tuple[Array, Array, Array],
        cache: Array,
        start: int,
        mask: Array | None,
    ) -> None:
        _normalize(x.numpy(), layer.norm_1, self.eps, b.root, b.h_)
        torch.mm(b.h, layer.qkv, out=b.qkv)
        if layer.bias is not None:
            b.qkv_ += layer.bias
        if layer.qk_norm is not None:
            _normalize(b.qk, layer.qk_norm, self.eps, b.roots, b.qk)
        cos, sin_1, sin_2 = angles
        np.multiply(b.halves[1], sin_1, b.swapped_halves[0])
        np.multiply(b.halves[0], sin_2, b.swapped_halves[1])
        np.multiply(b.qk, cos, b.qk)
        np.add(b.qk, b.swapped, b.qk)
        cache[..., start:, :] = b.new
        scores = np.matmul(b.q, cache[0][:, :, None].swapaxes(-1, -2))  # [B, K, T, G, C]
        scores *= self.scale
        if mask is not None:
            scores += mask
        scores -= np.maximum.reduce(scores, -1, keepdims=True)
        np.exp(scores, scores)
        np.matmul(scores, cache[1][:, :, None], b.a)
        np.divide(b.a, np.add.reduce(scores, -1, keepdims=True), b.a)
        x.addmm_(b.attended, layer.out)

    def _feed(self, layer: LayerWeights, b: _Buffers, x: Tensor) -> None:
        _normalize(x.numpy(), layer.norm_2, self.eps, b.root, b.h_)
        torch.mm(b.h, layer.gate_up, out=b.gate_up)
        # silu(gate) * up; silu(2 h) = h (1 + tanh h) does not overflow
        np.multiply(b.gate, 0.5, b.gate)
        acted = np.tanh(b.gate, b.acted_)
        acted += 1
        acted *= b.gate
        acted *= b.up
        x.addmm_(b.acted, layer.down)


def _normalize(x: Array, weight: Array, eps: float, root: Array, out: Array) -> None:
    """``out`` = x / sqrt(mean(x^2) + eps) * w, where ``weight`` is w times the root of the size n.

    Args:
        root: [..., 1], for the root of n (mean(x^2) + eps).
    """
    squares(x, root[..., 0])
    root += x.shape[-1] * eps
    np.sqrt(root, root)
    np.divide(x, root, out)
    out *= weight
