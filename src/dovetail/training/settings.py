"""What every training run has, whatever its objective."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from dovetail.core import InvalidValue, UnknownName

Optimiser = Literal["adamw", "muon"]


@dataclass(frozen=True)
class Settings:
    """How long, how fast, how large. The objective's own numbers are the objective's fields.

    Attributes:
        steps: batches of completions (or of given answers) to learn from; a step may hold several updates.
        batch: completions per step; a multiple of the objective's group size.
        learning_rate: peak; Muon's, where that is chosen (embeddings and norms then get a fifth of it).
        optimiser: "adamw", or "muon" for the matrices inside the layers (AdamW for the rest).
        betas, weight_decay: of AdamW; the weight decay is Muon's too.
        warmup: steps of linear warm-up.
        decay: share of the steps over which the rate falls to zero, at the end.
        clip_norm: the gradient's norm is cut to this; 0 leaves it.
        max_prompt_tokens: questions with longer prompts are left out, and counted.
        max_new_tokens: a completion's end at the latest.
        thinking: the template's thinking mode, for examples that have no column ``thinking``.
        micro_batch_tokens: tokens per forward and backward pass; decides memory, not results.
        gradient_checkpointing: compute activations again in the backward pass: less memory, more time.
        precision: "bfloat16" runs the forward and backward passes under autocast; weights, optimizers and the
            completions' writing stay as the model is.
        lora_rank: train adapters of this rank in place of the weights (`training.adapters`); 0 for none.
        lora_alpha: their scale; 0 for twice the rank.
        rows: completions written side by side.
        examples: how many of the task's examples are learned from; 0 for the task's default.
        held_out: how many examples are kept for evaluation where none are given; 0 for no evaluation.
        evaluate_every: steps between evaluations; 0 for the first and last moment only.
        evaluation_tokens: a completion's end in evaluations; 0 for ``max_new_tokens``.
        save_every: steps between checkpoints; 0 for none but the last.
        samples_every: steps between completions kept for the report; 0 for none.
        patience: updates in a row that may be skipped for a loss or gradient that is not finite.
        seed: draws examples, their order and every completion.
    """

    steps: int = 100
    batch: int = 128
    learning_rate: float = 1e-5
    optimiser: Optimiser = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    warmup: int = 0
    decay: float = 0.0
    clip_norm: float = 1.0
    max_prompt_tokens: int = 512
    max_new_tokens: int = 256
    thinking: bool = True
    micro_batch_tokens: int = 4096
    gradient_checkpointing: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"
    lora_rank: int = 0
    lora_alpha: int = 0
    rows: int = 128
    examples: int = 0
    held_out: int = 0
    evaluate_every: int = 0
    evaluation_tokens: int = 0
    save_every: int = 10
    samples_every: int = 10
    patience: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "max_prompt_tokens", "max_new_tokens", "micro_batch_tokens", "rows"):
            _whole(name, getattr(self, name), 1)
        counts = ("warmup", "examples", "held_out", "evaluate_every", "evaluation_tokens", "save_every")
        for name in (*counts, "samples_every", "patience", "lora_rank", "lora_alpha"):
            _whole(name, getattr(self, name), 0)
        for name in ("learning_rate", "weight_decay", "clip_norm"):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and 0 <= value < math.inf):
                raise InvalidValue(name, value, "a finite number >= 0")
        if self.optimiser not in ("adamw", "muon"):
            raise InvalidValue("optimiser", self.optimiser, "'adamw' or 'muon'")
        if self.precision not in ("float32", "bfloat16"):
            raise InvalidValue("precision", self.precision, "'float32' or 'bfloat16'")
        if len(self.betas) != 2 or not all(0 <= b < 1 for b in self.betas):
            raise InvalidValue("betas", self.betas, "two numbers in [0, 1)")
        if not 0 <= self.decay <= 1:
            raise InvalidValue("decay", self.decay, "a share of the steps, in [0, 1]")

    def rate(self, step: int) -> float:
        """The factor on the learning rates at ``step``, counted from 0."""
        rise = (step + 1) / max(1, self.warmup)
        falling = round(self.decay * self.steps)
        fall = (self.steps - step) / falling if falling else 1.0
        return min(1.0, rise, fall)

    def changed(self, **options: Any) -> Settings:
        """These settings with some replaced; a name that is none of them is refused."""
        known = [f.name for f in fields(self)]
        for name in options:
            if name not in known:
                raise UnknownName("training setting", name, known)
        return replace(self, **options)


def _whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidValue(name, value, f"a whole number >= {least}")
