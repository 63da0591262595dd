"""A slower model that answers exactly as the embedded one: pico's answers at the cost of more layers.

On a CPU a pass of a model as small as pico costs mostly the start of its operations. What is paid per pass
of the larger of two models, as in speculation and in transfer, is not seen at that size.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch

from dovetail.models.local import LocalModel


def grown(model: LocalModel, times: int, name: str = "") -> LocalModel:
    """``times`` as many layers: behind each of the model's own, copies of it whose outputs are zero.

    Args:
        model: of pico's family (pre-norm layers with ``o_proj`` and ``down_proj``).
        name: of the copy; "" adds " x times".
    """
    old = model.network
    config = deepcopy(old.config)
    config.num_hidden_layers = times * old.config.num_hidden_layers
    config.layer_types = [t for t in old.config.layer_types for _ in range(times)]
    network: Any = type(old)(config)
    network = network.to(old.dtype).eval()
    network.model.embed_tokens.load_state_dict(old.model.embed_tokens.state_dict())
    network.model.norm.load_state_dict(old.model.norm.state_dict())
    network.lm_head.load_state_dict(old.lm_head.state_dict())
    for i, layer in enumerate(network.model.layers):
        layer.load_state_dict(old.model.layers[i // times].state_dict())
        if i % times:
            torch.nn.init.zeros_(layer.self_attn.o_proj.weight)
            torch.nn.init.zeros_(layer.mlp.down_proj.weight)
    return LocalModel(network, model.tokenizer, name=name or f"{model.name} x {times}")
