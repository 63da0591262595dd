"""Weights in eight bits: a quarter of float32's memory for a network's linear layers, for reading only.

Each row of a weight matrix is stored as int8 with one scale, max |w| / 127 (symmetric, round to nearest), and
widened where it is used; activations keep their dtype. This saves memory, not time: the widening costs more
than it saves on CPUs, where torch has no fast product of float activations with int8 weights.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dovetail.core import Unsupported


class Int8Linear(nn.Module):
    """A linear layer with int8 weights [out, in] and one scale per output.

    Args:
        linear: what it stands for; its bias is kept as it is.
    """

    scale: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()
        largest = weight.abs().amax(1, keepdim=True)
        scale = torch.where(largest > 0, largest / 127, torch.ones_like(largest))
        self.weight = nn.Parameter((weight / scale).round().to(torch.int8), requires_grad=False)
        self.register_buffer("scale", scale[:, 0])
        self.bias = linear.bias
        self.in_features, self.out_features = linear.in_features, linear.out_features

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(x, self.weight.to(x.dtype)) * self.scale
        return y if self.bias is None else y + self.bias


def to_int8_(network: nn.Module) -> None:
    """Replaces every plain linear layer, except one that shares its weights with the embeddings.

    Raises:
        Unsupported: no such layer (networks that store their products otherwise, GPT-2's say).
    """
    embeddings = {id(m.weight) for m in network.modules() if isinstance(m, nn.Embedding)}
    found = [
        (parent, name, child)
        for parent in network.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Linear and id(child.weight) not in embeddings
    ]
    if not found:
        raise Unsupported(f"{type(network).__name__} has no plain linear layers to store in int8")
    for parent, name, child in found:
        setattr(parent, name, Int8Linear(child))


def is_int8(network: nn.Module) -> bool:
    """Whether `to_int8_` was here."""
    return any(isinstance(m, Int8Linear) for m in network.modules())
