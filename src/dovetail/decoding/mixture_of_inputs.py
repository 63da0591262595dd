"""Mixture of Inputs: feed back a Bayesian blend of the sampled token and the distribution it came from.

Zhuang et al., "Text Generation Beyond Discrete Token Sampling", arXiv 2505.14827. The sampled token is what
is written; the next input embedding is a mixture over the vocabulary, weighted by the posterior mean of a
Dirichlet whose prior is the model's distribution and whose observation is the sampled token (eq. 2 to 5).
When the model is sure, that is nearly the plain embedding.

Costs one product of [B, V] weights with the embedding table per step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dovetail.core import InvalidValue
from dovetail.decoding.base import StepwiseDecoding
from dovetail.decoding.sampling import check_filters, draw, filtered
from dovetail.engine import Choice, Rows


@dataclass(frozen=True)
class MixtureOfInputs(StepwiseDecoding):
    """Feeds back a mixture of the sampled token and the whole distribution.

    w_i = (H p_i + (beta + 1 - H) y_i) / (beta + 1), H the entropy of p as a share of its maximum (eq. 5).

    Attributes:
        beta: concentration on the sampled token (paper: 1/4 to 8, recommended 0.5 to 2); inf is plain
            sampling.
        temperature, top_p, top_k: of the sampling; temperature 0 is greedy.
        mode: "moi"; "direct" feeds back the distribution itself (the paper's ablation); "standard" the token.
        candidates: "full" mixes over the whole vocabulary with H relative to log V (the paper). A number k
            mixes over the k most probable tokens and the sampled one, with H relative to log k (the
            official code, which forgets the sampled token where it is not among the k).
        distribution_temperature: of p; None takes ``temperature`` (it must be given where that is 0).
    """

    beta: float = 1.0
    temperature: float = 0.6
    top_p: float = 0.95
    top_k: int = 0
    mode: Literal["moi", "direct", "standard"] = "moi"
    candidates: int | Literal["full"] = "full"
    distribution_temperature: float | None = None

    needs = frozenset({"logits", "embeddings"})
    chooses = True

    def __post_init__(self) -> None:
        check_filters(self.temperature, self.top_k, self.top_p, 0.0)
        if not self.beta >= 0:
            raise InvalidValue("beta", self.beta, '>= 0 (mode="direct" feeds back the distribution alone)')
        if self.mode not in ("moi", "direct", "standard"):
            raise InvalidValue("mode", self.mode, "'moi', 'direct' or 'standard'")
        if self.candidates != "full" and (not isinstance(self.candidates, int) or self.candidates < 1):
            raise InvalidValue("candidates", self.candidates, "'full' or a whole number >= 1")
        if self.distribution_temperature is None:
            if self.temperature == 0 and self.mode != "standard":
                raise InvalidValue(
                    "distribution_temperature", None, "given where temperature is 0: there is no distribution"
                )
        elif not self.distribution_temperature > 0:
            raise InvalidValue("distribution_temperature", self.distribution_temperature, "> 0")

    def choose(self, logits: Tensor, rows: Rows) -> Choice:
        sampled_from = torch.softmax(logits / (self.temperature or 1.0), -1)
        tokens = self._sample(sampled_from, rows)
        if self.mode == "standard" or math.isinf(self.beta):
            return Choice(tokens)
        probs = sampled_from
        if self.distribution_temperature not in (None, self.temperature or 1.0):
            probs = torch.softmax(logits / self.distribution_temperature, -1)
        if self.candidates != "full":
            return self._among(probs, tokens, int(self.candidates))
        return Choice(tokens, probs if self.mode == "direct" else _posterior(probs, tokens, self.beta))

    def _sample(self, probs: Tensor, rows: Rows) -> Tensor:
        if self.temperature == 0:
            return probs.argmax(-1)
        if not self.top_k and self.top_p == 1:
            return draw(probs, rows)
        kept, ids = filtered(probs, self.top_k, self.top_p, 0.0)
        return ids.gather(1, draw(kept, rows)[:, None])[:, 0]

    def _among(self, probs: Tensor, tokens: Tensor, k: int) -> Choice:
        """The mixture over the k most probable tokens and the sampled one (last; 0 if it is among them)."""
        k = min(k, probs.shape[-1])
        top, ids = probs.topk(k, -1)
        top = top / top.sum(-1, keepdim=True)
        hit = ids == tokens[:, None]
        place = torch.where(hit.any(-1), hit.int().argmax(-1), ids.shape[1])
        top, ids = torch.nn.functional.pad(top, (0, 1)), torch.cat([ids, tokens[:, None]], 1)
        if self.mode == "direct":
            return Choice(tokens, top, ids)
        return Choice(tokens, _posterior(top, place, self.beta, entropy_base=k), ids)


def moi_weights(probs: Tensor, tokens: Tensor, beta: float, entropy_base: int | None = None) -> Tensor:
    """The posterior mean of eq. 5.

    Args:
        probs: [B, V] rows that sum to 1 within 1e-3.
        tokens: [B] int64, the sampled positions in V.
        beta: >= 0.
        entropy_base: the number of outcomes that the entropy is relative to; None is V.

    Returns:
        [B, V], rows sum to 1; the sampled token's is at least beta / (beta + 1).

    Raises:
        ValueError: probabilities that are none, or a token outside [0, V); names the row and the value.
    """
    size = probs.shape[-1]
    total = probs.sum(-1)
    bad = ~((total - 1).abs() <= 1e-3) | (probs < 0).any(-1)  # NaN is not <= either
    if bool(bad.any()):
        row = int(bad.nonzero()[0, 0])
        raise ValueError(f"probs[{row}] sums to {float(total[row])} (or is negative): not a distribution")
    outside = (tokens < 0) | (tokens >= size)
    if bool(outside.any()):
        raise ValueError(f"token id {int(tokens[outside][0])} is outside the vocabulary [0, {size})")
    return _posterior(probs, tokens, beta, entropy_base)


def _posterior(probs: Tensor, tokens: Tensor, beta: float, entropy_base: int | None = None) -> Tensor:
    """`moi_weights` without its checks, which would make an accelerator wait at every step."""
    base = math.log(entropy_base or probs.shape[-1])
    entropy = torch.special.entr(probs).sum(-1, keepdim=True)
    h = (entropy / base).clamp(0, 1) if base > 0 else torch.zeros_like(entropy)
    weights = h * probs
    weights.scatter_add_(1, tokens[:, None], beta + 1 - h)
    return weights / (beta + 1)
