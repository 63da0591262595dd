"""One seed in, everything reproducible.

Random numbers are a pure function of (stream, counter): a row draws the same numbers whatever else is
in its batch, and nothing has to be saved to resume. The mixing function is splitmix64 (Steele, Lea and
Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014), applied twice.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_GAMMA = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB


def stream(seed: int, *names: object) -> int:
    """A 63-bit stream id from a seed and any names (example id, sample number, purpose)."""
    digest = hashlib.blake2b(repr((seed, *names)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def uniform(streams: Tensor, counters: Tensor) -> Tensor:
    """Uniform numbers in (0, 1), float64, shape of ``streams`` broadcast with ``counters`` (both int64)."""
    import torch

    x = _mix(streams + counters * _signed(_GAMMA))
    x = _mix(x ^ streams)
    # 52 random bits, moved off 0 and 1 so that log() is finite on both sides; at 53 bits the topmost
    # value would round to 1.0.
    return (((x >> 12) & ((1 << 52) - 1)).to(torch.float64) + 0.5) * 2.0**-52


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)) * _signed(_MIX_1)
    x = (x ^ _shift(x, 27)) * _signed(_MIX_2)
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift: int64's own shift drags the sign along."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _signed(x: int) -> int:
    return x - (1 << 64) if x >= 1 << 63 else x
