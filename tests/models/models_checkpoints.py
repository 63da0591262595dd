"""Tiny random checkpoints with a tokenizer of their own, saved as Hugging Face saves them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import dovetail

CHATML = """{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and not enable_thinking %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}"""
TEXT = [
    "What is 17 + 25? Let me think: 17 + 25 = 42, so the answer is \\boxed{42}.",
    "The town of Aldmoor lies on the river Tarn. Who founded it? I don't know.",
    "system user assistant\n\n",
]


def build_tokenizer(template: str | None = CHATML, bos: bool = False):
    """Byte-level BPE of 400 tokens; with ``bos`` it puts one in front by itself, as Llama's does."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        TEXT * 4, trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet)
    )
    if bos:
        raw.post_processor = processors.TemplateProcessing(
            single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token="<|endoftext|>" if bos else None,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )
    tokenizer.chat_template = template
    return tokenizer


def build_network(family: str, **changes):
    import torch
    import transformers as t

    torch.manual_seed(0)
    size = {"vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    size |= {"intermediate_size": 64, "max_position_embeddings": 256} | changes
    config, network = {
        "qwen3": (t.Qwen3Config, t.Qwen3ForCausalLM),
        "llama": (t.LlamaConfig, t.LlamaForCausalLM),
        "gpt_neox": (t.GPTNeoXConfig, t.GPTNeoXForCausalLM),
    }[family]
    if family == "qwen3":
        size |= {"num_key_value_heads": 2, "head_dim": 8, "tie_word_embeddings": True} | changes
    return network(config(**size)).eval()


def run_python(code: str, **environment: str) -> str:
    """What ``code`` prints in a fresh interpreter that finds this very Dovetail."""
    source = str(Path(dovetail.__file__).parents[1])
    env = os.environ | {"PYTHONPATH": source} | environment
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout
