"""Mixture of Inputs: what the mixture does to the next step, by how unsure the model was; and accuracy.

The mechanism is measured where it acts: at every step of standard decoding, the next distribution is computed
once with the plain token as input and once with each mixture, and the two are compared in nats. Accuracy is
beside sampling with the same filters; beta is chosen on other questions than the reported ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from dovetail.core import Claim, Example, Figure, Limits, Task
from dovetail.core.statistics import paired_ratio
from dovetail.decoding import MixtureOfInputs, Sampling, describe
from dovetail.decoding.mixture_of_inputs import moi_weights
from dovetail.engine import Choice
from dovetail.models.local import LocalModel
from dovetail.recipes.base import RecipeArm, RecipeResult, Scale
from dovetail.recipes.measure import (
    accuracy_claim,
    answer,
    differing,
    exact,
    overhead_claim,
    step_seconds,
)

# The paper's filters, which are also MixtureOfInputs' defaults.
STANDARD = Sampling(temperature=0.6, top_p=0.95)
BETAS = (0.5, 1.0, 2.0, 8.0)
BINS = (0.0, 0.01, 0.1, 0.3, 0.6, math.inf)  # nats of the distribution that the token came from
KL_BETAS = (0.5, 1.0, 4.0)


@dataclass(frozen=True)
class Size:
    """Examples of the report and of the choice of beta; samples per arm; rows whose steps are compared."""

    examples: int
    tuning: int
    samples: int
    rows: int
    steps: int
    rounds: int


SIZES: dict[Scale, Size] = {
    "smoke": Size(examples=4, tuning=2, samples=1, rows=4, steps=8, rounds=1),
    "pico": Size(examples=300, tuning=60, samples=2, rows=96, steps=40, rounds=12),
    "full": Size(examples=500, tuning=100, samples=5, rows=64, steps=200, rounds=12),
}

TASKS: dict[Scale, tuple[str, ...]] = {
    "smoke": ("chain-sum",),
    "pico": ("chain-sum", "atlas-multihop", "countdown"),
    "full": ("gsm8k",),
}


def run(scale: Scale = "pico", seed: int = 0) -> RecipeResult:
    """Measures Mixture of Inputs; at scale ``full`` with the paper's QwQ-32B on GSM8K."""
    from dovetail.models import load
    from dovetail.tasks import task as named

    size = SIZES[scale]
    model = load("Qwen/QwQ-32B", dtype="bfloat16") if scale == "full" else load("pico", device="cpu")
    assert isinstance(model, LocalModel)
    arms: list[RecipeArm] = []
    claims: list[Claim] = []
    chosen: dict[str, float] = {}
    tasks = [named(name) for name in TASKS[scale]]
    for task in tasks:
        tuning, _ = task.examples(size.tuning, seed + 1)
        tried = {beta: answer(model, task, tuning, MixtureOfInputs(beta), seed + 1) for beta in BETAS}
        chosen[task.name] = beta = max(BETAS, key=lambda b: sum(tried[b].right))
        examples, _ = task.examples(size.examples if task is tasks[0] else size.examples // 4, seed)
        methods = {
            "sampling": STANDARD,
            "mixture of inputs": MixtureOfInputs(beta),
            "direct mixture": MixtureOfInputs(mode="direct"),
        }
        found = {
            label: answer(model, task, examples, method, seed, samples=size.samples)
            for label, method in methods.items()
        }
        arms += [found[label].arm(f"{task.name}: {label}", _described(label, beta)) for label in methods]
        claims += [
            accuracy_claim(
                f"on {task.name}, at most 3 points below sampling with the same filters",
                "-0.2 to +6.7 points, +1.8 on average (27B to 49B)",
                found["mixture of inputs"],
                found["sampling"],
                at_least=-0.03,
                seed=seed,
                main=task is tasks[0],
            ),
            accuracy_claim(
                f"on {task.name}, at least as accurate as feeding back the distribution alone",
                "+0.3 to +13.2 points",
                found["mixture of inputs"],
                found["direct mixture"],
                at_least=0.0,
                seed=seed,
            ),
        ]
    examples, _ = tasks[0].examples(max(size.rows, size.examples), seed)
    claims += [limit(model, tasks[0], examples, seed), overhead(model, examples, size.rounds)]
    kl, entropy = divergences(model, examples[: size.rows], size.steps, seed)
    more, checked, series = mechanism(kl, entropy, seed)
    return RecipeResult(
        [*arms, *more],
        [*checked, *claims],
        seeds=[seed, seed + 1],
        settings={
            "model": model.describe(),
            "examples": size.examples,
            "samples": size.samples,
            "sampling": describe(STANDARD),
            "beta": chosen,
            "betas tried": list(BETAS),
        },
        notes=[
            f"Seed {seed + 1} chose beta ({size.tuning} questions per task); seed {seed} is reported.",
            "KL is of the next distribution after the mixture from the one after the plain token, at "
            "temperature 1, in nats; entropies are at the sampling temperature.",
        ],
        series=series,
    )


def limit(model: LocalModel, task: Task, examples: Sequence[Example], seed: int) -> Claim:
    """A huge beta still mixes; infinity would be plain sampling by construction."""
    plain = answer(model, task, examples, STANDARD, seed)
    huge = answer(model, task, examples, MixtureOfInputs(1e9), seed)
    text = f"beta = 1e9 is standard decoding, token for token (of {len(examples)} answers, that differ)"
    return exact(text, differing(huge, plain), main=True)


@torch.inference_mode()
def divergences(
    model: LocalModel, examples: Sequence[Example], steps: int, seed: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """KL in nats by input, and entropy, [rows, steps] each; NaN where a row had ended.

    Standard decoding goes on with the plain token; every mixture is read into the same cache and taken out.
    """
    engine, plain = model.engine, MixtureOfInputs(mode="standard")
    prompts = [model.prompt(e.messages, seed=seed + i) for i, e in enumerate(examples)]
    batch = engine.begin(prompts, Limits(steps), plain)
    inputs = [*(f"beta = {b:g}" for b in KL_BETAS), "direct mixture"]
    kl = {name: np.full((len(prompts), steps), np.nan) for name in inputs}
    entropy = np.full((len(prompts), steps), np.nan)
    alive = np.ones(len(prompts), dtype=bool)
    for t in range(steps):
        probs = torch.softmax(batch.logits / STANDARD.temperature, -1)
        tokens = engine.choose(batch, plain).tokens
        alive &= ~np.isin(tokens.cpu().numpy(), engine.end_ids)
        entropy[alive, t] = torch.special.entr(probs).sum(-1).cpu().numpy()[alive]
        start = batch.cache.positions.clone()
        after: dict[str, torch.Tensor] = {}
        weights = [*(moi_weights(probs, tokens, b) for b in KL_BETAS), probs]
        for name, mixed in zip(inputs, weights, strict=True):
            engine.feed(batch, Choice(tokens, mixed))
            after[name] = batch.logits.log_softmax(-1)
            batch.cache.crop(start)
        engine.feed(batch, Choice(tokens))
        standard = batch.logits.log_softmax(-1)
        for name, logprobs in after.items():
            step = (logprobs.exp() * (logprobs - standard)).sum(-1).clamp(min=0)
            kl[name][alive, t] = step.cpu().numpy()[alive]
    return kl, entropy


def mechanism(
    kl: Mapping[str, np.ndarray], entropy: np.ndarray, seed: int
) -> tuple[list[RecipeArm], list[Claim], dict[str, object]]:
    """KL by entropy bin; rows are the independent units that intervals are over."""
    names = [f"{low:g} to {high:g} nats" for low, high in pairwise(BINS)]
    places = [(entropy >= low) & (entropy < high) for low, high in pairwise(BINS)]  # NaN is in none
    table = {
        label: [float(of[place].mean()) if place.any() else math.nan for place in places]
        for label, of in kl.items()
    }
    arms = [
        RecipeArm(f"KL, {label}", dict(zip(names, means, strict=True)), "mean over steps, by their entropy")
        for label, means in table.items()
    ]
    one, sure, unsure = kl["beta = 1"], places[0], places[-1]
    both = sure.any(1) & unsure.any(1)
    quiet, loud = means(one[both], sure[both]), means(one[both], unsure[both])
    growth = paired_ratio(loud, quiet, seed=seed) if sum(quiet) else Figure(math.nan, (math.nan, math.nan))
    falling = paired_ratio(np.nansum(kl["beta = 4"], 1), np.nansum(kl["beta = 0.5"], 1), seed=seed)
    claims = [
        Claim(
            "where the model is unsure (above 0.6 nats), the mixture moves the next step at least 100 times "
            "as far as where it is sure (below 0.01)",
            "the more of the distribution leaks in, the less sure the model is",
            growth.value,
            growth.interval,
            1.0,
            at_least=100.0,
            main=True,
        ),
        Claim(
            "beta = 4 moves the next steps at most half as far as beta = 0.5",
            "a larger beta is nearer to standard decoding",
            falling.value,
            falling.interval,
            1.0,
            at_most=0.5,
        ),
    ]
    return arms, claims, {"kl_by_entropy": {"x": names, **table}}


def means(values: np.ndarray, where: np.ndarray) -> list[float]:
    """Per row, the mean of its steps in ``where``, of which it has some."""
    return [float(v[w].mean()) for v, w in zip(values, where, strict=True)]


def overhead(model: LocalModel, examples: Sequence[Example], rounds: int) -> Claim:
    """Seconds of a step at batch 16, beside sampling with the same filters."""
    prompts = [model.prompt(e.messages, seed=i) for i, e in enumerate(examples[:16])]
    methods = {"sampling": STANDARD, "moi": MixtureOfInputs()}
    taken = step_seconds(model, methods, prompts, rounds=rounds)
    text = "a token takes at most 1.1 times as long as a sampled one (batch 16)"
    return overhead_claim(text, "1.02 to 1.04", taken, "moi", "sampling", 1.1)


def _described(label: str, beta: float) -> str:
    return f"beta {beta:g}" if label == "mixture of inputs" else label
