"""How a masked diffusion model writes: LLaDA's sampler, the baseline of every cache for such models.

Nie et al., "Large Language Diffusion Models", arXiv 2502.09992: blocks from left to right; each step predicts
all masked tokens of the block, commits the most confident ones and masks the others again. Confidences of
Dream's sampler (Ye et al., arXiv 2508.15487) are among the choices. Costs one pass over prompt and canvas per
step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from dovetail.core import Completion, InvalidValue, Limits, Prompt, Unsupported, seeds
from dovetail.decoding.base import Decoding
from dovetail.engine import Canvas, Moment, Unmasking
from dovetail.engine.diffusion import commit, confidence

Remasking = Literal["low_confidence", "random", "topk_margin", "entropy"]
_ORDERS = 1 << 60  # counters of the random order, apart from those of the Gumbel noise


@dataclass(frozen=True)
class Diffusion(Unmasking, Decoding):
    """Fills in a canvas of masks, the most confident tokens first.

    The canvas has as many tokens as may be written (``max_new_tokens``), at most those that the model was
    trained for.

    Attributes:
        steps: passes for the whole canvas, a multiple of the number of blocks; None for one per token.
        block_length: tokens of a block, a divisor of the canvas; a shorter canvas is one block.
        temperature: of the Gumbel noise on the logits; 0 takes the most probable token.
        remasking: what makes a position one of the next to commit: the probability of its token
            ("low_confidence"; Dream's "maskgit_plus"), its lead over the second ("topk_margin"), low entropy
            ("entropy"), or a random order that is drawn once ("random").
        stop_at_end: leave out the blocks behind an end token; the text stays the same.
    """

    steps: int | None = None
    block_length: int = 32
    temperature: float = 0.0
    remasking: Remasking = "low_confidence"
    stop_at_end: bool = True

    needs = frozenset({"diffusion"})

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise InvalidValue("steps", self.steps, "at least 1, or None for one per token")
        if self.block_length < 1:
            raise InvalidValue("block_length", self.block_length, "at least 1")
        if not 0 <= self.temperature < float("inf"):
            raise InvalidValue("temperature", self.temperature, "a finite number >= 0")
        if self.remasking not in (kinds := Remasking.__args__):  # type: ignore[attr-defined]
            raise InvalidValue("remasking", self.remasking, f"one of {', '.join(kinds)}")

    def generate(self, engine: Any, prompts: Sequence[Prompt], limits: Limits) -> list[Completion]:
        self.check(engine)
        completions: list[Completion] = engine.generate(prompts, limits, self)
        return completions

    def check(self, engine: Any) -> None:
        if "diffusion" not in engine.provides:
            raise Unsupported(
                f"{type(self).__name__} writes with a masked diffusion model, and {engine.name} is none: "
                "load one (pico-mdlm, or a folder of LLaDA or Dream)"
            )

    def target(self, canvas: Canvas, moment: Moment) -> Tensor:
        masked = super().target(canvas, moment)
        if self.remasking != "random":
            return masked
        draws = seeds.uniform(canvas.seeds[:, None], masked - canvas.start + _ORDERS)
        return masked.gather(1, draws.topk(moment.commits, -1).indices).sort(-1).values

    def choose(self, logits: Tensor, target: Tensor, canvas: Canvas, moment: Moment) -> tuple[Tensor, Tensor]:
        best, tokens = self._noisy(logits, target, canvas).max(-1)
        if self.temperature:
            best = logits.gather(-1, tokens[..., None])[..., 0]
        if self.remasking == "random":
            return tokens, target
        if self.remasking == "low_confidence":
            return commit(tokens, target, confidence(best, logits), moment.commits)
        probs = logits.double().softmax(-1)
        if self.remasking == "topk_margin":
            first, second = probs.topk(2, -1).values.unbind(-1)
            return commit(tokens, target, first - second, moment.commits)
        return commit(tokens, target, torch.special.xlogy(probs, probs).sum(-1), moment.commits)

    def _noisy(self, logits: Tensor, target: Tensor, canvas: Canvas) -> Tensor:
        """Logits whose maximum is a draw at the temperature: Gumbel-max, from each row's stream."""
        if self.temperature == 0:
            return logits
        size = logits.shape[-1]
        counters = (canvas.passes << 40) + ((target - canvas.start) << 20)
        counters = counters[..., None] + torch.arange(size, device=logits.device)
        noise = -torch.log(-torch.log(seeds.uniform(canvas.seeds[:, None, None], counters)))
        return logits.double() + self.temperature * noise
