"""Trains pico-mdlm, the masked diffusion model of the family, on sums of a few terms, each step written out.

It starts from pico's weights and, as Dream (Ye et al., arXiv 2508.15487) and DiffuLLaMA (Gong et al., arXiv
2410.17891) do, keeps its head's habit: the logits at a position speak of the next one. The objective is
LLaDA's (Nie et al., arXiv 2502.09992): of each document's answer, filled up with end tokens, a share p drawn
from U(0, 1) is masked, and the loss is the cross-entropy at the masked positions over p. Half of the
documents are masked as the sampler will meet them instead: everything before a block clean, a share p of the
block masked, everything behind it masked and not asked for (as in Block Diffusion, Arriola et al., arXiv
2503.09573). Corpus handling, schedule, optimizers, checkpoints and export are pico's (``train.py``).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from dovetail.models.local import LocalModel
from dovetail.models.masked_diffusion import MaskedDiffusionConfig, MaskedDiffusionLM
from dovetail.training.pico import tokenizer as pico_tokenizer
from dovetail.training.pico import train as pico
from dovetail.training.pico.corpus import Document, chain_sum, held_out

SHAPE = pico.PICO
SCHEDULE = pico.Schedule(steps=1200, documents_per_step=64, micro_batches=4)
CANVAS = 128  # tokens that the model learns to write at once
BLOCK = 32
LEAST = 0.05  # p is drawn above this: 1 / p weighs the loss
MASK, END = "<|mask|>", "<|im_end|>"


def tokenizer() -> PreTrainedTokenizerFast:
    """Pico's, with a mask token behind its last entry."""
    built = pico_tokenizer.build()
    built.add_special_tokens({"mask_token": MASK})
    return built


def documents(seed: int, count: int) -> Iterator[Document]:
    """Chain sums of two to five terms of one digit, thought through step by step; no held-out question."""
    rng = random.Random(f"pico-mdlm-corpus-{seed}")
    made = 0
    while made < count:
        one = chain_sum(rng, "stepwise", (2, 5), (1, 1))
        if held_out(one.question):
            continue
        made += 1
        completion = f"<think>\n{one.reasoning}\n</think>\n\n\\boxed{{{one.answer}}}"
        yield Document(({"role": "user", "content": one.question},), completion, True, one.family)


def new_model(shape: pico.Shape, tokenizer: PreTrainedTokenizerFast, seed: int) -> MaskedDiffusionLM:
    """A model of pico's shape starts from pico's weights, any other from random ones, by the seed."""
    torch.manual_seed(seed)
    config = MaskedDiffusionConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.width,
        intermediate_size=shape.mlp_width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        head_dim=shape.head_width,
        max_position_embeddings=512,
        mask_token_id=tokenizer.mask_token_id,
        canvas_length=CANVAS,
        qk_norm=True,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        logit_shift=1,
    )
    model = MaskedDiffusionLM(config).float()
    if shape == pico.PICO:
        _inherit(model)
    return model


@torch.no_grad()
def _inherit(model: MaskedDiffusionLM) -> None:
    """Copies pico's weights; the mask's embedding, which pico lacks, becomes the mean of all others."""
    from dovetail.models import load

    source = load("pico", device="cpu", dtype="float32")
    assert isinstance(source, LocalModel)
    given = source.network.state_dict()
    for name, tensor in model.state_dict().items():
        known = given[name]
        tensor[: len(known)] = known
        tensor[len(known) :] = known.mean(0)


def batch(corpus: pico.Corpus, rows: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """Masked ids [B, T], labels [B, T] (-100 where nothing is to be learned) and weights [B, T] of mean 1.

    Some micro-batches have the whole canvas, most end soon after their longest answer.
    """
    rng = np.random.default_rng(rows.astype(np.uint32))
    starts, lengths = corpus.offsets[rows], corpus.offsets[rows + 1] - corpus.offsets[rows]
    prompts = corpus.prompts[rows]
    whole = rng.random() < 0.15
    width = int(prompts.max()) + CANVAS if whole else int(lengths.max() + rng.integers(1, 17))
    end = int(corpus.ids[corpus.offsets[rows[0] + 1] - 1])  # every document ends with it
    clean = np.full((len(rows), width), end, dtype=np.int64)
    for i, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        clean[i, :length] = corpus.ids[start : start + length]
    hidden, learned, share = _masks(rng, prompts, lengths, width)
    labels = np.where(learned, clean, -100)
    weights = np.where(learned, 1 / share[:, None], 0.0)
    weights *= learned.sum() / max(weights.sum(), 1e-9)
    ids = torch.from_numpy(np.where(hidden, -1, clean))
    return ids, torch.from_numpy(labels), torch.from_numpy(weights).float()


def _masks(
    rng: np.random.Generator, prompts: np.ndarray, lengths: np.ndarray, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What is masked and what is learned, both [B, T] bool, and each row's p, [B]."""
    rows = len(prompts)
    # Spread over (0, 1) rather than drawn one by one: the same distribution, a calmer loss.
    spread = (rng.permutation(rows) + rng.random(rows)) / rows
    share = LEAST + (1 - LEAST) * spread
    column = np.arange(width)
    answer = column >= prompts[:, None]
    drawn = rng.random((rows, width)) < share[:, None]
    by_block = rng.random(rows) < 0.5
    begin = prompts + (rng.random(rows) * (lengths - prompts)).astype(np.int64)
    begin = np.where(by_block, begin, prompts)
    stop = np.where(by_block, begin + BLOCK, width)
    inside = (column >= begin[:, None]) & (column < stop[:, None])
    learned = answer & inside & drawn
    return learned | (column >= stop[:, None]), learned, share


def token_losses(model: MaskedDiffusionLM, ids: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Weighted cross-entropy in nats at each of the positions to be learned, [N]."""
    learned = labels != -100
    ids = ids.masked_fill(ids < 0, model.config.mask_token_id)
    speaking = learned.roll(-1, 1)  # a prompt stands first, so nothing is learned at position 0
    hidden = model.hidden(ids)[speaking]
    losses = F.cross_entropy(model.lm_head(hidden), labels[learned], reduction="none")
    return losses * weights[learned]


FAMILY = pico.Family(tokenizer, documents, new_model, batch, token_losses)


def train(
    out_dir: str | Path,
    seed: int = 0,
    *,
    shape: pico.Shape = SHAPE,
    schedule: pico.Schedule = SCHEDULE,
    resume: bool = True,
    workers: int = 1,
    report: Callable[[str], None] = print,
    **options: Any,
) -> Path:
    """Trains pico-mdlm and writes it to `out_dir`; `train.train` explains the arguments."""
    options.setdefault("evaluate", quick_accuracy)
    return pico.train(
        out_dir,
        seed,
        shape,
        schedule,
        family=FAMILY,
        resume=resume,
        workers=workers,
        report=report,
        **options,
    )


def quick_accuracy(
    model: MaskedDiffusionLM, tokenizer: PreTrainedTokenizerFast, count: int = 32
) -> dict[str, float]:
    """Accuracy of LLaDA's greedy sampler on fresh sums of three to five terms, to steer the training."""
    from dovetail.core import Limits, Prompt
    from dovetail.engine import DiffusionEngine
    from dovetail.training.pico.evaluate import boxed, solves

    rng = random.Random("pico-mdlm-evaluation")
    problems = [chain_sum(rng, "stepwise", (3, 5), (1, 1)) for _ in range(count)]
    prompts = []
    for problem in problems:
        text = pico.prompt_text(Document(({"role": "user", "content": problem.question},), "", True))
        prompts.append(Prompt((), text, tuple(tokenizer.encode(text))))
    written = DiffusionEngine(model, tokenizer).generate(prompts, Limits(CANVAS))
    right = sum(solves(boxed(c.text), p) for c, p in zip(written, problems, strict=True))
    return {"chain-sum": right / count, "ended": sum(c.finish_reason == "stop" for c in written) / count}
