"""Reads masked diffusion models from a folder: Dovetail's own, LLaDA's and Dream's.

LLaDA and Dream publish Python code with their weights. It is not run: their architectures are Llama's and
Qwen2's without the causal mask, so `MaskedDiffusionLM` takes the weights under other names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase, Qwen2Tokenizer

from dovetail.core import BadData, Unsupported
from dovetail.models.int8 import to_int8_
from dovetail.models.masked_diffusion import MaskedDiffusionConfig, MaskedDiffusionLM

_LLADA_LAYER = {
    "attn_norm": "input_layernorm",
    "q_proj": "self_attn.q_proj",
    "k_proj": "self_attn.k_proj",
    "v_proj": "self_attn.v_proj",
    "attn_out": "self_attn.o_proj",
    "ff_norm": "post_attention_layernorm",
    "ff_proj": "mlp.gate_proj",
    "up_proj": "mlp.up_proj",
    "ff_out": "mlp.down_proj",
}
_LLADA_OUTSIDE = {"wte": "model.embed_tokens", "ln_f": "model.norm", "ff_out": "lm_head"}


def knows(folder: Path) -> bool:
    """Whether the folder's config is that of a masked diffusion model."""
    return json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type") in _CONFIGS


def read(
    folder: Path, name: str, *, device: torch.device, dtype: torch.dtype | str, int8: bool = False
) -> tuple[MaskedDiffusionLM, PreTrainedTokenizerBase]:
    """The network (in evaluation mode, on ``device``) and its tokenizer.

    Args:
        folder: config.json, safetensors and a tokenizer; `checkpoint.check_folder` has looked at it.
        name: of the model, for error messages.
        dtype: "auto" keeps the checkpoint's own.
        int8: keep the weights of linear layers in eight bits.

    Raises:
        BadData: weights are missing, unknown or of other sizes than the config says; names them.
        Unsupported: a LLaDA whose blocks are not Llama's.
    """
    raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind = raw["model_type"]
    try:
        config = _CONFIGS[kind](raw, name)
    except KeyError as error:
        raise BadData(f"{name}/config.json lacks {error.args[0]!r}, which a {kind} model has") from error
    with torch.device("meta"):
        network = MaskedDiffusionLM(config)
    try:
        tensors = [load_file(file).items() for file in sorted(folder.glob("*.safetensors"))]
    except (OSError, SafetensorError) as error:
        raise BadData(f"{name} could not be read: {error}") from error
    state = {_NAMES[kind](key): value for items in tensors for key, value in items}
    _load(network, state, name)
    network.config.name_or_path = name
    if dtype != "auto":
        network.to(dtype=cast(torch.dtype, dtype))  # type: ignore[call-arg]
    if int8:
        to_int8_(network)
    network.to(device=device)  # type: ignore[call-arg]
    return network.eval(), _tokenizer(folder, name, kind, network)


def _load(network: MaskedDiffusionLM, state: dict[str, Tensor], name: str) -> None:
    wanted = {key: value.shape for key, value in network.state_dict().items()}
    if network.config.tie_word_embeddings:
        state["lm_head.weight"] = state.get("model.embed_tokens.weight", torch.empty(0))
    for problem, keys in (
        ("lacks", sorted(wanted.keys() - state.keys())),
        ("has unknown", sorted(state.keys() - wanted.keys())),
        (
            "has other sizes of",
            sorted(k for k in wanted.keys() & state.keys() if state[k].shape != wanted[k]),
        ),
    ):
        if keys:
            raise BadData(f"{name} {problem} weights: {', '.join(keys[:4])}" + (" ..." if keys[4:] else ""))
    network.load_state_dict(state, assign=True)
    network.tie_weights()


def _tokenizer(folder: Path, name: str, kind: str, network: MaskedDiffusionLM) -> PreTrainedTokenizerBase:
    # Dream's tokenizer class is Qwen2's under another name.
    plain = kind == "Dream" and not (folder / "tokenizer.json").exists()
    try:
        tokenizer = (Qwen2Tokenizer if plain else AutoTokenizer).from_pretrained(folder)
    except Exception as error:  # tokenizers raise bare Exceptions
        raise BadData(f"{name}'s tokenizer could not be read: {error}") from error
    rows = cast(torch.nn.Embedding, network.get_input_embeddings()).num_embeddings
    if tokenizer.vocab_size > rows:
        raise BadData(
            f"{name}'s tokenizer has {tokenizer.vocab_size} tokens and its network {rows} embeddings"
        )
    made: PreTrainedTokenizerBase = tokenizer
    return made


def _own(raw: dict[str, Any], name: str) -> MaskedDiffusionConfig:
    made: MaskedDiffusionConfig = MaskedDiffusionConfig.from_dict(raw)
    return made


def _llada(raw: dict[str, Any], name: str) -> MaskedDiffusionConfig:
    if raw.get("block_type", "llama") != "llama" or raw.get("include_bias", False):
        raise Unsupported(
            f"{name} has {raw.get('block_type')} blocks or biases: only Llama's blocks are known"
        )
    heads = raw["n_heads"]
    return MaskedDiffusionConfig(
        vocab_size=raw.get("embedding_size") or raw["vocab_size"],
        hidden_size=raw["d_model"],
        intermediate_size=raw.get("mlp_hidden_size") or raw["mlp_ratio"] * raw["d_model"],
        num_hidden_layers=raw["n_layers"],
        num_attention_heads=heads,
        num_key_value_heads=raw.get("n_kv_heads") or heads,
        max_position_embeddings=raw.get("max_sequence_length", 4096),
        rms_norm_eps=raw.get("rms_norm_eps", 1e-5),
        rope_theta=raw.get("rope_theta", 10000.0),
        mask_token_id=raw["mask_token_id"],
        qkv_bias=raw.get("include_qkv_bias") or False,
        tie_word_embeddings=raw.get("weight_tying", False),
        eos_token_id=raw.get("eos_token_id"),
        pad_token_id=raw.get("pad_token_id"),
    )


def _dream(raw: dict[str, Any], name: str) -> MaskedDiffusionConfig:
    return MaskedDiffusionConfig(
        vocab_size=raw["vocab_size"],
        hidden_size=raw["hidden_size"],
        intermediate_size=raw["intermediate_size"],
        num_hidden_layers=raw["num_hidden_layers"],
        num_attention_heads=raw["num_attention_heads"],
        num_key_value_heads=raw.get("num_key_value_heads"),
        max_position_embeddings=raw.get("max_position_embeddings", 2048),
        rms_norm_eps=raw.get("rms_norm_eps", 1e-6),
        rope_theta=raw.get("rope_theta", 1e6),
        mask_token_id=raw["mask_token_id"],
        logit_shift=1,
        qkv_bias=True,
        tie_word_embeddings=raw.get("tie_word_embeddings", False),
        eos_token_id=raw.get("eos_token_id"),
        pad_token_id=raw.get("pad_token_id"),
    )


def _llada_name(key: str) -> str:
    """``model.transformer.blocks.3.ff_out.weight`` -> ``model.layers.3.mlp.down_proj.weight``."""
    match = re.fullmatch(r"model\.transformer\.(?:blocks\.(\d+)\.)?(\w+)\.(weight|bias)", key)
    if match is None:
        return key
    layer, part, leaf = match.groups()
    if layer is None:
        return f"{_LLADA_OUTSIDE[part]}.{leaf}" if part in _LLADA_OUTSIDE else key
    return f"model.layers.{layer}.{_LLADA_LAYER[part]}.{leaf}" if part in _LLADA_LAYER else key


_CONFIGS: dict[str, Callable[[dict[str, Any], str], MaskedDiffusionConfig]] = {
    MaskedDiffusionConfig.model_type: _own,
    "llada": _llada,
    "Dream": _dream,
}
_NAMES: dict[str, Callable[[str], str]] = {
    MaskedDiffusionConfig.model_type: str,
    "llada": _llada_name,
    "Dream": str,
}
