"""Reasoning transfer: does a small model's reasoning make a large one's short answers right, and how soon?

The small model is pico. pico-draft, with its single layer, hardly reasons at all, so the large model is made
here: a copy of pico that has practised sums, with three further layers behind each of its own. These begin by
changing nothing, so the large model knows what it practised more than pico does, and is as slow as 24 layers
are. Seconds are of questions asked one at a time, every arm in turn on each.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from dovetail.core import Claim, Completion, Example, Figure, Limits, Task
from dovetail.core.seeds import stream
from dovetail.core.statistics import mean, paired_ratio
from dovetail.decoding import Decoding, Greedy, ReasoningTransfer
from dovetail.decoding.latency import (
    LatencyModel,
    LatencyProfile,
    break_even_tokens,
    fit_latency_model,
    latency_profile,
)
from dovetail.models.local import LocalModel
from dovetail.recipes import questions
from dovetail.recipes.base import RecipeArm, RecipeResult, Scale
from dovetail.recipes.finetune import finetune
from dovetail.recipes.grown import grown
from dovetail.recipes.measure import Answers, accuracy_claim, answer, differing, exact
from dovetail.tasks.atlas import World
from dovetail.training.pico.corpus import Document, held_out

LIMITS = Limits(max_new_tokens=200)
FAMILIES = ("two terms", "chain-sum", "chain-sum")
THRESHOLDS = (0.5, 0.8, 0.95)
PAPER = "approaches the large model's own reasoning, up to 8x faster (summaries; tables not available)"
TEXT = 64  # tokens read, where break-even is looked for


@dataclass(frozen=True)
class Size:
    """Questions that are reported, that choose, that are timed; steps of practice, 64 documents each; layers
    of the large model for one of pico's; repeats of a latency profile; rounds of the search for break-even;
    output lengths that the latency model is fitted to and checked on."""

    examples: int
    tuning: int
    timed: int
    steps: int
    times: int
    repeats: int
    rounds: int
    fitted: tuple[int, ...] = (1, 4, 16, 48, 128)
    checked: tuple[int, ...] = (2, 8, 32, 96, 200)


SIZES: dict[Scale, Size] = {
    "smoke": Size(
        examples=6,
        tuning=3,
        timed=2,
        steps=1,
        times=2,
        repeats=1,
        rounds=1,
        fitted=(1, 4, 12),
        checked=(2, 8, 16),
    ),
    "pico": Size(examples=250, tuning=40, timed=24, steps=30, times=4, repeats=9, rounds=2),
    "full": Size(examples=3000, tuning=300, timed=300, steps=1000, times=4, repeats=9, rounds=9),
}


def run(scale: Scale = "pico", seed: int = 0) -> RecipeResult:
    """Measures both halves of the paper: the latency model, and the transfer."""
    from dovetail.models import load

    size = SIZES[scale]
    small, draft = load("pico", device="cpu"), load("pico-draft", device="cpu")
    assert isinstance(small, LocalModel)
    assert isinstance(draft, LocalModel)
    large = grown(practised(small, size.steps, seed), size.times, f"pico x {size.times} (practised)")
    latency_arms, latency_claims, series = latency(small, large, size, seed)
    task = questions.task(FAMILIES, fold=0)
    tuning, _ = questions.task(FAMILIES, fold=1).examples(size.tuning, seed + 1)
    examples, _ = task.examples(size.examples, seed)
    arms = policies(small, draft, large, choose_threshold(small, draft, large, task, tuning, seed + 1))
    found = play(arms, task, examples, size, seed)
    return RecipeResult(
        [*latency_arms, *(arm(name, arms[name], found[name]) for name in arms)],
        [*latency_claims, *transfer_claims(found, seed)],
        seeds=[seed, seed + 1],
        settings={
            "small": small.describe(),
            "large": large.describe(),
            "families": FAMILIES,
            "examples": len(examples),
            "timed": size.timed,
            "confidence_threshold": arms["confidence"].decoding.threshold,
        },
        notes=[
            f"The large model is pico after {64 * size.steps} sums of practice, half of them answered "
            f"directly, with {size.times - 1} further layers behind each of its own that change nothing. It "
            "stands for a slower model that knows a little more; what a truly larger one adds is not shown.",
            "For the same reason the small model's reasoning alone is the cheapest good arm; the paper's "
            "large models answer better than its small ones do, with the same reasoning.",
            f"Seconds are of {size.timed} questions asked one at a time.",
            f"The threshold of `confidence` was chosen on {size.tuning} other questions.",
            "R2 and break-even are measured on lengths that the latency model was not fitted to.",
        ],
        series=series,
    )


# --- the large model ---------------------------------------------------------------------------------


def practised(pico: LocalModel, steps: int, seed: int) -> LocalModel:
    """A copy that has practised sums, half of them reasoned, half answered directly."""
    rng, world = random.Random(f"reasoning-transfer-{seed}"), World(seed=0)
    documents: list[Document] = []
    while len(documents) < steps * 64:
        made = questions.make(rng, rng.choice(FAMILIES), world)
        if not held_out(made.question):
            thinking = rng.random() < 0.5
            thought = f"<think>\n{made.reasoning}\n</think>\n\n" if thinking else ""
            asked = ({"role": "user", "content": made.question},)
            documents.append(Document(asked, f"{thought}\\boxed{{{made.answer}}}", thinking, made.family))
    return finetune(
        pico, documents, steps, seed=seed, rate=0.3, documents_per_step=64, micro_batches_per_step=4
    )


# --- latency ----------------------------------------------------------------------------------------


def latency(
    small: LocalModel, large: LocalModel, size: Size, seed: int
) -> tuple[list[RecipeArm], list[Claim], dict[str, object]]:
    """Fits both models' latency, tests it on other lengths, and looks for break-even where it predicts it."""
    arms: list[RecipeArm] = []
    claims: list[Claim] = []
    series: dict[str, object] = {}
    fitted: dict[str, LatencyModel] = {}
    models = {"small": small, "large": large}
    pairs = zip(product((24, 96), size.fitted), product((48, 160), size.checked), strict=True)
    settings = [setting for pair in pairs for setting in pair]
    found = profiles([(model, *setting) for setting in settings for model in models.values()], size.repeats)
    taken = {name: found[place :: len(models)] for place, name in enumerate(models)}
    checked = {name: own[1::2] for name, own in taken.items()}
    for name, tested in checked.items():
        fitted[name] = fit_latency_model(taken[name][::2])
        r2 = r_squared(fitted[name], tested, seed)
        arms.append(RecipeArm(f"latency: {name}", {**coefficients(fitted[name]), "r_squared": r2}, "batch 1"))
        claims.append(
            Claim(
                f"the latency model explains at least 95% of the variance of the {name} model's seconds",
                "none in what could be read",
                r2.value,
                r2.interval,
                at_least=0.95,
                main=True,
            )
        )
        series[f"latency_{name}"] = {
            "text_tokens": [p.text_tokens for p in tested],
            "output_tokens": [p.output_tokens for p in tested],
            "measured_s": [p.total_s for p in tested],
            "predicted_s": [fitted[name].predict(p.text_tokens, p.output_tokens) for p in tested],
        }
    rows = [
        {"large_tokens": n, **break_even(small, large, fitted, n, size)}
        for n in (4, 8, 16, 32)[: 2 * size.rounds]
        for _ in range(size.rounds)
    ]
    errors = mean([abs(row["predicted"] / row["measured"] - 1) for row in rows], seed=seed)
    series["break_even"] = {key: [row[key] for row in rows] for key in rows[0]}
    claims.append(
        Claim(
            "the break-even length of the small model is predicted within 20%",
            "a large model with few output tokens can be faster than a small one with many",
            errors.value,
            errors.interval,
            at_most=0.2,
            main=True,
        )
    )
    return arms, claims, series


def profiles(jobs: Sequence[tuple[LocalModel, int, int]], rounds: int) -> list[LatencyProfile]:
    """Of every job (model, text tokens, output tokens) the median of the rounds.

    A round takes every job once: a slow spell of the machine then falls on all of them, and not on one.
    """
    taken: list[list[LatencyProfile]] = [[] for _ in jobs]
    for turn in range(rounds):
        for own, (model, text, output) in zip(taken, jobs, strict=True):
            own.append(latency_profile(model, text, output, repeats=1, warmup=0 if turn else 1))
    return [_median(own) for own in taken]


def _median(of: Sequence[LatencyProfile]) -> LatencyProfile:
    total, prefill = (float(np.median([getattr(p, n) for p in of])) for n in ("total_s", "prefill_s"))
    return replace(of[0], total_s=total, prefill_s=prefill)


def coefficients(fitted: LatencyModel) -> dict[str, Figure | float]:
    """In milliseconds."""
    return {
        "fixed_ms": 1e3 * fitted.fixed_s,
        "ms_per_text_token": 1e3 * fitted.text_s,
        "ms_per_output_token": 1e3 * fitted.output_s,
        "ms_per_position_attended": 1e3 * fitted.attended_s,
    }


def r_squared(fitted: LatencyModel, tested: Sequence[LatencyProfile], seed: int) -> Figure:
    """R2 on ``tested``, with a bootstrap interval over its profiles."""
    rng = np.random.default_rng(seed)
    drawn = []
    for index in rng.integers(0, len(tested), (2000, len(tested))):
        chosen = [tested[i] for i in index]
        if len({p.total_s for p in chosen}) > 1:
            drawn.append(fitted.r_squared(chosen))
    low, high = np.quantile(drawn, (0.025, 0.975))
    value = fitted.r_squared(tested)
    return Figure(value, (min(float(low), value), max(float(high), value)))


def break_even(
    small: LocalModel, large: LocalModel, fitted: Mapping[str, LatencyModel], tokens: int, size: Size
) -> dict[str, float]:
    """Predicted and measured: the small model is timed at lengths around the predicted one, and the length
    at which it takes as long as the large one with ``tokens`` is read off between them."""
    predicted = break_even_tokens(fitted["small"], fitted["large"], tokens, TEXT)
    lengths = sorted({max(1, round(predicted * f)) for f in (0.5, 0.75, 1.0, 1.25, 1.5)})
    jobs = [(large, TEXT, tokens), *((small, TEXT, n) for n in lengths)]
    target, *taken = (p.total_s for p in profiles(jobs, size.repeats))
    # seconds must rise for interpolation; a length beyond the last counts as the last: an error of 50%
    return {
        "predicted": float(predicted),
        "measured": float(np.interp(target, np.maximum.accumulate(taken), lengths)),
    }


# --- transfer ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contestant:
    """One arm: who decodes, how, and in which thinking mode."""

    model: LocalModel
    decoding: Decoding
    thinking: bool
    description: str

    def write(self, examples: Sequence[Example], seed: int) -> tuple[list[Completion], float]:
        """Completions, and the seconds that decoding took."""
        prompts = [
            self.model.prompt(e.messages, thinking=self.thinking, seed=stream(seed, e.id)) for e in examples
        ]
        begin = time.perf_counter()
        completions = self.decoding.generate(self.model.engine, prompts, LIMITS)
        return completions, time.perf_counter() - begin


def policies(
    small: LocalModel, draft: LocalModel, large: LocalModel, threshold: float
) -> dict[str, Contestant]:
    def transfer(policy: str, by: LocalModel = small, **options: float) -> ReasoningTransfer:
        return ReasoningTransfer(by, policy, **options)

    alone = {
        f"{name} {mode}": Contestant(model, Greedy(), thinking, f"the {name} model alone, {how}")
        for name, model in (("small", small), ("large", large))
        for mode, thinking, how in (("simple", False, "answering directly"), ("reasoning", True, "reasoning"))
    }
    together = {
        "never transfer": (transfer("never_transfer"), "the large model's short answer"),
        "always transfer": (transfer("always_transfer"), "a short answer after the small model's thought"),
        "mutual verification": (transfer("mutual_verification"), "transfer where short answers differ"),
        "confidence": (
            transfer("confidence", threshold=threshold),
            "transfer where the large model's short answer is unsure",
        ),
        "always, from pico-draft": (transfer("always_transfer", draft), "pico-draft's thought instead"),
    }
    return alone | {n: Contestant(large, decoding, True, how) for n, (decoding, how) in together.items()}


def choose_threshold(
    small: LocalModel,
    draft: LocalModel,
    large: LocalModel,
    task: Task,
    tuning: Sequence[Example],
    seed: int,
) -> float:
    """The lowest threshold, so with the fewest transfers, within half a point of the best one."""
    scores = {}
    for threshold in THRESHOLDS:
        decoding = policies(small, draft, large, threshold)["confidence"].decoding
        scores[threshold] = mean(answer(large, task, tuning, decoding, seed, limits=LIMITS).right).value
    return min(t for t, score in scores.items() if score >= max(scores.values()) - 0.005)


@dataclass(frozen=True)
class Played:
    """What an arm did: its answers to all questions, and the seconds of questions asked one at a time."""

    answers: Answers
    seconds: Sequence[float]


def play(
    arms: Mapping[str, Contestant], task: Task, examples: Sequence[Example], size: Size, seed: int
) -> dict[str, Played]:
    """All arms on all questions; then one question after the other, every arm in turn on each, so that a
    machine that slows down slows all of them."""
    answers = {}
    for name, one in arms.items():
        written, _ = one.write(examples, seed)
        scores = [task.scorer(e, c) for e, c in zip(examples, written, strict=True)]
        answers[name] = Answers([written], [scores], one.model.engine.think_end)
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for example in examples[: size.timed]:
        for name, one in arms.items():
            seconds[name].append(one.write([example], seed)[1])
    return {name: Played(answers[name], seconds[name]) for name in arms}


def arm(name: str, one: Contestant, played: Played) -> RecipeArm:
    answers = played.answers
    figures = {**answers.figures(), "seconds": mean(played.seconds)}
    figures.pop("thinking_tokens")
    if isinstance(one.decoding, ReasoningTransfer):
        figures["transferred"] = mean(answers.each(lambda c: float(c.columns["route"] == "transfer")))
        figures["tokens_large"] = mean(answers.each(lambda c: float(c.columns["tokens_large"])))
        figures["tokens_small"] = mean(answers.each(lambda c: float(c.columns["tokens_small"])))
    return RecipeArm(name, figures, one.description)


def transfer_claims(found: Mapping[str, Played], seed: int) -> list[Claim]:
    def accuracy(text: str, one: str, other: str, at_least: float, main: bool = False) -> Claim:
        return accuracy_claim(
            text, PAPER, found[one].answers, found[other].answers, at_least=at_least, seed=seed, main=main
        )

    def seconds(text: str, one: str, other: str, at_most: float) -> Claim:
        ratio = paired_ratio(found[one].seconds, found[other].seconds, seed=seed)
        base = mean(found[other].seconds).value
        return Claim(text, PAPER, ratio.value, ratio.interval, base, at_most=at_most)

    always, mutual, own, direct = "always transfer", "mutual verification", "large reasoning", "large simple"
    same = differing(found["never transfer"].answers, found[direct].answers)
    return [
        accuracy(
            "always transfer is at least 5 points above the large model's direct answers",
            always,
            direct,
            0.05,
            True,
        ),
        accuracy(
            "always transfer is at most 2 points below the large model's own reasoning", always, own, -0.02
        ),
        accuracy(
            "always transfer is at most 1 point below the small model's reasoning alone",
            always,
            "small reasoning",
            -0.01,
        ),
        seconds(
            "always transfer takes at most half of the seconds of the large model's reasoning",
            always,
            own,
            0.5,
        ),
        accuracy(
            "mutual verification is at least 5 points above the large model's direct answers",
            mutual,
            direct,
            0.05,
            True,
        ),
        accuracy("mutual verification is at most 2 points below always transfer", mutual, always, -0.02),
        seconds("mutual verification takes no more seconds than always transfer", mutual, always, 1.0),
        seconds(
            "mutual verification takes at most half of the seconds of the large model's reasoning",
            mutual,
            own,
            0.5,
        ),
        exact("never transfer is the large model's direct answer, token for token", same),
    ]
