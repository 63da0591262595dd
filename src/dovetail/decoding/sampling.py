"""Greedy decoding and sampling with the usual filters: the baselines of everything here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dovetail.core import InvalidValue
from dovetail.decoding.base import StepwiseDecoding
from dovetail.engine import Choice, Rows


@dataclass(frozen=True)
class Greedy(StepwiseDecoding):
    """The most probable token at every step."""

    needs = frozenset({"text"})
    chooses = True

    def api_parameters(self) -> Mapping[str, Any]:
        return {"temperature": 0.0}


@dataclass(frozen=True)
class Sampling(StepwiseDecoding):
    """A random token at every step, drawn after temperature and filters.

    The filters act in the order of the attributes; probabilities are renormalized after each.

    Attributes:
        temperature: divides the logits; 0 is greedy.
        top_k: keep the k most probable tokens; 0 keeps all.
        top_p: keep the smallest set with at least this mass (Holtzman et al., arXiv 1904.09751).
        min_p: drop tokens below this fraction of the largest probability (Nguyen et al., arXiv 2407.01082).
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    needs = frozenset({"text"})
    chooses = True

    def __post_init__(self) -> None:
        check_filters(self.temperature, self.top_k, self.top_p, self.min_p)

    def choose(self, logits: Tensor, rows: Rows) -> Choice:
        if self.temperature == 0:
            return Choice(logits.argmax(-1))
        probs = torch.softmax(logits / self.temperature, -1)
        if self.top_k or self.top_p < 1 or self.min_p:
            probs, ids = filtered(probs, self.top_k, self.top_p, self.min_p)
            return Choice(ids.gather(1, draw(probs, rows)[:, None])[:, 0])
        return Choice(draw(probs, rows))

    def api_parameters(self) -> Mapping[str, Any]:
        parameters: dict[str, Any] = {"temperature": self.temperature, "top_p": self.top_p}
        # Not in OpenAI's API; vLLM and SGLang take them in the request's body.
        extra: dict[str, float] = {"top_k": self.top_k} if self.top_k else {}
        extra |= {"min_p": self.min_p} if self.min_p else {}
        return parameters | ({"extra_body": extra} if extra else {})


def draw(probs: Tensor, rows: Rows, purpose: int = 0) -> Tensor:
    """[B] positions drawn from [B, K] probabilities by inversion, each row from its own stream."""
    mass = probs.double().cumsum(-1)
    u = rows.uniform(purpose=purpose) * mass[:, -1:]
    return torch.searchsorted(mass, u, right=True)[:, 0].clamp_(max=probs.shape[-1] - 1)


def filtered(probs: Tensor, top_k: int, top_p: float, min_p: float) -> tuple[Tensor, Tensor]:
    """Top-k, then top-p, then min-p, renormalized after each; sorted in descending order.

    Args:
        probs: [B, V] rows that sum to 1.

    Returns:
        [B, K] probabilities (rows sum to 1, dropped tokens 0) and their [B, K] ids.
    """
    size = probs.shape[-1]
    if top_k and top_k < size:
        probs, ids = probs.topk(top_k, -1)
        probs = probs / probs.sum(-1, keepdim=True)
    else:
        probs, ids = probs.sort(-1, descending=True)
    if top_p < 1:
        before = probs.cumsum(-1) - probs  # mass in front of a token: the first one always stays
        probs = torch.where(before < top_p, probs, 0.0)
        probs = probs / probs.sum(-1, keepdim=True)
    if min_p:
        probs = torch.where(probs >= min_p * probs[:, :1], probs, 0.0)
        probs = probs / probs.sum(-1, keepdim=True)
    return probs, ids


def check_filters(temperature: float, top_k: int, top_p: float, min_p: float, prefix: str = "") -> None:
    """Raises InvalidValue naming the parameter that has an impossible value."""
    if not temperature >= 0 or temperature == float("inf"):
        raise InvalidValue(f"{prefix}temperature", temperature, "a finite number >= 0")
    if int(top_k) != top_k or top_k < 0:
        raise InvalidValue(f"{prefix}top_k", top_k, "a whole number >= 0 (0 keeps all tokens)")
    if not 0 < top_p <= 1:
        raise InvalidValue(f"{prefix}top_p", top_p, "in (0, 1]")
    if not 0 <= min_p < 1:
        raise InvalidValue(f"{prefix}min_p", min_p, "in [0, 1)")
