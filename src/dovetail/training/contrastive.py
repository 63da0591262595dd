"""Contrastive tuning of an embedder: a query's own text nearer than all other texts of the batch.

The losses are those of "Diffusion vs. Autoregressive Language Models: A Text Embedding Perspective", arXiv
2505.15045: eq. 1, which is InfoNCE with a temperature of 1/20 over in-batch and hard negatives, and
RepLLaMA's (arXiv 2310.08319) over explicit negatives alone. Only low-rank additions (LoRA, arXiv 2106.09685)
are learned, and merged at the end. ``chunk`` bounds memory at any batch size as GradCache does (arXiv
2101.06983): one more forward pass per text, the same gradients. On several machines use
sentence-transformers' trainer, which takes the same embedder.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dovetail.core import InvalidValue, Unsupported
from dovetail.core.seeds import stream
from dovetail.models.embedding import DiffusionEmbedder

#: The linear layers that get low-rank additions, as in the authors' code.
LORA_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Triple:
    """A query, the text that answers it, and texts that only look as if they did.

    Attributes:
        instruction: read before the query, not before the texts.
        topic: triples of one topic are kept out of one batch, where each one's text would be a wrong
            negative of the other's query.
    """

    query: str
    positive: str
    negatives: tuple[str, ...] = ()
    instruction: str = ""
    topic: str | None = None


@dataclass(frozen=True)
class InfoNCE:
    """Cross-entropy of each query's own text among all texts of the batch (eq. 1).

    Attributes:
        scale: the inverse temperature.
        similarity: "cos" (the paper) or "dot".
    """

    scale: float = 20.0
    similarity: Literal["cos", "dot"] = "cos"

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise InvalidValue("scale", self.scale, "> 0")
        if self.similarity not in ("cos", "dot"):
            raise InvalidValue("similarity", self.similarity, "'cos' or 'dot'")

    def __call__(self, queries: Tensor, positives: Tensor, negatives: Tensor | None = None) -> Tensor:
        """The loss in nats.

        Args:
            queries, positives: [B, d], row i of both belong together.
            negatives: [B, K, d] or [N, d], against every query; None for in-batch negatives only.
        """
        _check_rows(queries, positives)
        texts = positives
        if negatives is not None and negatives.numel():
            texts = torch.cat([positives, negatives.reshape(-1, negatives.shape[-1])])
        if self.similarity == "cos":
            queries, texts = F.normalize(queries, dim=-1), F.normalize(texts, dim=-1)
        scores = self.scale * queries @ texts.T
        return F.cross_entropy(scores, torch.arange(len(queries), device=scores.device))


@dataclass(frozen=True)
class ExplicitNegatives:
    """Cross-entropy of each query's own text among its own negatives alone, by dot products (RepLLaMA's).

    For data whose instructions decide what is relevant: there, another row's text says nothing.

    Attributes:
        scale_by_dim: divide scores by d, as the authors' variant does.
    """

    scale_by_dim: bool = False

    def __call__(self, queries: Tensor, positives: Tensor, negatives: Tensor | None = None) -> Tensor:
        """The loss in nats; [B, d], [B, d] and [B, K, d]."""
        _check_rows(queries, positives)
        if negatives is None or negatives.dim() != 3 or len(negatives) != len(queries):
            raise InvalidValue(
                "negatives",
                None if negatives is None else tuple(negatives.shape),
                "[B, K, d]: each query's own",
            )
        texts = torch.cat([positives[:, None], negatives], 1)
        scores = torch.einsum("bd,bkd->bk", queries, texts)
        if self.scale_by_dim:
            scores = scores / queries.shape[1]
        return F.cross_entropy(scores, torch.zeros(len(queries), dtype=torch.int64, device=scores.device))


@dataclass(frozen=True)
class ContrastiveTuning:
    """How an embedder is tuned; the defaults are the paper's for E5's public data and ReasonAug (App. D).

    Attributes:
        loss: `InfoNCE` or `ExplicitNegatives` (the paper's for MS MARCO with instructions).
        batch: triples per step (paper: 4 on each of 4 GPUs).
        lr: peak learning rate of AdamW, after ``warmup`` steps; it falls linearly to zero.
        epochs: times that every triple is seen; ``steps`` overrides it.
        lora_r: rank of the additions to `LORA_LAYERS`; None tunes all weights instead.
        lora_alpha: their strength; None is 2 r, as in the authors' code.
        lora_dropout: of what goes into them.
        chunk: texts that are encoded with gradients at once; None for all of a step.
        max_grad_norm: gradients are cut to this norm.
        seed: of order, additions and dropout.
    """

    loss: InfoNCE | ExplicitNegatives = InfoNCE()
    batch: int = 16
    lr: float = 1e-4
    warmup: int = 100
    epochs: int = 1
    steps: int | None = None
    lora_r: int | None = 16
    lora_alpha: float | None = None
    lora_dropout: float = 0.05
    chunk: int | None = None
    max_grad_norm: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch", "epochs", "steps", "lora_r", "chunk"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InvalidValue(name, value, "at least 1")
        for name in ("lr", "max_grad_norm"):
            if not getattr(self, name) > 0:
                raise InvalidValue(name, getattr(self, name), "> 0")
        if not 0 <= self.lora_dropout < 1:
            raise InvalidValue("lora_dropout", self.lora_dropout, "in [0, 1)")
        if self.warmup < 0:
            raise InvalidValue("warmup", self.warmup, "at least 0")

    def run(
        self,
        embedder: DiffusionEmbedder,
        triples: Sequence[Triple],
        report: Callable[[str], None] | None = None,
    ) -> list[float]:
        """Tunes the embedder in place and leaves it in evaluation mode; gives every step's loss.

        Raises:
            InvalidValue: no triples, or another number of negatives than the first triple has (row named).
            Unsupported: the network has none of `LORA_LAYERS`.
            FloatingPointError: a loss that is not finite; the embedder is left without the additions.
        """
        _check_triples(triples)
        steps = self.steps or self.epochs * math.ceil(len(triples) / self.batch)
        added = low_rank(embedder.model, self.lora_r, self.lora_alpha, self.lora_dropout, self.seed)
        learned = [p for p in embedder.model.parameters() if p.requires_grad]
        updater = torch.optim.AdamW(learned, lr=self.lr, weight_decay=0.0)
        losses: list[float] = []
        embedder.train()
        try:
            for step, rows in enumerate(self.batches(triples, steps)):
                loss = self._backward(embedder, [triples[i] for i in rows], step)
                if not math.isfinite(loss):
                    raise FloatingPointError(f"step {step}: the loss is {loss}; a lower lr may help")
                torch.nn.utils.clip_grad_norm_(learned, self.max_grad_norm)
                updater.param_groups[0]["lr"] = self.lr * self.rate(step, steps)
                updater.step()
                updater.zero_grad(set_to_none=True)
                losses.append(loss)
                if report is not None and (step + 1) % 50 == 0:
                    report(f"step {step + 1}/{steps} loss {sum(losses[-50:]) / 50:.4f}")
        finally:
            merge(embedder.model, added, keep=bool(losses) and math.isfinite(losses[-1]))
            embedder.eval()
        return losses

    def rate(self, step: int, steps: int) -> float:
        """The factor on the learning rate: linear warm-up, then linear to zero."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        return max(0.0, (steps - step) / max(1, steps - self.warmup))

    def batches(self, triples: Sequence[Triple], steps: int) -> Iterator[list[int]]:
        """Row numbers of every step's batch, without two of a topic in one batch as long as topics last."""
        rng = random.Random(f"contrastive-{self.seed}")
        waiting: list[int] = []
        warned = False
        for _ in range(steps):
            if len(waiting) < self.batch:
                fresh = list(range(len(triples)))
                rng.shuffle(fresh)
                waiting += fresh
            taken: list[int] = []
            left: list[int] = []
            topics: set[str | None] = set()
            for position, row in enumerate(waiting):
                if len(taken) == min(self.batch, len(triples)):
                    left += waiting[position:]
                    break
                topic = triples[row].topic
                if row in taken or (topic is not None and topic in topics):
                    left.append(row)
                else:
                    taken.append(row)
                    topics.add(topic)
            if len(taken) < min(self.batch, len(triples)) and not warned:
                warned = True
                warnings.warn(
                    f"batches of {len(taken)} triples, not {self.batch}: there are too few topics for more "
                    "without one topic twice",
                    stacklevel=3,
                )
            waiting = left
            yield taken

    def _backward(self, embedder: DiffusionEmbedder, triples: Sequence[Triple], step: int) -> float:
        """Gradients of one batch; returns its loss."""
        count = len(triples[0].negatives)
        texts: list[Any] = [(t.instruction, t.query) for t in triples]
        texts += [t.positive for t in triples]
        texts += [n for t in triples for n in t.negatives]
        size = self.chunk or len(texts)
        # Texts of about equal length share a chunk, and each chunk draws the same dropout in both passes.
        order = sorted(range(len(texts)), key=lambda i: sum(map(len, texts[i])))
        chunks = [order[i : i + size] for i in range(0, len(texts), size)]

        def encode(number: int) -> Tensor:
            torch.manual_seed(stream(self.seed, "dropout", step, number))
            return embedder(embedder.preprocess([texts[i] for i in chunks[number]]))["sentence_embedding"]

        def loss_of(embeddings: Tensor) -> Tensor:
            made = torch.empty_like(embeddings).index_copy(
                0, torch.tensor(order, device=embeddings.device), embeddings
            )
            queries, positives, negatives = made.split([len(triples), len(triples), count * len(triples)])
            grouped = negatives.view(len(triples), count, -1) if count else None
            return self.loss(queries, positives, grouped)

        state = torch.get_rng_state()
        try:
            if len(chunks) == 1:
                loss = loss_of(encode(0))
                loss.backward()
                return float(loss.detach())
            with torch.no_grad():
                parts = [encode(number) for number in range(len(chunks))]
            held = torch.cat(parts).requires_grad_()
            loss = loss_of(held)
            loss.backward()
            assert held.grad is not None
            for number, grad in enumerate(held.grad.split([len(c) for c in chunks])):
                encode(number).backward(grad)
            return float(loss.detach())
        finally:
            torch.set_rng_state(state)


class LowRank(nn.Module):
    """A frozen linear layer W with an addition: W x + (alpha / r) B A x, where B begins as zeros."""

    def __init__(self, layer: nn.Linear, r: int, alpha: float, dropout: float, rng: torch.Generator) -> None:
        super().__init__()
        self.layer = layer
        self.strength, self.dropout = alpha / r, nn.Dropout(dropout)
        limit = 1 / math.sqrt(layer.in_features)
        drawn = (torch.rand(r, layer.in_features, generator=rng) * 2 - 1) * limit
        weight = layer.weight
        self.a = nn.Parameter(drawn.to(weight.device, torch.float32))
        self.b = nn.Parameter(torch.zeros(layer.out_features, r, device=weight.device))

    def forward(self, x: Tensor) -> Tensor:
        added = F.linear(F.linear(self.dropout(x).to(self.a.dtype), self.a), self.b) * self.strength
        return self.layer(x) + added.to(x.dtype)


def low_rank(
    network: nn.Module, r: int | None, alpha: float | None = None, dropout: float = 0.0, seed: int = 0
) -> list[tuple[nn.Module, str]]:
    """Freezes the network and gives its `LORA_LAYERS` low-rank additions; says where, for `merge`.

    With ``r`` None nothing is added and all weights are learned.
    """
    network.requires_grad_(r is None)
    if r is None:
        return []
    rng = torch.Generator().manual_seed(seed)
    found = [
        (parent, name)
        for parent in network.modules()
        for name, child in parent.named_children()
        if name in LORA_LAYERS and isinstance(child, nn.Linear)
    ]
    if not found:
        raise Unsupported(
            f"{type(network).__name__} has no linear layers named {', '.join(LORA_LAYERS)}: tune all weights "
            "(lora_r=None), or use peft and sentence-transformers' trainer"
        )
    for parent, name in found:
        setattr(parent, name, LowRank(getattr(parent, name), r, alpha or 2.0 * r, dropout, rng))
    return found


@torch.no_grad()
def merge(network: nn.Module, added: Sequence[tuple[nn.Module, str]], keep: bool = True) -> None:
    """Takes the additions away again, having added them to the weights if ``keep``."""
    for parent, name in added:
        wrapped: Any = getattr(parent, name)
        if keep:
            weight = wrapped.layer.weight
            weight += (wrapped.strength * wrapped.b @ wrapped.a).to(weight.dtype)
        setattr(parent, name, wrapped.layer)
    network.requires_grad_(True)


def _check_rows(queries: Tensor, positives: Tensor) -> None:
    if queries.shape != positives.shape:
        raise InvalidValue(
            "positives", tuple(positives.shape), f"as many as the queries: {tuple(queries.shape)}"
        )


def _check_triples(triples: Sequence[Triple]) -> None:
    if not triples:
        raise InvalidValue("triples", triples, "at least one triple")
    for row, triple in enumerate(triples):
        if len(triple.negatives) != len(triples[0].negatives):
            raise InvalidValue(
                f"the negatives of triple {row}",
                f"{len(triple.negatives)} texts",
                f"as many as those of triple 0: {len(triples[0].negatives)}",
            )
