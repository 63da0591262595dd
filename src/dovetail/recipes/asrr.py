"""ASRR: trained under a closed thinking block, does a length penalty that waits keep the hard answers?

A copy of pico is taught to go on reasoning after the closed block, mostly: the state that models with the
paper's prefix are in, made by hand. From there it is trained on easy and hard sums with correctness alone,
with ASRR, and with the same penalty in every group (tau = 0). Then all of them are asked under the block, and
some in thinking mode.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
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
from dovetail.rewards import AdaptiveSelfRecovery
from dovetail.training import Run, evaluate, train
from dovetail.training.objectives import PolicyGradient
from dovetail.training.pico.corpus import Document, chain_sum, held_out

# Easy sums can be answered at once; hard ones need their steps.
SUMS: dict[str, dict[str, int]] = {
    "easy": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1},
    "hard": {"min_terms": 3, "max_terms": 4, "min_digits": 1, "max_digits": 2},
}
GROUP, RATE, MOST_TOKENS = 8, 2e-4, 144
DECODING = Sampling(temperature=0.6)
WINDOW = 20
# Odds of 0 to 3 checks of the start's reasoning.
CHECKS = (20, 30, 30, 20)
BASELINE = "accuracy only"
REWARDS: dict[str, AdaptiveSelfRecovery] = {
    BASELINE: AdaptiveSelfRecovery(beta=0.0),
    "asrr": AdaptiveSelfRecovery(tau=1.0, window=WINDOW),
    "unconditional": AdaptiveSelfRecovery(tau=0.0, window=WINDOW),
}
DESCRIPTIONS = {
    "start": "pico, taught to go on reasoning under the closed block; before any training",
    "start, thinking": "the same, asked in thinking mode",
    BASELINE: "trained under the block, right or wrong is all that is paid",
    "asrr": "trained under the block, lengths cost where the whole group is right (tau = 1)",
    "asrr, thinking": "the same model, asked in thinking mode",
    "unconditional": "trained under the block, lengths cost in every group with a right answer (tau = 0)",
}
CURVES = ("reward", "length", "truncated", "zero_variance")
NOTES = (
    "Pico's own no-thinking block stands in for the prefix: it was trained on that block, as the paper's "
    "models were not. That it goes on reasoning there, and checks it up to three times, was taught to a "
    "copy, easy and hard alike.",
    "Easy: two numbers of one digit. Hard: three or four of one or two digits. Trainings have half of each.",
    "The window is 20 tokens where the paper's is 2048: about a third of a hard answer here, a fifth there.",
    "All is sampled at temperature 0.6; answers that are reported, one per question and seed. Intervals are "
    "over questions, each the mean over the seeds; series by_seed shows the spread of trainings.",
)


@dataclass(frozen=True)
class Size:
    """Steps of practice and of training; completions per step; seeds; questions reported of each kind."""

    practice: int
    steps: int
    batch: int
    seeds: int
    questions: int


SIZES: dict[Scale, Size] = {
    "smoke": Size(1, 1, 16, 1, 4),
    "pico": Size(90, 24, 64, 2, 500),
    "full": Size(60, 200, 128, 5, 1000),
}


def run(scale: Scale = "pico", seed: int = 0) -> RecipeResult:
    """Trains every arm from the same start; each finished training is kept, so a killed run goes on."""
    size, folder = SIZES[scale], f"runs/recipes/{scale}/asrr"
    tasks = sums()
    asked = {kind: task.examples(size.questions, seed + 777)[0] for kind, task in tasks.items()}
    begin = cache(lambda: start(size.practice, seed))

    def before() -> Any:
        return {
            "start": answered(begin(), asked, tasks, seed),
            "start, thinking": answered(begin(), asked, tasks, seed, thinking=True),
        }

    def arm(name: str, own: int) -> Any:
        done = trained(begin(), questions(tasks, asked, size, own), REWARDS[name], size, own)
        found = {name: answered(done.model, asked, tasks, own)}
        if name == "asrr":
            found["asrr, thinking"] = answered(done.model, asked, tasks, own, thinking=True)
        return found | {"curves": {one: done.curve(one)[1] for one in CURVES}}

    key = {**asdict(size), "start": seed}
    found: dict[str, list[Any]] = {name: [one] for name, one in kept(folder, key, before).items()}
    curves: dict[str, list[Any]] = {}
    for name in REWARDS:
        for own in range(seed, seed + size.seeds):
            made = kept(folder, {**key, "arm": name, "seed": own}, partial(arm, name, own))
            curves.setdefault(name, []).append(made.pop("curves"))
            for label, one in made.items():
                found.setdefault(label, []).append(one)
    answers = {
        name: {kind: Answers.of([r[kind] for r in runs]) for kind in SUMS} for name, runs in found.items()
    }
    return RecipeResult(
        [arm_of(name, answers[name]) for name in DESCRIPTIONS],
        claims(answers, seed),
        seeds=list(range(seed, seed + size.seeds)),
        settings={
            "model": pico().describe(),
            "sums": SUMS,
            "odds of 0 to 3 checks": CHECKS,
            "window": WINDOW,
            "learning_rate": RATE,
            "group_size": GROUP,
            "max_new_tokens": MOST_TOKENS,
            **asdict(size),
        },
        notes=NOTES,
        series={
            "by_seed": {
                name: {kind: one.by_seed() for kind, one in kinds.items()} for name, kinds in answers.items()
            },
            "curves": curves,
        },
    )


def sums() -> dict[str, Task]:
    from dovetail.tasks import task as named

    return {kind: named("chain-sum", **numbers) for kind, numbers in SUMS.items()}


def start(steps: int, seed: int) -> LocalModel:
    """A copy of pico that reasons on under the closed block, and checks what it reasons.

    First with few checks, and for long: pico is all but certain that the answer comes at once under the
    block, and in long texts the one token that begins to reason would weigh next to nothing.
    """
    rng = random.Random(f"asrr-{seed}")
    reasons = finetune(pico(), documents(rng, steps, (2, 1)), steps, seed=seed, rate=0.3)
    later = max(1, steps // 3)
    return finetune(
        reasons, documents(rng, later, CHECKS), later, seed=seed, rate=0.1, name="pico (reasons on)"
    )


def documents(rng: random.Random, steps: int, checks: Sequence[int]) -> list[Document]:
    """Easy and hard sums with their reasoning, checked 0, 1, ... times with the odds of ``checks``."""
    made: list[Document] = []
    while len(made) < 32 * steps:
        kind = rng.choice(tuple(SUMS))
        terms = (SUMS[kind]["min_terms"], SUMS[kind]["max_terms"])
        one = chain_sum(rng, "stepwise", terms, (1, SUMS[kind]["max_digits"]))
        # Of the two hundred easy sums none can be kept apart; of the hard ones a sixteenth is.
        if held_out(one.question) and kind == "hard":
            continue
        check = f"\nLet me check:\n{one.reasoning}\nYes."
        reasoning = one.reasoning + check * rng.choices(range(len(checks)), checks)[0]
        thinking = rng.random() < 0.25
        thought = f"<think>\n{reasoning}\n</think>\n\n" if thinking else f"{reasoning}\n"
        question = {"role": "user", "content": one.question}
        made.append(Document((question,), f"{thought}\\boxed{{{one.answer}}}", thinking=thinking))
    return made


def questions(
    tasks: Mapping[str, Task], asked: Mapping[str, Sequence[Example]], size: Size, seed: int
) -> list[Example]:
    """Easy and hard ones in turn; hard ones that are reported are left out."""
    count = size.steps * size.batch // GROUP
    known = {e.question for e in asked["hard"]}
    made = {kind: task.examples(count, seed + 1000)[0] for kind, task in tasks.items()}
    made["hard"] = [e for e in made["hard"] if e.question not in known]
    return [
        replace(e, id=f"{kind}-{e.id}")
        for pair in zip(made["easy"], made["hard"], strict=False)
        for kind, e in zip(("easy", "hard"), pair, strict=True)
    ]


def trained(
    model: LocalModel, examples: Sequence[Example], reward: AdaptiveSelfRecovery, size: Size, seed: int
) -> Run:
    made: Run = train(
        model,
        examples,
        objective=PolicyGradient(group_size=GROUP),
        rewards=[reward],
        decoding=DECODING,
        steps=size.steps,
        batch=size.batch,
        learning_rate=RATE,
        max_new_tokens=MOST_TOKENS,
        thinking=False,
        samples_every=0,
        save_every=0,
        seed=seed,
    )
    return made


def answered(
    model: LocalModel,
    asked: Mapping[str, Sequence[Example]],
    tasks: Mapping[str, Task],
    seed: int,
    thinking: bool = False,
) -> dict[str, Any]:
    """By kind: right or wrong, tokens, and whether reasoning came before the box."""
    answers = {}
    for kind, examples in asked.items():
        found = evaluate(
            model,
            examples,
            tasks[kind].scorer,
            decoding=DECODING,
            max_new_tokens=MOST_TOKENS,
            thinking=thinking,
            seed=seed,
        )
        resumed = [float(bool(text.partition("\\boxed")[0].strip())) for text in found.texts]
        answers[kind] = {"right": found.values, "lengths": found.lengths, "resumed": resumed}
    return answers


@dataclass(frozen=True)
class Answers:
    """Answers to one kind of question: ``[seed][question]``."""

    rights: Sequence[Sequence[float]]
    tokens: Sequence[Sequence[float]]
    resumes: Sequence[Sequence[float]]

    @classmethod
    def of(cls, runs: Sequence[Mapping[str, Any]]) -> Answers:
        return cls([r["right"] for r in runs], [r["lengths"] for r in runs], [r["resumed"] for r in runs])

    @property
    def right(self) -> list[float]:
        return over_seeds(self.rights)

    @property
    def lengths(self) -> list[float]:
        return over_seeds(self.tokens)

    def by_seed(self) -> dict[str, list[float]]:
        return {
            "accuracy": [sum(r) / len(r) for r in self.rights],
            "tokens": [sum(t) / len(t) for t in self.tokens],
        }


def arm_of(name: str, kinds: Mapping[str, Answers]) -> RecipeArm:
    figures: dict[str, Figure | float] = {}
    for kind, one in kinds.items():
        figures[f"accuracy_{kind}"] = mean(one.right)
        figures[f"tokens_{kind}"] = mean(one.lengths)
        figures[f"reasoned_{kind}"] = mean(over_seeds(one.resumes))
    return RecipeArm(name, figures, DESCRIPTIONS[name])


def claims(answers: Mapping[str, Mapping[str, Answers]], seed: int) -> list[Claim]:
    base, ours, always = (answers[name] for name in (BASELINE, "asrr", "unconditional"))
    shorter = paired_ratio(ours["easy"].lengths, base["easy"].lengths, seed=seed)
    cost = paired_difference(ours["hard"].right, base["hard"].right, scale=1.0, seed=seed)
    beside = paired_difference(ours["hard"].right, always["hard"].right, scale=1.0, seed=seed)
    gap = [h - e for h, e in zip(ours["hard"].lengths, ours["easy"].lengths, strict=True)]
    gap_before = [h - e for h, e in zip(base["hard"].lengths, base["easy"].lengths, strict=True)]
    wider = paired_difference(gap, gap_before, seed=seed)
    return [
        Claim(
            "easy answers are at least 40% shorter than after training on correctness alone",
            "32.5% (1.5B) and 25.7% (7B) over five benchmarks",
            shorter.value,
            shorter.interval,
            mean(base["easy"].lengths).value,
            at_most=0.6,
            main=True,
        ),
        Claim(
            "hard answers are at most 2 points less accurate",
            "1.2 (1.5B) and 0.6 points (7B) over five benchmarks",
            cost.value,
            cost.interval,
            mean(base["hard"].right).value,
            at_least=-0.02,
            main=True,
        ),
        Claim(
            "hard answers are more accurate than with the penalty in every group",
            "AIME 43.3 against 39.7 (tau = 0)",
            beside.value,
            beside.interval,
            mean(always["hard"].right).value,
            at_least=0.0,
        ),
        Claim(
            "hard answers stand further above easy ones in length than without the penalty (tokens)",
            "reasoning is resumed for 80.6% of AIME and 2.6% of GSM8K",
            wider.value,
            wider.interval,
            mean(gap_before).value,
            at_least=0.0,
        ),
    ]
