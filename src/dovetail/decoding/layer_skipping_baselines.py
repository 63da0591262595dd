"""What layer skipping by norms is measured against: skipping by chance, and by cosine similarity.

Layers whose output points where their input points are the usual candidates for removal (Men et al.,
"ShortGPT", arXiv 2403.03853, which averages the similarity over a text; here it is judged per token).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from dovetail.core import InvalidValue
from dovetail.decoding.layer_skipping import Judge, LayerSkipping
from dovetail.engine import Rows

_PURPOSE = 9  # of the draws, so that they are independent of the sampling's


@dataclass(frozen=True)
class CosineSkipping(LayerSkipping):
    """Skips the layers whose output has a cosine similarity of ``threshold`` or more with their input.

    Attributes:
        threshold: in [-1, 1].
        skip, phases, temperature, top_p: see `LayerSkipping`.
    """

    threshold: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        if not -1 <= self.threshold <= 1:
            raise InvalidValue("threshold", self.threshold, "in [-1, 1]")

    def judge(self, rows: Rows, layers: int, valid: Tensor | None) -> Judge:
        def active(layer: int, before: Tensor, after: Tensor) -> Tensor:
            wide = torch.promote_types(after.dtype, torch.float32)
            return cosine_similarity(before.to(wide), after.to(wide), dim=-1) < self.threshold

        return active


@dataclass(frozen=True)
class RandomSkipping(LayerSkipping):
    """Skips layers by chance, each token's and layer's choice drawn from the row's own stream.

    Attributes:
        rate_pp, rate_rg: the chance that a layer is skipped while the prompt is read and the response is
            written: one number for all layers, or one per layer.
        skip, phases, temperature, top_p: see `LayerSkipping`.
    """

    rate_pp: float | tuple[float, ...] = 0.5
    rate_rg: float | tuple[float, ...] = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("rate_pp", "rate_rg"):
            value = getattr(self, name)
            rates = value if isinstance(value, tuple) else (value,)
            if not rates or not all(0 <= r <= 1 for r in rates):
                raise InvalidValue(name, value, "in [0, 1], one number or one per layer")

    def judge(self, rows: Rows, layers: int, valid: Tensor | None) -> Judge:
        name = "rate_rg" if "lac.pp" in rows.state else "rate_pp"
        value = getattr(self, name)
        rates = value if isinstance(value, tuple) else (value,) * layers
        if len(rates) != layers:
            raise InvalidValue(name, value, f"one number, or one for each of {layers} layers")
        drawn: Tensor | None = None

        def active(layer: int, before: Tensor, after: Tensor) -> Tensor:
            nonlocal drawn
            if drawn is None:
                drawn = _draws(rows, before.shape[1], layers, valid)
            return drawn[:, :, layer] >= rates[layer]

        return active


def _draws(rows: Rows, tokens: int, layers: int, valid: Tensor | None) -> Tensor:
    """[B, T, L] uniform numbers, counted from a row's first real token: padding does not change them."""
    u = rows.uniform(tokens * layers, _PURPOSE).view(len(rows), tokens, layers)
    if valid is None:
        return u
    place = (valid.cumsum(1) - 1).clamp(min=0)
    return u.gather(1, place[..., None].expand_as(u))
