"""dKV-Cache: keys and values of committed tokens are kept, one step after they were committed.

Ma et al., "dKV-Cache: The Cache for Diffusion Language Models", arXiv 2505.15781. A token's keys and values
change most when it is committed and little afterwards, so a step computes only the positions that are masked,
or were a step ago (eq. 4), and sees the others through the cache. "Greedy" (sect. 3.4) computes only those
about to be committed, the last ones and a window. Costs what `Diffusion` costs times the share of positions
that are computed, which every completion reports (``cache_ratio`` is the share that is not).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dovetail.core import InvalidValue
from dovetail.decoding.diffusion import Diffusion
from dovetail.engine import Canvas, Moment

Variant = Literal["decode", "greedy", "prefill", "pd"]
_REFRESH = {"decode": 8, "greedy": 2, "prefill": 0, "pd": 4}  # the paper's; the prompt alone needs none


@dataclass(frozen=True)
class DelayedKVCache(Diffusion):
    """A delayed key-value cache for masked diffusion models.

    Attributes:
        variant: what is cached: committed tokens and the prompt ("decode"), all but the positions at work
            ("greedy"; needs random remasking, since the next positions must be known beforehand), the
            prompt for good ("prefill"), or the prompt for good and committed tokens ("pd").
        refresh_interval: every so many steps of a block all is computed anew ("pd": all but the prompt);
            None for the paper's: 8, 2 for "greedy", 4 for "pd".
        restart: whether the cache starts empty at each block, as in the paper's code for LLaDA; False counts
            steps through the whole canvas, as Dream's sampler does, which has no blocks.
        delay: steps between a token's commitment and its caching; 0 is the paper's ablation.
        window: "greedy" also computes so many masked positions nearest to ``centre``, to both sides in turns.
        centre: the positions to commit "next" or those of the "previous" step.
        shifted: for models whose logits speak of the next position (Dream; the paper's app. B): a position is
            cached when the "next" token is committed ("un" there, used in its main runs), or when its own
            and the next token are ("both", "un_right" there), which keeps no mask's keys and values.
    """

    variant: Variant = "decode"
    refresh_interval: int | None = None
    restart: bool = True
    delay: int = 1
    window: int = 0
    centre: Literal["next", "previous"] = "next"
    shifted: Literal["next", "both"] = "next"

    caches = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variant not in _REFRESH:
            raise InvalidValue("variant", self.variant, f"one of {', '.join(_REFRESH)}")
        if self.refresh_interval is not None and self.refresh_interval < 1:
            raise InvalidValue("refresh_interval", self.refresh_interval, "at least 1, or None")
        if self.delay not in (0, 1):
            raise InvalidValue("delay", self.delay, "0 or 1")
        if self.window < 0:
            raise InvalidValue("window", self.window, "at least 0")
        if self.centre not in ("next", "previous"):
            raise InvalidValue("centre", self.centre, "next or previous")
        if self.shifted not in ("next", "both"):
            raise InvalidValue("shifted", self.shifted, "next or both")
        if self.variant == "greedy" and self.remasking != "random":
            raise InvalidValue("remasking", self.remasking, "random for greedy: it must know what comes next")

    @property
    def own_columns(self) -> bool:
        return self.shifted == "both"

    def recompute(self, canvas: Canvas, moment: Moment, target: Tensor) -> Tensor | None:
        keeps_prompt = self.variant in ("prefill", "pd")
        if keeps_prompt and canvas.passes == 0:
            return None
        if self.variant == "prefill" or self._refreshes(moment.step if self.restart else canvas.passes):
            return _canvas(canvas) if keeps_prompt else None
        if self.variant == "greedy":
            centres = target if self.centre == "next" else canvas.fresh
            near = nearest_masked(canvas.masked, target, centres, self.window)
            return torch.cat([target, canvas.fresh, near], 1).sort(-1).values
        stale = canvas.masked
        if self.delay:
            stale = stale.scatter(1, canvas.fresh, True)
        return stale.nonzero()[:, 1].view(len(canvas), -1)

    def _refreshes(self, step: int) -> bool:
        interval = self.refresh_interval or _REFRESH[self.variant]
        # With a delay the second step of a block has no step before whose tokens were just committed.
        early = self.variant != "greedy" and step <= self.delay
        return early or step % interval == 0


def _canvas(canvas: Canvas) -> Tensor:
    """[B, L]: all columns behind the prompt."""
    columns = torch.arange(canvas.start, canvas.ids.shape[1], device=canvas.ids.device)
    return columns.repeat(len(canvas), 1)


def nearest_masked(masked: Tensor, taken: Tensor, centres: Tensor, window: int) -> Tensor:
    """[B, up to ``window``] masked columns nearest to any centre, distances counted in masked columns.

    Args:
        masked: [B, C] bool, equally many in each row.
        taken: [B, W] masked columns to leave out.
        centres: [B, N] columns.
    """
    free = masked.scatter(1, taken, False)
    count = min(window, int(free[0].sum()))
    if count == 0 or centres.shape[1] == 0:
        return taken[:, :0]
    rank = free.cumsum(1)[:, None]  # [B, 1, C]
    columns = torch.arange(masked.shape[1], device=masked.device)
    left = columns < centres[:, :, None]  # [B, N, C]
    before = rank[:, 0].gather(1, centres)[:, :, None]  # free columns up to each centre
    place = torch.where(left, 2 * (before - rank), 2 * (rank - before) - 1)
    # Ties of several centres go to the left, whatever the padding.
    place = place.amin(1) * masked.shape[1] + rank[:, 0]
    place = place.masked_fill(~free, int(place.max()) + 1)
    return place.topk(count, -1, largest=False).indices
