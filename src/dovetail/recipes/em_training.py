"""EM-FT and EM-RL beside the untouched model and rewards that know the answers, at equal updates.

Every arm takes the same number of updates over the same number of completions, at one learning rate. Then the
failure case: a model that was taught mostly wrong answers to one kind of question, whose confidence therefore
points the wrong way.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dovetail.core import Claim, Example, Figure, Task
from dovetail.core.statistics import mean, paired_difference, paired_ratio, score
from dovetail.decoding import Sampling
from dovetail.models.local import LocalModel
from dovetail.recipes.base import RecipeArm, Scale
from dovetail.rewards import Agreement, SequenceEntropy, TokenEntropy
from dovetail.training import Evaluation, Run, evaluate, train
from dovetail.training.objectives import EntropyFinetuning, Objective, PolicyGradient, Supervised

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


@dataclass(frozen=True)
class Size:
    """Seeds, updates, completions per update, questions held out, learning rate, lessons in wrong sums."""

    seeds: int
    steps: int
    batch: int
    held_out: int
    rate: float = 2e-5
    lessons: int = 60


SIZES: dict[Scale, Size] = {
    "smoke": Size(seeds=1, steps=1, batch=4, held_out=4, lessons=1),
    "pico": Size(seeds=2, steps=40, batch=32, held_out=300),
    "full": Size(seeds=3, steps=100, batch=2048, held_out=500, rate=1e-6),
}


def measure(
    model: LocalModel, task: Task, scale: Scale, seed: int
) -> tuple[list[RecipeArm], list[Claim], dict[str, Any], dict[str, Any]]:
    """Arms, claims, settings and series of the training half."""
    size = SIZES[scale]
    held, _ = task.examples(size.held_out, seed + 100)
    runs: dict[str, list[Run]] = {name: [] for name in ARMS}
    for turn in range(size.seeds):
        for name in ARMS:
            runs[name].append(_run(name, model, task, size, seed + turn))
    seeds = range(size.seeds)
    sampled = {"untouched": [_sampled(model, held, task, seed + s) for s in seeds]}
    greedy = {"untouched": [evaluate(model, held, task.scorer, max_new_tokens=128)] * size.seeds}
    for name, of in runs.items():
        sampled[name] = [_sampled(run.model, held, task, seed + s) for s, run in enumerate(of)]
        greedy[name] = [evaluate(run.model, held, task.scorer, max_new_tokens=128) for run in of]
    arms = [_arm(name, sampled[name], greedy[name], runs.get(name, ())) for name in sampled]
    arm, failing = failure(model, size, seed)
    settings = {
        "arms": {name: why for name, (_, _, why) in ARMS.items()},
        "updates": size.steps,
        "completions per update": size.batch,
        "held out": size.held_out,
        "learning rate": size.rate,
    }
    curves = {
        name: {"x": of[0].curve("entropy")[0], "y": of[0].curve("entropy")[1]} for name, of in runs.items()
    }
    return [*arms, arm], [*claims(sampled, greedy, runs, seed), failing], settings, {"entropy": curves}


def claims(
    sampled: Mapping[str, Sequence[Evaluation]],
    greedy: Mapping[str, Sequence[Evaluation]],
    runs: Mapping[str, Sequence[Run]],
    seed: int,
) -> list[Claim]:
    """What the paper says of training without labels."""

    def better(
        text: str, paper: str, arm: str, than: str, at_least: float, of: Any, main: bool = False
    ) -> Claim:
        values, base = _values(of[arm]), _values(of[than])
        gap = paired_difference(values, base, scale=1.0, seed=seed)
        return Claim(
            text, paper, gap.value, gap.interval, sum(base) / len(base), at_least=at_least, main=main
        )

    figures = {
        "EM-FT": "24.9 to 40.2 on five sets (Qwen2.5-Math-7B)",
        "EM-RL, token": "24.9 to 42.9",
        "EM-RL, sequence": "24.9 to 41.6",
    }
    found = [
        better(
            f"{arm} raises accuracy at temperature 1, without labels",
            paper,
            arm,
            "untouched",
            0.0,
            sampled,
            True,
        )
        for arm, paper in figures.items()
    ]
    found += [
        better(
            "EM-RL, token is at most 3 points below RLOO, which knows the answers (temperature 1)",
            "42.9 against 43.9",
            "EM-RL, token",
            "RLOO",
            -0.03,
            sampled,
        ),
        better(
            "EM-RL, token is at most 3 points below SC-RL (temperature 1)",
            "42.9 against 40.7",
            "EM-RL, token",
            "SC-RL",
            -0.03,
            sampled,
        ),
    ]
    found += [
        better(
            f"{arm} costs greedy decoding at most 3 points", "not reported", arm, "untouched", -0.03, greedy
        )
        for arm in LABEL_FREE
    ]
    first, last = (
        [of.curve("entropy")[1][place] for name in LABEL_FREE for of in runs[name]] for place in (0, -1)
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


# --- where confidence points the wrong way --------------------------------------------------------------


def failure(model: LocalModel, size: Size, seed: int) -> tuple[RecipeArm, Claim]:
    """A model that was taught wrong sums six times of ten, before and after EM-FT on such questions."""
    from dovetail.tasks.scorers import scorer

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


# --- runs and figures -----------------------------------------------------------------------------------


def _run(name: str, model: LocalModel, task: Task, size: Size, seed: int) -> Run:
    objective, rewards, _ = ARMS[name]
    return train(
        model,
        task,
        objective=objective,
        rewards=rewards,
        steps=size.steps,
        batch=size.batch,
        learning_rate=size.rate,
        max_new_tokens=128,
        examples=2000 if size.steps > 1 else 8,
        seed=seed,
    )


def _sampled(model: LocalModel, examples: Sequence[Example], task: Task, seed: int) -> Evaluation:
    return evaluate(model, examples, task.scorer, decoding=Sampling(1.0), max_new_tokens=128, seed=seed)


def _values(of: Sequence[Evaluation]) -> list[float]:
    return [value for one in of for value in one.values]


def _arm(
    name: str, sampled: Sequence[Evaluation], greedy: Sequence[Evaluation], runs: Sequence[Run]
) -> RecipeArm:
    figures: dict[str, Figure | float] = {
        "accuracy_at_temperature_1": score(_values(sampled)),
        "greedy_accuracy": score(_values(greedy)),
        "tokens_written": mean([float(n) for one in sampled for n in one.lengths]),
    }
    if runs:
        figures["nats_per_token"] = mean([run.curve("entropy")[1][-1] for run in runs])
        figures["seconds_per_update"] = mean([s for run in runs for s in run.curve("seconds")[1]])
    return RecipeArm(f"training: {name}", figures, "" if name == "untouched" else ARMS[name][2])
