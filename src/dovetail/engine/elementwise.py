"""Norms and rotations of the lean path, in place.

On a CPU a small step costs what its operations cost to launch, and numpy launches one in less than half the
time that torch takes. So where tensors are small these run in numpy, on torch's own memory: nothing is copied
and nothing differs but the last bit. Everywhere else they are torch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_SMALL = 1 << 16  # elements; beyond, torch's threads and fused loops win


def small(x: Tensor) -> bool:
    """Whether numpy is the faster one for ``x`` (and knows its dtype)."""
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64) and x.numel() <= _SMALL


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension, in float32 at least; a new tensor.

    Args:
        x: [..., N].
        weight: [N], or what broadcasts to ``x``.
    """
    if small(x):
        array = x.numpy()
        scaled = array / _root_mean_square(array, eps)
        scaled *= weight.numpy()
        normalized: Tensor = torch.from_numpy(scaled)
        return normalized
    if x.is_cuda or x.dtype in (torch.bfloat16, torch.float16):
        y: Tensor = F.rms_norm(x.float(), (x.shape[-1],), None, eps)
        return y.to(x.dtype) * weight
    # On a CPU `F.rms_norm` is a chain of twice as many operations.
    length = torch.linalg.vector_norm(x, 2, -1, keepdim=True)
    scale = length.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    normed: Tensor = (x * scale).mul_(weight)
    return normed


def rotate_(x: Tensor, cos: Tensor, sin: Tensor) -> None:
    """Rotary position embedding, in place: x * cos + swapped(x) * sin.

    Args:
        x: [B, T, H, D].
        cos, sin: [B, T, 1, D]; the first half of ``sin`` holds the negated sines, which stands for
            rotate_half's sign.
    """
    half = x.shape[-1] // 2
    if small(x):
        array, swapped = x.numpy(), np.empty(x.shape, cos.numpy().dtype)
        swapped[..., :half] = array[..., half:]
        swapped[..., half:] = array[..., :half]
        swapped *= sin.numpy()
        array *= cos.numpy()
        array += swapped
        return
    torch.addcmul(x * cos, x.roll(half, -1), sin, out=x)


def _root_mean_square(array: Any, eps: float) -> Any:
    """[..., 1]."""
    square = squares(array)[..., None]
    square *= 1 / array.shape[-1]
    square += eps
    return np.sqrt(square, square)


if hasattr(np, "vecdot"):

    def squares(array: Any, out: Any = None) -> Any:
        """[..., N] -> [...] sums of squares."""
        return np.vecdot(array, array, out=out)

else:  # numpy 1

    def squares(array: Any, out: Any = None) -> Any:
        """[..., N] -> [...] sums of squares."""
        return np.einsum("...i,...i->...", array, array, out=out)
