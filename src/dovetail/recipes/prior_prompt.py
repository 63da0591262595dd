"""Prior prompts: five instructions and none, before and after training under each of them.

A copy of pico has seen sums solved in five tagged styles and answered at once, and writes the style that it
is asked for in less than half of its replies. The start is asked under every prior prompt (iPE), then
trained under each by group-relative policy gradient, all else equal, and asked under it again (pPE).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import Any

from dovetail.audits.behaviours import BEHAVIOURS, ELICITED, behaviour_shares, keywords
from dovetail.core import Claim, Example, Figure, Task
from dovetail.core.statistics import mean, paired_difference, paired_ratio
from dovetail.decoding import Sampling
from dovetail.models.local import LocalModel
from dovetail.prompting import PriorPrompt, asked
from dovetail.prompting.prior_prompts import CONTENTS, NONE
from dovetail.recipes.base import RecipeArm, RecipeResult, Scale, over_seeds
from dovetail.recipes.finetune import finetune
from dovetail.recipes.kept import kept, kept_model
from dovetail.recipes.pico_model import pico
from dovetail.rewards import Correct, TaggedFormat
from dovetail.rewards.tagged_format import WEIGHTS
from dovetail.training import Run, evaluate, train
from dovetail.training.data import Prompted
from dovetail.training.objectives import PolicyGradient
from dovetail.training.pico.corpus import Document, chain_sum, held_out

STYLES = tuple(CONTENTS)
SUMS = {"min_terms": 3, "max_terms": 4, "min_digits": 1, "max_digits": 2}
GROUP, RATE, MOST_TOKENS = 8, 2e-4, 112
PRACTICE_RATE = 0.5
# Short, as pico spells most English words letter by letter.
INSTRUCTION = "Reply as <{tag}> </{tag}> <answer> </answer>."
PROMPTS = {style: PriorPrompt(style, instruction=INSTRUCTION) for style in (*STYLES, NONE)}
# Odds of what the start has seen under a prior prompt: its own style, one of the four others, the bare
# answer, its own style without the answer's tags; and under the bare question: any style, the bare answer.
KINDS, ODDS, BARE_ODDS = ("own", "other", "direct", "broken"), (40, 20, 25, 15), (60, 40)
CURVES = ("reward", "length", "truncated", "zero_variance")
NOTES = (
    "The start is made, not found: pico practised five ways of writing out a sum, each in its tags, and bare "
    "answers, in a mixture that hardly depends on the prior prompt. Bare answers are mostly wrong.",
    "So part of the gain in accuracy is that replies are written out at all; training without a prior prompt "
    "gains that, too, and stands beside.",
    "The instruction is shorter than the default one. Replies are sampled at temperature 1, one per question "
    "and seed, from questions that no training saw.",
    "Markers are words within the reply, by the keyword judge, tags taken out. Intervals are over questions, "
    "each the mean over the styles where pooled, and over the seeds; all trainings begin from one start.",
    'Changed since a first run: the code style wrote "x = 12+30 # 42", which pico could not calculate, and '
    "the start practised half as long at twice the rate. All styles then gained 7.6 points [3.5, 11.6] "
    "together, and code lost 8.",
)


@dataclass(frozen=True)
class Size:
    """Steps of practice; steps and completions of the training; seeds; questions reported; styles."""

    practice: int
    steps: int
    batch: int
    seeds: int
    questions: int
    styles: tuple[str, ...] = (*STYLES, NONE)


SIZES: dict[Scale, Size] = {
    "smoke": Size(1, 1, 8, 1, 4, ("plan", NONE)),
    "pico": Size(300, 24, 48, 2, 200),
    "full": Size(300, 160, 128, 5, 1000),
}


def run(scale: Scale = "pico", seed: int = 0) -> RecipeResult:
    """Trains under every prior prompt from the same start; each finished training is kept."""
    from dovetail.tasks import task as named

    size, folder = SIZES[scale], f"runs/recipes/{scale}/prior-prompt"
    task = named("chain-sum", **SUMS)
    key = {**asdict(size), "styles": None, "start": seed}
    begin = cache(lambda: kept_model(folder, key, pico(), lambda: start(size.practice, seed)))
    questions, _ = task.examples(size.questions, seed + 777)

    def before(style: str) -> Any:
        return [replies(begin(), style, questions, task, own) for own in range(seed, seed + size.seeds)]

    def after(style: str, own: int) -> Any:
        learned, _ = task.examples(size.steps * size.batch // GROUP * 2, own + 1000)
        new = [e for e in learned if e.question not in {q.question for q in questions}]
        done = trained(begin(), style, new, size, own)
        curves = {name: done.curve(name)[1] for name in CURVES}
        return replies(done.model, style, questions, task, own) | {"curves": curves}

    found: dict[str, list[Any]] = {}
    for style in size.styles:
        found[arm_name("iPE", style)] = kept(folder, {**key, "before": style}, partial(before, style))
    for style in size.styles:
        found[arm_name("pPE", style)] = [
            kept(folder, {**key, "after": style, "seed": own}, partial(after, style, own))
            for own in range(seed, seed + size.seeds)
        ]
    arms = {name: Replies.of(name.split()[-1], runs) for name, runs in found.items()}
    return RecipeResult(
        [one.arm(name) for name, one in arms.items()],
        claims(arms, seed),
        seeds=list(range(seed, seed + size.seeds)),
        settings={
            "model": pico().describe(),
            "task": SUMS,
            "prompts": {style: prompt.text for style, prompt in PROMPTS.items()},
            "odds of the start": dict(zip(KINDS, ODDS, strict=True)),
            "weights of accuracy and format": WEIGHTS,
            "learning_rate": RATE,
            "group_size": GROUP,
            "max_new_tokens": MOST_TOKENS,
            **asdict(size),
        },
        notes=NOTES,
        series={
            "behaviours": heat_map(arms),
            "by_seed": {name: one.by_seed() for name, one in arms.items()},
            "curves": {n: [r["curves"] for r in runs] for n, runs in found.items() if "curves" in runs[0]},
        },
    )


def arm_name(kind: str, style: str) -> str:
    return f"{kind} {style}"


# --- the start ------------------------------------------------------------------------------------------


def written(style: str, equations: Sequence[str], answer: str, rng: random.Random) -> str:
    """A sum solved in a style: the same equations in each, in other words."""
    if style == "think":
        lines = [f"{'Then' if i else 'First'} {e}." for i, e in enumerate(equations)]
    elif style == "plan":
        changes = [e.partition("=")[0] for e in equations]
        signs = ["+" if "+" in c[1:] else "-" for c in changes]
        steps = [
            f"{i}. {s}{c[1:].partition(s)[2]}" for i, (s, c) in enumerate(zip(signs, changes, strict=True), 1)
        ]
        lines = [*steps, *equations]
    elif style == "code":
        # A value that follows a comment sign, "x = 12+30 # 42", is one that pico cannot calculate.
        lines = [f"x = {e.partition('=')[0]} # {e}" for e in equations]
    elif style == "knowledge":
        lines = [f"Fact: {e}" for e in equations]
    else:
        a, b = rng.randint(1, 9), rng.randint(1, 9)
        lines = [f"Example: {a}+{b}={a + b}", *equations]
    body = "\n".join(lines)
    return f"<{style}>\n{body}\n</{style}>\n<answer>\\boxed{{{answer}}}</answer>"


def document(rng: random.Random, asked_style: str) -> Document:
    """A question under a prior prompt, and one of the replies that the start has seen to it."""
    while True:
        made = chain_sum(rng, "stepwise", (SUMS["min_terms"], SUMS["max_terms"]), (1, SUMS["max_digits"]))
        if not held_out(made.question):
            break
    kinds, odds = (("other", "direct"), BARE_ODDS) if asked_style == NONE else (KINDS, ODDS)
    kind = rng.choices(kinds, odds)[0]
    style = rng.choice([s for s in STYLES if s != asked_style]) if kind == "other" else asked_style
    if kind == "direct":
        text = f"\\boxed{{{made.answer}}}"
    else:
        text = written(style, made.reasoning.split("\n"), made.answer, rng)
    if kind == "broken":
        text = text.replace("<answer>", "").replace("</answer>", "")
    put = PROMPTS[asked_style].messages(Example.ask("", made.question))
    return Document(tuple(m.as_dict() for m in put), text, thinking=True, family=kind)


def start(steps: int, seed: int) -> LocalModel:
    """Pico, having practised all styles under every prior prompt."""
    rng = random.Random(f"prior-prompt-{seed}")
    documents = [document(rng, rng.choice((*STYLES, NONE))) for _ in range(16 * steps)]
    return finetune(
        pico(),
        documents,
        steps,
        seed=seed,
        rate=PRACTICE_RATE,
        documents_per_step=16,
        micro_batches_per_step=2,
        name="pico (mixed styles)",
    )


# --- training and asking --------------------------------------------------------------------------------


def trained(
    model: LocalModel, style: str, examples: Sequence[Example], size: Size, seed: int, rate: float = RATE
) -> Run:
    made: Run = train(
        model,
        examples,
        objective=PolicyGradient(group_size=GROUP),
        rewards=[Correct("numeric", strict=True), TaggedFormat(style)],
        weights=WEIGHTS,
        data=Prompted(PROMPTS[style]),
        steps=size.steps,
        batch=size.batch,
        learning_rate=rate,
        max_new_tokens=MOST_TOKENS,
        samples_every=0,
        save_every=0,
        seed=seed,
    )
    return made


def replies(
    model: LocalModel, style: str, questions: Sequence[Example], task: Task, seed: int
) -> dict[str, Any]:
    put = asked(questions, PROMPTS[style])
    found = evaluate(model, put, task.scorer, decoding=Sampling(), max_new_tokens=MOST_TOKENS, seed=seed)
    return {"right": found.values, "lengths": found.lengths, "texts": found.texts}


@dataclass(frozen=True)
class Replies:
    """An arm's replies to the reported questions, ``[seed][question]``, under one style's prompt."""

    style: str
    rights: Sequence[Sequence[float]]
    tokens: Sequence[Sequence[float]]
    texts: Sequence[Sequence[str]]

    @classmethod
    def of(cls, style: str, runs: Sequence[Mapping[str, Any]]) -> Replies:
        return cls(
            style, [r["right"] for r in runs], [r["lengths"] for r in runs], [r["texts"] for r in runs]
        )

    @property
    def right(self) -> list[float]:
        """Per question, the share of the seeds that got it right: questions alone are independent."""
        return over_seeds(self.rights)

    @property
    def lengths(self) -> list[float]:
        return over_seeds(self.tokens)

    @property
    def formed(self) -> list[float]:
        """Per question, the share of the seeds whose reply has the format."""
        rule = TaggedFormat(self.style)
        return over_seeds([[float(rule.holds(t)) for t in texts] for texts in self.texts])

    def marked(self, style: str) -> list[float]:
        """Per question, the share of the seeds whose reply has a style's markers."""
        return over_seeds([[float(keywords(t, style) > 0) for t in texts] for texts in self.texts])

    def arm(self, name: str) -> RecipeArm:
        figures: dict[str, Figure | float] = {"accuracy": mean(self.right), "tokens": mean(self.lengths)}
        if self.style != NONE:
            figures["format"] = mean(self.formed)
        figures |= {f"markers_{style}": mean(self.marked(style)) for style in ELICITED}
        what = "the start" if name.startswith("iPE") else "trained, and"
        return RecipeArm(name, figures, f"{what} asked under {PROMPTS[self.style].text or 'no prior prompt'}")

    def by_seed(self) -> dict[str, list[float]]:
        return {
            "accuracy": [sum(r) / len(r) for r in self.rights],
            "tokens": [sum(t) / len(t) for t in self.tokens],
        }


def heat_map(arms: Mapping[str, Replies]) -> dict[str, Any]:
    """The behaviour audit: share of responses by arm and behaviour."""
    shares = behaviour_shares({name: [t for ts in one.texts for t in ts] for name, one in arms.items()})
    return {
        "arms": list(shares),
        "behaviours": list(BEHAVIOURS),
        "share": [[found[label].value for label in BEHAVIOURS] for found in shares.values()],
    }


def claims(arms: Mapping[str, Replies], seed: int) -> list[Claim]:
    """The paper's statements about the styles that were run."""
    styles = [s for s in STYLES if arm_name("pPE", s) in arms]
    before, after = ([arms[arm_name(kind, s)] for s in styles] for kind in ("iPE", "pPE"))

    def difference(a: Sequence[float], b: Sequence[float]) -> dict[str, Any]:
        found = paired_difference(a, b, scale=1.0, seed=seed)
        return {"measured": found.value, "interval": found.interval, "baseline": mean(b).value}

    pooled = {kind: over_seeds([one.right for one in of]) for kind, of in (("iPE", before), ("pPE", after))}
    made = [
        Claim(
            "trained under a prior prompt, accuracy is at least 10 points above the same prompt at inference "
            "alone (five styles pooled)",
            "every pPE model beats its iPE twin; examples gains 6.97 points over the base model (Qwen2.5-7B)",
            **difference(pooled["pPE"], pooled["iPE"]),
            at_least=0.10,
            main=True,
        )
    ]
    made += [
        Claim(
            f"{one.style}: pPE is more accurate than iPE",
            "so for each of the five",
            **difference(one.right, was.right),
            at_least=0.0,
        )
        for was, one in zip(before, after, strict=True)
    ]
    formed = mean(over_seeds([one.formed for one in after]))
    was = mean(over_seeds([one.formed for one in before])).value
    made.append(
        Claim(
            "trained, at least 90% of the replies have the format (pooled)",
            "reward curves rise, then level; not reported apart",
            formed.value,
            formed.interval,
            was,
            at_least=0.9,
            main=True,
        )
    )
    own = over_seeds([one.marked(one.style) for one in after])
    every = [
        sum(parts)
        for parts in zip(*[over_seeds([one.marked(s) for one in after]) for s in STYLES], strict=True)
    ]
    if sum(every):
        share = paired_ratio(own, every, seed=seed)
        made.append(
            Claim(
                "of all styles' markers in trained replies, at least 80% are the trained style's (pooled)",
                "plan models plan more, code models write code (heat map, read by gpt-4.1-mini)",
                share.value,
                share.interval,
                marker_share(before),
                at_least=0.8,
                main=True,
            )
        )
    none = arms.get(arm_name("pPE", NONE))
    if none is not None:
        made.append(
            Claim(
                "trained under a prior prompt, accuracy is above training without one (pooled)",
                "most styles; no prior prompt keeps the lower reward",
                **difference(pooled["pPE"], none.right),
                at_least=0.0,
            )
        )
    trained_under = {one.style: one for one in after}
    if {"examples", "think"} <= set(trained_under):
        made.append(
            Claim(
                "the null-example prompt is more accurate than thinking, both trained",
                "largest mean gain of the five, 6.97 points; also the shortest replies",
                **difference(trained_under["examples"].right, trained_under["think"].right),
                at_least=0.0,
            )
        )
    return made


def marker_share(of: Sequence[Replies]) -> float:
    """Of all styles' markers, the share that is each arm's own style's."""
    own = sum(mean(one.marked(one.style)).value for one in of)
    every = sum(mean(one.marked(style)).value for one in of for style in STYLES)
    return own / every if every else 0.0
