"""What recipes share to teach an embedded model a format or facts that it does not know: minutes, seeded.

The pieces are those that pico itself is trained with (``training/pico/train.py``): documents of about equal
length in a micro-batch, loss on the assistant's turn only, Muon and AdamW. Equal arguments give equal
weights. One core reads about 2,500 tokens a second of a model of pico's size, so documents should be short.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from copy import deepcopy

import numpy as np
import torch

from dovetail.core import InvalidValue, Message
from dovetail.models.local import LocalModel
from dovetail.training.pico.corpus import Document
from dovetail.training.pico.train import Corpus, Schedule, micro_batches, optimizers, token_losses


def finetune(
    model: LocalModel,
    documents: Sequence[Document],
    steps: int,
    *,
    seed: int = 0,
    rate: float = 0.5,
    documents_per_step: int = 32,
    micro_batches_per_step: int = 4,
    decay: float = 0.5,
    name: str | None = None,
    report: Callable[[str], None] | None = None,
) -> LocalModel:
    """A copy of ``model`` that has learned ``documents``; the given model's weights stay as they are.

    Args:
        model: a Qwen3 of pico's family, with its tokenizer.
        documents: what stands before the assistant's turn, and what it learns to write there (the end token
            is added). They are shuffled, and read again where ``steps`` needs more.
        steps: optimizer steps of ``documents_per_step`` documents each.
        seed: of the order.
        rate: factor on the learning rates that pico was trained with (Muon 0.02, AdamW 4e-3).
        documents_per_step, micro_batches_per_step: the second must divide the first.
        decay: share of the steps over which the rates fall to zero, at the end.
        name: of the copy; None adds " (fine-tuned)".
        report: is told the loss every 50 steps.

    Raises:
        InvalidValue: no documents, or an impossible number; names it.
    """
    if not documents:
        raise InvalidValue("documents", documents, "at least one document")
    if steps < 1:
        raise InvalidValue("steps", steps, "at least 1")
    if not rate > 0:
        raise InvalidValue("rate", rate, "> 0")
    if micro_batches_per_step < 1 or documents_per_step % micro_batches_per_step:
        raise InvalidValue(
            "micro_batches_per_step", micro_batches_per_step, f"a divisor of {documents_per_step}"
        )
    base = Schedule()
    schedule = Schedule(
        steps,
        documents_per_step,
        micro_batches_per_step,
        base.muon_rate * rate,
        base.adam_rate * rate,
        base.weight_decay,
        warmup=min(20, steps),
        decay=decay,
    )
    order = list(documents)
    random.Random(f"finetune-{seed}").shuffle(order)
    corpus = tokenized(model, order)
    network = deepcopy(model.network).train()
    updaters = optimizers(network, schedule)
    peaks = [updater.param_groups[0]["lr"] for updater in updaters]
    running = 0.0
    for step, batches in enumerate(micro_batches(corpus, schedule, seed)):
        loaded = [corpus.batch(rows) for rows in batches]
        learned = sum(int((labels != -100).sum()) for _, labels in loaded)
        loss = 0.0
        for ids, labels in loaded:
            part = token_losses(network, ids, labels).sum() / learned
            part.backward()  # type: ignore[no-untyped-call]
            loss += float(part.detach())
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for updater, peak in zip(updaters, peaks, strict=True):
            updater.param_groups[0]["lr"] = peak * schedule.rate(step)
            updater.step()
            updater.zero_grad(set_to_none=True)
        running = loss if step == 0 else 0.95 * running + 0.05 * loss
        if report is not None and (step + 1) % 50 == 0:
            report(f"step {step + 1}/{steps} loss {running:.4f}")
    made = LocalModel(network.eval(), model.tokenizer, name=name or f"{model.name} (fine-tuned)")
    made.template = model.template  # asked as it was taught, also where the template is not the tokenizer's
    return made


def tokenized(model: LocalModel, documents: Sequence[Document]) -> Corpus:
    """``documents`` as ``model`` reads them: its own chat template, its own end token.

    A last message of the assistant's own is the beginning of its turn: read, and not learned.

    Raises:
        InvalidValue: the tokenizer has more tokens than the corpus can number (65,536).
    """
    if len(model.tokenizer) > 1 << 16:
        raise InvalidValue("model", model.name, "one with a vocabulary of at most 65,536 tokens")
    ids: list[int] = []
    lengths, prompts = [], []
    for document in documents:
        messages = [Message(m["role"], m["content"]) for m in document.messages]  # type: ignore[arg-type]
        begun = messages.pop().content if messages[-1].role == "assistant" else ""
        head = model.prompt(messages, thinking=document.thinking, prefix=begun).ids
        tail = model.tokenizer.encode(document.completion, add_special_tokens=False)
        ids += (*head, *tail, int(model.tokenizer.eos_token_id))
        lengths.append(len(head) + len(tail) + 1)
        prompts.append(len(head))
    return Corpus(
        np.asarray(ids, dtype=np.uint16),
        np.concatenate([[0], np.cumsum(lengths)]),
        np.asarray(prompts, dtype=np.int32),
    )


def token_count(model: LocalModel, documents: Sequence[Document]) -> int:
    """Tokens of all documents, prompts included: what equal training effort is counted in."""
    return len(tokenized(model, documents).ids)
