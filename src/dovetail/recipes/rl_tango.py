"""RL Tango on last-letter concatenation: GRPO, Tango, and Tango with a verifier that stays as it is.

"Last letters: Bakel Hazo Gone" is solved in steps that hold the letters of the first one, two, three names:
``Bakel l``, ``Hazo l o``, ``Gone l o e``; so every step can be judged. One copy of pico has practised to
solve lists, another to judge the first one's solutions step by step; both are right in part. All arms have
the same generator, lists and number of generator steps.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from typing import Any

import numpy as np

from dovetail.core import Claim, Example, Figure, Limits
from dovetail.core.seeds import stream
from dovetail.core.statistics import LEVEL, mean, paired_difference
from dovetail.decoding import Sampling
from dovetail.models.local import LocalModel
from dovetail.recipes.base import RecipeArm, RecipeResult, Scale
from dovetail.recipes.finetune import finetune
from dovetail.recipes.kept import kept
from dovetail.recipes.pico_model import pico
from dovetail.rewards import Correct
from dovetail.rewards.verification import Layout
from dovetail.training import Settings
from dovetail.training.pico.corpus import Document
from dovetail.training.rollouts import Rollouts
from dovetail.training.tango import Ends, Judgments, Tango, step_ends

# Pico's own syllables: names of two tokens.
FIRST = (
    "Ba",
    "Be",
    "Bo",
    "Da",
    "De",
    "Do",
    "Ga",
    "Go",
    "Ha",
    "He",
    "Ka",
    "Ke",
    "La",
    "Le",
    "Ma",
    "Mi",
    "Na",
    "Ne",
)
LAST = (
    "bar",
    "ben",
    "da",
    "del",
    "fi",
    "gon",
    "hu",
    "kel",
    "ko",
    "mir",
    "ne",
    "rek",
    "ro",
    "sa",
    "tan",
    "vel",
    "zo",
    "zor",
)
PRACTISED, ASKED = (2, 5), (3, 5)
LAYOUT = Layout("", "", "", "So", "yes", "no", "{problem}\n{solution}\nIs each step right?")
GROUP, MOST_TOKENS = 5, 80
RATE, WARMUP = 1.5e-4, 4
# The paper's first value for REINFORCE++, and where its schedule of 200 steps is after 24.
ALPHA = (0.5, 0.24)
TOLD = "true judgments"
ARMS = ("GRPO", "Tango", "Tango, frozen verifier", TOLD)
DESCRIPTIONS = {
    "start": "pico, having practised; before training",
    "GRPO": "outcomes alone",
    "Tango": "outcomes and the judgments of a verifier that learns in turn",
    "Tango, frozen verifier": "likewise; the verifier stays as it is",
    TOLD: "outcomes and the steps' true labels, as the best of verifiers would give them",
}
NOTES = (
    "Both starts are made, not found: pico practised solving lists of two to five names, and judging what "
    "it then writes for them, for fixed numbers of steps. Training and test are on lists of three to five.",
    "The verifier is paid by its final verdict and layout alone; gold step labels only measure it (and were "
    "in its practice).",
    "Advantages are normalised as in GRPO; alpha begins at 0.5, the paper's value for REINFORCE++ (0.1 with "
    "GRPO), and falls by as much per step as in its 200 steps. No arm has a KL term. GRPO was tried at three "
    "rates beforehand, Tango at two.",
    "Verifiers are compared on the same solutions of the untrained generator. F1 is that of ProcessBench: "
    "the harmonic mean of the accuracies on right and on wrong ones.",
    "Answers are sampled at temperature 1, one per list and seed. Intervals are over lists or solutions, "
    "each the mean over the seeds, which share one start.",
    "Before: a rate of 2e-4 without warm-up, 14 steps of 40 completions and alpha down to 0.001 left GRPO at "
    "0.34 and Tango at 0.33 after a start at 0.38; a verifier that had practised on planted mistakes and "
    "wrote one letter per step began at a step F1 of 0.50.",
)


@dataclass(frozen=True)
class Size:
    """Documents and steps of the two starts; seeds; generator steps and solutions of each; the verifier's
    warm-up and its verifications of a step; lists that are reported, solutions that verifiers are compared
    on."""

    documents: int
    generator_steps: int
    verifier_steps: int
    seeds: int
    steps: int
    batch: int
    warmup: int
    verifications: int
    reported: int
    judged: int


SIZES: dict[Scale, Size] = {
    "smoke": Size(32, 1, 1, 1, 1, 10, 1, 10, 4, 4),
    "pico": Size(2400, 120, 150, 2, 24, 100, 3, 50, 500, 150),
    "full": Size(12800, 200, 200, 5, 300, 255, 40, 255, 1000, 1000),
}


# --- lists of names ----------------------------------------------------------------------------------------


def names(rng: random.Random, count: int) -> list[str]:
    return [rng.choice(FIRST) + rng.choice(LAST) for _ in range(count)]


def question(given: Sequence[str]) -> str:
    return f"Last letters: {' '.join(given)}"


def steps(asked: str, letters: Sequence[str]) -> list[str]:
    """``Bakel l``, ``Hazo l o``, ``Gone l o e``."""
    given = asked.split()[2:]
    return [f"{name} {' '.join(letters[: n + 1])}" for n, name in enumerate(given)]


def solution(asked: str, letters: Sequence[str]) -> str:
    lines = "\n".join(steps(asked, letters))
    return f"<think>\n{lines}\n</think>\n\n\\boxed{{{' '.join(letters)}}}"


def lists(count: int, lengths: tuple[int, int], seed: int, name: str) -> list[Example]:
    """Different lists with their answers; there are so many that none comes up under two names."""
    rng = random.Random(stream(seed, name))
    made: dict[str, str] = {}
    while len(made) < count:
        given = names(rng, rng.randint(*lengths))
        made[question(given)] = " ".join(n[-1] for n in given)
    return [Example.ask(f"{name}-{i}", q, a) for i, (q, a) in enumerate(made.items())]


def labels(example: Example, written: str) -> list[int]:
    """+1 for each step that holds the letters of the first names, -1 for one that does not."""
    gold = steps(example.question, str(example.reference).split())
    spans = LAYOUT.solution(written).steps
    said = [" ".join(written[a:b].split()) for a, b in spans]
    return [1 if gold[n : n + 1] == [line] else -1 for n, line in enumerate(said)]


def judged(example: Example, written: str) -> str:
    """The true verification of a solution: at each step, the letters that it should hold, and a verdict."""
    letters = str(example.reference).split()
    lines = [
        f"{' '.join(letters[: n + 1])} \\boxed{{{'yes' if label > 0 else 'no'}}}"
        for n, label in enumerate(labels(example, written))
    ]
    right = LAYOUT.solution(written).answer == example.reference
    final = f"So {' '.join(letters)} \\boxed{{{'yes' if right else 'no'}}}"
    return "\n".join([*lines, final])


def starts(size: Size, seed: int) -> tuple[LocalModel, LocalModel]:
    """The generator and the verifier, having practised."""
    practice = lists(size.documents, PRACTISED, seed, "practice")
    solve = [
        Document(
            ({"role": "user", "content": e.question},),
            solution(e.question, str(e.reference).split()),
            thinking=True,
        )
        for e in practice
    ]
    generator = practised(solve, size.generator_steps, seed, "pico (generator)")
    judge = []
    for e, text in zip(practice, written(generator, practice, seed), strict=True):
        asked = {"role": "user", "content": LAYOUT.ask(e.question, text)}
        judge.append(Document((asked,), judged(e, text), thinking=False))
    return generator, practised(judge, size.verifier_steps, seed, "pico (verifier)")


def practised(documents: Sequence[Document], count: int, seed: int, name: str) -> LocalModel:
    return finetune(pico(), documents, count, seed=seed, rate=1.0, micro_batches_per_step=2, name=name)


# --- what is measured --------------------------------------------------------------------------------------


def written(model: LocalModel, asked: Sequence[Example], seed: int, thinking: bool = True) -> list[str]:
    prompts = [model.prompt(e.messages, thinking=thinking, seed=stream(seed, "asked", e.id)) for e in asked]
    return [c.text for c in Sampling().generate(model.engine, prompts, Limits(MOST_TOKENS))]


def right(asked: Sequence[Example], texts: Sequence[str]) -> list[float]:
    return [float(LAYOUT.solution(t).answer == e.reference) for e, t in zip(asked, texts, strict=True)]


def verdicts(
    verifier: LocalModel, asked: Sequence[Example], texts: Sequence[str], seed: int
) -> list[list[list[int]]]:
    """Per solution, [truth, hit] of its outcome and then of its steps; a missing judgment is no hit."""
    questions = [Example.ask(e.id, LAYOUT.ask(e.question, t)) for e, t in zip(asked, texts, strict=True)]
    found = []
    said = written(verifier, questions, seed, thinking=False)
    for e, t, s in zip(asked, texts, said, strict=True):
        truth, outcome = labels(e, t), int(LAYOUT.solution(t).answer == e.reference)
        verification = LAYOUT.verification(s, len(truth))
        given = [*verification.steps, *[None] * len(truth)]
        hits = [[int(y > 0), int(y == g)] for y, g in zip(truth, given, strict=False)]
        found.append([[outcome, int(verification.final == outcome)], *hits])
    return found


def balanced_f1(judgments: Sequence[Sequence[int]]) -> float:
    """The harmonic mean of the accuracies on right and on wrong ones, of [truth, hit] pairs."""
    shares = [[hit for truth, hit in judgments if truth == kind] for kind in (0, 1)]
    good, bad = (sum(s) / len(s) if s else 0.0 for s in shares)
    return 2 * good * bad / (good + bad) if good + bad else 0.0


Verdicts = Sequence[Sequence[Sequence[int]]]


def f1(runs: Sequence[Verdicts], which: str, rows: Sequence[int] | None = None) -> float:
    """Mean over runs of one F1, over all solutions or those at ``rows``."""
    found = []
    for run in runs:
        chosen = run if rows is None else [run[i] for i in rows]
        flat = [j for solution in chosen for j in (solution[:1] if which == "outcome" else solution[1:])]
        found.append(balanced_f1(flat))
    return sum(found) / len(found)


def f1_gain(
    runs: Sequence[Verdicts], before: Sequence[Verdicts] | None, which: str, seed: int, resamples: int = 500
) -> Figure:
    """An F1 (minus that of ``before``), with its bootstrap interval over solutions."""

    def value(rows: Sequence[int] | None) -> float:
        return f1(runs, which, rows) - (f1(before, which, rows) if before else 0.0)

    rng, n, found = np.random.default_rng(seed), len(runs[0]), value(None)
    draws = [value(rng.integers(0, n, n).tolist()) for _ in range(resamples)]
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Figure(found, (min(float(low), found), max(float(high), found)))


# --- the run -----------------------------------------------------------------------------------------------


class Labelled(Tango):
    """With every step's true label in place of a verifier's judgment."""

    def judge(self, rollouts: Rollouts) -> tuple[Judgments, Ends]:
        decode = self.generator.tokenizer.decode
        written = [
            (e, c.token_ids, c.text) for e, c in zip(rollouts.examples, rollouts.completions, strict=True)
        ]
        ends = [step_ends(ids, text, self.layout, decode) for _, ids, text in written]
        return [labels(e, text) for e, _, text in written], ends


def tango(
    generator: LocalModel, verifier: LocalModel, pool: Sequence[Example], arm: str, size: Size, seed: int
) -> Tango:
    common = Settings(
        steps=size.steps,
        batch=size.batch,
        learning_rate=RATE,
        warmup=WARMUP,
        max_new_tokens=MOST_TOKENS,
        samples_every=0,
        save_every=0,
        seed=seed,
    )
    heard = arm != "GRPO"
    return (Labelled if arm == TOLD else Tango)(
        generator,
        verifier,
        pool,
        Correct("exact"),
        LAYOUT,
        group=GROUP,
        warmup=size.warmup,
        alpha_start=ALPHA[0] if heard else 0.0,
        alpha_end=ALPHA[1] if heard else 0.0,
        kl=0.0,
        settings=common,
        verifier_settings=common.changed(batch=size.verifications, thinking=False),
        train_verifier=arm == "Tango",
    )


def run(scale: Scale = "pico", seed: int = 0) -> RecipeResult:
    """Trains every arm from the same start; each finished training is kept, so a killed run goes on."""
    size, folder = SIZES[scale], f"runs/recipes/{scale}/rl-tango"
    asked = lists(size.reported, ASKED, seed, "reported")
    pool = lists(size.steps * size.batch // GROUP, ASKED, seed, "train")
    begin = cache(lambda: starts(size, seed))
    base = {**asdict(size), "start": seed}

    def before() -> Any:
        generator, verifier = begin()
        solved = lists(size.judged, ASKED, seed, "judged")
        texts = written(generator, solved, seed)
        own = written(generator, asked, seed)
        return {
            "right": right(asked, own),
            "texts": texts,
            "verdicts": verdicts(verifier, solved, texts, seed),
        }

    def arm(name: str, texts: Sequence[str], own: int) -> Any:
        from copy import deepcopy

        generator, verifier = (LocalModel(deepcopy(m.network), m.tokenizer, name=m.name) for m in begin())
        made = tango(generator, verifier, pool, name, size, own)
        generated, verified = made.run()
        found: dict[str, Any] = {
            "right": right(asked, written(generator, asked, own)),
            "curves": {c: generated.curve(c)[1] for c in ("reward", "zero_variance", "length")},
        }
        if name == "Tango":
            solved = lists(size.judged, ASKED, seed, "judged")
            found["verdicts"] = verdicts(verifier, solved, texts, seed)
            found["curves"]["verifier reward"] = verified.curve("reward")[1]
        return found

    first = kept(folder, {**base, "what": "start"}, before)
    found: dict[str, list[Any]] = {"start": [first]}
    for own in range(seed, seed + size.seeds):
        for name in ARMS:
            key = {**base, "what": [name, own], "rate": RATE}
            found.setdefault(name, []).append(kept(folder, key, partial(arm, name, first["texts"], own)))
    answers = {name: Answers.of(runs) for name, runs in found.items()}
    return RecipeResult(
        [one.arm(name, seed) for name, one in answers.items()],
        claims(answers, seed),
        seeds=list(range(seed, seed + size.seeds)),
        settings={
            "model": pico().describe(),
            "names of practice": PRACTISED,
            "names": ASKED,
            "learning_rate": RATE,
            "warmup": WARMUP,
            "group": GROUP,
            "max_new_tokens": MOST_TOKENS,
            "alpha": ALPHA,
            "kl": 0.0,
            **asdict(size),
        },
        notes=NOTES,
        series={
            "by_seed": {name: [sum(r) / len(r) for r in one.rights] for name, one in answers.items()},
            "curves": {name: [r["curves"] for r in runs] for name, runs in found.items() if name != "start"},
        },
    )


@dataclass(frozen=True)
class Answers:
    """An arm: ``[seed][list]`` right or not, and what its verifiers said of the common solutions."""

    rights: Sequence[Sequence[float]]
    verdicts: Sequence[Verdicts] = field(default_factory=tuple)

    @classmethod
    def of(cls, runs: Sequence[Mapping[str, Any]]) -> Answers:
        return cls([r["right"] for r in runs], [r["verdicts"] for r in runs if "verdicts" in r])

    @property
    def right(self) -> list[float]:
        """Per list, the share of the seeds that got it right: lists alone are independent."""
        return [sum(row) / len(row) for row in zip(*self.rights, strict=True)]

    def arm(self, name: str, seed: int) -> RecipeArm:
        figures: dict[str, Figure | float] = {"accuracy": mean(self.right)}
        if self.verdicts:
            figures["step F1"] = f1_gain(self.verdicts, None, "steps", seed)
            figures["outcome F1"] = f1_gain(self.verdicts, None, "outcome", seed)
        figures["seeds"] = len(self.rights)
        return RecipeArm(name, figures, DESCRIPTIONS[name])


def claims(answers: Mapping[str, Answers], seed: int) -> list[Claim]:
    tango, start = answers["Tango"], answers["start"]

    def gain(text: str, paper: str, beside: str, of: str = "Tango", main: bool = False) -> Claim:
        base = answers[beside].right
        found = paired_difference(answers[of].right, base, scale=1.0, seed=seed)
        return Claim(text, paper, found.value, found.interval, mean(base).value, at_least=0.0, main=main)

    made = [
        gain(
            "Tango's generator is more accurate than GRPO's after as many generator steps",
            "mathematics 37.0 -> 46.1, other tasks 57.6 -> 61.1 (Qwen2.5-Math-7B, 200 steps)",
            "GRPO",
            main=True,
        ),
        gain(
            "it is more accurate than with a frozen verifier",
            "with a frozen verifier the generator ends below plain GRPO (last letters, Qwen2.5-1.5B)",
            "Tango, frozen verifier",
        ),
        gain(
            "with true judgments of the steps in the verifier's place it is more accurate than GRPO's",
            "not reported",
            "GRPO",
            of=TOLD,
        ),
    ]
    for which, text, paper in (
        (
            "steps",
            "the verifier's F1 on steps rises by at least 2 points, without a label of any step",
            "rises with training; no number in the text (last letters)",
        ),
        ("outcome", "the verifier's F1 on outcomes rises by at least 2 points", "likewise"),
    ):
        found = f1_gain(tango.verdicts, start.verdicts, which, seed)
        made.append(
            Claim(
                text,
                paper,
                found.value,
                found.interval,
                f1(start.verdicts, which),
                at_least=0.02,
            )
        )
    return made
