"""Customized curriculum learning: easy to hard by the model's own success rate, with and without hints.

Word sums of one to eight changes. A copy of pico has practised to solve short ones, and to go on where the
first steps of long ones are done; without a hint the longest are beyond it. From there it learns from the
same problems in equal numbers of steps: shuffled, from easy to hard, and from easy to hard with hints for
what it never solved, by supervised learning of the solutions and by group-relative policy gradient. What is
reported has no hints.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import Any

from dovetail.core import Claim, Example, Figure, Limits
from dovetail.core.seeds import stream
from dovetail.core.statistics import mean, paired_difference
from dovetail.decoding import Sampling
from dovetail.models.local import LocalModel
from dovetail.recipes.base import RecipeArm, RecipeResult, Scale, over_seeds
from dovetail.recipes.finetune import finetune
from dovetail.recipes.kept import kept
from dovetail.recipes.pico_model import pico
from dovetail.recipes.word_sums import WordSum, thought, word_sum_examples, word_sums
from dovetail.rewards import Correct
from dovetail.tasks.scorers import Numeric
from dovetail.training import Run, train
from dovetail.training.asking import put
from dovetail.training.data import CustomizedCurriculum, GuidedPrompting
from dovetail.training.data.base import Data
from dovetail.training.data.curriculum import begun, hint_lengths, hinted, split_steps
from dovetail.training.difficulty import measured, sampler
from dovetail.training.objectives import PolicyGradient, Supervised
from dovetail.training.objectives.base import Objective
from dovetail.training.pico.corpus import Document

CHANGES = tuple(range(1, 9))
ALONE = 2  # the start has practised to solve this many changes by itself
HARD = 6  # changes from which a problem counts as hard: the last stage's, mostly
STAGES, GROUP, MOST_TOKENS = 3, 8, 110
TEMPLATE = "<think>\n{hint}"  # hints are the beginning of the thought
ANSWER = thought("{steps}", "{answer}").removeprefix("<think>\n")
WAYS = ("uniform", "curriculum", "curriculum with hints")
LEARNING = ("GRPO", "SFT")
RATES = {"GRPO": 1e-4, "SFT": 5e-4}
DESCRIPTIONS = {
    "uniform": "all problems, shuffled",
    "curriculum": "easy to hard by the model's own success rate",
    "curriculum with hints": "easy to hard; the first steps are given where the model never succeeded",
}


@dataclass(frozen=True)
class Size:
    """Seeds under each kind of learning; documents and steps of the start; problems that are learned from,
    samples that measure each; training steps, completions of a step; problems of each length that are
    reported."""

    seeds: Mapping[str, int]
    documents: int
    start_steps: int
    problems: int
    samples: int
    steps: int
    batch: Mapping[str, int]
    reported: int


SIZES: dict[Scale, Size] = {
    "smoke": Size({"GRPO": 1, "SFT": 1}, 32, 1, 16, 2, 1, {"GRPO": 8, "SFT": 4}, 1),
    "pico": Size({"GRPO": 4, "SFT": 2}, 1920, 60, 240, 8, 30, {"GRPO": 64, "SFT": 32}, 40),
    "full": Size({"GRPO": 5, "SFT": 5}, 3200, 100, 800, 16, 180, {"GRPO": 128, "SFT": 32}, 200),
}


def start(size: Size, seed: int) -> LocalModel:
    """Pico, having practised short problems, and the last one to three steps of long ones."""
    rng = random.Random(stream(seed, "start"))
    made = word_sums(rng, size.documents, CHANGES[1:], 0)
    documents = [document(one, hidden(rng, len(one.steps))) for one in made]
    return finetune(pico(), documents, size.start_steps, seed=seed, rate=0.3, name="pico (practised)")


def hidden(rng: random.Random, steps: int) -> int:
    """How many steps a problem of the practice shows."""
    return 0 if steps <= ALONE else steps - rng.randint(1, ALONE)


def document(made: WordSum, shown: int) -> Document:
    asked = [{"role": "user", "content": made.question}]
    if not shown:
        return Document(tuple(asked), made.completion, thinking=True)
    first = begun("".join(f"{step}\n" for step in made.steps[:shown]), TEMPLATE)
    asked.append({"role": "assistant", "content": first})
    return Document(tuple(asked), made.completion.removeprefix(first), thinking=True)


def parts(way: str, steps: int) -> list[Data]:
    """What stands between the problems and the trainer."""
    curriculum = CustomizedCurriculum(stages=STAGES, stage_steps=-(-steps // STAGES))
    if way == "uniform":
        return []
    if way == "curriculum":
        return [curriculum]
    return [GuidedPrompting(template=TEMPLATE, answer=ANSWER), curriculum]


def trained(
    model: LocalModel,
    asked: Sequence[Example],
    learning: str,
    way: str,
    size: Size,
    seed: int,
    rate: float = 0,
) -> Run:
    objective: Objective = PolicyGradient(group_size=GROUP) if learning == "GRPO" else Supervised()
    run: Run = train(
        model,
        asked,
        objective=objective,
        rewards=[Correct("numeric")] if learning == "GRPO" else [],
        data=parts(way, size.steps),
        steps=size.steps,
        batch=size.batch[learning],
        learning_rate=rate or RATES[learning],
        max_new_tokens=MOST_TOKENS,
        samples_every=0,
        save_every=0,
        seed=seed,
    )
    return run


def answered(model: LocalModel, asked: Sequence[Example], seed: int) -> list[float]:
    """Whether each answer, sampled at temperature 1 as in training and without a hint, is right."""
    prompts = [put(model, e, seed=stream(seed, "asked", e.id)) for e in asked]
    written = Sampling().generate(model.engine, prompts, Limits(MOST_TOKENS))
    return [Numeric()(e, c).value for e, c in zip(asked, written, strict=True)]


def helped(asked: Sequence[Example]) -> list[Example]:
    """The hard ones, with three quarters of their steps."""
    hard = [e for e in asked if int(e.columns["changes"]) >= HARD]
    steps = [split_steps(str(e.columns["solution"])) for e in hard]
    return [
        hinted(e, "".join(own[: hint_lengths(len(own))[-1]]), TEMPLATE)
        for e, own in zip(hard, steps, strict=True)
    ]


def run(scale: Scale = "pico", seed: int = 0) -> RecipeResult:
    """Trains every way from the same start; each finished training is kept, so a killed run goes on."""
    size, folder = SIZES[scale], f"runs/recipes/{scale}/ccl"
    asked = word_sum_examples(size.reported * len(CHANGES), CHANGES, 2, seed, "reported")
    begin = cache(lambda: start(size, seed))
    base = {**asdict(size), "start": seed}

    def untrained() -> Any:
        return {"right": answered(begin(), asked, seed), "hinted": answered(begin(), helped(asked), seed)}

    found: dict[str, list[Any]] = {"start": [kept(folder, {**base, "what": "start"}, untrained)]}
    learned = kept(folder, {**base, "what": "difficulty"}, lambda: difficulty(begin(), size, seed))
    every = with_difficulty(word_sum_examples(size.problems, CHANGES, 0, seed, "train"), learned)
    pool = [
        e for e in every if e.columns["accuracy"] < 1
    ]  # for all ways: what is always solved teaches nothing

    def arm(learning: str, way: str, own: int) -> Any:
        done = trained(begin(), pool, learning, way, size, own)
        curves = {name: done.curve(name)[1] for name in ("reward", "zero_variance", "loss")}
        right, eased = (answered(done.model, a, seed) for a in (asked, helped(asked)))
        return {"right": right, "hinted": eased, "curves": curves}

    for learning in LEARNING:
        for own in range(seed, seed + size.seeds[learning]):
            for way in WAYS:
                key = {**base, "what": [learning, way, own], "rate": RATES[learning]}
                made = kept(folder, key, partial(arm, learning, way, own))
                found.setdefault(f"{learning}, {way}", []).append(made)
    answers = {name: Answers.of(runs, asked) for name, runs in found.items()}
    report = stages(pool, size)
    return RecipeResult(
        [one.arm(name) for name, one in answers.items()],
        claims(answers, seed),
        seeds=list(range(seed, seed + max(size.seeds.values()))),
        settings={
            "model": pico().describe(),
            "changes": CHANGES,
            "stages": STAGES,
            "learning_rates": RATES,
            "group_size": GROUP,
            **asdict(size),
        },
        notes=notes(every, report),
        series={
            "accuracy_by_changes": {
                "x": list(CHANGES),
                **{name: one.by_changes() for name, one in answers.items()},
            },
            "accuracy_by_seed": {n: [mean(r).value for r in one.right] for n, one in answers.items()},
            "zero_variance": {n: one.zero_variance for n, one in answers.items() if one.zero_variance},
            "stages": report,
        },
    )


def difficulty(model: LocalModel, size: Size, seed: int) -> dict[str, dict[str, float]]:
    """Columns of each problem: the model's success rate, and the shortest hint that helped."""
    ask = sampler(model, Numeric(), size.samples, max_new_tokens=MOST_TOKENS, seed=seed)
    found = measured(ask, word_sum_examples(size.problems, CHANGES, 0, seed, "train"), template=TEMPLATE)
    names = ("accuracy", "hint_steps", "hint_accuracy")
    return {e.id: {n: e.columns[n] for n in names if n in e.columns} for e in found}


def with_difficulty(asked: Sequence[Example], found: Mapping[str, Mapping[str, float]]) -> list[Example]:
    return [Example.ask(e.id, e.question, e.reference, **{**e.columns, **found[e.id]}) for e in asked]


def stages(pool: Sequence[Example], size: Size) -> list[dict[str, float]]:
    hints, curriculum = parts(WAYS[-1], size.steps)
    assert isinstance(curriculum, CustomizedCurriculum)
    rows: list[dict[str, float]] = curriculum.report(curriculum.examples(hints.examples(pool, 0), 0))
    return rows


@dataclass(frozen=True)
class Answers:
    """An arm's answers.

    Attributes:
        right: ``[seed][problem]``, 1 or 0.
        changes: of each problem.
        hinted: ``[seed][problem]``, likewise, of the hard problems with a hint.
        zero_variance: ``[seed][step]``, the share of groups whose answers were paid the same.
    """

    right: Sequence[Sequence[float]]
    changes: Sequence[int]
    hinted: Sequence[Sequence[float]] = ()
    zero_variance: Sequence[Sequence[float]] = ()

    @classmethod
    def of(cls, runs: Sequence[Mapping[str, Any]], asked: Sequence[Example]) -> Answers:
        shares = [run["curves"]["zero_variance"] for run in runs if "curves" in run]
        changes = [int(e.columns["changes"]) for e in asked]
        eased = [run["hinted"] for run in runs]
        return cls([run["right"] for run in runs], changes, eased, [s for s in shares if s])

    def each(self, at_least: int = 1) -> list[float]:
        """Per problem of so many changes, the mean over seeds: problems alone are independent."""
        values = zip(self.changes, over_seeds(self.right), strict=True)
        return [value for changes, value in values if changes >= at_least]

    def by_changes(self) -> list[float]:
        each = list(zip(self.changes, self.each(), strict=True))
        return [mean([v for c, v in each if c == changes]).value for changes in CHANGES]

    def last(self) -> list[float]:
        """Zero-variance shares of the last stage's steps."""
        return [share for run in self.zero_variance for share in run[-(len(run) // STAGES) :]]

    def arm(self, name: str) -> RecipeArm:
        figures: dict[str, Figure | float] = {"accuracy": mean(self.each())}
        figures["accuracy_hard"] = mean(self.each(HARD))
        if self.hinted:
            figures["accuracy_hard_hinted"] = mean(over_seeds(self.hinted))
        if self.zero_variance:
            figures["zero_variance"] = mean([share for run in self.zero_variance for share in run])
            figures["zero_variance_last_stage"] = mean(self.last())
        figures["seeds"] = float(len(self.right))
        way = name.partition(", ")[2]
        return RecipeArm(name, figures, DESCRIPTIONS.get(way, "pico, having practised; before any training"))


def claims(answers: Mapping[str, Answers], seed: int) -> list[Claim]:
    made = []
    paper = "clearly better on five benchmarks (figures not readable)"
    for learning in LEARNING:
        uniform, plain, guided = (answers[f"{learning}, {way}"] for way in WAYS)
        gain = paired_difference(guided.each(), uniform.each(), scale=1.0, seed=seed)
        made.append(
            Claim(
                f"{learning}: curriculum with hints is more accurate than uniform training",
                paper,
                gain.value,
                gain.interval,
                mean(uniform.each()).value,
                at_least=0.0,
                main=learning == "GRPO",
            )
        )
        hard = paired_difference(guided.each(HARD), uniform.each(HARD), scale=1.0, seed=seed)
        if learning == "GRPO":
            made.append(
                Claim(
                    f"GRPO: by at least 15 points on problems of {HARD} to {CHANGES[-1]} changes",
                    "not reported",
                    hard.value,
                    hard.interval,
                    mean(uniform.each(HARD)).value,
                    at_least=0.15,
                )
            )
            hints = paired_difference(guided.each(), plain.each(), scale=1.0, seed=seed)
            made.append(
                Claim(
                    "GRPO: curriculum with hints is more accurate than without",
                    paper,
                    hints.value,
                    hints.interval,
                    mean(plain.each()).value,
                    at_least=0.0,
                )
            )
            share = mean(guided.last(), seed=seed)
            made.append(
                Claim(
                    "GRPO: with hints, fewer than half of the hard stage's groups have equal rewards",
                    "not reported",
                    share.value,
                    share.interval,
                    mean(plain.last()).value,
                    at_most=0.5,
                )
            )
    return made


def notes(pool: Sequence[Example], report: Sequence[Mapping[str, float]]) -> list[str]:
    accuracies = [float(e.columns["accuracy"]) for e in pool]
    never = sum(a == 0 for a in accuracies)
    always = sum(a == 1 for a in accuracies)
    lost = sum(e.columns.get("hint_accuracy", 1) == 0 for e in pool)
    shown = "; ".join(f"{r['size']:.0f} at {r['accuracy']:.2f}, {r['guided']:.0%} guided" for r in report)
    return [
        "Word sums stand in for mathematics. The start is made so that hints help it, as they help a "
        "large model: it practised to end long problems whose first steps it had been given.",
        "Hints begin the answer, so that what comes after them looks as it does without a hint. Before, they "
        "stood in the question: there training with hints ended 11 points below uniform training with a "
        "start that could use them, and 10 points with one that could not.",
        f"Of {len(pool)} problems {always} were always solved and are left out of all arms, as they teach a "
        f"group-relative objective nothing; {never} were never solved. For {lost} of these no hint helped, "
        f"and they are left out of the guided arms. Stages (problems at mean success rate): {shown}.",
        "Reported answers are sampled at temperature 1, one per problem and seed, without hints.",
        "One optimizer state goes through all stages. Practice, steps and GRPO's rate were chosen on "
        "problems of other seeds, and are the same for all ways.",
    ]
