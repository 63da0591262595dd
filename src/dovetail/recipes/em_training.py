"""EM-FT and EM-RL beside the untouched model and rewards that know the answers, at equal updates.

First on a copy of pico that has practised word sums until it is nearly always right, as the paper's models
are able at what they are asked; then on pico itself and its chain sums, where it is right six times of ten at
temperature 1. Every arm takes the same number of updates over the same number of completions, at one learning
rate, or fewer where accuracy on validation questions falls (the paper, too, stopped by validation questions).
Last the failure case: a model that was taught mostly wrong answers to one kind of question, whose
confidence therefore points the wrong way.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dovetail.core import Claim, Example, Figure, Scorer, Task
from dovetail.core.seeds import stream
from dovetail.core.statistics import mean, paired_difference, paired_ratio
from dovetail.decoding import Sampling
from dovetail.models.local import LocalModel
from dovetail.recipes.base import RecipeArm, Scale
from dovetail.recipes.finetune import finetune
from dovetail.recipes.word_sums import word_sum_examples, word_sums
from dovetail.rewards import Agreement, SequenceEntropy, TokenEntropy
from dovetail.tasks.scorers import Numeric, scorer
from dovetail.training import Evaluation, Run, evaluate, train
from dovetail.training.judging import ByScorer
from dovetail.training.monitors import EarlyStopOnGold
from dovetail.training.objectives import EntropyFinetuning, Objective, PolicyGradient, Supervised
from dovetail.training.pico.corpus import Document

# Leave-one-out, no division by a deviation, sums over tokens, KL 0.001 with the initial model (sect. 3.2).
RLOO = PolicyGradient(4, "leave-one-out", "none", average="constant", kl=0.001)
ARMS: Mapping[str, tuple[Objective, Sequence[Any] | None, str]] = {
    "EM-FT": (EntropyFinetuning(), (), "entropy of the model's own completions, one per question"),
    "EM-RL, token": (RLOO, (TokenEntropy(),), "minus the summed token entropies, 4 completions per question"),
    "EM-RL, sequence": (RLOO, (SequenceEntropy(),), "the log-probability, 4 completions per question"),
    "SC-RL": (RLOO, (Agreement(),), "agreement within the group, 4 completions per question"),
    "RLOO": (RLOO, None, "right answers, 4 completions per question"),
}
LABEL_FREE = ("EM-FT", "EM-RL, token", "EM-RL, sequence")
ITSELF = "pico itself"
CHANGES = (2, 3, 4, 5)
WRITTEN = 128  # tokens at most
PRACTICE_RATE = 0.3


@dataclass(frozen=True)
class Size:
    """Seeds, updates, completions per update, questions held out, learning rate, updates between two looks at
    so many validation questions, steps of the practice (0: the model and the task as they are), lessons in
    wrong sums."""

    seeds: int
    steps: int
    batch: int
    held_out: int
    rate: float = 3e-5
    every: int = 5
    validation: int = 200
    practice: int = 40
    lessons: int = 60


SIZES: dict[Scale, Size] = {
    "smoke": Size(seeds=1, steps=1, batch=4, held_out=4, validation=4, practice=1, lessons=1),
    "pico": Size(seeds=2, steps=40, batch=64, held_out=1500),
    "full": Size(seeds=3, steps=100, batch=2048, held_out=500, rate=1e-6, practice=0),
}


@dataclass(frozen=True)
class Ground:
    """Where training takes place: the model that it begins from, questions to learn from, to stop by and to
    report, and their scorer."""

    model: LocalModel
    asked: Sequence[Example]
    validation: Sequence[Example]
    held: Sequence[Example]
    scorer: Scorer

    @classmethod
    def itself(cls, model: LocalModel, task: Task, size: Size, seed: int) -> Ground:
        """The model and the task as they are."""
        held, _ = task.examples(size.held_out, seed + 100)
        validation, _ = task.examples(size.validation, seed + 200)
        asked, _ = task.examples(size.steps * size.batch, seed)
        return cls(model, asked, validation, held, task.scorer)

    @classmethod
    def practised(cls, model: LocalModel, size: Size, seed: int) -> Ground:
        """A copy that has practised word sums, and others of them."""
        made = word_sums(random.Random(stream(seed, "em-practice")), 32 * size.practice, CHANGES, 0)
        documents = [
            Document(({"role": "user", "content": one.question},), one.completion, thinking=True)
            for one in made
        ]
        name = f"{model.name} (practised)"
        ready = finetune(model, documents, size.practice, seed=seed, rate=PRACTICE_RATE, name=name)
        held = word_sum_examples(size.held_out, CHANGES, 2, seed, "em-held")
        validation = word_sum_examples(size.validation, CHANGES, 1, seed, "em-validation")
        asked = word_sum_examples(size.steps * size.batch, CHANGES, 0, seed, "em-asked")
        return cls(ready, asked, validation, held, Numeric())

    def trained(self, name: str, size: Size, seed: int) -> Run:
        objective, rewards, _ = ARMS[name]
        made: Run = train(
            self.model,
            self.asked,
            objective=objective,
            rewards=[ByScorer(self.scorer)] if rewards is None else rewards,
            steps=size.steps,
            batch=size.batch,
            learning_rate=size.rate,
            max_new_tokens=WRITTEN,
            held_out=self.validation,
            scorer=self.scorer,
            evaluate_every=size.every,
            monitors=[EarlyStopOnGold(patience=2)],
            samples_every=0,
            save_every=0,
            seed=seed,
        )
        return made

    def sampled(self, model: LocalModel, seed: int) -> Evaluation:
        """The held-out questions, sampled at temperature 1."""
        return evaluate(
            model, self.held, self.scorer, decoding=Sampling(1.0), max_new_tokens=WRITTEN, seed=seed
        )

    def greedy(self, model: LocalModel) -> Evaluation:
        return evaluate(model, self.held, self.scorer, max_new_tokens=WRITTEN)


@dataclass(frozen=True)
class Trained:
    """All arms on one ground: evaluations by arm, one per seed, and the runs."""

    sampled: Mapping[str, Sequence[Evaluation]]
    greedy: Mapping[str, Sequence[Evaluation]]
    runs: Mapping[str, Sequence[Run]]

    @classmethod
    def of(cls, ground: Ground, names: Sequence[str], size: Size, seed: int) -> Trained:
        seeds = range(seed, seed + size.seeds)
        runs = {name: [ground.trained(name, size, own) for own in seeds] for name in names}
        sampled = {"untouched": [ground.sampled(ground.model, own) for own in seeds]}
        greedy = {"untouched": [ground.greedy(ground.model)] * size.seeds}
        for name, of in runs.items():
            sampled[name] = [ground.sampled(run.model, own) for own, run in zip(seeds, of, strict=True)]
            greedy[name] = [ground.greedy(run.model) for run in of]
        return cls(sampled, greedy, runs)

    def arms(self, where: str) -> list[RecipeArm]:
        return [
            _arm(
                f"{where}: {name}",
                ARMS[name][2] if name in ARMS else "",
                self.sampled[name],
                of,
                self.runs.get(name, ()),
            )
            for name, of in self.greedy.items()
        ]


def measure(
    model: LocalModel, task: Task, scale: Scale, seed: int
) -> tuple[list[RecipeArm], list[Claim], dict[str, Any], dict[str, Any]]:
    """Arms, claims, settings and series of the training half."""
    size = SIZES[scale]
    able = Ground.practised(model, size, seed) if size.practice else Ground.itself(model, task, size, seed)
    trained = Trained.of(able, list(ARMS), size, seed)
    arms, found = trained.arms("training"), claims(trained, seed)
    if size.practice:
        itself = Trained.of(Ground.itself(model, task, size, seed), LABEL_FREE, replace(size, seeds=1), seed)
        arms += itself.arms(ITSELF)
        found += [
            _better(
                f"on {task.name}, {arm} raises {ITSELF}'s accuracy at temperature 1",
                "not reported",
                itself.sampled,
                arm,
                seed=seed,
            )
            for arm in LABEL_FREE
        ]
    arm, failing = failure(model, size, seed)
    settings = {
        "arms": {name: why for name, (_, _, why) in ARMS.items()},
        "updates": size.steps,
        "completions per update": size.batch,
        "held out": size.held_out,
        "learning rate": size.rate,
        "steps of practice": size.practice,
        "model": able.model.name,
    }
    curves = {
        name: {"x": of[0].curve("entropy")[0], "y": of[0].curve("entropy")[1]}
        for name, of in trained.runs.items()
    }
    return [*arms, arm], [*found, failing], settings, {"entropy": curves}


def claims(trained: Trained, seed: int) -> list[Claim]:
    """What the paper says of training without labels."""
    figures = {
        "EM-FT": "24.9 to 40.2 on five sets (Qwen2.5-Math-7B)",
        "EM-RL, token": "24.9 to 42.9",
        "EM-RL, sequence": "24.9 to 41.6",
    }
    found = [
        _better(
            f"{arm} raises accuracy at temperature 1, without labels",
            paper,
            trained.sampled,
            arm,
            seed=seed,
            main=True,
        )
        for arm, paper in figures.items()
    ]
    for than, paper in (("RLOO", "42.9 against 43.9"), ("SC-RL", "42.9 against 40.7")):
        told = ", which knows the answers" if than == "RLOO" else ""
        text = f"EM-RL, token is at most 3 points below {than}{told} (temperature 1)"
        found.append(_better(text, paper, trained.sampled, "EM-RL, token", than, -0.03, seed))
    found += [
        _better(
            f"{arm} costs greedy decoding at most 3 points",
            "not reported",
            trained.greedy,
            arm,
            at_least=-0.03,
            seed=seed,
        )
        for arm in LABEL_FREE
    ]
    first, last = (
        [of.curve("entropy")[1][place] for name in LABEL_FREE for of in trained.runs[name]]
        for place in (0, -1)
    )
    ratio = paired_ratio(last, first, seed=seed)
    found.append(
        Claim(
            "without labels entropy per token falls to at most 0.8 of what it was",
            "falls throughout",
            ratio.value,
            ratio.interval,
            1.0,
            at_most=0.8,
        )
    )
    return found


def _better(
    text: str,
    paper: str,
    of: Mapping[str, Sequence[Evaluation]],
    arm: str,
    than: str = "untouched",
    at_least: float = 0.0,
    seed: int = 0,
    main: bool = False,
) -> Claim:
    """That an arm's values are above another's, over questions: each is the mean over seeds."""
    values, base = _values(of[arm]), _values(of[than])
    gap = paired_difference(values, base, scale=1.0, seed=seed)
    return Claim(text, paper, gap.value, gap.interval, mean(base).value, at_least=at_least, main=main)


# --- where confidence points the wrong way --------------------------------------------------------------


def failure(model: LocalModel, size: Size, seed: int) -> tuple[RecipeArm, Claim]:
    """A model that was taught wrong sums six times of ten, before and after EM-FT on such questions."""
    taught = _examples(random.Random(f"em-lessons-{seed}"), 800, wrong=0.6)
    misled = train(
        model,
        taught,
        objective=Supervised(),
        steps=size.lessons,
        batch=32,
        learning_rate=1e-3,
        thinking=False,
        seed=seed,
    ).model
    asked = _examples(random.Random(f"em-asked-{seed}"), 2 * size.held_out, wrong=0.0)
    train_on, held = asked[size.held_out :], asked[: size.held_out]
    judge = scorer("numeric")
    run = train(
        misled,
        train_on,
        objective=EntropyFinetuning(),
        rewards=[],
        steps=size.steps,
        batch=size.batch,
        learning_rate=3e-4,
        max_new_tokens=16,
        thinking=False,
        seed=seed,
    )
    before, after = (
        evaluate(m, held, judge, decoding=Sampling(1.0), max_new_tokens=16, thinking=False, seed=seed)
        for m in (misled, run.model)
    )
    gap = paired_difference(after.values, before.values, scale=1.0, seed=seed)
    arm = RecipeArm(
        "taught wrong",
        {"accuracy_before": before.accuracy, "accuracy_after": after.accuracy},
        "sums of two numbers, answered at once; six of ten lessons were off by one; then EM-FT",
    )
    text = "where six of ten lessons were wrong, EM-FT lowers accuracy: it locks the error in"
    paper = "no gain where confidence and values part (IndVal)"
    return arm, Claim(text, paper, gap.value, gap.interval, before.accuracy.value, at_most=0.0)


def _examples(rng: random.Random, count: int, wrong: float) -> list[Example]:
    """Sums of two one-digit numbers, a share of them with an answer that is one too high."""
    made = []
    for i in range(count):
        a, b = rng.randint(1, 9), rng.randint(1, 9)
        told = a + b + (rng.random() < wrong)
        made.append(
            Example.ask(f"sum-{i}", f"What is {a} + {b}?", str(a + b), completion=f"\\boxed{{{told}}}")
        )
    return made


# --- figures --------------------------------------------------------------------------------------------


def _values(of: Sequence[Evaluation]) -> list[float]:
    """Per question, the mean over seeds: questions alone are independent of each other."""
    return [sum(row) / len(row) for row in zip(*(one.values for one in of), strict=True)]


def _arm(
    name: str,
    description: str,
    sampled: Sequence[Evaluation],
    greedy: Sequence[Evaluation],
    runs: Sequence[Run],
) -> RecipeArm:
    figures: dict[str, Figure | float] = {
        "accuracy_at_temperature_1": mean(_values(sampled)),
        "greedy_accuracy": mean(_values(greedy)),
        "tokens_written": mean([float(n) for one in sampled for n in one.lengths]),
    }
    if runs:
        figures["nats_per_token"] = mean([run.curve("entropy")[1][-1] for run in runs])
        figures["updates"] = mean([float(len(run.history)) for run in runs])
        figures["seconds_per_update"] = mean([s for run in runs for s in run.curve("seconds")[1]])
    return RecipeArm(name, figures, description)
