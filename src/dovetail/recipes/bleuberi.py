"""BLEUBERI: does BLEU tell better texts from worse ones, and can a model be trained by it?

First an audit without any training: pairs of texts, one lightly and one heavily damaged, judged against one
to four references. Then a copy of pico-draft that has practised to write short notes in four styles is
trained by group-relative policy gradient with BLEU against notes of the house style, on its hardest or
easiest prompts; beside it random rewards, and supervised learning of the references themselves.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import Any

from dovetail.core import Claim, Example, Figure, Limits
from dovetail.core.seeds import stream
from dovetail.core.statistics import mean, paired_difference, score
from dovetail.decoding import Sampling
from dovetail.models.local import LocalModel
from dovetail.recipes.base import RecipeArm, RecipeResult, Scale, over_seeds
from dovetail.recipes.finetune import finetune
from dovetail.recipes.kept import kept
from dovetail.recipes.short_notes import HOUSE, KINDS, STYLES, Note, example, noisy, notes
from dovetail.rewards import Bleu
from dovetail.rewards.base import Batch, Reward
from dovetail.rewards.bleu import Mode, agreement, bleu, brevity, select, tokens_13a
from dovetail.rewards.rouge import bleu_rouge, rouge_l, score_outputs
from dovetail.training import Run, train
from dovetail.training.objectives import PolicyGradient, Supervised
from dovetail.training.objectives.base import Objective
from dovetail.training.pico.corpus import Document

# How often the start has practised to answer each kind of request in the house style; the other three share
# the rest.
HABIT = (0.6, 0.4, 0.25, 0.1)
LIGHT, HEAVY = 0.1, 0.35
GROUP, MOST_TOKENS = 8, 48
RATES = {"GRPO": 5e-5, "SFT": 5e-5}
DECODING = Sampling(temperature=0.9)
CURVES = ("reward", "length", "zero_variance", "entropy")
ARMS: Mapping[str, tuple[Mode, str]] = {
    "BLEU, hard": (
        "hard",
        "GRPO with BLEU on the prompts whose first answers scored lowest: the paper's way",
    ),
    "BLEU, easy": ("easy", "the same on those that scored highest"),
    "random rewards": ("hard", "GRPO with rewards by chance, on the hard prompts"),
    "SFT": ("hard", "supervised learning of the references, on the hard prompts, each as often"),
}
START = "pico-draft, having practised all four styles; before any training"
NOTES = (
    "Short notes in four styles stand in for open-ended instructions; references use one of them. The start "
    f"has practised it in {', '.join(f'{h:.0%}' for h in HABIT)} of its answers to four kinds of request. "
    "What is hard is therefore known: the kinds where the house style is rare.",
    "The model is pico-draft, which learns such notes as well as pico and ten times as fast.",
    "Answers are sampled at temperature 0.9, in training and in what is reported; one per prompt and seed. "
    "Intervals are over prompts, each the mean over seeds; series by_seed shows the trainings' spread.",
    "One learning rate and number of steps for all, chosen on other prompts and another seed: at twice the "
    "rate or more BLEU ends near 0.95 on any selection, and random rewards drift to one style or another. "
    "One reference in training, as in the paper.",
    "In a first set-up every kind of request had a house style of its own; the small models then learned one "
    "style for all kinds, and BLEU hardly rose.",
    "Supervised learning has it easier here than in the paper: references of one template can be learned "
    "word by word.",
    "The audit's preferences are made, not people's: the text with lighter damage is the better one. Damage "
    "keeps the length on average, so the control by length can only guess. Equal scores call a tie, which "
    "never agrees.",
)


@dataclass(frozen=True)
class Size:
    """Pairs of the audit; practice documents and steps; prompts that are scored, share of them that is
    kept; seeds; training steps, completions of a step; prompts that are reported."""

    pairs: int
    documents: int
    practice: int
    pool: int
    seeds: int
    steps: int
    batch: int
    reported: int

    @property
    def kept(self) -> int:
        """Prompts of each selection: each is seen once."""
        return self.steps * self.batch // GROUP


SIZES: dict[Scale, Size] = {
    "smoke": Size(40, 32, 1, 8, 1, 1, 16, 8),
    "pico": Size(600, 6400, 200, 960, 3, 40, 64, 400),
    "full": Size(900, 3200, 100, 50_000, 3, 600, 256, 1000),
}


# --- the audit --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """Two texts of which the first is the better one, and four references, each in a style of its own."""

    better: str
    worse: str
    references: tuple[str, ...]


def pairs(count: int, seed: int) -> list[Pair]:
    """Half of the worse texts are heavily damaged; the others are about somebody else."""
    rng = random.Random(stream(seed, "pairs"))
    made, others = notes(rng, count, 2), notes(rng, count, 1)
    words = sorted({w for one in made for w in one.written(rng.randrange(STYLES)).split()})
    found = []
    for i, (one, other) in enumerate(zip(made, others, strict=True)):
        styles = [rng.randrange(STYLES) for _ in range(2)]
        about, share = (one, HEAVY) if i % 2 else (other, LIGHT)
        writers = rng.sample(range(STYLES), STYLES)
        found.append(
            Pair(
                noisy(one.written(styles[0]), LIGHT, words, rng),
                noisy(about.written(styles[1]), share, words, rng),
                tuple(noisy(one.written(w), LIGHT, words, rng) for w in writers),
            )
        )
    return found


def scorers(seed: int) -> dict[str, Callable[[str, Sequence[str]], float]]:
    """Name -> score of a text against all four references, but for BLEU with fewer."""
    rng = random.Random(stream(seed, "chance"))

    def against(count: int) -> Callable[[str, Sequence[str]], float]:
        return lambda text, references: bleu(text, references[:count])

    def penalty(text: str, references: Sequence[str]) -> float:
        return brevity(len(tokens_13a(text)), min(len(tokens_13a(r)) for r in references))

    return {
        **{f"BLEU, {n} reference{'s' * (n > 1)}": against(n) for n in (1, 2, 3, 4)},
        "ROUGE-L": rouge_l,
        "BLEU and ROUGE-L": bleu_rouge,
        "BLEU without brevity penalty": partial(bleu, brief=False),
        "brevity penalty alone": penalty,
        "longer is better": lambda text, _: len(text.split()) + rng.random() / 2,  # equals are drawn
        "chance": lambda *_: rng.random(),
    }


def audited(made: Sequence[Pair], seed: int) -> dict[str, list[float]]:
    """Scorer -> for each pair, whether it prefers the better text. Which stands first is drawn."""
    rng = random.Random(stream(seed, "sides"))
    sides = [rng.choice("ab") for _ in made]
    found = {}
    for name, scored in scorers(seed).items():
        agreed = []
        for pair, side in zip(made, sides, strict=True):
            a, b = (pair.better, pair.worse) if side == "a" else (pair.worse, pair.better)
            agreed.append(agreement([scored(a, pair.references)], [scored(b, pair.references)], [side]))
        found[name] = agreed
    return found


# --- training ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chance(Reward):
    """A number in [0, 1] that knows nothing of the completion."""

    seed: int = 0

    name = "chance"

    def pay(self, batch: Batch) -> Sequence[float]:
        rng = random.Random(stream(self.seed, "chance", batch.step))
        return [rng.random() for _ in batch.texts]


def draft() -> LocalModel:
    from dovetail.models import load

    made = load("pico-draft", device="cpu")
    assert isinstance(made, LocalModel)
    return made


def start(size: Size, seed: int) -> LocalModel:
    """Pico-draft, having practised notes in all four styles, the house style as often as `HABIT` has it."""
    rng = random.Random(stream(seed, "start"))
    documents = [document(one, habitual(rng, one.kind)) for one in notes(rng, size.documents, 0)]
    return finetune(draft(), documents, size.practice, seed=seed, rate=1.0, name="pico-draft (writes notes)")


def habitual(rng: random.Random, kind: int) -> int:
    """The style of a practice document."""
    others = [s for s in range(STYLES) if s != HOUSE]
    return HOUSE if rng.random() < HABIT[kind] else rng.choice(others)


def document(made: Note, style: int) -> Document:
    return Document(({"role": "user", "content": made.question},), made.written(style), thinking=False)


def prompts(count: int, fold: int, seed: int, name: str) -> tuple[list[Note], list[Example]]:
    made = notes(random.Random(stream(seed, name)), count, fold)
    return made, [example(f"{name}-{i}", one) for i, one in enumerate(made)]


def written(model: LocalModel, asked: Sequence[Example], seed: int) -> list[str]:
    found = [model.prompt(e.messages, thinking=False, seed=stream(seed, "asked", e.id)) for e in asked]
    return [c.text for c in DECODING.generate(model.engine, found, Limits(MOST_TOKENS))]


def judged(texts: Sequence[str], made: Sequence[Note]) -> dict[str, list[float]]:
    """Figures per prompt."""
    pairs_ = list(zip(texts, made, strict=True))
    return {
        "bleu": [bleu(t, [n.reference]) for t, n in pairs_],
        "rouge_l": [rouge_l(t, [n.reference]) for t, n in pairs_],
        "facts": [n.holds(t) for t, n in pairs_],
        "house_style": [float(t.strip() == n.reference) for t, n in pairs_],
        "length_ratio": [len(t.split()) / len(n.reference.split()) for t, n in pairs_],
    }


def trained(model: LocalModel, name: str, asked: Sequence[Example], size: Size, seed: int) -> Run:
    learning = "SFT" if name == "SFT" else "GRPO"
    rewards: list[Reward] = [] if name == "SFT" else [Chance(seed) if name == "random rewards" else Bleu()]
    objective: Objective = Supervised() if name == "SFT" else PolicyGradient(group_size=GROUP)
    run: Run = train(
        model,
        asked,
        objective=objective,
        rewards=rewards,
        decoding=DECODING,
        steps=size.steps,
        batch=size.batch // GROUP if name == "SFT" else size.batch,
        learning_rate=RATES[learning],
        max_new_tokens=MOST_TOKENS,
        thinking=False,
        samples_every=0,
        save_every=0,
        seed=seed,
    )
    return run


def run(scale: Scale = "pico", seed: int = 0) -> RecipeResult:
    """Audits, then trains every arm from the same start; finished trainings are kept, so a killed run goes
    on."""
    size, folder = SIZES[scale], f"runs/recipes/{scale}/bleuberi"
    agreed = audited(pairs(size.pairs, seed), seed)
    about, asked = prompts(size.reported, 2, seed, "reported")
    pool, pooled = prompts(size.pool, 0, seed, "pool")
    begin = cache(lambda: start(size, seed))
    base = {**asdict(size), "start": seed, "rates": RATES}

    def before() -> Any:
        first = dict(zip((e.id for e in pooled), written(begin(), pooled, seed + 1), strict=True))
        scores = score_outputs(first, {e.id: [n.reference] for e, n in zip(pooled, pool, strict=True)})
        return {"scores": scores, "judged": judged(written(begin(), asked, seed), about)}

    untrained = kept(folder, {**base, "what": "start"}, before)
    scores = untrained["scores"]
    chosen = {m: select(scores, size.kept, m, seed) for m, _ in ARMS.values()}
    by_id = {e.id: e for e in pooled}

    def arm(name: str, own: int) -> Any:
        done = trained(begin(), name, [by_id[i] for i in chosen[ARMS[name][0]]], size, own)
        curves = {one: done.curve(one)[1] for one in CURVES}
        return {"judged": judged(written(done.model, asked, seed), about), "curves": curves}

    found: dict[str, list[Any]] = {"start": [untrained]}
    for own in range(seed, seed + size.seeds):
        for name in ARMS:
            made = kept(folder, {**base, "what": [name, own]}, partial(arm, name, own))
            found.setdefault(name, []).append(made)
    answers = {name: averaged([one["judged"] for one in runs]) for name, runs in found.items()}
    return RecipeResult(
        [*audit_arms(agreed), *(trained_arm(name, one, about) for name, one in answers.items())],
        claims(agreed, answers, seed),
        seeds=list(range(seed, seed + size.seeds)),
        settings={
            "model": draft().describe(),
            "house style of the start": HABIT,
            "light, heavy damage": (LIGHT, HEAVY),
            "learning_rates": RATES,
            "group_size": GROUP,
            "temperature": 0.9,
            **asdict(size),
        },
        notes=NOTES,
        series={
            "agreement_by_references": by_references(agreed),
            "selection": selection(chosen, by_id, scores),
            "bleu_by_seed": {n: [mean(r["judged"]["bleu"]).value for r in runs] for n, runs in found.items()},
            "curves": {n: [r["curves"] for r in runs] for n, runs in found.items() if n != "start"},
        },
    )


# --- figures and claims -----------------------------------------------------------------------------------


def averaged(runs: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, list[float]]:
    """Per figure and prompt, the mean over the seeds: prompts alone are independent."""
    return {name: over_seeds(run[name] for run in runs) for name in runs[0]}


def audit_arms(agreed: Mapping[str, Sequence[float]]) -> list[RecipeArm]:
    return [RecipeArm(f"audit: {n}", {"agreement": score(v)}) for n, v in agreed.items()]


def trained_arm(name: str, judged_: Mapping[str, Sequence[float]], about: Sequence[Note]) -> RecipeArm:
    figures: dict[str, Figure | float] = {figure: mean(values) for figure, values in judged_.items()}
    for kind in range(len(KINDS)):
        of = [v for v, n in zip(judged_["bleu"], about, strict=True) if n.kind == kind]
        figures[f"bleu_kind_{kind}"] = mean(of)
    return RecipeArm(name, figures, ARMS[name][1] if name in ARMS else START)


def by_references(agreed: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    rates = [mean(values).value for name, values in agreed.items() if "reference" in name]
    return {"x": list(range(1, len(rates) + 1)), "y": rates}


def selection(
    chosen: Mapping[Mode, Sequence[str]], by_id: Mapping[str, Example], scores: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    """What each selection holds: mean score of the start's answers, prompts of each kind."""
    return {
        mode: {
            "score": mean([scores[i] for i in ids]).value,
            "kinds": [sum(by_id[i].columns["kind"] == k for i in ids) for k in range(len(KINDS))],
        }
        for mode, ids in chosen.items()
    }


def claims(
    agreed: Mapping[str, Sequence[float]], answers: Mapping[str, Mapping[str, Sequence[float]]], seed: int
) -> list[Claim]:
    four, one = agreed["BLEU, 4 references"], agreed["BLEU, 1 reference"]
    rate = score(four)
    made = [
        Claim(
            "BLEU against four references prefers the better text in at least 90% of the pairs",
            "73.5% of people's preferences, beside 74.5% of an 8B reward model",
            rate.value,
            rate.interval,
            mean(agreed["chance"]).value,
            at_least=0.9,
        )
    ]
    for text, paper, other, least in (
        ("four references agree more often than one", "73.5 against 72.3", one, 0.0),
        (
            "BLEU agrees more often than length, by at least 5 points",
            "73.5 against 65.1",
            agreed["longer is better"],
            0.05,
        ),
    ):
        more = paired_difference(four, other, scale=1.0, seed=seed)
        made.append(Claim(text, paper, more.value, more.interval, mean(other).value, at_least=least))

    def gain(text: str, paper: str, arm: str, beside: str, **bound: Any) -> Claim:
        values, baseline = answers[arm]["bleu"], answers[beside]["bleu"]
        difference = paired_difference(values, baseline, scale=1.0, seed=seed)
        return Claim(text, paper, difference.value, difference.interval, mean(baseline).value, **bound)

    return [
        *made,
        gain(
            "GRPO with BLEU on hard prompts raises held-out BLEU by at least 0.15",
            "held-out BLEU not reported; mean of four benchmarks 34.3 -> 44.6 (Qwen2.5-7B)",
            "BLEU, hard",
            "start",
            at_least=0.15,
            main=True,
        ),
        gain(
            "random rewards raise it by at most 0.05",
            "not reported",
            "random rewards",
            "start",
            at_most=0.05,
            main=True,
        ),
        gain(
            "hard prompts raise it more than as many easy ones",
            "hard chosen over easy, medium and random (figures not readable)",
            "BLEU, hard",
            "BLEU, easy",
            at_least=0.0,
        ),
        gain(
            "GRPO with BLEU ends higher than SFT on the same references",
            "mean of four benchmarks 44.6 against 40.0 (Qwen2.5-7B)",
            "BLEU, hard",
            "SFT",
            at_least=0.0,
        ),
    ]
