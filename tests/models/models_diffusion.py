"""Tiny random masked diffusion models, and folders in LLaDA's and Dream's own layouts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def build_diffusion(seed: int = 0, **changes: Any) -> Any:
    """A random network with telling outputs: ids below 94 are text, 94 is the end, 97 the mask."""
    import torch

    from dovetail.models.masked_diffusion import MaskedDiffusionConfig, MaskedDiffusionLM

    torch.manual_seed(seed)
    size: dict[str, Any] = {"vocab_size": 100, "hidden_size": 32, "intermediate_size": 48}
    size |= {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "qk_norm": True}
    size |= {"max_position_embeddings": 128, "mask_token_id": 97, "eos_token_id": 94}
    network = MaskedDiffusionLM(MaskedDiffusionConfig(**(size | changes))).eval()
    for parameter in network.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return network


def write_folder(folder: Path, kind: str, network: Any, tokenizer: Any) -> Path:
    """``network``'s weights as ``kind`` ("llada", "Dream") publishes them, in two shards."""
    from safetensors.torch import save_file

    c = network.config
    common = {"mask_token_id": c.mask_token_id, "eos_token_id": c.eos_token_id, "rope_theta": c.rope_theta}
    if kind == "llada":
        renamed = {
            "model.embed_tokens": "model.transformer.wte",
            "model.norm": "model.transformer.ln_f",
            "lm_head": "model.transformer.ff_out",
            "model.layers": "model.transformer.blocks",
            "self_attn.o_proj": "attn_out",
            "self_attn.": "",
            "input_layernorm": "attn_norm",
            "post_attention_layernorm": "ff_norm",
            "mlp.gate_proj": "ff_proj",
            "mlp.up_proj": "up_proj",
            "mlp.down_proj": "ff_out",
        }
        config = {
            "d_model": c.hidden_size,
            "n_layers": c.num_hidden_layers,
            "n_heads": c.num_attention_heads,
            "n_kv_heads": c.num_key_value_heads,
            "mlp_hidden_size": c.intermediate_size,
            "vocab_size": c.vocab_size - 4,
            "embedding_size": c.vocab_size,
            "max_sequence_length": c.max_position_embeddings,
            "rms_norm_eps": c.rms_norm_eps,
            "block_type": "llama",
            "weight_tying": False,
        }
    else:
        renamed = {}
        config = {key: getattr(c, key) for key in ("vocab_size", "hidden_size", "intermediate_size")}
        config |= {key: getattr(c, key) for key in ("num_hidden_layers", "num_attention_heads")}
        config |= {key: getattr(c, key) for key in ("num_key_value_heads", "max_position_embeddings")}
        config |= {"rms_norm_eps": c.rms_norm_eps}
    state = {}
    for key, value in network.state_dict().items():
        for ours, theirs in renamed.items():
            key = key.replace(ours, theirs)
        state[key] = value.contiguous()
    folder.mkdir(parents=True)
    auto_map = {"AutoModel": f"modeling_{kind.lower()}.Model"}
    (folder / "config.json").write_text(
        json.dumps({"model_type": kind, "auto_map": auto_map, **common, **config})
    )
    keys = sorted(state)
    for i, part in enumerate((keys[::2], keys[1::2]), 1):
        save_file({key: state[key] for key in part}, folder / f"model-{i:05}-of-00002.safetensors")
    tokenizer.save_pretrained(folder)
    return folder
