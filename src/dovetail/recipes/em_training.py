"""EM-FT and EM-RL beside the untouched model and rewards that know the answers, at equal updates.

On pico itself: first on questions that it answers at once, with a name that it looks up in a text; then on
sums that it thinks about, whose completions differ in length. EM-RL's rewards are sums over tokens, so how
far they go with right answers, and how far with length, is measured before. Last the failure case: a model
that was taught mostly wrong answers to one kind of question, whose confidence points the wrong way.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from dovetail.core import Claim, Example, Figure, Scorer
from dovetail.core.statistics import mean, paired_difference, paired_ratio
from dovetail.decoding import Greedy, Sampling
from dovetail.decoding.base import Decoding
from dovetail.models.local import LocalModel
from dovetail.recipes.base import RecipeArm, Scale, over_seeds
from dovetail.rewards import Agreement, SequenceEntropy, TokenEntropy
from dovetail.tasks import task as named
from dovetail.tasks.scorers import scorer
from dovetail.training import Evaluation, Run, Settings, evaluate, train
from dovetail.training.judging import ByScorer
from dovetail.training.objectives import EntropyFinetuning, Objective, PolicyGradient, Supervised
from dovetail.training.objectives.policy_gradient import group_statistics
from dovetail.training.trainer import Trainer

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
    """Where training takes place, and how much of it: a task; whether the model thinks first, and the most
    tokens that it writes; seeds, updates, completions per update, learning rate; questions held out; those
    that the rewards are looked at on, eight completions each."""

    task: str
    thinking: bool
    tokens: int
    seeds: int
    steps: int
    batch: int
    rate: float
    held_out: int
    looked_at: int = 200


@dataclass(frozen=True)
class Misled:
    """The failure case: lessons, updates and completions of each, questions held out."""

    lessons: int = 60
    steps: int = 40
    batch: int = 64
    held_out: int = 1500


#: The first one's claims are the main ones.
SIZES: dict[Scale, tuple[Size, ...]] = {
    "smoke": (
        Size("atlas-multihop", False, 8, 1, 1, 4, 1e-4, 4, looked_at=1),
        Size("chain-sum", True, 8, 1, 1, 4, 3e-5, 4, looked_at=1),
    ),
    "pico": (
        Size("atlas-multihop", False, 32, 2, 30, 128, 1e-4, 1500),
        Size("chain-sum", True, 128, 1, 20, 64, 3e-5, 1500),
    ),
    "full": (Size("gsm8k", True, 1024, 3, 100, 2048, 1e-6, 500),),
}
FAILING: dict[Scale, Misled] = {"smoke": Misled(1, 1, 4, 4), "pico": Misled(), "full": Misled()}


@dataclass(frozen=True)
class Ground:
    """The model that training begins from, questions to learn from and to report, and their scorer."""

    model: LocalModel
    size: Size
    asked: Sequence[Example]
    held: Sequence[Example]
    scorer: Scorer

    @classmethod
    def of(cls, model: LocalModel, size: Size, seed: int) -> Ground:
        task = named(size.task)
        held, _ = task.examples(size.held_out, seed + 100)
        asked, _ = task.examples(size.steps * size.batch, seed)
        return cls(model, size, asked, held, task.scorer)

    def trained(self, name: str, seed: int) -> Run:
        objective, rewards, _ = ARMS[name]
        made: Run = train(
            self.model,
            self.asked,
            objective=objective,
            rewards=[ByScorer(self.scorer)] if rewards is None else rewards,
            steps=self.size.steps,
            batch=self.size.batch,
            learning_rate=self.size.rate,
            max_new_tokens=self.size.tokens,
            thinking=self.size.thinking,
            samples_every=0,
            save_every=0,
            seed=seed,
        )
        return made

    def evaluated(self, model: LocalModel, seed: int, decoding: Decoding) -> Evaluation:
        """How the held-out questions are answered."""
        return evaluate(
            model,
            self.held,
            self.scorer,
            decoding=decoding,
            max_new_tokens=self.size.tokens,
            thinking=self.size.thinking,
            seed=seed,
        )

    def alignment(self, seed: int) -> RecipeArm:
        """How EM-RL's rewards go with right answers, and with length, before training."""
        group, asked = 8, self.asked[: self.size.looked_at]
        settings = Settings(
            batch=group * len(asked),
            max_new_tokens=self.size.tokens,
            thinking=self.size.thinking,
            samples_every=0,
            save_every=0,
            seed=seed,
        )
        trainer = Trainer(
            self.model,
            asked,
            PolicyGradient(group),
            rewards=[ByScorer(self.scorer), TokenEntropy(), SequenceEntropy()],
            decoding=Sampling(),
            settings=settings,
        )
        rollouts = trainer.roll()
        trainer.judge(rollouts)
        right, token, sequence = rollouts.rewards.double().cpu().T
        length = rollouts.mask.sum(-1).double().cpu()
        pairs = {
            "token_reward_and_being_right": (token, right),
            "sequence_reward_and_being_right": (sequence, right),
            "token_reward_and_length": (token, length),
            "sequence_reward_and_length": (sequence, length),
        }
        figures: dict[str, Figure | float] = {
            name: correlation(a, b, rollouts.group.cpu()) for name, (a, b) in pairs.items()
        }
        return RecipeArm(f"rewards before training: {self.size.task}", figures, "correlations within groups")


def correlation(a: Tensor, b: Tensor, group: Tensor) -> float:
    """Pearson's, of what two [N] rows differ by from their groups' means; 0 where one never does."""
    known = torch.ones_like(group, dtype=torch.bool)
    a, b = (row - group_statistics(row, known, group)[1] for row in (a, b))
    norm = float(a.norm() * b.norm())
    return float(a @ b) / norm if norm else 0.0


@dataclass(frozen=True)
class Trained:
    """All arms on one ground: evaluations by arm, one per seed, and the runs."""

    sampled: Mapping[str, Sequence[Evaluation]]
    greedy: Mapping[str, Sequence[Evaluation]]
    runs: Mapping[str, Sequence[Run]]

    @classmethod
    def of(cls, ground: Ground, names: Sequence[str], seed: int) -> Trained:
        seeds = range(seed, seed + ground.size.seeds)
        runs = {name: [ground.trained(name, own) for own in seeds] for name in names}
        models = {"untouched": [ground.model for _ in seeds]}
        models |= {name: [run.model for run in of] for name, of in runs.items()}
        sampled = {
            name: [ground.evaluated(m, own, Sampling(1.0)) for own, m in zip(seeds, of, strict=True)]
            for name, of in models.items()
        }
        greedy = {
            name: [ground.evaluated(run.model, seed, Greedy()) for run in of] for name, of in runs.items()
        }
        greedy = {"untouched": [ground.evaluated(ground.model, seed, Greedy())] * len(seeds), **greedy}
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
    model: LocalModel, scale: Scale, seed: int
) -> tuple[list[RecipeArm], list[Claim], dict[str, Any], dict[str, Any]]:
    """Arms, claims, settings and series of the training half."""
    arms: list[RecipeArm] = []
    found: list[Claim] = []
    curves: dict[str, Any] = {}
    for place, size in enumerate(SIZES[scale]):
        main = place == 0
        ground = Ground.of(model, size, seed)
        arms.append(ground.alignment(seed))
        trained = Trained.of(ground, list(ARMS) if main else LABEL_FREE, seed)
        arms += trained.arms(f"training, {size.task}")
        found += claims(trained, size.task, seed, main)
        for name, of in trained.runs.items():
            x, y = of[0].curve("entropy")
            curves[f"{size.task}, {name}"] = {"x": x, "y": y}
    arm, failing = failure(model, FAILING[scale], seed)
    settings = {
        "arms": {name: why for name, (_, _, why) in ARMS.items()},
        "grounds": [asdict(size) for size in SIZES[scale]],
        "failure": asdict(FAILING[scale]),
    }
    return [*arms, arm], [*found, failing], settings, {"entropy": curves}


def claims(trained: Trained, task: str, seed: int, main: bool) -> list[Claim]:
    """What the paper says of training without labels; the comparisons only where all arms were trained."""
    figures = {
        "EM-FT": "24.9 to 40.2 on five sets (Qwen2.5-Math-7B)",
        "EM-RL, token": "24.9 to 42.9",
        "EM-RL, sequence": "24.9 to 41.6",
    }
    found = [
        _better(
            f"on {task}, {arm} raises accuracy at temperature 1, without labels",
            paper,
            trained.sampled,
            arm,
            seed=seed,
            main=main,
        )
        for arm, paper in figures.items()
    ]
    for than, paper in (("RLOO", "42.9 against 43.9"), ("SC-RL", "42.9 against 40.7")):
        if than in trained.sampled:
            told = ", which knows the answers" if than == "RLOO" else ""
            text = f"on {task}, EM-RL, token is at most 3 points below {than}{told} (temperature 1)"
            found.append(_better(text, paper, trained.sampled, "EM-RL, token", than, -0.03, seed))
    found += [
        _better(
            f"on {task}, {arm} costs greedy decoding at most 3 points",
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
    text = f"on {task}, entropy per token falls to at most 0.8 of what it was, without labels"
    found.append(Claim(text, "falls throughout", ratio.value, ratio.interval, 1.0, at_most=0.8))
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


def failure(model: LocalModel, size: Misled, seed: int) -> tuple[RecipeArm, Claim]:
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
    return over_seeds(one.values for one in of)


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
