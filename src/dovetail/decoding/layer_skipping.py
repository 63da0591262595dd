"""LAC: find the layers that add almost nothing to a token, by the change of the L2 norm, and skip them.

"Void in Language Models", arXiv 2505.14467; the rule comes from "L2 Norm Guided Adaptive Computation"
(OpenReview qW_GZYyn7C). Layer l changes a token's norm by delta_l = ||h_{l+1}|| - ||h_l||, signed, where h_0
is the first layer's input and h_{l+1} the output of layer l. It is a *Void* for that token if

    delta_l < alpha * (max_{j<l} delta_j - min_{j<l} delta_j),

over earlier layers of the same token and pass; the range is 0 at layers 0 and 1. Nothing is trained. Layers
are counted apart while the prompt is processed (PP) and the response generated (RG).

Which layers are Voids is known once they have run, so skipping masks their effect and saves no time: a pass
costs two norms of [B, T, d] per layer more. Norms are taken in float32 at least.

Shapes: L layers, B rows, T tokens of a pass, S tokens of a text, d hidden size.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from dovetail.core import InvalidValue
from dovetail.decoding.base import StepwiseDecoding
from dovetail.decoding.sampling import Sampling, check_filters
from dovetail.engine import Choice, Forward, Rows
from dovetail.engine.forward import LayerHook

Judge = Callable[[int, Tensor, Tensor], Tensor]
"""``judge(layer, before [B, T, d], after [B, T, d]) -> [B, T] bool``: the tokens a layer is active for."""


@dataclass(frozen=True, kw_only=True)
class LayerSkipping(StepwiseDecoding):
    """Tells per token which layers are active, counts them, and masks the others. `judge` is the rule.

    A finished row reports ``usage_pp`` and ``usage_rg``, the shares of active layer-token pairs while it was
    read and written, and ``layers_pp`` and ``layers_rg``, the same per layer. (The last written token is
    never read, so a row of one token has no RG: None.)

    Attributes:
        skip: "readout": all layers run as ever, and the head reads the output of each token's last active
            layer (the official code). "residual": the next layer gets the input of a skipped one (what the
            paper's text says). None: count only, the tokens are the plain model's.
        phases: where to skip: while the prompt is read ("pp"), while the response is written ("rg"), or both.
        temperature, top_p: of the sampling, where no other method chooses (official code: 0.6, 0.9).
    """

    skip: Literal["readout", "residual"] | None = "readout"
    phases: Literal["pp", "rg", "both"] = "both"
    temperature: float = 0.6
    top_p: float = 0.9

    needs = frozenset({"logits", "hidden"})

    def __post_init__(self) -> None:
        if self.skip not in ("readout", "residual", None):
            raise InvalidValue("skip", self.skip, "'readout', 'residual' or None")
        if self.phases not in ("pp", "rg", "both"):
            raise InvalidValue("phases", self.phases, "'pp', 'rg' or 'both'")
        check_filters(self.temperature, 0, self.top_p, 0.0)

    @abstractmethod
    def judge(self, rows: Rows, layers: int, valid: Tensor | None) -> Judge:
        """The rule for one pass; arguments as in `Stepwise.hook`. Layers come in order, from 0."""

    def hook(self, rows: Rows, layers: int, valid: Tensor | None) -> LayerHook:
        phase = "rg" if "lac.pp" in rows.state else "pp"
        skip = self.skip if self.phases in (phase, "both") else None
        judge = self.judge(rows, layers, valid)
        counts: list[Tensor] = []
        readout: Tensor | None = None

        def hook(layer: int, before: Tensor, after: Tensor) -> Tensor:
            nonlocal readout
            active = judge(layer, before, after)
            counts.append((active if valid is None else active & valid).sum(1))
            if layer == layers - 1:
                tokens = counts[0].new_tensor(after.shape[1]) if valid is None else valid.sum(1)
                _tally(rows, phase, torch.stack(counts, 1), tokens)
            if skip is None:
                return after
            if skip == "residual":
                return torch.where(active[..., None], after, before)
            readout = torch.where(active[..., None], after, before if readout is None else readout)
            return readout if layer == layers - 1 else after

        return hook

    def choose(self, logits: Tensor, rows: Rows) -> Choice:
        return Sampling(self.temperature, top_p=self.top_p).choose(logits, rows)

    def columns(self, rows: Rows, index: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for phase in ("pp", "rg"):
            tokens = int(rows.state[f"lac.{phase}_tokens"][index])
            shares = (rows.state[f"lac.{phase}"][index].double() / max(tokens, 1)).tolist()
            found[f"usage_{phase}"] = sum(shares) / len(shares) if tokens else None
            found[f"layers_{phase}"] = shares if tokens else None
        return found


def _tally(rows: Rows, phase: str, active: Tensor, tokens: Tensor) -> None:
    """Adds a pass's counts to the rows' state: ``active`` [B, L], ``tokens`` [B] or []."""
    if phase == "pp":
        rows.state |= {"lac.pp": active, "lac.pp_tokens": tokens.expand(len(rows))}
        rows.state |= {"lac.rg": torch.zeros_like(active), "lac.rg_tokens": torch.zeros_like(active[:, 0])}
    else:
        rows.state["lac.rg"] = rows.state["lac.rg"] + active
        rows.state["lac.rg_tokens"] = rows.state["lac.rg_tokens"] + tokens


@dataclass(frozen=True)
class L2AdaptiveComputation(LayerSkipping):
    """Layers that change a token's norm by less than ``alpha`` times the range of changes so far are skipped.

    Stacks with what adjusts or chooses (``void-lac+greedy``, ``em+void-lac``); alone it samples.

    Attributes:
        alpha: in [0, 1]; a larger one uses fewer layers (paper: swept, 0.8 by default). At 0 only layers that
            shrink the norm are skipped.
        skip: "readout" (default): the head reads the output of the last active layer; "residual": a skipped
            layer passes its input on; None: only count.
        phases: skip while the prompt is read ("pp"), the response is written ("rg"), or "both" (default).
        temperature, top_p: of the sampling, where no other method chooses (default 0.6, 0.9).
    """

    alpha: float = 0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.alpha <= 1:
            raise InvalidValue("alpha", self.alpha, "in [0, 1]")

    def judge(self, rows: Rows, layers: int, valid: Tensor | None) -> Judge:
        low = high = torch.empty(0)

        def active(layer: int, before: Tensor, after: Tensor) -> Tensor:
            nonlocal low, high
            delta = _norm(after) - _norm(before)
            if layer == 0:
                low = high = delta
                return delta >= 0
            enough = delta >= self.alpha * (high - low)
            low, high = torch.minimum(low, delta), torch.maximum(high, delta)
            return enough

        return active


class LacTrace(NamedTuple):
    """``norms``, ``deltas``, ``thresholds`` [L, B, S] float32 at least, and ``active`` [L, B, S] bool."""

    norms: Tensor
    deltas: Tensor
    thresholds: Tensor
    active: Tensor


def lac_trace(hidden_states: Tensor, alpha: float = 0.8) -> LacTrace:
    """The rule over a text's recorded states: what a heat map of Voids shows.

    Args:
        hidden_states: [L + 1, B, S, d], the first layer's input and every layer's own output (see
            `layer_states`; the last entry of transformers' ``output_hidden_states`` is after the final norm).
        alpha: in [0, 1].

    Raises:
        InvalidValue: another shape, fewer than 2 entries, NaN or infinite values, or an impossible alpha.
    """
    L2AdaptiveComputation(alpha=alpha)
    if hidden_states.dim() != 4 or hidden_states.shape[0] < 2:
        raise InvalidValue("hidden_states", f"shape {tuple(hidden_states.shape)}", "[L + 1, B, S, d], L >= 1")
    if not bool(hidden_states.isfinite().all()):
        raise InvalidValue("hidden_states", "NaN or infinity", "finite numbers")
    norms = _norm(hidden_states)
    deltas = norms.diff(dim=0)
    spread = deltas.cummax(0).values - deltas.cummin(0).values
    thresholds = torch.cat([torch.zeros_like(spread[:1]), alpha * spread[:-1]])
    return LacTrace(norms[1:], deltas, thresholds, deltas >= thresholds)


def layer_usage(active: Tensor, valid: Tensor | None = None) -> float:
    """The share of active layer-token pairs: ``active`` [L, B, S] bool; ``valid`` [B, S], False for pads."""
    if valid is None:
        return float(active.double().mean())
    return float((active & valid).sum() / (len(active) * valid.sum()))


@torch.inference_mode()
def layer_states(forward: Forward, ids: Tensor, valid: Tensor | None = None) -> Tensor:
    """[L + 1, B, S, d]: the first layer's input and every layer's output, for ids [B, S] (int64)."""
    states: list[Tensor] = []

    def record(layer: int, before: Tensor, after: Tensor) -> Tensor:
        states.extend((before, after) if layer == 0 else (after,))
        return after

    forward(forward.cache(len(ids)), ids, valid=valid, hook=record)
    return torch.stack(states)


def _norm(x: Tensor) -> Tensor:
    """[..., d] -> [...]; in float32 at least: norms in half precision would be coarser than many deltas."""
    return torch.linalg.vector_norm(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1)
