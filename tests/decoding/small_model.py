"""A tiny random model for decodings that take a second one; built when first asked."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from dovetail.core import Model
from dovetail.engine import Engine


class SmallModel(Model):
    """A one-layer Qwen3 in float64 with the tokenizer of ``tests/conftest.py``."""

    name, provides = "tiny small", Engine.provides

    @cached_property
    def engine(self) -> Engine:  # type: ignore[override]
        import torch
        import transformers as t
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers

        core = Tokenizer(models.WordLevel({chr(c): c - 33 for c in range(33, 127)}, unk_token="!"))
        core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
        core.decoder = decoders.Fuse()
        tokenizer = t.PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>")
        tokenizer.add_tokens(["<think>", "</think>"])
        torch.manual_seed(7)
        config = t.Qwen3Config(
            vocab_size=100,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=1,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
            max_position_embeddings=128,
            eos_token_id=94,
            bos_token_id=None,
        )
        network = t.Qwen3ForCausalLM(config).eval().double()
        for parameter in network.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.15)
        return Engine(network, tokenizer, name=self.name)

    def prompt(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("the decodings under test render prompts by the engine's template")

    def describe(self) -> dict[str, Any]:
        return {"name": self.name}
