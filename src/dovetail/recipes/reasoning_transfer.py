"""Reasoning transfer: does a small model's reasoning make a large one's short answers right, and how soon?

The large model is pico, the small one pico-draft, both as they are shipped. Where pico-draft can reason at
all is found on other questions: the families in which its reasoning is right more often than pico's direct
answer. Every arm answers a batch of questions before the next batch comes, so that seconds can be compared.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
from dovetail.recipes.measure import Answers, accuracy_claim, answer, differing, exact

LIMITS = Limits(max_new_tokens=200)
THRESHOLDS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
PAPER = "approaches the large model's own reasoning, up to 8x faster (summaries; tables not available)"
TEXT = 64  # tokens read, where break-even is looked for


@dataclass(frozen=True)
class Size:
    """Questions per family that are reported, and that choose; asked alone, and together; repeats of a
    latency profile, and rounds of the search for break-even."""

    examples: int
    tuning: int
    timed: int
    batch: int
    repeats: int
    rounds: int


SIZES: dict[Scale, Size] = {
    "smoke": Size(examples=3, tuning=2, timed=2, batch=3, repeats=1, rounds=1),
    "pico": Size(examples=150, tuning=60, timed=40, batch=50, repeats=5, rounds=4),
    "full": Size(examples=150, tuning=150, timed=150, batch=50, repeats=9, rounds=9),
}


def run(scale: Scale = "pico", seed: int = 0) -> RecipeResult:
    """Measures both halves of the paper: the latency model, and the transfer."""
    from dovetail.models import load

    size = SIZES[scale]
    large, small = load("pico", device="cpu"), load("pico-draft", device="cpu")
    assert isinstance(large, LocalModel)
    assert isinstance(small, LocalModel)
    latency_arms, latency_claims, series = latency(small, large, size, seed)
    by_family = compare_families(small, large, size.tuning, seed + 1)
    families = domain(by_family)
    tuning, _ = questions.task(families, fold=1).examples(size.tuning * len(families), seed + 1)
    task = questions.task(families, fold=0)
    examples, _ = task.examples(size.examples * len(families), seed)
    arms = policies(small, large, choose_threshold(small, large, task, tuning, seed + 1))
    found = play(arms, task, examples, size, seed)
    return RecipeResult(
        [*latency_arms, *(arm(name, arms[name], found[name]) for name in arms)],
        [*latency_claims, *transfer_claims(found, seed)],
        seeds=[seed, seed + 1],
        settings={
            "large": large.describe(),
            "small": small.describe(),
            "families": families,
            "examples": len(examples),
            "timed": size.timed,
            "confidence_threshold": arms["confidence"].decoding.threshold,  # type: ignore[attr-defined]
        },
        notes=[
            f"Of six families of questions pico-draft's reasoning beats pico's direct answers in "
            f"{', '.join(families)}, on {size.tuning} other questions of each; these are what is reported. "
            "Elsewhere there is nothing to transfer (series `families`).",
            f"Seconds are per question in batches of {size.batch}, where they follow the models' operations; "
            f"`seconds alone` are of {size.timed} questions asked one by one, where much of a step of models "
            "this small is the interpreter's.",
            "The threshold of `confidence` was chosen on those other questions, too.",
            "R2 and break-even are measured on lengths that the latency model was not fitted to.",
        ],
        series=series | {"families": by_family},
    )


# --- latency ----------------------------------------------------------------------------------------


def latency(
    small: LocalModel, large: LocalModel, size: Size, seed: int
) -> tuple[list[RecipeArm], list[Claim], dict[str, object]]:
    """Fits both models' latency, tests it on other lengths, and looks for break-even where it predicts it."""
    arms, claims, series = [], [], {}
    fitted: dict[str, LatencyModel] = {}
    long = (128, 200) if size.rounds > 1 else (12, 16)
    for name, model in (("small", small), ("large", large)):
        fitted[name] = fit_latency_model(profiles(model, (24, 96), (1, 4, 16, 48, long[0]), size))
        tested = profiles(model, (48, 160), (2, 8, 32, 96, long[1]), size)
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
        for n in (4, 8, 16, 32)
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


def profiles(
    model: LocalModel, texts: Sequence[int], outputs: Sequence[int], size: Size
) -> list[LatencyProfile]:
    return [
        latency_profile(model, text, output, repeats=size.repeats, warmup=min(2, size.repeats))
        for text in texts
        for output in outputs
    ]


def coefficients(fitted: LatencyModel) -> dict[str, Figure | float]:
    """In milliseconds."""
    return {
        "fixed_ms": 1e3 * fitted.fixed_s,
        "ms_per_text_token": 1e3 * fitted.text_s,
        "ms_per_output_token": 1e3 * fitted.output_s,
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
    target = latency_profile(large, TEXT, tokens, repeats=size.repeats, warmup=1).total_s
    lengths = sorted({max(1, round(predicted * f)) for f in (0.5, 0.75, 1.0, 1.25, 1.5)})
    taken = [latency_profile(small, TEXT, n, repeats=size.repeats, warmup=1).total_s for n in lengths]
    # seconds must rise for interpolation; a length beyond the last counts as the last: an error of 50%
    return {
        "predicted": float(predicted),
        "measured": float(np.interp(target, np.maximum.accumulate(taken), lengths)),
    }


# --- transfer ---------------------------------------------------------------------------------------


def compare_families(
    small: LocalModel, large: LocalModel, count: int, seed: int
) -> dict[str, dict[str, float]]:
    """Accuracy of the small model's reasoning and of the large one's direct answers, by family."""
    found = {}
    for family in (*questions.EASY, *questions.HARD):
        task = questions.task((family,), fold=1)
        examples, _ = task.examples(count, seed)
        found[family] = {
            "small reasoning": mean(answer(small, task, examples, Greedy(), seed, limits=LIMITS).right).value,
            "large simple": mean(
                answer(large, task, examples, Greedy(), seed, limits=LIMITS, thinking=False).right
            ).value,
        }
    return found


def domain(by_family: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Where the small model's reasoning is the better one; the nearest to it if there is none."""
    gains = {f: row["small reasoning"] - row["large simple"] for f, row in by_family.items()}
    return [f for f, gain in gains.items() if gain > 0.05] or [max(gains, key=gains.__getitem__)]


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


def policies(small: LocalModel, large: LocalModel, threshold: float) -> dict[str, Contestant]:
    def transfer(policy: str, **options: float) -> ReasoningTransfer:
        return ReasoningTransfer(small, policy, **options)  # type: ignore[arg-type]

    alone = {
        f"{name} {mode}": Contestant(model, Greedy(), thinking, f"the {name} model alone, {how}")
        for name, model in (("small", small), ("large", large))
        for mode, thinking, how in (("simple", False, "answering directly"), ("reasoning", True, "reasoning"))
    }
    together = {
        "never transfer": (transfer("never_transfer"), "the large model's short answer"),
        "always transfer": (
            transfer("always_transfer"),
            "the large model answers after the small one's thought",
        ),
        "mutual verification": (transfer("mutual_verification"), "transfer where the short answers differ"),
        "confidence": (
            transfer("confidence", threshold=threshold),
            "transfer where the large model's short answer is unsure",
        ),
    }
    return alone | {n: Contestant(large, decoding, True, how) for n, (decoding, how) in together.items()}


def choose_threshold(
    small: LocalModel, large: LocalModel, task: Task, tuning: Sequence[Example], seed: int
) -> float:
    """The lowest threshold, so with the fewest transfers, within half a point of the best one."""
    scores = {}
    for threshold in THRESHOLDS:
        decoding = policies(small, large, threshold)["confidence"].decoding
        scores[threshold] = mean(answer(large, task, tuning, decoding, seed, limits=LIMITS).right).value
    return min(t for t, score in scores.items() if score >= max(scores.values()) - 0.005)


@dataclass(frozen=True)
class Played:
    """What an arm did.

    Attributes:
        answers: to all questions, in batches.
        seconds: per question, one figure per batch; every arm takes a batch before the next one comes.
        alone: seconds of a question asked alone.
    """

    answers: Answers
    seconds: Sequence[float]
    alone: Sequence[float]


def play(
    arms: Mapping[str, Contestant], task: Task, examples: Sequence[Example], size: Size, seed: int
) -> dict[str, Played]:
    """All arms on all questions, in turns, so that a machine that slows down slows all of them."""
    batches = [examples[i : i + size.batch] for i in range(0, len(examples), size.batch)]
    single = [[e] for e in examples[: size.timed]]
    written: dict[str, list[Completion]] = {name: [] for name in arms}
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    alone: dict[str, list[float]] = {name: [] for name in arms}
    for one in arms.values():  # warms up
        one.write(batches[0], seed)
    for batch in batches:
        for name, one in arms.items():
            completions, taken = one.write(batch, seed)
            written[name] += completions
            seconds[name].append(taken / len(batch))
    for batch in single:
        for name, one in arms.items():
            alone[name].append(one.write(batch, seed)[1])
    played = {}
    for name, one in arms.items():
        scores = [task.scorer(e, c) for e, c in zip(examples, written[name], strict=True)]
        answers = Answers([written[name]], [scores], one.model.engine.think_end)
        played[name] = Played(answers, seconds[name], alone[name])
    return played


def arm(name: str, one: Contestant, played: Played) -> RecipeArm:
    answers = played.answers
    figures = {
        **answers.figures(),
        "seconds": mean(played.seconds),
        "seconds_alone": mean(played.alone),
    }
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
