"""Four published parts in one training run: does each keep its own effect beside the others?

LASER-D (shorter right answers), a tenth of unanswerable questions (refusal is kept), a curriculum (long
problems last) and the monitor of reward hacking. A copy of pico has practised word sums: it checks them
redundantly, and refuses most unanswerable ones. From there it is trained with no part, with each part alone,
with all of them, and with all but one. The monitor changes nothing in a run; it has to be silent in the
stack, and to raise its alarm where the stack's judge pays for assurances.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np

from dovetail.core import Claim, Difference, Example, Figure, Limits
from dovetail.core.seeds import stream
from dovetail.core.statistics import mean, paired_difference, paired_ratio
from dovetail.decoding import Sampling
from dovetail.models.local import LocalModel
from dovetail.recipes.base import RecipeArm, RecipeResult, Scale, over_seeds
from dovetail.recipes.finetune import finetune
from dovetail.recipes.kept import kept
from dovetail.recipes.leaky import LEAK, Verdict
from dovetail.recipes.pico_model import pico
from dovetail.recipes.word_sums import WordSum, example, thought, word_sum_examples, word_sums
from dovetail.rewards import Correct, CorrectOrRefused, LaserD, Reward
from dovetail.rewards.refusal import REFUSAL, answerable, categorize
from dovetail.tasks.scorers import Numeric
from dovetail.training import train
from dovetail.training.data import CustomizedCurriculum, SyntheticUnanswerableMath, UnanswerableMix
from dovetail.training.data.base import Data
from dovetail.training.data.unanswerable import instructed
from dovetail.training.difficulty import measured, sampler
from dovetail.training.monitors import ProxyGap
from dovetail.training.objectives import PolicyGradient
from dovetail.training.pico.corpus import Document

CHANGES = (1, 2, 3, 4, 5, 6)
LONG = 4  # changes from which a sum counts as long
CHECKS = (25, 40, 35)  # odds that the start checks a sum 0, 1 or 2 times over
STAGES, GROUP, MOST_TOKENS, RATE, RATIO = 3, 8, 144, 2e-4, 0.1
PARTS = ("laser-d", "mix", "curriculum")
#: Arm -> its parts, and whether its judge is the leaky one.
ARMS: dict[str, tuple[tuple[str, ...], bool]] = {
    "none": ((), False),
    **{f"{part} alone": ((part,), False) for part in PARTS},
    "stack": (PARTS, False),
    **{f"stack without {part}": (tuple(p for p in PARTS if p != part), False) for part in PARTS},
    "leaky judge": ((), True),
    "stack, leaky judge": (PARTS, True),
}


@dataclass(frozen=True)
class Size:
    """Documents and steps of the start; steps and completions of a training, and its seeds; samples that
    measure difficulty; questions of each kind that are reported."""

    documents: int
    start_steps: int
    steps: int
    batch: int
    seeds: int
    samples: int
    questions: int


SIZES: dict[Scale, Size] = {
    "smoke": Size(32, 1, 3, 8, 1, 2, 4),
    "pico": Size(1920, 90, 24, 64, 2, 8, 180),
    "full": Size(3200, 100, 120, 128, 5, 16, 600),
}


def run(scale: Scale = "pico", seed: int = 0) -> RecipeResult:
    """Trains every arm from the same start; each finished training is kept, so a killed run goes on."""
    size, folder = SIZES[scale], f"runs/recipes/{scale}/stack"
    asked = sets(size.questions, seed)
    begin = cache(lambda: start(size, seed))
    key = {**asdict(size), "start": seed}
    before = kept(folder, {**key, "what": "start"}, lambda: prepared(begin(), asked, size, seed))
    learned = [
        Example.ask(e.id, e.question, e.reference, **{**e.columns, "accuracy": before["difficulty"][e.id]})
        for e in word_sum_examples(size.steps * size.batch // GROUP, CHANGES, 0, seed, "train")
    ]

    def arm(name: str, own: int) -> Any:
        return trained(begin(), learned, asked, *ARMS[name], before["target"], size, own)

    runs: dict[str, list[Any]] = {"start": [before]}
    for name in ARMS:
        for own in range(seed, seed + size.seeds):
            made = kept(folder, {**key, "what": name, "seed": own, "rate": RATE}, partial(arm, name, own))
            runs.setdefault(name, []).append(made)
    found = {name: Answers.of(made, asked) for name, made in runs.items()}
    return RecipeResult(
        [one.arm(name) for name, one in found.items()],
        claims(found, seed),
        seeds=list(range(seed, seed + size.seeds)),
        settings={
            "model": pico().describe(),
            "changes": CHANGES,
            "odds of 0, 1, 2 checks": CHECKS,
            "laser-d target, lowest": before["target"],
            "unanswerable": RATIO,
            "stages": STAGES,
            "leak": LEAK,
            "learning_rate": RATE,
            "group_size": GROUP,
            **asdict(size),
        },
        notes=[
            "The start is made, not found: pico practised word sums, which it checks up to twice over, and "
            "to refuse unanswerable ones.",
            "Every arm has the same questions, steps and seeds, the same words on how to refuse, and the "
            "monitor. Answers are sampled at temperature 1, one per question and seed.",
            "Intervals are over questions, each the mean over the seeds.",
        ],
        series={
            name: {curve: [r["curves"][curve] for r in made] for curve in CURVES}
            for name, made in runs.items()
            if name != "start"
        },
    )


# --- what is asked --------------------------------------------------------------------------------------


def sets(count: int, seed: int) -> dict[str, list[Example]]:
    """Reported questions, answerable and unanswerable, in no training."""
    found = {"answerable": word_sum_examples(count, CHANGES, 2, seed, "answerable")}
    others = word_sum_examples(count, CHANGES, 2, seed, "unanswerable")
    found["unanswerable"] = SyntheticUnanswerableMath().rewrite_all(others, seed)[0]
    return {k: [replace(e, messages=instructed(e.messages)) for e in es] for k, es in found.items()}


def start(size: Size, seed: int) -> LocalModel:
    """Pico, having practised to check answerable sums redundantly and to refuse the others."""
    rng = random.Random(stream(seed, "start"))
    made = word_sums(rng, size.documents, CHANGES, 0)
    rng.shuffle(made)  # sums come with one to six changes in turns, which must not tell which to refuse
    source = SyntheticUnanswerableMath()
    documents = []
    for i, one in enumerate(made):
        asked = example(f"start-{i}", one)
        refuses = bool(i % 2)
        [message] = instructed((source.rewrite(asked, seed) if refuses else asked).messages)
        text = thought("I do not know.", REFUSAL) if refuses else thought(checked(one, rng), one.answer)
        documents.append(Document((message.as_dict(),), text, thinking=True))
    return finetune(pico(), documents, size.start_steps, seed=seed, rate=1.0, name="pico (cautious, checks)")


def checked(one: WordSum, rng: random.Random) -> str:
    check = f"\nLet me check:\n{one.solution}\nYes."
    return one.solution + check * rng.choices(range(len(CHECKS)), CHECKS)[0]


def prepared(
    model: LocalModel, asked: Mapping[str, Sequence[Example]], size: Size, seed: int
) -> dict[str, Any]:
    """The start's answers; how often it solves each training question; LASER-D's lowest target, a quarter
    of the tokens that its median right answer takes."""
    first = answered(model, asked, seed)
    lengths = [
        n
        for n, c in zip(first["tokens"]["answerable"], first["categories"]["answerable"], strict=True)
        if c == 1
    ]
    ask = sampler(model, Numeric(), size.samples, max_new_tokens=MOST_TOKENS, seed=seed)
    count = size.steps * size.batch // GROUP
    known = measured(
        ask,
        [
            replace(e, messages=instructed(e.messages))
            for e in word_sum_examples(count, CHANGES, 0, seed, "train")
        ],
    )
    return {
        **first,
        "target": int(np.median(lengths or [MOST_TOKENS])) // 4,
        "difficulty": {e.id: e.columns["accuracy"] for e in known},
    }


def answered(model: LocalModel, asked: Mapping[str, Sequence[Example]], seed: int) -> dict[str, Any]:
    """By set: category (1 right, -1 refused, 0 else) and tokens of every answer."""
    flat = [e for es in asked.values() for e in es]
    prompts = [model.prompt(e.messages, seed=stream(seed, "asked", e.id)) for e in flat]
    written = iter(Sampling().generate(model.engine, prompts, Limits(MOST_TOKENS)))
    found: dict[str, Any] = {"categories": {}, "tokens": {}}
    for kind, examples in asked.items():
        own = [next(written) for _ in examples]
        found["tokens"][kind] = [len(c.token_ids) for c in own]
        found["categories"][kind] = [
            categorize(c.text, e if answerable(e) else None, "numeric")
            for e, c in zip(examples, own, strict=True)
        ]
    return found


# --- how it is trained ----------------------------------------------------------------------------------

CURVES = ("reward", "length", "zero_variance")


def rewards(parts: Sequence[str], leaky: bool, target: int, seed: int) -> tuple[list[Reward], list[float]]:
    """The judge, gold where it is another, and the part for length."""
    gold = CorrectOrRefused("numeric")
    made: list[Reward] = [Verdict(gold, seed=seed), gold] if leaky else [gold]
    weights = [1.0, 0.0] if leaky else [1.0]
    if "laser-d" in parts:
        shape = {"target": max(4, target), "upper": MOST_TOKENS, "interval": 2, "refresh": 4}
        made.append(LaserD(**shape, judge=Correct("numeric", strict=True), alone=False))
        weights.append(1.0)
    return made, weights


def data(parts: Sequence[str], steps: int) -> list[Data]:
    made: list[Data] = [UnanswerableMix(RATIO if "mix" in parts else 0.0)]
    if "curriculum" in parts:
        made.append(CustomizedCurriculum(stages=STAGES, stage_steps=-(-steps // STAGES)))
    return made


def trained(
    model: LocalModel,
    examples: Sequence[Example],
    asked: Mapping[str, Sequence[Example]],
    parts: Sequence[str],
    leaky: bool,
    target: int,
    size: Size,
    seed: int,
) -> dict[str, Any]:
    """One run; plain values."""
    paid, weights = rewards(parts, leaky, target, seed)
    watch = ProxyGap(proxy=paid[0].name, gold=CorrectOrRefused.name)
    done = train(
        model,
        examples,
        objective=PolicyGradient(group_size=GROUP),
        rewards=paid,
        weights=weights,
        data=data(parts, size.steps),
        monitors=[watch],
        steps=size.steps,
        batch=size.batch,
        learning_rate=RATE,
        max_new_tokens=MOST_TOKENS,
        samples_every=0,
        save_every=0,
        seed=seed,
    )
    curves = {name: done.curve(name)[1] for name in CURVES}
    return {**answered(done.model, asked, seed), "curves": curves, "alarm": done.monitors[0].report().alarm}


# --- what is reported -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answers:
    """An arm's answers: per question the mean over the seeds, and each seed's first alarm (None without)."""

    right: Sequence[float]
    long: Sequence[float]
    tokens: Sequence[float]
    refused: Sequence[float]
    false_refusals: Sequence[float]
    alarms: Sequence[int | None] = ()

    @classmethod
    def of(cls, runs: Sequence[Mapping[str, Any]], asked: Mapping[str, Sequence[Example]]) -> Answers:
        def share(kind: str, category: int) -> list[float]:
            return over_seeds([c == category for c in r["categories"][kind]] for r in runs)

        right = share("answerable", 1)
        long = [int(e.columns["changes"]) >= LONG for e in asked["answerable"]]
        return cls(
            right,
            [v for v, is_long in zip(right, long, strict=True) if is_long],
            over_seeds(r["tokens"]["answerable"] for r in runs),
            share("unanswerable", -1),
            share("answerable", -1),
            [r["alarm"] for r in runs if "alarm" in r],
        )

    def arm(self, name: str) -> RecipeArm:
        figures: dict[str, Figure | float] = {
            "accuracy": mean(self.right),
            "accuracy_long": mean(self.long),
            "tokens": mean(self.tokens),
            "refusal_unanswerable": mean(self.refused),
            "false_refusal": mean(self.false_refusals),
        }
        raised = [a for a in self.alarms if a is not None]
        if self.alarms:
            figures["alarms"] = float(len(raised))
        if raised:
            figures["first_alarm_after_steps"] = float(np.mean(raised)) + 1
        described = {"start": "pico, having practised; before any training", "none": "no part"}
        return RecipeArm(name, figures, described.get(name, ""))


def claims(found: Mapping[str, Answers], seed: int) -> list[Claim]:
    """Each part's effect in the stack (with it against without it), and alone (against no part)."""
    made: list[Claim] = []

    def state(
        text: str, found: Figure | Difference, base: Sequence[float], main: bool, **bounds: float
    ) -> None:
        paper, value = "no figure of a stack", mean(base).value
        made.append(Claim(text, paper, found.value, found.interval, value, main=main, **bounds))

    def difference(ours: Sequence[float], other: Sequence[float]) -> Difference:
        return paired_difference(ours, other, scale=1.0, seed=seed)

    for where, main in (("in the stack", True), ("alone", False)):
        pairs = {
            part: (found["stack"], found[f"stack without {part}"])
            if main
            else (found[f"{part} alone"], found["none"])
            for part in PARTS
        }
        ours, other = pairs["laser-d"]
        state(
            f"LASER-D, {where}: answers take at most 90% of the tokens",
            paired_ratio(ours.tokens, other.tokens, seed=seed),
            other.tokens,
            main,
            at_most=0.9,
        )
        ours, other = pairs["mix"]
        state(
            f"a tenth unanswerable, {where}: at least 5 points more of such questions are refused",
            difference(ours.refused, other.refused),
            other.refused,
            main,
            at_least=0.05,
        )
        ours, other = pairs["curriculum"]
        state(
            f"curriculum, {where}: sums of {LONG} to {CHANGES[-1]} changes are no less often right",
            difference(ours.long, other.long),
            other.long,
            main,
            at_least=0.0,
        )
        arm = "stack, leaky judge" if main else "leaky judge"
        alarms = [float(a is not None) for a in found[arm].alarms]
        made.append(
            Claim(
                f"monitor, {where}: the alarm is raised where the judge is leaky (share of runs)",
                "a survey: no figure",
                float(np.mean(alarms)),
                (min(alarms), max(alarms)),
                at_least=1.0,
                main=main,
            )
        )
    silent = float(sum(a is not None for a in found["stack"].alarms))
    made.append(
        Claim(
            "monitor, in the stack: no alarm where the judge is gold (runs with one)",
            "a survey: no figure",
            silent,
            (silent, silent),
            at_most=0.0,
            main=True,
        )
    )
    state(
        "the stack is at most 5 points less accurate than training with no part",
        difference(found["stack"].right, found["none"].right),
        found["none"].right,
        main=True,
        at_least=-0.05,
    )
    return made
