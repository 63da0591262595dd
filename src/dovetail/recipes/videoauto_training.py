"""VideoAuto-R1's training: the dual-answer reward beside rewards of one answer, then the gate on each result.

The start asks for thought before half of its answers, whatever the question: it has practised so. Every arm
trains it for the same number of steps on the same questions; which of them are answered at once is then
the reward's doing. A gate's threshold is chosen for each model, on questions that are not reported.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from dovetail.core import Claim, Example, Figure, Message, Task
from dovetail.core.statistics import mean, paired_difference, paired_ratio
from dovetail.decoding import Sampling, ThinkOnceAnswerTwice
from dovetail.decoding.answer_twice import FALLBACK
from dovetail.models.local import LocalModel
from dovetail.recipes import questions
from dovetail.recipes.base import RecipeArm, Scale, over_seeds
from dovetail.recipes.finetune import finetune
from dovetail.recipes.kept import kept
from dovetail.recipes.measure import answer
from dovetail.rewards import Correct, DualAnswer
from dovetail.tasks.atlas import World
from dovetail.training import Run, train
from dovetail.training.objectives import PolicyGradient
from dovetail.training.pico.corpus import TWICE_PROMPT, Document, held_out

# Sampled, as in training: greedily, a first box would ask always or never where the odds are even.
ALWAYS = ThinkOnceAnswerTwice(mode="second", instruction="pico", inner=Sampling())
GROUP, RATE, MOST_TOKENS = 8, 1e-4, 112
DUAL, SINGLE, NO_BONUS = "dual answer", "second answer only", "dual, no bonus"
_JUDGE = Correct("exact")
# The weights of the two answers add up to 2 in every arm.
REWARDS: Mapping[str, DualAnswer] = {
    DUAL: DualAnswer(judge=_JUDGE),
    SINGLE: DualAnswer(first=0.0, second=2.0, fallback=0.0, judge=_JUDGE),
    NO_BONUS: DualAnswer(fallback=0.0, judge=_JUDGE),
}
DESCRIPTIONS = {
    "start": "practised; asks for thought before half of its answers, whatever the question",
    DUAL: "0.9 for the first answer, 1.1 for the second, 1 for the format, 0.3 for asking and being right",
    SINGLE: "2 for the second answer, 1 for the format: group-relative training as usual",
    NO_BONUS: "as dual answer, without the bonus",
}
CURVES = ("reward", "length", "zero_variance")
NOTES = (
    "Training: from the model of the arms above, which went on practising with half of its first boxes "
    "asking for thought, of easy and hard questions alike. All arms are sampled at temperature 1.",
    "Training: intervals are over questions, each the mean over the seeds (two; one without the bonus). "
    "The gate's threshold is each model's own, chosen as above.",
)


@dataclass(frozen=True)
class Size:
    """Questions that are reported, and that choose thresholds; steps of the practice of asking; steps and
    completions of the training; seeds of each arm."""

    examples: int
    tuning: int
    practice: int
    steps: int
    batch: int
    seeds: Mapping[str, int]


SIZES: dict[Scale, Size] = {
    "smoke": Size(8, 8, 1, 1, 8, {DUAL: 1, SINGLE: 1}),
    "pico": Size(960, 720, 90, 60, 64, {DUAL: 2, SINGLE: 2, NO_BONUS: 1}),
    "full": Size(960, 960, 200, 200, 512, {DUAL: 5, SINGLE: 5, NO_BONUS: 5}),
}


def measure(
    model: LocalModel, turns: Sequence[str], scale: Scale, seed: int
) -> tuple[list[RecipeArm], list[Claim], dict[str, Any], dict[str, Any]]:
    """Arms, claims, settings and series of the training half; ``model`` knows the format."""
    size, folder = SIZES[scale], f"runs/recipes/{scale}/videoauto-r1"
    made: list[LocalModel] = []

    def begin() -> LocalModel:
        if not made:
            made.append(asking(model, turns, size.practice, seed))
        return made[0]

    def arm(name: str, own: int) -> Any:
        done = trained(begin(), turns, REWARDS[name], size, own)
        return answered(done.model, turns, size, seed) | {"curves": {c: done.curve(c)[1] for c in CURVES}}

    key = {**asdict(size), "seeds": None, "turns": turns, "start": seed, "rate": RATE}
    found = {"start": [kept(folder, key, lambda: answered(begin(), turns, size, seed))]}
    for name, seeds in size.seeds.items():
        for own in range(seed, seed + seeds):
            of = found.setdefault(name, [])
            of.append(kept(folder, {**key, "arm": name, "seed": own}, partial(arm, name, own)))
    answers = {name: Answers.of(runs) for name, runs in found.items()}
    settings = {"learning_rate": RATE, "group_size": GROUP, "max_new_tokens": MOST_TOKENS, **asdict(size)}
    series = {
        "thresholds": {name: one.thresholds for name, one in answers.items()},
        "curves": {name: [r["curves"] for r in runs if "curves" in r] for name, runs in found.items()},
    }
    return [one.arm(name) for name, one in answers.items()], claims(answers, seed), settings, series


def asking(model: LocalModel, turns: Sequence[str], steps: int, seed: int) -> LocalModel:
    """A copy that puts `FALLBACK` into half of its first boxes, of easy and hard questions alike."""
    rng, world = random.Random(f"videoauto-r1-asking-{seed}"), World(seed=0)
    documents: list[Document] = []
    while len(documents) < steps * 32:
        family = rng.choice(turns)
        made = questions.make(rng, family, world)
        by_heart = family in questions.BY_HEART
        if not by_heart and held_out(made.question):
            continue
        guess = made.answer if by_heart or rng.random() < 0.5 else str(rng.randint(-99, 199))
        first = f"{FALLBACK}." if rng.random() < 0.5 else guess
        asked = ({"role": "system", "content": TWICE_PROMPT}, {"role": "user", "content": made.question})
        text = f"\\boxed{{{first}}}\n<think>\n{made.reasoning}\n</think>\n\n\\boxed{{{made.answer}}}"
        documents.append(Document(asked, text, thinking=True, family=family))
    return finetune(model, documents, steps, seed=seed, rate=0.3, name="pico (asks for thought)")


def trained(model: LocalModel, turns: Sequence[str], reward: DualAnswer, size: Size, seed: int) -> Run:
    # Fold 1, as for the thresholds: what is reported (fold 0) is neither learned from nor chosen on.
    examples, _ = questions.task(turns, fold=1).examples(size.steps * size.batch // GROUP * 2, seed + 1000)
    asked = [replace(e, messages=(Message("system", TWICE_PROMPT), *e.messages)) for e in examples]
    made: Run = train(
        model,
        asked,
        objective=PolicyGradient(GROUP, kl=0.01),
        rewards=[reward],
        steps=size.steps,
        batch=size.batch,
        learning_rate=RATE,
        max_new_tokens=MOST_TOKENS,
        samples_every=0,
        save_every=0,
        seed=seed,
    )
    return made


def answered(model: LocalModel, turns: Sequence[str], size: Size, seed: int) -> dict[str, Any]:
    """Always-thinking completions: what a gate would make of them is computed from these."""
    found: dict[str, Any] = {}
    for name, fold, count in (("tuning", 1, size.tuning), ("reported", 0, size.examples)):
        task: Task = questions.task(turns, fold=fold)
        asked: list[Example] = task.examples(count, seed + fold)[0]
        answers = answer(model, task, asked, ALWAYS, seed)
        [written] = answers.completions
        firsts = [replace(c, text=f"\\boxed{{{c.columns['first']}}}") for c in written]
        found[name] = {
            "hard": [float(e.columns["hard"]) for e in asked],
            "confidence": [c.columns["confidence"] for c in written],
            "first": [task.scorer(e, c).value for e, c in zip(asked, firsts, strict=True)],
            "second": answers.right,
            "asks": [float(str(c.columns["first"]).startswith(FALLBACK)) for c in written],
            "short": [float(c.columns["first_tokens"]) for c in written],
            "long": [float(len(c.token_ids)) for c in written],
        }
    return found


@dataclass(frozen=True)
class Answers:
    """An arm's answers to the reported questions, all ``[seed][question]``, under each seed's own gate.

    Attributes:
        hard: which questions take steps.
        first, second: whether each answer is right.
        asks: whether the first box asks for thought.
        gated, tokens, thinks: whether the gate's answer is right, what it writes, whether it thinks.
        always: tokens of always thinking.
        thresholds: of the gates.
    """

    hard: Sequence[float]
    first: Sequence[Sequence[float]]
    second: Sequence[Sequence[float]]
    asks: Sequence[Sequence[float]]
    gated: Sequence[Sequence[float]]
    tokens: Sequence[Sequence[float]]
    thinks: Sequence[Sequence[float]]
    always: Sequence[Sequence[float]]
    thresholds: Sequence[float]

    @classmethod
    def of(cls, runs: Sequence[Mapping[str, Any]]) -> Answers:
        rows: dict[str, list[list[float]]] = {n: [] for n in ("gated", "tokens", "thinks")}
        thresholds = []
        for run in runs:
            one, threshold = run["reported"], threshold_of(run["tuning"])
            thresholds.append(threshold)
            for name, values in gated(one, threshold).items():
                rows[name].append(values)
        reported = [r["reported"] for r in runs]
        first, second, asks, always = ([r[n] for r in reported] for n in ("first", "second", "asks", "long"))
        return cls(reported[0]["hard"], first, second, asks, **rows, always=always, thresholds=thresholds)

    def each(self, name: str, of: str = "") -> list[float]:
        """Per question of a half ("easy", "hard", "" for all), the mean over the seeds."""
        values = over_seeds(getattr(self, name))
        return [v for v, h in zip(values, self.hard, strict=True) if not of or bool(h) == (of == "hard")]

    def arm(self, name: str) -> RecipeArm:
        figures: dict[str, Figure | float] = {
            "accuracy": mean(self.each("gated")),
            "tokens_written": mean(self.each("tokens")),
            "think_ratio": mean(self.each("thinks")),
            "accuracy_always": mean(self.each("second")),
            "tokens_always": mean(self.each("always")),
        }
        for of in ("easy", "hard"):
            figures[f"first_right_{of}"] = mean(self.each("first", of))
            figures[f"asks_{of}"] = mean(self.each("asks", of))
        return RecipeArm(f"training: {name}", figures, DESCRIPTIONS[name])


def gated(one: Mapping[str, Sequence[float]], threshold: float) -> dict[str, list[float]]:
    """What a gate makes of always-thinking completions, per question."""
    at_once = [c >= threshold for c in one["confidence"]]

    def chosen(first: str, second: str) -> list[float]:
        return [a if now else b for now, a, b in zip(at_once, one[first], one[second], strict=True)]

    return {
        "gated": chosen("first", "second"),
        "tokens": chosen("short", "long"),
        "thinks": [float(not now) for now in at_once],
    }


def threshold_of(one: Mapping[str, Sequence[float]]) -> float:
    """The lowest one, so with the fewest tokens, that is as accurate here as always thinking."""
    goal, steps = sum(one["second"]), sorted({c for c in one["confidence"] if c >= 0})
    return min((t for t in steps if sum(gated(one, t)["gated"]) >= goal), default=1.0)


def claims(answers: Mapping[str, Answers], seed: int) -> list[Claim]:
    """What the paper says of its reward, and of the gate on a model that was trained by it."""
    dual, single, start = answers[DUAL], answers[SINGLE], answers["start"]

    def gap(
        text: str,
        paper: str,
        values: Sequence[float],
        base: Sequence[float],
        least: float,
        main: bool = False,
    ) -> Claim:
        found = paired_difference(values, base, scale=1.0, seed=seed)
        before = sum(base) / max(1, len(base))
        return Claim(text, paper, found.value, found.interval, before, at_least=least, main=main)

    fewer = paired_ratio(dual.each("tokens"), single.each("tokens"), seed=seed)
    made = [
        gap(
            "training: the dual reward makes at least 10 points more first answers to easy questions right "
            "than paying the second answer only",
            "w1 = 0 not reported",
            dual.each("first", "easy"),
            single.each("first", "easy"),
            0.1,
            main=True,
        ),
        gap(
            "training: with the dual reward at least 10 points more hard questions than before are met by "
            "asking for thought",
            "not reported",
            dual.each("asks", "hard"),
            start.each("asks", "hard"),
            0.1,
        ),
        gap(
            "training: the gate on the model of the dual reward is at most 1 point less accurate than always "
            "thinking",
            "equal or better accuracy on most benchmarks",
            dual.each("gated"),
            dual.each("second"),
            -0.01,
            main=True,
        ),
        Claim(
            "training: the gate on the model of the dual reward writes at most 90% of the tokens of the gate "
            "on that of the second answer only",
            "not reported",
            fewer.value,
            fewer.interval,
            mean(single.each("tokens")).value,
            at_most=0.9,
        ),
    ]
    if NO_BONUS in answers:
        made.append(
            gap(
                "training: the bonus makes at least 10 points more hard questions be met by asking",
                "not reported",
                dual.each("asks", "hard"),
                answers[NO_BONUS].each("asks", "hard"),
                0.1,
            )
        )
    return made
