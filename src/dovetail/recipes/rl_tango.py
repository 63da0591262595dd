"""RL Tango on last-letter concatenation: GRPO, Tango, and Tango with a verifier that stays as it is.

"Last letters: Bakel Hazo Gone" is solved in steps that hold the letters of the first one, two, three names:
``Bakel l``, ``Hazo l o``, ``Gone l o e``; so every step can be judged. One copy of pico has practised to
solve lists from solutions with planted slips, so that it seldom gets a whole list right and outcomes are
sparse, the regime that the paper is about; another to judge such solutions step by step. All arms have the
same generator, lists and number of generator steps.

Lists all have one length: the formulas pay a solution that stops after its right steps better than one that
goes on and slips, and a generator unsure of the length would learn to stop early.
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
from dovetail.decoding import Greedy, Sampling
from dovetail.decoding.base import Decoding
from dovetail.models.local import LocalModel
from dovetail.recipes.base import RecipeArm, RecipeResult, Scale, over_seeds
from dovetail.recipes.finetune import finetune
from dovetail.recipes.kept import kept, kept_model
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
NAMES = (6, 6)
# The letters that names end in, and the share of them that is another one in the solutions that the generator
# practises on, and in those that the verifier does: of the latter, four in ten are right.
LETTERS = tuple(sorted({syllable[-1] for syllable in LAST}))
SLIPS, JUDGED_SLIPS = 0.4, 0.15
LAYOUT = Layout("", "", "", "So", "yes", "no", "{problem}\n{solution}\nIs each step right?")
GROUP, MOST_TOKENS = 5, 160
RATE, WARMUP = 4e-4, 4
# The verifier's is lower: at first nearly every solution is wrong, and saying so of all of them is paid.
VERIFIER_RATE = 2e-5
ALPHA = (0.5, 1e-3)  # the paper's, with REINFORCE++; with GRPO it begins at 0.1
SAMPLED = Sampling()
CURVES = ("reward", "zero_variance", "length", "truncated")
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
    "Both starts are made, not found. pico practised solving lists of six names from solutions in which "
    "every letter was another one with a chance of 0.4, so it slips about as often and seldom gets a "
    "list right, whatever its most probable answer is worth (greedy accuracy). Another copy practised "
    "judging solutions with a chance of 0.15, of which four in ten are right.",
    "The verifier is paid by its final verdict and layout alone; gold step labels only measure it (and "
    "were in its practice).",
    "Advantages are normalised as in GRPO; alpha falls from 0.5, the paper's first value with "
    "REINFORCE++ (0.1 with GRPO), to 0.001, over 30 steps in place of 200. No arm has a KL term.",
    "Both rates, the shares of slips, the lengths of practice and alpha's first value were chosen in trials "
    "with another seed (101); the generator's rate for GRPO, of 1e-4, 4e-4 and 8e-4. A verifier that had "
    "practised half as long or less, at twice this rate or more, brought nothing over GRPO there.",
    "Verifiers are compared on the same solutions of the untrained generator. F1 is that of "
    "ProcessBench: the harmonic mean of the accuracies on right and on wrong ones.",
    "Accuracy is of answers sampled at temperature 1, one per list and seed, as training samples them. "
    "Intervals are over lists or solutions, each the mean over the seeds, which share one start.",
    "Before, on lists of three to five names of which the start got 0.32 right, with alpha from 0.5 to "
    "0.24: GRPO 0.375, Tango 0.256, true judgments 0.289. Outcomes were dense there, and solutions that "
    "stop early are paid better by their steps.",
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
    "pico": Size(4000, 200, 600, 2, 30, 100, 3, 50, 500, 400),
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


def slipped(example: Example, share: float) -> str:
    """An example's solution with slips planted; a slip is carried along, as the generator's own are."""
    rng = random.Random(f"slips of {example.question}, {share}")
    letters = str(example.reference).split()
    given = [rng.choice([x for x in LETTERS if x != y]) if rng.random() < share else y for y in letters]
    return solution(example.question, given)


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
    """The true verification of a solution: for each step the name, the letter that was written for it and the
    right one (``-``: a step too many), and a verdict; then all letters and the final verdict."""
    letters = str(example.reference).split()
    given = example.question.split()[2:]
    lines = []
    for n, ((start, end), label) in enumerate(
        zip(LAYOUT.solution(written).steps, labels(example, written), strict=True)
    ):
        name, letter = (given[n], letters[n]) if n < len(given) else ("-", "-")
        lines.append(f"{name} {written[start:end].split()[-1]} {letter} {boxed(label > 0)}")
    right = LAYOUT.solution(written).answer == example.reference
    return "\n".join([*lines, f"So {' '.join(letters)} {boxed(right)}"])


def boxed(right: bool) -> str:
    return f"\\boxed{{{LAYOUT.right if right else LAYOUT.wrong}}}"


def starts(size: Size, seed: int, folder: str) -> tuple[LocalModel, LocalModel]:
    """The generator and the verifier, having practised; kept in ``folder``."""
    practice = lists(size.documents, NAMES, seed, "practice")
    solve = [
        Document(({"role": "user", "content": e.question},), slipped(e, SLIPS), thinking=True)
        for e in practice
    ]
    judge = []
    for e in practice:
        text = slipped(e, JUDGED_SLIPS)
        asked = {"role": "user", "content": LAYOUT.ask(e.question, text)}
        judge.append(Document((asked,), judged(e, text), thinking=False))

    def practised(name: str, documents: Sequence[Document], steps: int) -> LocalModel:
        make = partial(finetune, pico(), documents, steps, seed=seed, rate=1.0, micro_batches_per_step=2)
        return kept_model(folder, {**asdict(size), "start": seed, "what": name}, pico(), make)

    return (
        practised("generator", solve, size.generator_steps),
        practised("verifier", judge, size.verifier_steps),
    )


# --- what is measured --------------------------------------------------------------------------------------


def written(
    model: LocalModel,
    asked: Sequence[Example],
    seed: int,
    thinking: bool = True,
    decoding: Decoding = SAMPLED,
) -> list[str]:
    prompts = [model.prompt(e.messages, thinking=thinking, seed=stream(seed, "asked", e.id)) for e in asked]
    return [c.text for c in decoding.generate(model.engine, prompts, Limits(MOST_TOKENS))]


def right(asked: Sequence[Example], texts: Sequence[str]) -> list[float]:
    return [float(LAYOUT.solution(t).answer == e.reference) for e, t in zip(asked, texts, strict=True)]


def steps_right(asked: Sequence[Example], texts: Sequence[str]) -> list[float]:
    """Per list, the share of its steps that are right; one that is missing is not."""
    return [
        sum(label > 0 for label in labels(e, t)) / len(str(e.reference).split())
        for e, t in zip(asked, texts, strict=True)
    ]


def examined(model: LocalModel, asked: Sequence[Example], seed: int) -> dict[str, list[float]]:
    texts = written(model, asked, seed)
    return {
        "right": right(asked, texts),
        "greedy": right(asked, written(model, asked, seed, decoding=Greedy())),
        "steps right": steps_right(asked, texts),
    }


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
        verifier_settings=common.changed(
            batch=size.verifications, thinking=False, learning_rate=VERIFIER_RATE
        ),
        train_verifier=arm == "Tango",
    )


def run(scale: Scale = "pico", seed: int = 0) -> RecipeResult:
    """Trains every arm from the same starts; these and each finished training are kept, so a killed run goes
    on."""
    size, folder = SIZES[scale], f"runs/recipes/{scale}/rl-tango"
    asked = lists(size.reported, NAMES, seed, "reported")
    pool = lists(size.steps * size.batch // GROUP, NAMES, seed, "train")
    begin = cache(lambda: starts(size, seed, folder))
    base = {**asdict(size), "start": seed}

    def before() -> Any:
        generator, verifier = begin()
        solved = lists(size.judged, NAMES, seed, "judged")
        texts = written(generator, solved, seed)
        return {
            **examined(generator, asked, seed),
            "texts": texts,
            "verdicts": verdicts(verifier, solved, texts, seed),
        }

    def arm(name: str, texts: Sequence[str], own: int) -> Any:
        from copy import deepcopy

        generator, verifier = (LocalModel(deepcopy(m.network), m.tokenizer, name=m.name) for m in begin())
        made = tango(generator, verifier, pool, name, size, own)
        generated, verified = made.run()
        found: dict[str, Any] = {
            **examined(generator, asked, own),
            "curves": {c: generated.curve(c)[1] for c in CURVES},
        }
        if name == "Tango":
            solved = lists(size.judged, NAMES, seed, "judged")
            found["verdicts"] = verdicts(verifier, solved, texts, seed)
            found["curves"]["verifier reward"] = verified.curve("reward")[1]
        return found

    first = kept(folder, {**base, "what": "start"}, before)
    found: dict[str, list[Any]] = {"start": [first]}
    for own in range(seed, seed + size.seeds):
        for name in ARMS:
            key = {**base, "what": [name, own], "rates": [RATE, VERIFIER_RATE]}
            found.setdefault(name, []).append(kept(folder, key, partial(arm, name, first["texts"], own)))
    answers = {name: Answers.of(runs) for name, runs in found.items()}
    return RecipeResult(
        [one.arm(name, seed) for name, one in answers.items()],
        claims(answers, seed),
        seeds=list(range(seed, seed + size.seeds)),
        settings={
            "model": pico().describe(),
            "names": NAMES,
            "slips": [SLIPS, JUDGED_SLIPS],
            "learning_rate": RATE,
            "verifier's learning_rate": VERIFIER_RATE,
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
    """An arm: ``[seed][list]`` right or not, and what its verifiers said of the common solutions.

    ``greedy`` is likewise, of the most probable answer; ``steps`` are shares of right steps.
    """

    rights: Sequence[Sequence[float]]
    verdicts: Sequence[Verdicts] = field(default_factory=tuple)
    greedy: Sequence[Sequence[float]] = ()
    steps: Sequence[Sequence[float]] = ()

    @classmethod
    def of(cls, runs: Sequence[Mapping[str, Any]]) -> Answers:
        judged = [r["verdicts"] for r in runs if "verdicts" in r]
        rights, greedy, steps = ([r[k] for r in runs] for k in ("right", "greedy", "steps right"))
        return cls(rights, judged, greedy, steps)

    @property
    def right(self) -> list[float]:
        return over_seeds(self.rights)

    def arm(self, name: str, seed: int) -> RecipeArm:
        figures: dict[str, Figure | float] = {
            "accuracy": mean(self.right),
            "greedy accuracy": mean(over_seeds(self.greedy)),
            "steps right": mean(over_seeds(self.steps)),
        }
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
