"""Trains pico from a seed, on a CPU: generated corpus, Qwen3 architecture, a number of steps that is fixed.

Documents of about equal length share a micro-batch (padding is under 2% of the tokens); each document is its
own row, so it begins at position 0 and sees nothing of its neighbours. The loss is the cross-entropy of the
assistant's turn only. Matrices are trained with Muon (Jordan et al., 2024), embeddings and norms with AdamW,
on a warm-up / constant / linear decay schedule.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from dovetail.training.muon import Muon
from dovetail.training.pico import tokenizer as pico_tokenizer
from dovetail.training.pico.corpus import SECOND, Document, documents


@dataclass(frozen=True)
class Shape:
    """The size of a model of the family."""

    layers: int = 6
    width: int = 128
    heads: int = 4
    key_value_heads: int = 2
    head_width: int = 32
    mlp_width: int = 320


PICO = Shape()
DRAFT = Shape(layers=1, width=96, heads=3, key_value_heads=1, head_width=32, mlp_width=256)


@dataclass(frozen=True)
class Schedule:
    """How long and how fast.

    Attributes:
        steps: optimizer steps; the number of steps decides, never the clock.
        documents_per_step: about 116 tokens each.
        micro_batches: per step; each holds documents of about equal length.
        muon_rate, adam_rate: peak learning rates of the matrices and of everything else.
        warmup: steps of linear warm-up.
        decay: share of the steps spent on linear decay to zero, at the end.
    """

    steps: int = 1200
    documents_per_step: int = 96
    micro_batches: int = 8
    muon_rate: float = 0.02
    adam_rate: float = 4e-3
    weight_decay: float = 0.05
    warmup: int = 50
    decay: float = 0.35

    def rate(self, step: int) -> float:
        """The factor on the learning rates at `step`, counted from 0."""
        rise = (step + 1) / max(1, self.warmup)
        fall = (self.steps - step) / max(1, round(self.decay * self.steps))
        return min(1.0, rise, fall)


#: Steps of the two lessons (`corpus.FIRST` and `corpus.SECOND`); one layer is done learning earlier.
PICO_SCHEDULES = (Schedule(), Schedule(steps=480, warmup=20, decay=0.6))
DRAFT_SCHEDULES = (Schedule(steps=800), Schedule(steps=240, warmup=20, decay=0.6))


@dataclass(frozen=True)
class Corpus:
    """Tokenised documents: number i is ``ids[offsets[i]:offsets[i + 1]]``, `prompts[i]` of them prompt."""

    ids: np.ndarray  # [tokens] uint16
    offsets: np.ndarray  # [documents + 1] int64
    prompts: np.ndarray  # [documents] int32

    def batch(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Right-padded ids [B, T] and labels [B, T] (-100 where nothing is to be learned)."""
        lengths = self.offsets[rows + 1] - self.offsets[rows]
        ids = np.zeros((len(rows), lengths.max()), dtype=np.int64)
        labels = np.full_like(ids, -100)
        for i, row in enumerate(rows):
            text = self.ids[self.offsets[row] : self.offsets[row + 1]]
            ids[i, : len(text)] = text
            # position t predicts token t + 1
            labels[i, self.prompts[row] - 1 : len(text) - 1] = text[self.prompts[row] :]
        return torch.from_numpy(ids), torch.from_numpy(labels)


def prompt_text(document: Document) -> str:
    """The document's chat up to the assistant's turn: what the chat template gives, without its cost."""
    turns = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in document.messages)
    return f"{turns}<|im_start|>assistant\n" + ("" if document.thinking else "<think>\n\n</think>\n\n")


def build_corpus(
    tokenizer: PreTrainedTokenizerFast,
    seed: int,
    count: int,
    cache: Path | None = None,
    documents: Callable[[int, int], Iterator[Document]] = documents,
) -> Corpus:
    """Generates and tokenises `count` documents (about 5,000 a second), or reads them from `cache`."""
    if cache is not None and cache.exists():
        with np.load(cache) as held:
            return Corpus(held["ids"], held["offsets"], held["prompts"])
    backend, end = tokenizer.backend_tokenizer, tokenizer.eos_token_id
    ids: list[np.ndarray] = []
    lengths, prompts = [], []
    stream = documents(seed, count)
    while chunk := [document for _, document in zip(range(4096), stream, strict=False)]:
        heads = backend.encode_batch_fast([prompt_text(d) for d in chunk], add_special_tokens=False)
        tails = backend.encode_batch_fast([d.completion for d in chunk], add_special_tokens=False)
        for head, tail in zip(heads, tails, strict=True):
            row = [*head.ids, *tail.ids, end]
            ids.append(np.asarray(row, dtype=np.uint16))
            lengths.append(len(row))
            prompts.append(len(head.ids))
    corpus = Corpus(
        np.concatenate(ids), np.concatenate([[0], np.cumsum(lengths)]), np.asarray(prompts, dtype=np.int32)
    )
    if cache is not None:
        _write_aside(cache, partial(_save_npz, corpus))
    return corpus


def _save_npz(corpus: Corpus, path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, ids=corpus.ids, offsets=corpus.offsets, prompts=corpus.prompts)


def micro_batches(
    corpus: Corpus, schedule: Schedule, seed: int, start: int = 0
) -> Iterator[list[np.ndarray]]:
    """For each step from `start`, its micro-batches as document numbers; a pure function of the arguments.

    Documents are pooled 16 steps at a time, sorted by length, cut into micro-batches, and these are shuffled.
    """
    steps_per_pool = 16
    size = schedule.documents_per_step // schedule.micro_batches
    lengths = np.diff(corpus.offsets)
    for pool in range(start // steps_per_pool, -(-schedule.steps // steps_per_pool)):
        first = pool * steps_per_pool * schedule.documents_per_step
        # a corpus shorter than the schedule is read again
        rows = np.arange(first, first + steps_per_pool * schedule.documents_per_step) % len(lengths)
        chunks = rows[np.argsort(lengths[rows], kind="stable")].reshape(-1, size)
        np.random.default_rng((seed, pool)).shuffle(chunks)
        for step in range(steps_per_pool):
            if start <= pool * steps_per_pool + step < schedule.steps:
                yield list(chunks[step * schedule.micro_batches : (step + 1) * schedule.micro_batches])


def new_model(shape: Shape, tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen3ForCausalLM:
    """A randomly initialised model; equal seeds give equal weights."""
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=shape.width,
        intermediate_size=shape.mlp_width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        head_dim=shape.head_width,
        max_position_embeddings=1024,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen3ForCausalLM(config).float()


def optimizers(model: PreTrainedModel, schedule: Schedule) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for the embedding and the norms."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        Muon(matrices, lr=schedule.muon_rate, weight_decay=schedule.weight_decay, momentum=0.95),
        torch.optim.AdamW(others, lr=schedule.adam_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def token_losses(model: Qwen3ForCausalLM, ids: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy in nats at each of the positions to be learned, [N]."""
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state  # [B, T, D]
    learned = labels != -100
    return F.cross_entropy(model.lm_head(hidden[learned]), labels[learned], reduction="none")


@dataclass(frozen=True)
class Family:
    """What differs between the kinds of models that are trained here; functions of a module, so that worker
    processes can find them.

    Attributes:
        tokenizer: builds the tokenizer.
        documents: ``documents(seed, count)``, the corpus.
        new_model: ``new_model(shape, tokenizer, seed)``, random weights.
        batch: ``batch(corpus, rows)``: ids [B, T], labels [B, T] (-100 where nothing is to be learned), and
            whatever else the losses need; a pure function, so that a resumed run sees the same.
        token_losses: ``token_losses(model, *batch)``: the loss at each label, [N].
    """

    tokenizer: Callable[[], PreTrainedTokenizerFast] = pico_tokenizer.build
    documents: Callable[[int, int], Iterator[Document]] = documents
    new_model: Callable[[Shape, PreTrainedTokenizerFast, int], Any] = new_model
    batch: Callable[[Corpus, np.ndarray], tuple[Tensor, ...]] = Corpus.batch
    token_losses: Callable[..., Tensor] = token_losses


CAUSAL = Family()


def train(
    out_dir: str | Path,
    seed: int = 0,
    shape: Shape = PICO,
    schedule: Schedule = Schedule(),
    *,
    family: Family = CAUSAL,
    resume: bool = True,
    work_dir: str | Path | None = None,
    checkpoint_every: int = 100,
    export_every: int = 300,
    evaluate: Callable[[Any, PreTrainedTokenizerFast], dict[str, float]] | None = None,
    report: Callable[[str], None] = print,
    workers: int = 2,
) -> Path:
    """Trains a model of `shape` and writes it to `out_dir` as a standard Hugging Face folder.

    Parameters
    ----------
    out_dir: replaced as a whole at each export, so a reader always sees complete weights.
    seed: of corpus, initial weights and order; equal seeds (and workers) give equal weights.
    family: what is trained on what; a causal model of pico's kind by default.
    resume: go on from the checkpoint in `work_dir`, if there is one; the result is an undisturbed run's.
    work_dir: holds corpus and checkpoint; by default ``<out_dir>.work``, to be deleted afterwards.
    evaluate: called at each export; its figures go to the log. Like `report`, it must be a module's function
        where there are several workers.
    workers: data-parallel processes of one thread each. On small matrices this beats threads inside the
        operations by far, above all when other programs want the same cores.
    """
    out, work = Path(out_dir), Path(work_dir or f"{out_dir}.work")
    work.mkdir(parents=True, exist_ok=True)
    tokenizer = family.tokenizer()
    count = schedule.steps * schedule.documents_per_step
    corpus = build_corpus(tokenizer, seed, count, _corpus_file(work, seed, count), family.documents)
    report(f"corpus: {count} documents, {len(corpus.ids) / 1e6:.1f}M tokens, vocabulary {len(tokenizer)}")
    job = _Job(
        out,
        work,
        seed,
        shape,
        schedule,
        family,
        resume,
        checkpoint_every,
        export_every,
        evaluate,
        report,
        workers,
    )
    if workers == 1:
        _work(0, job)
    else:
        job.meeting_point.unlink(missing_ok=True)
        torch.multiprocessing.spawn(_work, (job,), nprocs=workers)
    return out


def train_pico(out_dir: str | Path, seed: int = 0, draft: bool = False, **options: Any) -> Path:
    """Trains pico (or pico-draft) as it is shipped: both lessons, the second from the first's weights.

    Parameters
    ----------
    out_dir: the model's folder; ``<out_dir>.work`` holds all else and may be deleted afterwards.
    options: `train`'s ``resume``, ``workers``, ``report``, ``evaluate`` and how often it writes.
    """
    shape, (first, second) = (DRAFT, DRAFT_SCHEDULES) if draft else (PICO, PICO_SCHEDULES)
    work = Path(f"{out_dir}.work")
    begun = train(work / "first", seed, shape, first, work_dir=work, **options)
    family = Family(documents=partial(documents, lesson=SECOND), new_model=partial(_continued, begun))
    return train(out_dir, seed, shape, second, family=family, work_dir=work / "second", **options)


def _continued(folder: Path, *_: Any) -> Qwen3ForCausalLM:
    return Qwen3ForCausalLM.from_pretrained(folder).float()


def _corpus_file(work: Path, seed: int, count: int) -> Path:
    return work / f"corpus-{seed}-{count}.npz"


@dataclass(frozen=True)
class _Job:
    """What `train` tells its workers."""

    out: Path
    work: Path
    seed: int
    shape: Shape
    schedule: Schedule
    family: Family
    resume: bool
    checkpoint_every: int
    export_every: int
    evaluate: Callable[[Any, PreTrainedTokenizerFast], dict[str, float]] | None
    report: Callable[[str], None]
    workers: int

    @property
    def meeting_point(self) -> Path:
        return self.work / "workers"


def _work(rank: int, job: _Job) -> None:
    """One worker: its share of every step's micro-batches; worker 0 also reports, saves and evaluates."""
    torch.set_num_threads(1)
    if job.workers > 1:
        torch.distributed.init_process_group(
            "gloo", init_method=job.meeting_point.resolve().as_uri(), rank=rank, world_size=job.workers
        )
    schedule, seed, family = job.schedule, job.seed, job.family
    tokenizer = family.tokenizer()
    count = schedule.steps * schedule.documents_per_step
    corpus = build_corpus(tokenizer, seed, count, _corpus_file(job.work, seed, count), family.documents)
    model = family.new_model(job.shape, tokenizer, seed)
    model.train()
    updaters = optimizers(model, schedule)
    peaks = [updater.param_groups[0]["lr"] for updater in updaters]
    checkpoint, start = job.work / "checkpoint.pt", 0
    if job.resume and checkpoint.exists():
        held = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(held["model"])
        for updater, state in zip(updaters, held["optimizers"], strict=True):
            updater.load_state_dict(state)
        start = held["step"]
    report = job.report if rank == 0 else (lambda line: None)
    report(f"model: {sum(p.numel() for p in model.parameters()) / 1e6:.2f}M parameters, at step {start}")

    began, tokens, running = time.perf_counter(), 0, 0.0
    for step, batches in enumerate(micro_batches(corpus, schedule, seed, start), start):
        loaded = [family.batch(corpus, rows) for rows in batches]
        learned = sum(int((batch[1] != -100).sum()) for batch in loaded)
        tokens += sum(batch[0].numel() for batch in loaded)
        loss = torch.zeros(())
        # longest first, dealt out there and back, so that all workers are done at about the same time
        loaded.sort(key=lambda batch: -batch[0].shape[1])
        for position, batch in enumerate(loaded):
            lap, seat = divmod(position, job.workers)
            if (seat if lap % 2 == 0 else job.workers - 1 - seat) == rank:
                part = family.token_losses(model, *batch).sum() / learned
                part.backward()
                loss += part.detach()
        _sum_over_workers(model, loss, job.workers)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for updater, peak in zip(updaters, peaks, strict=True):
            updater.param_groups[0]["lr"] = peak * schedule.rate(step)
            updater.step()
            updater.zero_grad(set_to_none=True)
        running = loss.item() if running == 0.0 else 0.95 * running + 0.05 * loss.item()
        done = step + 1
        if rank != 0:
            continue
        if done % 20 == 0:
            seconds = time.perf_counter() - began
            rate = tokens / seconds
            report(f"step {done}/{schedule.steps} loss {running:.4f} {rate:.0f} tokens/s {seconds:.0f} s")
        if done % job.checkpoint_every == 0 or done == schedule.steps:
            state = {
                "model": model.state_dict(),
                "optimizers": [u.state_dict() for u in updaters],
                "step": done,
            }
            _write_aside(checkpoint, partial(torch.save, state))
        if done % job.export_every == 0 or done == schedule.steps:
            export(model, tokenizer, job.out)
            if job.evaluate is not None:
                model.eval()
                report(f"step {done} " + json.dumps(job.evaluate(model, tokenizer)))
                model.train()
    if job.workers > 1:
        torch.distributed.destroy_process_group()


def _sum_over_workers(model: PreTrainedModel, loss: Tensor, workers: int) -> None:
    """Sums gradients and loss over all workers, in one message; a no-op for a single one."""
    if workers == 1:
        return
    parameters = list(model.parameters())
    grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    flat = torch.cat([loss.reshape(1), *(grad.flatten() for grad in grads)])
    torch.distributed.all_reduce(flat)
    loss.copy_(flat[0])
    for parameter, grad in zip(parameters, flat[1:].split([p.numel() for p in parameters]), strict=True):
        parameter.grad = grad.view_as(parameter)


def export(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Writes the standard folder aside and renames it into place."""
    aside = out.with_name(out.name + ".new")
    shutil.rmtree(aside, ignore_errors=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, max_new_tokens=512
    )
    model.save_pretrained(aside)
    pico_tokenizer.save(tokenizer, aside)
    old = out.with_name(out.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    aside.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _write_aside(path: Path, write: Callable[[Path], None]) -> None:
    """A file appears complete or not at all."""
    aside = path.with_name(path.name + ".new")
    write(aside)
    os.replace(aside, path)
