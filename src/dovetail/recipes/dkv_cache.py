"""dKV-Cache on pico-mdlm: the same text at half of the work?

Without cache, with half of the steps and with the cache a masked diffusion model answers the same questions
from the same streams. Accuracy is measured with blocks behind the end left out, which changes no text; speed
with the whole canvas written, in rounds in which every arm takes its turn. The refresh interval, and the
block length of the arms in random order (the baseline's best), are chosen on questions of another seed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dovetail.core import Claim, Example, Figure, Limits, Task
from dovetail.core.seeds import stream
from dovetail.core.statistics import mean, paired_difference, paired_ratio, wilson
from dovetail.decoding import DelayedKVCache, Diffusion
from dovetail.models.local import LocalModel
from dovetail.recipes.base import RecipeArm, RecipeResult, Scale

CANVAS = 128
TUNED_INTERVALS = (8, 16, 32)
TUNED_BLOCKS = (4, 8, 16)


@dataclass(frozen=True)
class Size:
    """Examples of the main arms, of the others and for tuning; rounds and rows of the timing."""

    examples: int
    others: int
    tuning: int
    rounds: int
    rows: int
    canvas: int = CANVAS


SIZES: dict[Scale, Size] = {
    "smoke": Size(4, 2, 2, 1, 2, canvas=64),
    "pico": Size(256, 96, 96, 6, 8),
    "full": Size(1319, 1319, 128, 16, 8),
}
MAIN = ("no cache", "half steps", "decode")


def run(scale: Scale = "pico", seed: int = 0) -> RecipeResult:
    """Decode and greedy against no cache and half steps, the delay left out as ablation."""
    from dovetail.models import load

    size = SIZES[scale]
    model = load("pico-mdlm", device="cpu")
    assert isinstance(model, LocalModel)
    task, examples = questions(size.examples, seed)
    _, held = questions(size.tuning, seed + 1)
    arms, tuned = tune(model, task, held, size, seed)
    right: dict[str, list[float]] = {}
    for name, arm in arms.items():
        asked = examples if name in MAIN else examples[: size.others]
        right[name] = accuracy(model, task, arm, asked, size, seed)
    seconds, computed = speed(model, arms, examples, size, seed)
    return RecipeResult(
        [_arm(name, arm, right[name], seconds[name], computed[name], size) for name, arm in arms.items()],
        claims(right, seconds, computed, seed),
        seeds=[seed, seed + 1],
        settings={
            "model": model.describe(),
            "task": task.name,
            "examples": {name: len(values) for name, values in right.items()},
            "canvas": size.canvas,
            "timing": {"rounds": size.rounds, "rows": size.rows, "threads": 1},
            "tuning": tuned,
        },
        notes=[
            "pico-mdlm (1.15M parameters, adapted from pico as Dream is from Qwen2.5) stands in for LLaDA-8B "
            "and Dream-7B: trained on sums of the same kind; the questions asked are the sixteenth that "
            "training never sees.",
            "Its head is shifted, so decode caches a position when its own and the next token are committed "
            "(the paper's un_right). Cached with the next token alone (un, the paper's choice for Dream-7B), "
            "a position whose own token comes later keeps the mask's keys and values: that arm shows the "
            "price.",
            "Speed is that of the whole canvas, end tokens included, as the paper counts it. Where blocks "
            "behind the end are left out, fewer positions are saved: most of the canvas is still masked.",
            "Logits are computed for the positions that a step can commit only, in every arm.",
        ],
    )


def questions(count: int, seed: int) -> tuple[Task, list[Example]]:
    """Sums of three to five terms of one digit, of those that training never sees."""
    from dovetail.tasks import task as named
    from dovetail.training.pico.corpus import held_out

    task = named("chain-sum", min_terms=3, max_terms=5, min_digits=1, max_digits=1)
    drawn, _ = task.examples(count * 24, seed)
    return task, [e for e in drawn if held_out(e.messages[-1].content)][:count]


def tune(
    model: LocalModel, task: Task, held: Sequence[Example], size: Size, seed: int
) -> tuple[dict[str, Diffusion], dict[str, Any]]:
    """The arms, and what was tried on ``held``: the most accurate refresh interval (the longest of equals)
    and the block length at which the baseline in random order is best."""

    def score(arm: Diffusion) -> float:
        values = accuracy(model, task, arm, held, size, seed)
        return sum(values) / len(values)

    plain = score(Diffusion())
    intervals = {n: score(DelayedKVCache(refresh_interval=n, shifted="both")) for n in TUNED_INTERVALS}
    interval = max(intervals, key=lambda n: (intervals[n], n))
    blocks = {b: score(Diffusion(remasking="random", block_length=b)) for b in TUNED_BLOCKS}
    block = max(blocks, key=lambda b: (blocks[b], b))
    random = Diffusion(remasking="random", block_length=block)
    greedy = DelayedKVCache(variant="greedy", remasking="random", block_length=block, shifted="both")
    arms = {
        "no cache": Diffusion(),
        "half steps": Diffusion(steps=size.canvas // 2),
        "decode": DelayedKVCache(refresh_interval=interval, shifted="both"),
        "decode, cached with the next token": DelayedKVCache(refresh_interval=interval),
        "decode, no delay": DelayedKVCache(refresh_interval=interval, delay=0, shifted="both"),
        "random order": random,
        "random order, half steps": replace(random, steps=size.canvas // 2),
        "greedy": greedy,
        "greedy, window 4": replace(greedy, window=4),
    }
    tried = {"no cache": plain, "refresh_interval": intervals, "random block_length": blocks}
    return arms, {"chosen": {"refresh_interval": interval, "random block_length": block}, "accuracy": tried}


def accuracy(
    model: LocalModel, task: Task, arm: Diffusion, examples: Sequence[Example], size: Size, seed: int
) -> list[float]:
    """1 for each question answered right, else 0."""
    prompts = [model.prompt(e.messages, seed=stream(seed, "dkv-cache", e.id)) for e in examples]
    completions = arm.generate(model.engine, prompts, Limits(size.canvas))
    return [task.scorer(e, c).value for e, c in zip(examples, completions, strict=True)]


def speed(
    model: LocalModel, arms: Mapping[str, Diffusion], examples: Sequence[Example], size: Size, seed: int
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Per arm: seconds of each round, and the share of positions computed. One thread, whole canvases."""
    import torch

    prompts = [model.prompt(e.messages, seed=stream(seed, "dkv-cache", e.id)) for e in examples]
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    shares: dict[str, float] = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for turn in range(size.rounds):
            rows = [prompts[(turn * size.rows + i) % len(prompts)] for i in range(size.rows)]
            for name, arm in arms.items():
                begin = time.perf_counter()
                done = replace(arm, stop_at_end=False).generate(model.engine, rows, Limits(size.canvas))
                seconds[name].append(time.perf_counter() - begin)
                shares[name] = 1 - sum(c.columns["cache_ratio"] for c in done) / len(done)
    finally:
        torch.set_num_threads(threads)
    return seconds, shares


def claims(
    right: Mapping[str, Sequence[float]],
    seconds: Mapping[str, Sequence[float]],
    computed: Mapping[str, float],
    seed: int,
) -> list[Claim]:
    """The paper's statements about decode and greedy, and about the delay."""

    def faster(text: str, paper: str, arm: str, than: str, main: bool = False) -> Claim:
        ratio = paired_ratio(seconds[than], seconds[arm], seed=seed)
        return Claim(text, paper, ratio.value, ratio.interval, at_least=2.0, main=main)

    def better(text: str, paper: str, arm: str, than: str, **bound: Any) -> Claim:
        n = min(len(right[arm]), len(right[than]))
        values, base = right[arm][:n], right[than][:n]
        gap = paired_difference(values, base, scale=1.0, seed=seed)
        return Claim(text, paper, gap.value, gap.interval, baseline=sum(base) / n, **bound)

    share = computed["decode"]
    return [
        faster(
            "Decode writes at least twice as many tokens a second as no cache (128 tokens, 8 rows)",
            "1.8 to 2.4 times, LLaDA-8B",
            "decode",
            "no cache",
            main=True,
        ),
        better(
            "Decode is within 2 points of no cache",
            "77.56 to 78.85 on GSM8K",
            "decode",
            "no cache",
            at_least=-0.02,
            main=True,
        ),
        better(
            "Decode is at least as accurate as half of the steps, at about the same work",
            "HumanEval 46.34 against 33.54, GSM8K 78.85 against 77.91",
            "decode",
            "half steps",
            at_least=0.0,
        ),
        Claim(
            "Decode sends at most half of the positions through the layers",
            "cache ratio up to 0.5 at full steps",
            share,
            (share, share),
            at_most=0.5,
        ),
        better(
            "without the delay at least 10 points are lost",
            "accuracy near zero at high cache ratios (Figure 3)",
            "decode, no delay",
            "decode",
            at_most=-0.10,
        ),
        faster(
            "Greedy with window 4 writes at least twice as many tokens a second as its order without cache",
            "1.6 times on GSM8K",
            "greedy, window 4",
            "random order",
        ),
        better(
            "Greedy with window 4 is within 5 points of its order without cache",
            "72.25 to 68.23 on GSM8K",
            "greedy, window 4",
            "random order",
            at_least=-0.05,
        ),
    ]


def _arm(
    name: str, arm: Diffusion, right: Sequence[float], seconds: Sequence[float], share: float, size: Size
) -> RecipeArm:
    from dovetail.comparison.arms import name_of

    figures: dict[str, Figure | float] = {
        "accuracy": wilson(sum(right), len(right)),
        "tokens_per_second": mean([size.rows * size.canvas / s for s in seconds]),
        "positions_computed": share,
    }
    return RecipeArm(name, figures, name_of(arm))
