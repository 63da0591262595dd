"""BARREL: does a model that is asked more than it knows learn to say so, and what does that cost its answers?

A copy of pico knows the facts of its world, and nothing of strangers, and has practised to answer regardless,
as reasoning models do. Half of the questions that are learned from and that are asked
are about its world, half about strangers: labelled by asking the model, practised as boundary-aware traces,
then trained by group-relative policy gradient with BARREL's reward. Beside it stand plain training on right
answers, the practice alone, and the reward alone. No question is both learned from and asked.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np

from dovetail.core import Claim, Example, Figure, Limits, Message
from dovetail.core.seeds import stream
from dovetail.core.statistics import mean
from dovetail.decoding import Sampling
from dovetail.models.local import LocalModel
from dovetail.recipes.base import RecipeArm, RecipeResult, Scale
from dovetail.recipes.finetune import finetune
from dovetail.recipes.kept import kept, kept_model
from dovetail.recipes.pico_model import pico
from dovetail.rewards import BoundaryReward, Correct
from dovetail.tasks.atlas import OPEN_BOOK_RELATIONS, Fact, World, ask
from dovetail.training import train
from dovetail.training.data import BoundaryAware
from dovetail.training.data.boundary_aware import Writer, few_shot, label_knowledge
from dovetail.training.objectives import PolicyGradient, Supervised
from dovetail.training.pico.corpus import SYSTEM_PROMPTS, Document
from dovetail.training.reliability_report import outcome, reliability_gain, reliability_metrics

# Pico has hardly seen a conversation of several turns: its prompts differ in the system message instead.
PROMPTS = ((), *((Message("system", text),) for text in SYSTEM_PROMPTS))
K, L = len(PROMPTS), 4
START_RATE, PRACTICE_RATE, RATE = 0.3, 1.5e-4, 1e-4
REFUSED = 0.1  # of the strangers that the start practised: reasoning models seldom refuse
GROUP, MOST_TOKENS = 8, 48
BINS = (0.0, 0.001, 0.25, 0.5, 0.75, 1.001)  # of the start's hit rate; the first is "never"
PLAIN, PRACTICE, REWARD, BARREL = "GRPO", "SFT only", "reward only", "BARREL"
DESCRIPTIONS = {
    "start": "pico, having practised to answer whatever it is asked",
    PLAIN: "group-relative policy gradient, 1 for the right answer, 0 for all else",
    PRACTICE: "boundary-aware traces alone",
    REWARD: "BARREL's reward from the start, without the traces",
    BARREL: "boundary-aware traces, then 1 right, -0.5 refused, -1 wrong",
}
NOTES = (
    "Facts about one small world, and about strangers to it, stand in for TriviaQA, SciQ and NQ-Open. Facts "
    "of a trade are left out: eight can be guessed.",
    "The start is made, not found: it practised the facts of its world until it knew them, and to give "
    "strangers any name nine times of ten. What is unknown can therefore be told from the question, which is "
    "easier than in the paper.",
    "In the first set-up pico's own, half-known facts were asked after, and the start refused more: +6.6 "
    "points of reliability [2.9, 9.8], -5.5 of accuracy. Pilots on another split of the same facts (seed 1) "
    "chose the start, the practice and the number of steps of all arms.",
    "Traces are written by template: the paper's come from GPT-4.",
    "The arms with practice take its updates in addition; all trainings by reward take equally many.",
    "Answers are sampled at temperature 1, in training too (paper: 0.6), several per question. Intervals are "
    "over questions, each the mean over the seeds, which share one start.",
)


@dataclass(frozen=True)
class Size:
    """Updates of the start; facts, and as many strangers, learned from and asked; updates of the practice;
    steps and completions of the training; seeds; answers per question and seed; arms beside the start."""

    start: int
    learned: int
    asked: int
    practice: int
    steps: int
    batch: int
    seeds: int
    samples: int
    arms: tuple[str, ...] = tuple(DESCRIPTIONS)[1:]


SIZES: dict[Scale, Size] = {
    "smoke": Size(1, 4, 4, 1, 1, 8, 1, 1, (PLAIN, BARREL)),
    "pico": Size(200, 132, 132, 40, 120, 64, 2, 4),
    "full": Size(200, 132, 132, 60, 200, 128, 5, 8),
}


def run(scale: Scale = "pico", seed: int = 0) -> RecipeResult:
    """Labels, then trains every arm from pico; each finished training is kept."""
    size, folder = SIZES[scale], f"runs/recipes/{scale}/barrel"
    world = World(0)
    key = {**asdict(size), "arms": None, "start": seed}
    model = cache(lambda: kept_model(folder, key, pico(), lambda: start(world, size.start, seed)))
    learned, asked = facts(world, size, seed)

    def labels() -> Any:
        sample = few_shot(model(), PROMPTS, max_new_tokens=MOST_TOKENS, seed=seed)
        found = label_knowledge(
            sample,
            [e.question for e in learned + asked],
            [[e.reference or ""] for e in learned + asked],
            K,
            L,
        )
        return [[label.known, label.hit_rate] for label in found]

    known = kept(folder, {**key, "labels": True}, labels)
    learned = [
        replace(e, columns={**e.columns, "known": bool(k), "hit_rate": rate})
        for e, (k, rate) in zip(learned, known, strict=False)
    ]
    rates = [rate for _, rate in known[len(learned) :]]
    write = writer(world, learned, seed)
    practised = cache(lambda own: practise(model(), learned, write, size, own))

    def arm(name: str, own: int) -> Any:
        begin = practised(own) if name in (PRACTICE, BARREL) else model()
        reward = Correct("exact") if name == PLAIN else BoundaryReward()
        done = begin if name == PRACTICE else trained(begin, learned, reward, size, own)
        return answers(done, asked, size.samples, own)

    def before(own: int) -> Any:
        return answers(model(), asked, size.samples, own)

    found: dict[str, list[Any]] = {}
    for name in ("start", *size.arms):
        for own in range(seed, seed + size.seeds):
            make = partial(before, own) if name == "start" else partial(arm, name, own)
            found.setdefault(name, []).append(kept(folder, {**key, "arm": name, "seed": own}, make))
    arms = {name: Answers.of(runs) for name, runs in found.items()}
    return RecipeResult(
        [one.arm(name, rates, seed) for name, one in arms.items()],
        claims(arms, rates, seed),
        seeds=list(range(seed, seed + size.seeds)),
        settings={
            "model": pico().describe(),
            "world": asdict(world),
            "known among the learned": sum(bool(e.columns["known"]) for e in learned),
            "mean hit rate": {
                "learned": float(np.mean([r for _, r in known[: len(learned)]])),
                "asked": float(np.mean(rates)),
            },
            "K, L": (K, L),
            "learning_rate": RATE,
            "learning_rate of the practice": PRACTICE_RATE,
            "group_size": GROUP,
            "max_new_tokens": MOST_TOKENS,
            **asdict(size),
        },
        notes=NOTES,
        series={
            "refused_by_hit_rate": {
                "from": BINS[:-1],
                "questions": [len(members(rates, b)) for b in range(len(BINS) - 1)],
                **{name: one.by_hit_rate(rates) for name, one in arms.items()},
            },
            "by_seed": {name: [Answers.of([r]).point() for r in runs] for name, runs in found.items()},
        },
    )


def start(world: World, steps: int, seed: int) -> LocalModel:
    """Pico, having practised to answer: all facts of its world, and for strangers mostly any name."""
    rng, documents = random.Random(stream(seed, "start")), []
    lot = strangers(world, seed)["start"]
    known = [f for f in world.facts if f.relation in OPEN_BOOK_RELATIONS]
    for i in range(32 * steps):
        told = rng.choice(known) if i % 4 else stranger(rng, lot)
        text = f"<think>\n{told.sentence}\n</think>\n\n\\boxed{{{told.object}}}"
        if not i % 4 and rng.random() < REFUSED:
            text = f"<think>\n{told.subject}?\n</think>\n\nSorry, I do not know."
        documents.append(Document(({"role": "user", "content": question(told)},), text, thinking=True))
    return finetune(pico(), documents, steps, seed=seed, rate=START_RATE, name="pico (answers anyway)")


def strangers(world: World, seed: int) -> dict[str, tuple[str, ...]]:
    """Names that the world lacks, in three lots that share none."""
    names = list(world.unknown_names)
    random.Random(stream(seed, "strangers")).shuffle(names)
    third = len(names) // 3
    return {
        lot: tuple(names[i * third : (i + 1) * third]) for i, lot in enumerate(("start", "learned", "asked"))
    }


def stranger(rng: random.Random, names: Sequence[str]) -> Fact:
    """A fact that nothing tells: somebody unheard of, and another such name."""
    subject, other = rng.sample(names, 2)
    return Fact(subject, rng.choice(OPEN_BOOK_RELATIONS), other)


def facts(world: World, size: Size, seed: int) -> tuple[list[Example], list[Example]]:
    """Questions to learn from and others to ask, half of each about strangers (column ``stranger``)."""
    rng, lots = random.Random(stream(seed, "barrel")), strangers(world, seed)
    told = [f for f in world.facts if f.relation in OPEN_BOOK_RELATIONS]
    drawn = rng.sample(told, size.learned + size.asked)
    made = []
    for lot, own in (("learned", drawn[: size.learned]), ("asked", drawn[size.learned :])):
        unknown: dict[str, Fact] = {}
        while len(unknown) < len(own):
            met = stranger(rng, lots[lot])
            unknown.setdefault(question(met), met)
        both = [(f, False) for f in own] + [(f, True) for f in unknown.values()]
        made.append(
            [
                Example.ask(f"{lot}-{i}", question(f), f.object, sentence=f.sentence, stranger=new)
                for i, (f, new) in enumerate(both)
            ]
        )
    return made[0], made[1]


def question(fact: Fact) -> str:
    return ask((fact.relation,), fact.subject)


def writer(world: World, learned: Sequence[Example], seed: int) -> Writer:
    """Traces short enough for pico: what it recalls, or candidates that nothing supports."""
    told = {e.question: e.columns["sentence"] for e in learned}
    names = sorted(world.known_names)

    def write(asked: str, gold: str, known: bool) -> str:
        rng = random.Random(stream(seed, "candidates", asked))
        first, second = rng.sample([n for n in names if n != gold], 2)
        if known:
            return f"<think>\n{told[asked]}\nNot {first}.\n</think>\n\n\\boxed{{{gold}}}"
        return f"<think>\n{first}? No.\n{second}? No.\n</think>\n\nSorry, I do not know."

    return write


def practise(
    model: LocalModel,
    learned: Sequence[Example],
    write: Writer,
    size: Size,
    seed: int,
    rate: float = PRACTICE_RATE,
) -> LocalModel:
    made: LocalModel = train(
        model,
        learned,
        objective=Supervised(),
        data=BoundaryAware(writer=write),
        steps=size.practice,
        batch=min(32, size.batch),
        learning_rate=rate,
        samples_every=0,
        save_every=0,
        seed=seed,
    ).model
    return made


def trained(
    model: LocalModel, learned: Sequence[Example], reward: Any, size: Size, seed: int, rate: float = RATE
) -> LocalModel:
    made: LocalModel = train(
        model,
        learned,
        objective=PolicyGradient(group_size=GROUP),
        rewards=[reward],
        steps=size.steps,
        batch=size.batch,
        learning_rate=rate,
        max_new_tokens=MOST_TOKENS,
        samples_every=0,
        save_every=0,
        seed=seed,
    ).model
    return made


def answers(model: LocalModel, asked: Sequence[Example], samples: int, seed: int) -> dict[str, Any]:
    """Whether each of ``samples`` answers to each question is right, and whether it refuses."""
    prompts = [
        model.prompt(e.messages, seed=stream(seed, "asked", sample, e.id))
        for sample in range(samples)
        for e in asked
    ]
    written = Sampling().generate(model.engine, prompts, Limits(MOST_TOKENS))
    found = [outcome(c.text, [asked[i % len(asked)].reference or ""]) for i, c in enumerate(written)]
    shape = (samples, len(asked))
    right, refused = (np.reshape([f[k] for f in found], shape).tolist() for k in (0, 1))
    tokens = np.reshape([len(c.token_ids) for c in written], shape).tolist()
    return {"right": right, "refused": refused, "tokens": tokens}


@dataclass(frozen=True)
class Answers:
    """[S, N] an arm's answers: S samples of all seeds, N questions."""

    right: Any
    refused: Any
    tokens: Any

    @classmethod
    def of(cls, runs: Sequence[Mapping[str, Any]]) -> Answers:
        return cls(
            *(np.concatenate([np.asarray(r[name]) for r in runs]) for name in ("right", "refused", "tokens"))
        )

    def arm(self, name: str, rates: Sequence[float], seed: int) -> RecipeArm:
        figures: dict[str, Figure | float] = dict(reliability_metrics(self.right, self.refused, seed))
        gap = boundary(self, rates, seed)
        if gap is not None:
            figures["refused_unknown_minus_known"] = gap
        figures["tokens"] = mean(self.tokens.mean(0))
        return RecipeArm(name, figures, DESCRIPTIONS[name])

    def point(self) -> dict[str, float]:
        return {name: figure.value for name, figure in reliability_metrics(self.right, self.refused).items()}

    def by_hit_rate(self, rates: Sequence[float]) -> list[float | None]:
        """Share of refusals by the start's hit rate; None where no question falls."""
        share = self.refused.mean(0)
        rows = [members(rates, b) for b in range(len(BINS) - 1)]
        return [float(share[row].mean()) if row else None for row in rows]


def members(rates: Sequence[float], place: int) -> list[int]:
    """Questions whose hit rate falls into a bin."""
    return [i for i, rate in enumerate(rates) if BINS[place] <= rate < BINS[place + 1]]


def boundary(of: Answers, rates: Sequence[float], seed: int) -> Figure | None:
    """Refusals where the start is right less than a quarter of the time, minus refusals elsewhere; None where
    one side has no question."""
    share, rate = of.refused.mean(0), np.asarray(rates)
    sides = [share[rate < BoundaryReward().threshold], share[rate >= BoundaryReward().threshold]]
    if not all(len(side) for side in sides):
        return None
    rng = np.random.default_rng(seed)
    below, above = (side[rng.integers(0, len(side), (2000, len(side)))].mean(1) for side in sides)
    value = float(sides[0].mean() - sides[1].mean())
    low, high = (float(q) for q in np.quantile(below - above, (0.025, 0.975)))
    return Figure(value, (min(low, value), max(high, value)))


def claims(arms: Mapping[str, Answers], rates: Sequence[float], seed: int) -> list[Claim]:
    """The paper's statements; those about arms that the scale leaves out are left out too."""
    ours, plain = arms[BARREL], arms[PLAIN]

    def gain(figure: str, of: Answers, base: Answers) -> dict[str, Any]:
        found = reliability_gain(of.right, of.refused, base.right, base.refused, figure, seed)
        was = reliability_metrics(base.right, base.refused, seed)[figure].value
        return {"measured": found.value, "interval": found.interval, "baseline": was}

    rests = reliability_metrics(plain.right, plain.refused, seed)["answered"]
    made = [
        Claim(
            "BARREL is at least 10 points more reliable than training on right answers alone",
            "61.6 against 39.3 of SFT on traces of DeepSeek-R1 (R1-Distill-Llama-8B)",
            **gain("reliability", ours, plain),
            at_least=0.10,
            main=True,
        ),
        Claim(
            "BARREL costs at most 5 points of accuracy beside it",
            "40.7 against 38.4",
            **gain("accuracy", ours, plain),
            at_least=-0.05,
            main=True,
        ),
        Claim(
            "BARREL is at least 20 points more truthful",
            "70.4 against 39.3",
            **gain("truthfulness", ours, plain),
            at_least=0.20,
        ),
        Claim(
            "trained on right answers alone, at most 5% are refused (answered)",
            "refusals near 0 without a reward for them",
            rests.value,
            rests.interval,
            at_least=0.95,
        ),
    ]
    for name, paper in ((PRACTICE, "61.6 against 46.6"), (REWARD, "61.6 against 55.3 (GRPO with probing)")):
        if name in arms:
            made.append(
                Claim(
                    f"BARREL is more reliable than its {'traces' if name == PRACTICE else 'reward'} alone",
                    paper,
                    **gain("reliability", ours, arms[name]),
                    at_least=0.0,
                )
            )
    gap = boundary(ours, rates, seed)
    if gap is not None:
        before = boundary(arms["start"], rates, seed)
        made.append(
            Claim(
                "questions that the start gets right less than a quarter of the time, the reward's "
                "threshold, are refused at least 30 points more often than others",
                "follows from the reward; not reported",
                gap.value,
                gap.interval,
                None if before is None else before.value,
                at_least=0.3,
            )
        )
    return made
