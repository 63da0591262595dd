"""RLVR-World: a world model trained further by likelihood, or by the metric of the next state it predicts.

A difference can be written in more than one way: the objects that change, or these and all others, which the
metric does not mind. A copy of pico has practised the shorter way, and then for a while both, mixed; it is
right in part, and more often in the shorter way. From there it learns from the same transitions in as many
steps: by likelihood of true differences, written in both ways or in the shorter one alone, and by
group-relative policy gradient under the two rewards of the paper. Cases in which something changes and in
which nothing does are reported apart.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from typing import Any

from dovetail.benchmarks.text_worlds import TextWorlds, TransitionScorer
from dovetail.core import Claim, Example, Figure
from dovetail.core.seeds import stream
from dovetail.core.statistics import mean, paired_difference
from dovetail.decoding import Sampling
from dovetail.models.local import LocalModel
from dovetail.recipes.base import RecipeArm, RecipeResult, Scale, over_seeds
from dovetail.recipes.finetune import finetune
from dovetail.recipes.kept import kept
from dovetail.recipes.pico_model import pico
from dovetail.rewards import TransitionMetric
from dovetail.rewards.world_notation import write_object
from dovetail.training import Run, evaluate, train
from dovetail.training.objectives import PolicyGradient, Supervised
from dovetail.training.pico.corpus import Document

OBJECTS, GROUP, MOST_TOKENS = 3, 8, 60
WHOLE = 0.6  # share of the practised differences that name all objects
RATES = {"MLE": 3e-4, "RL": 2e-4}
DECAY = 0.5
DESCRIPTIONS = {
    "start": "pico, having practised on transitions; before further training",
    "MLE": "likelihood training on as many true differences, written as in practice",
    "MLE, shortest": "likewise; only what changes is written",
    "RL, binary": "GRPO; 1 where the next state is right in every entry",
    "RL, task-specific": "GRPO; entries, changed entries and the whole are paid",
}
NOTES = (
    "Transitions of a household of three objects stand in for ByteSized32; differences are written in lines "
    "and without reasoning.",
    "The start is made, not found: pico practised on true differences, at the end on a mix in which three in "
    "five name all objects, as models that are asked for a difference often do. All arms go on from it with "
    "the same transitions, none of which it practised on.",
    "A first set-up failed: its start had practised both ways from the beginning, and was as often right in "
    "one as in the other (0.39 and 0.45); in as many steps as here neither reward moved it from its 0.42, "
    "nor did likelihood training, but for that on the shorter way (0.49).",
    "Answers are sampled at temperature 1, one per question and seed; greedy answers are shown besides. "
    "Intervals are over questions, each the mean over the seeds.",
)


@dataclass(frozen=True)
class Size:
    """Documents and steps of the start, and of these the steps on both ways of writing; seeds; steps and
    completions of the training; transitions of each kind that are reported."""

    documents: int
    start_steps: int
    mixed_steps: int
    seeds: int
    steps: int
    batch: int
    reported: int


SIZES: dict[Scale, Size] = {
    "smoke": Size(64, 2, 1, 1, 1, 16, 3),
    "pico": Size(6080, 190, 40, 2, 16, 64, 100),
    "full": Size(12800, 400, 80, 5, 200, 128, 500),
}


def transitions(count: int, seed: int, known: Sequence[Example] = (), changed: float = 0.5) -> list[Example]:
    """Different transitions, none of them among ``known``."""
    found, _ = TextWorlds(objects=OBJECTS, changed=changed).load(3 * count + 30, seed)
    seen = {e.question for e in known}
    new = list({e.question: e for e in found if e.question not in seen}.values())
    return new[:count]


def imitated(asked: Sequence[Example], whole: float, seed: int) -> list[Example]:
    """With the text that likelihood training imitates, in the column ``completion``."""
    rng = random.Random(stream(seed, "written"))
    made = []
    for e in asked:
        rows = json.loads(str(e.columns["next_state"]))
        text = "\n".join(map(write_object, rows)) if rng.random() < whole else str(e.reference)
        made.append(replace(e, columns={**e.columns, "completion": text}))
    return made


def start(practice: Sequence[Example], size: Size, seed: int) -> LocalModel:
    """Pico, having practised what changes, and then a while on both ways of writing it."""

    def documents(asked: Sequence[Example], whole: float) -> list[Document]:
        return [
            Document((e.messages[0].as_dict(),), str(e.columns["completion"]), thinking=False)
            for e in imitated(asked, whole, seed)
        ]

    first = size.start_steps - size.mixed_steps
    cut = len(practice) * first // size.start_steps
    model = finetune(pico(), documents(practice[:cut], 0.0), first, seed=seed, rate=1.0)
    return finetune(
        model,
        documents(practice[cut:], WHOLE),
        size.mixed_steps,
        seed=seed,
        decay=0.8,
        name="pico (world model)",
    )


def answered(model: LocalModel, asked: Sequence[Example], seed: int) -> dict[str, Any]:
    """Whether each answer leads to the true next state, sampled at temperature 1 and greedily."""
    judge = TransitionScorer()
    found = {
        name: evaluate(
            model, asked, judge, decoding=decoding, max_new_tokens=MOST_TOKENS, thinking=False, seed=seed
        )
        for name, decoding in (("sampled", Sampling()), ("greedy", None))
    }
    lines = [float(text.strip().count("\n") + 1) for text in found["sampled"].texts]
    return {"lines": lines} | {name: one.values for name, one in found.items()}


def trained(model: LocalModel, pool: Sequence[Example], name: str, size: Size, seed: int) -> Run:
    likely = name.startswith("MLE")
    metric = TransitionMetric("binary" if name == "RL, binary" else "task-specific", "lines")
    run: Run = train(
        model,
        imitated(pool, 0.0 if name == "MLE, shortest" else WHOLE, seed),
        objective=Supervised() if likely else PolicyGradient(group_size=GROUP),
        rewards=[] if likely else [metric],
        steps=size.steps,
        batch=size.batch,
        learning_rate=RATES[name.partition(",")[0]],
        decay=DECAY,
        max_new_tokens=MOST_TOKENS,
        thinking=False,
        samples_every=0,
        save_every=0,
        seed=seed,
    )
    return run


def run(scale: Scale = "pico", seed: int = 0) -> RecipeResult:
    """Trains every arm from the same start; each finished training is kept, so a killed run goes on."""
    size, folder = SIZES[scale], f"runs/recipes/{scale}/rlvr-world"
    asked = [e for c in (1.0, 0.0) for e in transitions(size.reported, seed + 1777, changed=c)]
    practice = transitions(size.documents, seed, asked)
    pool = transitions(size.steps * size.batch, seed + 1000, [*asked, *practice])
    begin = cache(lambda: start(practice, size, seed))
    base = {**asdict(size), "start": seed, "rates": RATES}

    def arm(name: str, own: int) -> Any:
        model = begin()
        clock = time.process_time()
        done = trained(model, pool, name, size, own)
        seconds = time.process_time() - clock
        curves = {one: done.curve(one)[1] for one in ("reward", "loss", "zero_variance")}
        return answered(done.model, asked, seed) | {"seconds": seconds, "curves": curves}

    first = kept(folder, {**base, "what": "start"}, lambda: answered(begin(), asked, seed))
    found: dict[str, list[Any]] = {"start": [first]}
    for own in range(seed, seed + size.seeds):
        for name in tuple(DESCRIPTIONS)[1:]:
            key = {**base, "what": [name, own]}
            found.setdefault(name, []).append(kept(folder, key, partial(arm, name, own)))
    answers = {name: Answers.of(runs, [e.columns["changed"] for e in asked]) for name, runs in found.items()}
    return RecipeResult(
        [one.arm(name) for name, one in answers.items()],
        claims(answers, seed),
        seeds=list(range(seed, seed + size.seeds)),
        settings={
            "model": pico().describe(),
            "objects": OBJECTS,
            "learning_rates": RATES,
            "group_size": GROUP,
            "decay": DECAY,
            "share that names all": WHOLE,
            "max_new_tokens": MOST_TOKENS,
            **asdict(size),
        },
        notes=NOTES,
        series={
            "by_seed": {name: one.by_seed() for name, one in answers.items()},
            "curves": {name: [r["curves"] for r in runs] for name, runs in found.items() if name != "start"},
        },
    )


@dataclass(frozen=True)
class Answers:
    """An arm's answers, sampled and greedy, and the lines of the sampled ones: ``[seed][question]``; which
    questions change something; seconds of training per seed."""

    sampled: Sequence[Sequence[float]]
    greedy: Sequence[Sequence[float]]
    lines: Sequence[Sequence[float]]
    changed: Sequence[bool]
    seconds: Sequence[float] = ()

    @classmethod
    def of(cls, runs: Sequence[Mapping[str, Any]], changed: Sequence[bool]) -> Answers:
        seconds = [r["seconds"] for r in runs if "seconds" in r]
        sampled, greedy, lines = ([r[k] for r in runs] for k in ("sampled", "greedy", "lines"))
        return cls(sampled, greedy, lines, changed, seconds)

    def right(self, kind: bool | None = None) -> list[float]:
        """Per question (of one kind), the share of the seeds that got it right."""
        shares = over_seeds(self.sampled)
        return [s for s, c in zip(shares, self.changed, strict=True) if kind is None or c is kind]

    def arm(self, name: str) -> RecipeArm:
        figures: dict[str, Figure | float] = {
            "accuracy": mean(self.right()),
            "changed": mean(self.right(True)),
            "unchanged": mean(self.right(False)),
            "greedy": mean(over_seeds(self.greedy)),
            "lines": mean(over_seeds(self.lines)),
        }
        if self.seconds:
            figures["seconds"] = sum(self.seconds) / len(self.seconds)
        return RecipeArm(name, figures, DESCRIPTIONS[name])

    def by_seed(self) -> list[float]:
        return [sum(row) / len(row) for row in self.sampled]


def claims(answers: Mapping[str, Answers], seed: int) -> list[Claim]:
    def gain(
        name: str,
        text: str,
        paper: str,
        least: float,
        kind: bool | None = None,
        main: bool = False,
        beside: str = "MLE",
    ) -> Claim:
        base = answers[beside].right(kind)
        found = paired_difference(answers[name].right(kind), base, scale=1.0, seed=seed)
        return Claim(text, paper, found.value, found.interval, mean(base).value, at_least=least, main=main)

    specific, binary = "RL, task-specific", "RL, binary"
    return [
        gain(
            specific,
            "the task-specific reward beats as many steps of likelihood training by at least 5 points",
            "32.87 (SFT) -> 63.24",
            0.05,
            main=True,
        ),
        gain(
            binary,
            "the binary reward beats as many steps of likelihood training by at least 5 points",
            "32.87 (SFT) -> 57.01",
            0.05,
        ),
        gain(
            specific,
            "it beats likelihood training on the shortest form as well",
            "not compared",
            0.0,
            beside="MLE, shortest",
        ),
        gain(
            specific,
            "it is better where something changes",
            "24.21 (SFT) -> 33.80",
            0.0,
            kind=True,
        ),
        gain(
            specific,
            "it is better where nothing changes",
            "38.88 (SFT) -> 83.66",
            0.0,
            kind=False,
        ),
        gain(
            specific,
            "the task-specific reward is no worse than the binary one where nothing changes",
            "73.57 -> 83.66",
            0.0,
            kind=False,
            beside=binary,
        ),
    ]
