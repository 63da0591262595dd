"""VideoAuto-R1's inference (here) and its reward (`videoauto_training`).

Inference: does the confidence of the first answer tell which questions need thought?

Questions that are known by heart (facts, tables of small numbers) are mixed with questions that take steps; a
copy of pico practises the format on both. The threshold is chosen on other questions. Beside the gate stand
its two ends (never and always thinking), a gate that thinks as often but at random, and pico without the
format.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dovetail.core import Claim, Completion, Example, Figure, Task
from dovetail.core.statistics import mean, paired_difference, paired_ratio
from dovetail.decoding import Greedy, ThinkOnceAnswerTwice
from dovetail.models.local import LocalModel
from dovetail.recipes import questions, videoauto_training
from dovetail.recipes.base import RecipeArm, RecipeResult, Scale
from dovetail.recipes.finetune import finetune
from dovetail.recipes.measure import Answers, accuracy_claim, answer
from dovetail.tasks.atlas import World
from dovetail.training.pico.corpus import TWICE_PROMPT, Document, held_out

TWICE = ThinkOnceAnswerTwice(mode="second", instruction="pico")
RATE = 0.3
# Three of four questions are known by heart.
TURNS = (*("table", "table", "table", "chain-sum"), *("table", "table", "atlas-facts", "word-problem")) * 2
DESCRIPTIONS = {
    "gate": "thinks where the first answer is not confident, threshold chosen on other questions",
    "always think": "answers, thinks, answers again",
    "never think": "the first answer only",
    "plain thinking": "pico's ordinary thinking mode, greedy",
    "plain direct": "pico's no-thinking mode, greedy",
}


@dataclass(frozen=True)
class Size:
    """Questions that are reported, and that choose the threshold; steps of practice, 32 questions each."""

    examples: int
    tuning: int
    steps: int


SIZES: dict[Scale, Size] = {
    "smoke": Size(examples=12, tuning=12, steps=2),
    "pico": Size(examples=960, tuning=480, steps=480),
    "full": Size(examples=960, tuning=960, steps=2000),
}


def run(scale: Scale = "pico", seed: int = 0) -> RecipeResult:
    """Measures the gate on pico; ``full`` chooses the threshold on more questions.

    The paper's own models read video, which models.load does not take yet.
    """
    from dovetail.models import load

    size = SIZES[scale]
    pico = load("pico", device="cpu")
    assert isinstance(pico, LocalModel)
    model = taught(pico, size.steps, seed)
    task = questions.task(TURNS, fold=0)
    tuning, _ = questions.task(TURNS, fold=1).examples(size.tuning, seed + 1)
    examples, _ = task.examples(size.examples, seed)
    threshold = Twice.of(answer(model, task, tuning, TWICE, seed + 1), task, tuning).threshold()
    arms = {
        "gate": ThinkOnceAnswerTwice(threshold, instruction="pico"),
        "always think": TWICE,
        "never think": ThinkOnceAnswerTwice(mode="first", instruction="pico"),
    }
    found = {name: answer(model, task, examples, decoding, seed) for name, decoding in arms.items()}
    for name, thinking in (("plain thinking", True), ("plain direct", False)):
        found[name] = answer(pico, task, examples, Greedy(), seed, thinking=thinking)
    coin = Coin.of(found)
    hard = [float(e.columns["hard"]) for e in examples]
    every = Twice.of(found["always think"], task, examples)
    arms_trained, claims_trained, settings, series = videoauto_training.measure(model, TURNS, scale, seed)
    return RecipeResult(
        [*(arm(name, answers, hard) for name, answers in found.items()), coin.arm(), *arms_trained],
        [*claims(found, coin, hard, seed), *claims_trained],
        seeds=[seed, seed + 1],
        settings={
            "model": model.describe(),
            "examples": size.examples,
            "tuning": size.tuning,
            "threshold": threshold,
            "turns": TURNS,
            "training": settings,
        },
        notes=[
            f"The threshold was chosen on {size.tuning} questions of which none is reported: the fewest "
            "tokens at an accuracy no lower than always thinking there.",
            "Text, not video. Three of four questions are known by heart (facts, tables of numbers to 12); "
            "the fourth takes steps (four to six terms, one to four changes of a quantity) and is new.",
            f"Pico answers next to nothing at once: a copy practised the format on {32 * size.steps} "
            "questions; of the hard ones, every other first answer was made wrong. The plain arms are pico "
            "as it is shipped.",
            "The random gate is its expectation over coins of the gate's own rate, so it adds no noise. It "
            "writes the same two answers.",
            *videoauto_training.NOTES,
        ],
        series={
            "by_threshold": every.sweep(),
            "paper_thresholds": every.sweep((0.97, 0.98)),
            "training": series,
        },
    )


def taught(pico: LocalModel, steps: int, seed: int) -> LocalModel:
    """A copy of pico that has practised the format: what it can answer at once, it then does."""
    rng, world = random.Random(f"videoauto-r1-{seed}"), World(seed=0)
    documents: list[Document] = []
    while len(documents) < steps * 32:
        family = rng.choice(TURNS)
        made = questions.make(rng, family, world)
        by_heart = family in questions.BY_HEART
        if by_heart or not held_out(made.question):
            asked = ({"role": "system", "content": TWICE_PROMPT}, {"role": "user", "content": made.question})
            # a first answer that were always right would teach to repeat it, thought or no thought
            first = made.answer if by_heart or rng.random() < 0.5 else str(rng.randint(-99, 199))
            thought = f"<think>\n{made.reasoning}\n</think>"
            text = f"\\boxed{{{first}}}\n{thought}\n\n\\boxed{{{made.answer}}}"
            documents.append(Document(asked, text, thinking=True, family=family))
    return finetune(pico, documents, steps, seed=seed, rate=RATE, name="pico (practised)")


@dataclass(frozen=True)
class Twice:
    """Always-thinking completions, and what a gate would have made of each: all per example.

    Attributes:
        confidence: of the first answer.
        first, second: whether each answer is right.
        short, long: tokens up to the first box, and all of them.
    """

    confidence: Sequence[float]
    first: Sequence[float]
    second: Sequence[float]
    short: Sequence[float]
    long: Sequence[float]

    @classmethod
    def of(cls, answers: Answers, task: Task, examples: Sequence[Example]) -> Twice:
        [written] = answers.completions
        firsts = [replace(c, text=f"\\boxed{{{c.columns['first']}}}") for c in written]
        return cls(
            [c.columns["confidence"] for c in written],
            [task.scorer(e, c).value for e, c in zip(examples, firsts, strict=True)],
            answers.right,
            [float(c.columns["first_tokens"]) for c in written],
            [float(len(c.token_ids)) for c in written],
        )

    def at(self, threshold: float) -> tuple[float, float, float]:
        """Accuracy, mean tokens and think ratio of the gate."""
        n = len(self.confidence)
        at_once = [c >= threshold for c in self.confidence]
        right = sum(f if a else s for a, f, s in zip(at_once, self.first, self.second, strict=True))
        tokens = sum(s if a else t for a, s, t in zip(at_once, self.short, self.long, strict=True))
        return right / n, tokens / n, 1 - sum(at_once) / n

    def threshold(self) -> float:
        """The lowest one, so that with the fewest tokens, that is as accurate here as always thinking."""
        goal = sum(self.second) / len(self.second)
        steps = sorted({c for c in self.confidence if c >= 0})
        return min((t for t in steps if self.at(t)[0] >= goal), default=1.0)

    def sweep(self, thresholds: Sequence[float] = ()) -> dict[str, list[float]]:
        """Accuracy, tokens and think ratio against the threshold (by default, 21 quantiles)."""
        steps = sorted(c for c in self.confidence if c >= 0) or [1.0]
        chosen = list(thresholds) or [steps[q * (len(steps) - 1) // 20] for q in range(21)]
        points = [self.at(t) for t in chosen]
        names = ("accuracy", "tokens", "think_ratio")
        return {"threshold": chosen} | {n: [p[i] for p in points] for i, n in enumerate(names)}


@dataclass(frozen=True)
class Coin:
    """A gate that thinks as often as the real one, but at random: its expectation for each example."""

    right: Sequence[float]
    tokens: Sequence[float]
    rate: float

    @classmethod
    def of(cls, found: Mapping[str, Answers]) -> Coin:
        always, never = found["always think"], found["never think"]
        rate = mean(found["gate"].each(thought)).value

        def mixed(thinking: Sequence[float], direct: Sequence[float]) -> list[float]:
            return [rate * t + (1 - rate) * d for t, d in zip(thinking, direct, strict=True)]

        return cls(mixed(always.right, never.right), mixed(always.each(tokens), never.each(tokens)), rate)

    def arm(self) -> RecipeArm:
        figures = {"accuracy": mean(self.right), "tokens_written": mean(self.tokens)}
        return RecipeArm("random gate", {**figures, "think_ratio": self.rate}, "thinks as often, at random")


def thought(completion: Completion) -> float:
    return float(completion.columns.get("thought", False))


def tokens(completion: Completion) -> float:
    return float(completion.cost.tokens_written)


def arm(name: str, answers: Answers, hard: Sequence[float]) -> RecipeArm:
    """Accuracy and costs, overall and of the two halves."""
    figures: dict[str, Figure | float] = dict(answers.figures())
    written, thinks = answers.each(tokens), answers.each(thought)
    for label, of in (("easy", 0.0), ("hard", 1.0)):
        half = [i for i, h in enumerate(hard) if h == of]
        figures[f"accuracy_{label}"] = mean([answers.right[i] for i in half])
        figures[f"tokens_{label}"] = mean([written[i] for i in half])
        if not name.startswith("plain"):
            figures[f"think_ratio_{label}"] = mean([thinks[i] for i in half])
    return RecipeArm(name, figures, DESCRIPTIONS[name])


def claims(found: Mapping[str, Answers], coin: Coin, hard: Sequence[float], seed: int) -> list[Claim]:
    gate, always = found["gate"], found["always think"]
    saved = paired_ratio(gate.each(tokens), always.each(tokens), seed=seed)
    better = paired_difference(gate.right, coin.right, seed=seed)
    thinks = gate.each(thought)
    on_hard = [t for t, h in zip(thinks, hard, strict=True) if h]
    on_easy = [t for t, h in zip(thinks, hard, strict=True) if not h]
    apart = paired_difference(on_hard, on_easy[: len(on_hard)], scale=1.0, seed=seed)
    return [
        accuracy_claim(
            "the gate is at most 1 point less accurate than always thinking",
            "equal or better accuracy on most benchmarks (Qwen2.5-VL-7B, Qwen3-VL-8B)",
            gate,
            always,
            at_least=-0.01,
            seed=seed,
            main=True,
        ),
        Claim(
            "the gate writes at most 60% of the tokens of always thinking",
            "149 -> 44 tokens (30%)",
            saved.value,
            saved.interval,
            mean(always.each(tokens)).value,
            at_most=0.6,
            main=True,
        ),
        Claim(
            "the gate is at least 2 points more accurate than a random gate of the same rate",
            "not reported",
            better.value,
            better.interval,
            mean(coin.right).value,
            at_least=0.02,
        ),
        Claim(
            "the gate thinks at least 30 points more often on hard questions than on easy ones",
            "25% of MVBench, 51% of VideoMMMU",
            apart.value,
            apart.interval,
            mean(on_easy).value,
            at_least=0.3,
        ),
    ]
