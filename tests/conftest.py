"""Tiny random networks of every supported family, and an engine over each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

SYMBOLS = [chr(c) for c in range(33, 127)]  # ids 0 to 93; then <eos>, <think>, </think>
VOCABULARY = 100


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Any:
    """One token per printable character."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({c: i for i, c in enumerate(SYMBOLS)}, unk_token="!"))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    core.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>")
    tokenizer.add_tokens(["<think>", "</think>"])
    return tokenizer


def build_network(family: str, seed: int = 0, **overrides: Any) -> Any:
    import torch
    import transformers as t

    torch.manual_seed(seed)
    size: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
        "eos_token_id": 94,
        "bos_token_id": None,
        "pad_token_id": None,
    }
    grouped = size | {"num_key_value_heads": 2}
    config = {
        "llama": lambda: t.LlamaConfig(**(grouped | overrides)),
        "qwen2": lambda: t.Qwen2Config(**(grouped | overrides)),
        "qwen3": lambda: t.Qwen3Config(**(grouped | {"head_dim": 16} | overrides)),
        "mistral": lambda: t.MistralConfig(**(grouped | {"head_dim": 8, "sliding_window": None} | overrides)),
        "mistral-window": lambda: t.MistralConfig(
            **(grouped | {"head_dim": 8, "sliding_window": 6} | overrides)
        ),
        "gpt-neox": lambda: t.GPTNeoXConfig(**(size | overrides)),
        "gpt2": lambda: t.GPT2Config(**(size | {"n_positions": size["max_position_embeddings"]} | overrides)),
        "gemma2": lambda: t.Gemma2Config(**(grouped | {"head_dim": 8, "sliding_window": 6} | overrides)),
    }[family]()
    network = t.AutoModelForCausalLM.from_config(config).eval()
    for parameter in network.parameters():
        if parameter.dim() > 1:  # the usual 0.02 gives next to uniform, uninformative outputs
            torch.nn.init.normal_(parameter, std=0.15)
    return network


@pytest.fixture(scope="session")
def tiny_network() -> Callable[..., Any]:
    """``tiny_network(family, seed=0, **config)`` -> a random causal LM with telling outputs."""
    return build_network


@pytest.fixture(scope="session")
def tiny_engine(tiny_tokenizer: Any) -> Any:
    """An engine over a tiny Qwen3 in float64: what is compared bit for bit must not hang on rounding."""
    from dovetail.engine import Engine

    return Engine(build_network("qwen3").double(), tiny_tokenizer, name="tiny")


@pytest.fixture(scope="session")
def tiny_prompts() -> Callable[..., list[Any]]:
    """``tiny_prompts(n)`` -> ragged random prompts with their own seeds."""

    def build(n: int, seed: int = 0, thinking: bool = True) -> list[Any]:
        import torch

        from dovetail.core import Message, Prompt

        rng = torch.Generator().manual_seed(seed)
        prompts = []
        for i in range(n):
            length = int(torch.randint(3, 14, (1,), generator=rng))
            ids = tuple(torch.randint(0, 94, (length,), generator=rng).tolist())
            text = "".join(SYMBOLS[j] for j in ids)
            prefix = "" if thinking else "<think></think>"
            prompts.append(Prompt((Message("user", text),), text, ids, 1000 + i, prefix))
        return prompts

    return build
