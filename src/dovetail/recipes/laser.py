"""LASER and the length rewards that it is measured beside: accuracy against length, at equal updates.

A copy of pico is taught to check its sums at length, as models that were trained to reason do. From there,
every reward trains it by group-relative policy gradient for the same number of steps on the same questions.
Settings are the paper's, lengths scaled to pico's: nothing was tuned for any of them.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import Any

from dovetail.core import Claim, Example, Figure, Task
from dovetail.core.statistics import mean, paired_difference, paired_ratio
from dovetail.decoding import Sampling
from dovetail.models.local import LocalModel
from dovetail.recipes.base import RecipeArm, RecipeResult, Scale, over_seeds
from dovetail.recipes.finetune import finetune
from dovetail.recipes.kept import kept
from dovetail.recipes.pico_model import pico
from dovetail.rewards import Efficient, Kimi, L1Max, Laser, LaserD, LaserDE, Reward, Truncation
from dovetail.training import Run, evaluate, train
from dovetail.training.objectives import PolicyGradient
from dovetail.training.pico.corpus import Document, chain_sum, held_out

SUMS = {"min_terms": 2, "max_terms": 4, "min_digits": 1, "max_digits": 2}
GROUP, RATE, MOST_TOKENS = 8, 2e-4, 160
# The paper's, in training and in evaluation. At temperature 1 every redundant check is a risk of pico's own
# slips, and training for accuracy alone gives checks up.
DECODING = Sampling(temperature=0.6)
# Odds that the start checks a sum 0, 1, 2 or 3 times over.
CHECKS = (15, 30, 35, 20)
BASELINE = "accuracy only"
CURVES = ("reward", "length", "truncated", "zero_variance")
CLASSES = ("easy", "medium", "hard")
DESCRIPTIONS = {
    "start": "pico, taught to check its sums; before any training",
    BASELINE: "1 right, -0.5 wrong, -1 without a box; nothing for length",
    "truncation": "the same up to the target, nothing beyond",
    "efficient": "right answers pay 0.4 sigmoid(z) for their length among the group's right ones",
    "kimi": "0.4 times the place between the group's shortest and longest answer",
    "l1-max": "right answers are paid by their distance below the target",
    "laser": "0.5 for right answers within the target",
    "laser-d": "likewise, a target for each class of difficulty, chosen anew every few steps",
    "laser-de": "likewise, and 0.5 for wrong answers beyond it",
}
NOTES = (
    "The start is made, not found: pico practised to check its sums up to three times over, whatever they "
    "were. All is sampled at temperature 0.6; answers that are reported, one per question and seed.",
    "One setting each, the paper's. Targets are a quarter quantile of the start's right answers (the paper's "
    "are 0.1 to 0.8 of the mean); slopes per token are scaled by pico's lengths.",
    "LASER-D chooses its targets from the training rollouts since the last choice, not from a monitor set "
    "that is sampled anew.",
    "Intervals are over questions, each the mean over the seeds; series by_seed shows the trainings' spread.",
)


@dataclass(frozen=True)
class Size:
    """Steps of practice and of training; completions per step; seeds; questions that are reported; steps
    between choices of LASER-D's targets; the arms."""

    practice: int
    steps: int
    batch: int
    seeds: int
    questions: int
    refresh: int
    arms: tuple[str, ...] = tuple(DESCRIPTIONS)[1:]


SIZES: dict[Scale, Size] = {
    "smoke": Size(1, 1, 16, 1, 6, 1, (BASELINE, "laser", "laser-d")),
    "pico": Size(110, 24, 64, 2, 300, 4),
    "full": Size(30, 200, 128, 5, 1000, 20),
}


def rewards(target: int, refresh: int) -> dict[str, Reward]:
    """Every arm's reward, by one target for all that have one."""
    adaptive: dict[str, Any] = {
        "target": max(4, target // 2),
        "upper": MOST_TOKENS,
        "interval": 2,
        "refresh": refresh,
    }
    return {
        BASELINE: Laser(alpha=0.0),
        "truncation": Truncation(target),
        "efficient": Efficient(alpha=0.4),
        "kimi": Kimi(),
        "l1-max": L1Max(target, alpha=0.05),
        "laser": Laser(target),
        "laser-d": LaserD(**adaptive),
        "laser-de": LaserDE(**adaptive),
    }


def run(scale: Scale = "pico", seed: int = 0) -> RecipeResult:
    """Trains every arm from the same start; each finished training is kept, so a killed run goes on."""
    from dovetail.tasks import task as named

    size, folder = SIZES[scale], f"runs/recipes/{scale}/laser"
    task = named("chain-sum", **SUMS)
    begin = cache(lambda: start(size.practice, seed))
    asked, _ = task.examples(size.questions, seed + 777)

    def before() -> Any:
        first = answered(begin(), asked, task, seed)
        return first | {"target": quantile(begin(), task, size.questions // 2, seed)}

    def arm(name: str, target: int, own: int) -> Any:
        learned, _ = task.examples(size.steps * size.batch // GROUP * 2, own + 1000)
        new = [e for e in learned if e.question not in {a.question for a in asked}]
        done = trained(begin(), new, rewards(target, size.refresh)[name], size, own)
        curves = {one: done.curve(one)[1] for one in CURVES}
        targets = {d: done.curve(f"{name}/target/{d}")[1] for d in CLASSES}
        return answered(done.model, asked, task, own) | {"curves": curves, "targets": targets}

    key = {**asdict(size), "arms": None, "start": seed}
    first = kept(folder, key, before)
    found: dict[str, list[Any]] = {"start": [first]}
    for name in size.arms:
        for own in range(seed, seed + size.seeds):
            made = kept(folder, {**key, "arm": name, "seed": own}, partial(arm, name, first["target"], own))
            found.setdefault(name, []).append(made)
    answers = {name: Answers.of(runs) for name, runs in found.items()}
    return RecipeResult(
        [one.arm(name) for name, one in answers.items()],
        claims(answers, found, seed),
        seeds=list(range(seed, seed + size.seeds)),
        settings={
            "model": pico().describe(),
            "task": SUMS,
            "odds of 0, 1, 2, 3 checks": CHECKS,
            "target": first["target"],
            "learning_rate": RATE,
            "group_size": GROUP,
            "max_new_tokens": MOST_TOKENS,
            **asdict(size),
        },
        notes=NOTES,
        series={
            "plane": plane(answers),
            "by_seed": {name: one.by_seed() for name, one in answers.items()},
            "targets": {n: [r["targets"] for r in found[n]] for n in ("laser-d", "laser-de") if n in found},
            "curves": {n: [r["curves"] for r in runs] for n, runs in found.items() if n != "start"},
        },
    )


def start(steps: int, seed: int) -> LocalModel:
    """A copy of pico that checks most of its sums, up to three times over."""
    rng = random.Random(f"laser-{seed}")
    documents: list[Document] = []
    while len(documents) < 32 * steps:
        made = chain_sum(rng, "stepwise", (SUMS["min_terms"], SUMS["max_terms"]), (1, SUMS["max_digits"]))
        if held_out(made.question):
            continue
        check = f"\nLet me check:\n{made.reasoning}\nYes."
        thought = made.reasoning + check * rng.choices(range(len(CHECKS)), CHECKS)[0]
        text = f"<think>\n{thought}\n</think>\n\n\\boxed{{{made.answer}}}"
        documents.append(Document(({"role": "user", "content": made.question},), text, thinking=True))
    return finetune(pico(), documents, steps, seed=seed, rate=0.1, name="pico (checks its sums)")


def answered(model: LocalModel, asked: Sequence[Example], task: Task, seed: int) -> dict[str, Any]:
    found = evaluate(model, asked, task.scorer, decoding=DECODING, max_new_tokens=MOST_TOKENS, seed=seed)
    return {"right": found.values, "lengths": found.lengths}


def quantile(model: LocalModel, task: Task, count: int, seed: int) -> int:
    """The target: a quarter of the start's right answers are at most this long; on questions of its own."""
    asked, _ = task.examples(count, seed + 778)
    found = answered(model, asked, task, seed)
    pairs = zip(found["lengths"], found["right"], strict=True)
    lengths = sorted(n for n, right in pairs if right >= 1) or [MOST_TOKENS // 2]
    return int(lengths[len(lengths) // 4])


def trained(model: LocalModel, examples: Sequence[Example], reward: Reward, size: Size, seed: int) -> Run:
    made: Run = train(
        model,
        examples,
        objective=PolicyGradient(group_size=GROUP, clip_high=0.28),
        rewards=[reward],
        decoding=DECODING,
        steps=size.steps,
        batch=size.batch,
        learning_rate=RATE,
        max_new_tokens=MOST_TOKENS,
        samples_every=0,
        save_every=0,
        seed=seed,
    )
    return made


@dataclass(frozen=True)
class Answers:
    """An arm's answers to the reported questions: ``[seed][question]``."""

    rights: Sequence[Sequence[float]]
    tokens: Sequence[Sequence[float]]

    @classmethod
    def of(cls, runs: Sequence[Mapping[str, Any]]) -> Answers:
        return cls([r["right"] for r in runs], [r["lengths"] for r in runs])

    @property
    def right(self) -> list[float]:
        """Per question, the share of the seeds that got it right: questions alone are independent."""
        return over_seeds(self.rights)

    @property
    def lengths(self) -> list[float]:
        return over_seeds(self.tokens)

    def arm(self, name: str) -> RecipeArm:
        figures: dict[str, Figure | float] = {"accuracy": mean(self.right), "tokens": mean(self.lengths)}
        return RecipeArm(name, figures, DESCRIPTIONS[name])

    def by_seed(self) -> dict[str, list[float]]:
        return {
            "accuracy": [sum(r) / len(r) for r in self.rights],
            "tokens": [sum(t) / len(t) for t in self.tokens],
        }


def plane(answers: Mapping[str, Answers]) -> dict[str, list[Any]]:
    """Accuracy against mean length, a point for each arm."""
    return {
        "arm": list(answers),
        "tokens": [mean(one.lengths).value for one in answers.values()],
        "accuracy": [mean(one.right).value for one in answers.values()],
    }


def claims(answers: Mapping[str, Answers], found: Mapping[str, list[Any]], seed: int) -> list[Claim]:
    base, adaptive = answers[BASELINE], answers["laser-d"]
    shorter = paired_ratio(adaptive.lengths, base.lengths, seed=seed)
    cost = paired_difference(adaptive.right, base.right, scale=1.0, seed=seed)
    made = [
        Claim(
            "LASER-D writes at most 70% of the tokens of accuracy-only training",
            "10177 -> 3520 tokens beside the untrained model (DeepSeek-R1-Distill-Qwen-1.5B, L_T 4096)",
            shorter.value,
            shorter.interval,
            mean(base.lengths).value,
            at_most=0.7,
            main=True,
        ),
        Claim(
            "LASER-D is at most 5 points less accurate than accuracy-only training",
            "60.3 against 56.9 of the untrained model; accuracy-only training not reported",
            cost.value,
            cost.interval,
            mean(base.right).value,
            at_least=-0.05,
            main=True,
        ),
    ]
    if "truncation" in answers:
        cut = answers["truncation"]
        better = paired_difference(adaptive.right, cut.right, scale=1.0, seed=seed)
        made.append(
            Claim(
                "LASER-D is more accurate than truncated training",
                "60.3 against 49.4 (T4096) and 55.3 (T8192)",
                better.value,
                better.interval,
                mean(cut.right).value,
                at_least=0.0,
            )
        )
        fixed = answers["laser"]
        beside = paired_ratio(adaptive.lengths, fixed.lengths, seed=seed)
        made.append(
            Claim(
                "LASER-D writes no more tokens than LASER with one target",
                "3520 against 3636 (L_T 4096)",
                beside.value,
                beside.interval,
                mean(fixed.lengths).value,
                at_most=1.0,
            )
        )
    wrong = float(sum(disordered(r["targets"]) for r in found["laser-d"]))
    made.append(
        Claim(
            "LASER-D's easy target is never above its hard target (choices where it is)",
            "follows from the ordering of coverage, not reported as a number",
            wrong,
            (wrong, wrong),
            at_most=0.0,
        )
    )
    return made


def disordered(targets: Mapping[str, Sequence[float]]) -> int:
    return sum(easy > hard for easy, hard in zip(targets["easy"], targets["hard"], strict=True))
