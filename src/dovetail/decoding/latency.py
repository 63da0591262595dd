"""How long an answer takes: a model of latency, fitted to measurements, and the break-even length.

"Rethinking Model Efficiency: Multi-Agent Inference with Large Models", arXiv 2604.04929: latency = vision
encoder + prefill + output tokens x time per token, so that a large model with few output tokens can be faster
than a small one with many. The exact form of the paper's model could not be read; this one is ours.

    seconds = fixed + visual tokens * a + text tokens * b + output tokens * c + positions attended * d

The last term is the part of a decoding step that grows with what stands before it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dovetail.core import InvalidValue, Limits, Prompt
from dovetail.engine import Rows, Stepwise


@dataclass(frozen=True)
class LatencyProfile:
    """One measured setting; seconds are medians over the repeats, for a single sequence.

    Attributes:
        text_tokens, visual_tokens, output_tokens: read and written.
        prefill_s: until the first token can be chosen.
        total_s: all of it.
        vision_s: of the vision encoder, 0 for text.
    """

    text_tokens: int
    output_tokens: int
    total_s: float
    prefill_s: float = 0.0
    vision_s: float = 0.0
    visual_tokens: int = 0

    @property
    def decode_s_per_token(self) -> float:
        """Seconds per output token, prefill and vision encoder left out."""
        return (self.total_s - self.prefill_s - self.vision_s) / self.output_tokens


@dataclass(frozen=True)
class LatencyModel:
    """Seconds of one answer from what is read and written; linear in its four coefficients.

    Attributes:
        fixed_s: seconds per answer.
        text_s, visual_s, output_s: seconds per token.
        attended_s: seconds per position that an output token attends to (`attended`).
    """

    fixed_s: float
    text_s: float
    output_s: float
    visual_s: float = 0.0
    attended_s: float = 0.0

    def predict(self, text_tokens: float, output_tokens: float, visual_tokens: float = 0) -> float:
        """Seconds of an answer of this size."""
        read = self.fixed_s + text_tokens * self.text_s + visual_tokens * self.visual_s
        seen = attended(text_tokens + visual_tokens, output_tokens)
        return read + output_tokens * self.output_s + seen * self.attended_s

    def r_squared(self, profiles: Sequence[LatencyProfile]) -> float:
        """Share of the variance of the measured total seconds that the model explains (1 is all of it)."""
        measured = np.array([p.total_s for p in profiles])
        predicted = [self.predict(p.text_tokens, p.output_tokens, p.visual_tokens) for p in profiles]
        spread = float(((measured - measured.mean()) ** 2).sum())
        if not spread > 0:
            raise InvalidValue("profiles", len(profiles), "at least two of different seconds")
        return 1 - float(((measured - predicted) ** 2).sum()) / spread


def attended(read: float, written: float) -> float:
    """Positions that ``written`` tokens attend to, all together, after ``read`` others."""
    return written * read + written * (written - 1) / 2


def latency_profile(
    model: Any,
    text_tokens: int,
    output_tokens: int,
    *,
    repeats: int = 5,
    warmup: int = 2,
    seed: int = 0,
) -> LatencyProfile:
    """Measures one setting on random tokens; end tokens are ruled out, so exactly ``output_tokens`` come.

    Args:
        model: a local model, or its engine.
        repeats: runs of which the median counts, after ``warmup`` that do not.

    Raises:
        InvalidValue: a number below 1, or more tokens than the model's context; names it.
    """
    engine = getattr(model, "engine", model)
    for name, value in (
        ("text_tokens", text_tokens),
        ("output_tokens", output_tokens),
        ("repeats", repeats),
    ):
        if value < 1:
            raise InvalidValue(name, value, "at least 1")
    if text_tokens + output_tokens > engine.forward.max_positions:
        raise InvalidValue(
            "text_tokens + output_tokens",
            text_tokens + output_tokens,
            f"at most {engine.name}'s context of {engine.forward.max_positions}",
        )
    rng = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, engine.forward.vocab_size, (text_tokens,), generator=rng).tolist()
    prompt, limits, step = Prompt((), "", tuple(ids)), Limits(output_tokens), _Endless(engine.end_ids)
    totals, prefills = [], []
    for turn in range(warmup + repeats):
        begin = time.perf_counter()
        engine.begin([prompt], limits, step).logits.sum().item()  # the number is waited for: no queued work
        middle = time.perf_counter()
        [completion] = engine.generate([prompt], limits, step)
        end = time.perf_counter()
        assert len(completion.token_ids) == output_tokens
        if turn >= warmup:
            prefills.append(middle - begin)
            totals.append(end - middle)
    return LatencyProfile(text_tokens, output_tokens, median(totals), median(prefills))


def fit_latency_model(profiles: Sequence[LatencyProfile]) -> LatencyModel:
    """Least squares of relative errors, so that short answers count as much as long ones.

    What does not vary over the profiles is part of ``fixed_s``. The positions attended are told from the
    tokens written where there are more profiles than coefficients; a negative cost of them is none.

    Raises:
        InvalidValue: fewer than 3 profiles, seconds that are not positive (a bad clock), or output lengths
            that are all the same.
    """
    if len(profiles) < 3:
        raise InvalidValue("profiles", len(profiles), "at least 3")
    for i, p in enumerate(profiles):
        if not (math.isfinite(p.total_s) and p.total_s > 0):
            raise InvalidValue(f"profiles[{i}].total_s", p.total_s, "a positive number of seconds")
    names = {"text_s": "text_tokens", "output_s": "output_tokens", "visual_s": "visual_tokens"}
    sizes = {name: np.array([float(getattr(p, column)) for p in profiles]) for name, column in names.items()}
    varying = {name: size for name, size in sizes.items() if size.std() > 0}
    if "output_s" not in varying:
        raise InvalidValue("profiles", profiles[0].output_tokens, "of more than one output length")
    seconds = np.array([p.total_s for p in profiles])
    seen = np.array([attended(p.text_tokens + p.visual_tokens, p.output_tokens) for p in profiles])
    columns = {"fixed_s": np.ones(len(profiles)), **varying}

    def fitted(columns: Mapping[str, Any]) -> dict[str, float]:
        design = np.stack(list(columns.values()), 1) / seconds[:, None]
        found, *_, rank, _ = np.linalg.lstsq(design, np.ones(len(profiles)), rcond=None)
        return dict(zip(columns, map(float, found), strict=True)) if rank == len(columns) else {}

    values = fitted({**columns, "attended_s": seen}) if len(profiles) > len(columns) + 1 else {}
    if values.get("attended_s", -1.0) < 0:
        values = fitted(columns)
    if not values:
        raise InvalidValue("profiles", len(profiles), "settings that vary one by one")
    return LatencyModel(**(dict.fromkeys((f.name for f in fields(LatencyModel)), 0.0) | values))


def break_even_tokens(
    small: LatencyModel,
    large: LatencyModel,
    large_output_tokens: int,
    text_tokens: int,
    visual_tokens: int = 0,
) -> int:
    """The fewest output tokens of the small model at which the large one with its few is the faster.

    large(n_L) < small(n_S); the small model's seconds are a linear or quadratic function of n_S.
    """
    # Seconds of the n-th token: output_s + attended_s * (what was read + n - 1).
    each = small.output_s + small.attended_s * (text_tokens + visual_tokens - 0.5)
    if not small.output_s > 0 or small.attended_s < 0:
        raise InvalidValue("small.output_s", small.output_s, "> 0, and attended_s >= 0")
    large_s = large.predict(text_tokens, large_output_tokens, visual_tokens)
    left = large_s - small.predict(text_tokens, 0, visual_tokens)
    if left <= 0:
        return 1
    # The positive root of attended_s / 2 * n^2 + each * n = left, in the form that also holds for 0.
    n = 2 * left / (each + math.sqrt(each * each + 2 * small.attended_s * left))
    return max(1, math.floor(n) + 1)


class _Endless(Stepwise):
    """Greedy that never ends."""

    def __init__(self, end_ids: Sequence[int]) -> None:
        self.end_ids = list(end_ids)

    def adjust(self, logits: Tensor, rows: Rows) -> Tensor:
        if not self.end_ids:
            return logits
        ends = torch.tensor(self.end_ids, device=logits.device)
        return logits.index_fill(1, ends, -math.inf)
