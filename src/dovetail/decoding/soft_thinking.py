"""Soft Thinking: think in probability-weighted mixtures of tokens, then answer normally.

Zhang et al., "Soft Thinking: Unlocking the Reasoning Potential of LLMs in Continuous Concept Space",
arXiv 2505.15778 (NeurIPS 2025). While the model thinks, the next input is the expectation of the token
embedding under the filtered next-token distribution (sect. 3.2) and the most probable token is what is shown.
"Cold Stop" (sect. 3.3) ends thinking after a run of confident steps. The noise options are those of arXiv
2508.03440.

Costs one sort of the vocabulary per step and one gather of ``max_topk`` embeddings per row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from dovetail.core import InvalidValue, Unsupported
from dovetail.decoding.base import StepwiseDecoding
from dovetail.decoding.sampling import check_filters, draw, filtered
from dovetail.engine import Choice, Rows


class ConceptToken(NamedTuple):
    """Mixtures: ``probs`` [B, K] descending, rows sum to 1; ``ids`` [B, K]; ``entropy`` [B] in nats."""

    probs: Tensor
    ids: Tensor
    entropy: Tensor


@dataclass(frozen=True)
class SoftThinking(StepwiseDecoding):
    """Thinks in concept tokens until ``</think>``, then samples.

    A prompt starts in thinking unless its template has already closed the thinking block. Thinking ends when
    ``</think>`` is the most probable token, or by Cold Stop.

    Attributes:
        max_topk: tokens mixed into one concept token (paper: 5 to 30, best 10 to 15).
        temperature, top_p, top_k, min_p: filters while thinking; temperature 0 is greedy thinking, whose
            entropy for Cold Stop is that at temperature 1.
        after_temperature, after_top_p, after_top_k, after_min_p: filters of the answer.
        entropy_threshold: nats; a step below it counts as confident. 0 switches Cold Stop off.
        length_threshold: confident steps in a row that end thinking.
        abort_answer: also end an answer that runs on confidently for ``length_threshold`` steps, as the
            official code does.
        noise: None (the paper), "gumbel" or "dirichlet" (arXiv 2508.03440).
        gumbel_temperature, dirichlet_alpha: their strengths.
    """

    max_topk: int = 10
    temperature: float = 0.6
    top_p: float = 0.95
    top_k: int = 30
    min_p: float = 0.001
    after_temperature: float = 0.6
    after_top_p: float = 0.95
    after_top_k: int = 30
    after_min_p: float = 0.0
    entropy_threshold: float = 0.01
    length_threshold: int = 256
    abort_answer: bool = True
    noise: Literal["gumbel", "dirichlet"] | None = None
    gumbel_temperature: float = 0.5
    dirichlet_alpha: float = 1.0

    needs = frozenset({"logits", "embeddings"})
    chooses = True

    def __post_init__(self) -> None:
        if self.max_topk < 1:
            raise InvalidValue("max_topk", self.max_topk, "at least 1")
        check_filters(self.temperature, self.top_k, self.top_p, self.min_p)
        check_filters(self.after_temperature, self.after_top_k, self.after_top_p, self.after_min_p, "after_")
        if not self.entropy_threshold >= 0:
            raise InvalidValue("entropy_threshold", self.entropy_threshold, ">= 0 (0 switches Cold Stop off)")
        if self.length_threshold < 1:
            raise InvalidValue("length_threshold", self.length_threshold, "at least 1")
        if self.noise not in (None, "gumbel", "dirichlet"):
            raise InvalidValue("noise", self.noise, "None, 'gumbel' or 'dirichlet'")
        for name in ("gumbel_temperature", "dirichlet_alpha"):
            if not getattr(self, name) > 0:
                raise InvalidValue(name, getattr(self, name), "> 0")

    def begin(self, rows: Rows) -> None:
        if rows.think_end is None:
            raise Unsupported(
                "soft-thinking needs a model whose tokenizer has </think> as one token: it decides where "
                "soft inputs end"
            )
        zero = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
        rows.state["soft.low"] = zero
        rows.state["soft.thought"] = zero
        rows.state["soft.thinking"] = rows.thinking
        rows.state["soft.cold"] = torch.zeros_like(rows.thinking)

    def choose(self, logits: Tensor, rows: Rows) -> Choice:
        if self.max_topk > logits.shape[-1]:
            raise InvalidValue("max_topk", self.max_topk, f"at most the vocabulary's {logits.shape[-1]}")
        state = rows.state
        thinking, low = state["soft.thinking"], state["soft.low"]
        concept = self.concept_token(logits, rows)
        weights, ids = concept.probs, concept.ids
        tokens = ids[:, 0]
        if not bool(thinking.all()):
            tokens = torch.where(thinking, tokens, self._answer(logits, rows))

        low = torch.where(concept.entropy < self.entropy_threshold, low + 1, 0)
        cold = thinking & (low >= self.length_threshold)
        think_end = torch.full_like(tokens, rows.think_end or 0)
        tokens = torch.where(cold, think_end, tokens)
        ended = thinking & (tokens == think_end)

        state["soft.thought"] = state["soft.thought"] + (thinking & (rows.alive > 0))
        state["soft.cold"] = state["soft.cold"] | cold
        state["soft.low"] = torch.where(ended, 0, low)
        state["soft.thinking"] = thinking & ~ended
        # Outside thinking, and for </think> itself, the input is the plain token: a one-hot mixture.
        plain = ~state["soft.thinking"]
        if bool(plain.all()):
            return Choice(tokens)
        one_hot = torch.zeros_like(weights)
        one_hot[:, 0] = 1.0
        weights = torch.where(plain[:, None], one_hot, weights)
        ids = torch.where(plain[:, None], tokens[:, None], ids)
        return Choice(tokens, weights, ids)

    def stop(self, choice: Choice, rows: Rows) -> Tensor | None:
        if not self.abort_answer or self.entropy_threshold == 0:
            return None
        return ~rows.state["soft.thinking"] & (rows.state["soft.low"] >= self.length_threshold)

    def columns(self, rows: Rows, index: int) -> dict[str, Any]:
        thought = int(rows.state["soft.thought"][index])
        return {
            "thinking_tokens": thought,
            "answer_tokens": int(rows.step[index]) - thought,
            "cold_stopped": bool(rows.state["soft.cold"][index]),
        }

    def concept_token(self, logits: Tensor, rows: Rows | None = None) -> ConceptToken:
        """The mixture for [B, V] logits (spec steps 1, 2 and 4; noise needs ``rows`` for its streams)."""
        probs = torch.softmax(logits / (self.temperature or 1.0), -1)
        # Cold Stop's entropy is over the whole vocabulary, before any filter.
        entropy = -(probs * probs.clamp(min=1e-12).log()).sum(-1)
        if self.temperature == 0:
            probs = torch.zeros_like(probs).scatter_(1, probs.argmax(-1, keepdim=True), 1.0)
        probs, ids = filtered(probs, self.top_k, self.top_p, self.min_p)
        if self.noise == "dirichlet" and rows is not None:
            probs, ids = _resort(_dirichlet(self.dirichlet_alpha * probs, rows), ids)
        missing = self.max_topk - probs.shape[1]
        if missing > 0:
            probs = torch.nn.functional.pad(probs, (0, missing))
            ids = torch.nn.functional.pad(ids, (0, missing))
        probs, ids = probs[:, : self.max_topk], ids[:, : self.max_topk]
        probs = probs / probs.sum(-1, keepdim=True)
        if self.noise == "gumbel" and rows is not None:
            gumbel = -torch.log(-torch.log(rows.uniform(self.max_topk, purpose=1))).to(probs.dtype)
            probs = torch.softmax((probs.log() + gumbel) / self.gumbel_temperature, -1)
            probs, ids = _resort(probs, ids)
        return ConceptToken(probs, ids, entropy)

    def _answer(self, logits: Tensor, rows: Rows) -> Tensor:
        """[B] tokens sampled with the answer's filters."""
        if self.after_temperature == 0:
            return logits.argmax(-1)
        probs = torch.softmax(logits / self.after_temperature, -1)
        probs, ids = filtered(probs, self.after_top_k, self.after_top_p, self.after_min_p)
        return ids.gather(1, draw(probs, rows)[:, None])[:, 0]


def _resort(probs: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    probs, order = probs.sort(-1, descending=True)
    return probs, ids.gather(1, order)


def _dirichlet(concentration: Tensor, rows: Rows) -> Tensor:
    """[B, K] samples of Dir(concentration); entries with concentration 0 stay 0."""
    import numpy as np
    from scipy.stats import gamma

    # Gamma quantiles of each row's own uniforms: torch's sampler would draw from one shared stream.
    u = rows.uniform(concentration.shape[1], purpose=2).cpu().numpy()
    shape = concentration.double().cpu().numpy()
    draws = np.where(shape > 0, gamma.ppf(u, np.maximum(shape, 1e-300)), 0.0)
    sample = torch.from_numpy(draws).to(concentration)
    total = sample.sum(-1, keepdim=True)
    # Tiny concentrations can underflow to an all-zero draw: the row then keeps its distribution's mean.
    mean = concentration / concentration.sum(-1, keepdim=True)
    return torch.where(total > 0, sample / total.clamp(min=torch.finfo(sample.dtype).tiny), mean)
