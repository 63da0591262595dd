"""T2S-Bench: does drawing the graph first help, and the more, the more links a question needs?

One copy of pico is taught to find the letter of an option, then three ways to answer questions on hidden
graphs (the bare answer, a free chain of thought, Structure of Thought), from equally many documents on the
same questions, and is then asked new questions in each way by the prompting method alone. The paper prompts
models that need no teaching.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from dovetail.benchmarks.hidden_graphs import LETTERS, NODES, HiddenGraph, breadth_first
from dovetail.benchmarks.text_to_structure import TextToStructure, link_f1
from dovetail.comparison import compare
from dovetail.core import Arm, Claim, Example, Figure, Report
from dovetail.core.statistics import mean, paired_difference, wilson
from dovetail.decoding.base import describe
from dovetail.models.local import LocalModel
from dovetail.prompting.base import Prompting
from dovetail.prompting.structure_of_thought import (
    ChainOfThought,
    DirectAnswer,
    StructureOfThought,
    parse_sot,
)
from dovetail.recipes.base import RecipeArm, RecipeResult, Scale
from dovetail.recipes.finetune import finetune
from dovetail.training.pico.corpus import Document

# Short wordings: pico's tokenizer spells most English words letter by letter, and it is taught them anyway.
ARMS: dict[str, Prompting] = {
    "direct": DirectAnswer(instruction="Answer.", system=""),
    "chain-of-thought": ChainOfThought(instruction="Think step by step."),
    "structure-of-thought": StructureOfThought(notation="arrows", instruction="Structure first."),
}
# Rules on single letters, which pico's training had it chain; it looks names up badly.
BENCHMARK = TextToStructure(wording="letters", sentences=7, rule="")
HOPS = (1, 2, 3, 4)
EXAMPLES: dict[Scale, int] = {"smoke": 8, "pico": 600, "full": 2000}
QUESTIONS: dict[Scale, int] = {"smoke": 16, "pico": 3200, "full": 12800}
STEPS: dict[Scale, int] = {"smoke": 2, "pico": 600, "full": 2400}
PER_STEP = 16
RATE = 0.3
# The look-ups before: steps of 32 documents, at a rate of their own.
LOOKUP_STEPS: dict[Scale, int] = {"smoke": 1, "pico": 200, "full": 800}
LOOKUP_RATE = 0.5


def completion(arm: str, graph: HiddenGraph) -> str:
    """What is taught for a question in each way; all three are right, and end in the same answer.

    Whoever reasons names the node before its letter: pico cannot do both in one token.
    """
    answer = f"[Answer] {','.join(graph.answer)}"
    if arm == "direct":
        return answer
    answer = f"It is {graph.path[-1]}.\n{answer}"
    if arm == "structure-of-thought":
        drawn = breadth_first(graph.links, graph.start, graph.hops)
        return "[Structure]\n" + "".join(f"{a} -> {b}\n" for a, b in drawn) + answer
    # as people write a rationale: the facts that lead to the answer, in the words of pico's own reasoning
    return "".join(f"{a}, so {b}.\n" for a, b in pairwise(graph.path)) + answer


def lookups(count: int, seed: int) -> list[Document]:
    """What all three ways need at their end: which letter an option has."""
    rng, made = random.Random(f"t2s-bench-lookups-{seed}"), []
    for _ in range(count):
        options = rng.sample(NODES, len(LETTERS))
        right = rng.randrange(len(options))
        listed = "\n".join(f"{letter}. {node}" for letter, node in zip(LETTERS, options, strict=True))
        asked = f"Options:\n{listed}\n\nWhich is {options[right]}?"
        made.append(
            Document(
                ({"role": "user", "content": asked},),
                f"[Answer] {LETTERS[right]}",
                thinking=False,
                family="look-up",
            )
        )
    return made


def documents(count: int, seed: int) -> list[Document]:
    """``count`` questions, each in all three ways: equal questions and numbers for every arm."""
    benchmark = replace(BENCHMARK, split="train")
    made = []
    for i, graph in enumerate(benchmark.graphs(count, seed)):
        example = benchmark.example(graph, f"train-{i}")
        for arm, prompting in ARMS.items():
            messages = tuple(m.as_dict() for m in prompting.messages(example))
            made.append(Document(messages, completion(arm, graph), thinking=False, family=arm))
    return made


def run(scale: Scale = "pico", seed: int = 0) -> RecipeResult:
    """Teaches a copy of pico the three formats and asks held-out questions in each."""
    from dovetail.models import load

    pico = load("pico", device="cpu")
    assert isinstance(pico, LocalModel)
    letters = lookups(32 * LOOKUP_STEPS[scale], seed)
    ready = finetune(
        pico, letters, LOOKUP_STEPS[scale], seed=seed, rate=LOOKUP_RATE, micro_batches_per_step=2
    )
    questions = documents(QUESTIONS[scale], seed)
    model = finetune(
        ready,
        [*questions, *letters[: len(questions) // 6]],
        STEPS[scale],
        seed=seed,
        rate=RATE,
        documents_per_step=PER_STEP,
        micro_batches_per_step=2,
        name="pico, taught",
    )
    task = BENCHMARK.task()
    report = compare(
        model,
        task,
        {name: [prompting] for name, prompting in ARMS.items()},
        limit=EXAMPLES[scale],
        seed=seed,
        baseline="direct",
        max_new_tokens=160,
        batch=64,
        thinking=False,
        progress=False,
    )
    examples, _ = task.examples(EXAMPLES[scale], seed)
    right = {arm: by_hops(report, arm, examples) for arm in ARMS}
    drawn = structures(report, BENCHMARK.graphs(EXAMPLES[scale], seed))
    return RecipeResult(
        [recipe_arm(arm, right[arm.name], drawn) for arm in report.arms],
        claims(right, drawn, seed),
        seeds=[seed],
        settings={
            "model": pico.describe(),
            "benchmark": task.parameters,
            "prompts": {name: describe(prompting) for name, prompting in ARMS.items()},
            "examples": len(examples),
            "questions_taught": QUESTIONS[scale],
            "documents_per_arm": QUESTIONS[scale],
            "steps": STEPS[scale],
            "documents_per_step": PER_STEP,
            "rate": RATE,
            "steps_of_lookups": LOOKUP_STEPS[scale],
        },
        notes=[
            "A first set-up had no lesson in look-ups, and no arm could tell an option's letter: all were at "
            "chance, however well the graph was drawn.",
            "pico knows neither the formats nor the questions, so one copy of it is taught all three "
            "formats, with equally many documents on the same questions; the arms differ in the prompt only.",
            "The free chain is taught as people write rationales: the facts that lead to the answer, and "
            "no search. Structure of Thought lists the links within reach of the question's node, nearest "
            "first, in arrows, since pico's tokenizer spells JSON in twenty tokens per link.",
        ],
        series={
            "accuracy_by_hops": {
                "x": HOPS,
                **{a: [float(np.mean(r[h])) for h in HOPS] for a, r in right.items()},
            }
        },
    )


Scores = dict[int, list[float]]  # hops -> 0/1 of its examples, in order


def by_hops(report: Report, arm: str, examples: Sequence[Example]) -> Scores:
    value = {o.example_id: o.value for o in report.outcomes if o.arm == arm}
    return {h: [value[e.id] for e in examples if e.columns["hops"] == h] for h in HOPS}


def structures(report: Report, graphs: Sequence[HiddenGraph]) -> list[tuple[float, float]]:
    """(link F1 of the drawn structure, exact match) per question of the arm that draws."""
    outcomes = [o for o in report.outcomes if o.arm == "structure-of-thought"]
    found = []
    for outcome, graph in zip(outcomes, graphs, strict=True):
        gold = [{"source": a, "target": b} for a, b in breadth_first(graph.links, graph.start, graph.hops)]
        found.append((link_f1(parse_sot(outcome.completion).links, gold, graph.nodes), outcome.value))
    return found


def recipe_arm(arm: Arm, right: Scores, drawn: Sequence[tuple[float, float]]) -> RecipeArm:
    made = RecipeArm.of(arm)
    figures = dict(made.figures)
    for hops, values in right.items():
        figures[f"accuracy_{hops}_hops"] = wilson(sum(values), len(values))
    if arm.name == "structure-of-thought":
        figures["link_f1"] = mean([f1 for f1, _ in drawn])
    return RecipeArm(made.name, figures, made.description)


def claims(right: Mapping[str, Scores], drawn: Sequence[tuple[float, float]], seed: int) -> list[Claim]:
    sot, direct, free = (right[a] for a in ("structure-of-thought", "direct", "chain-of-thought"))
    ahead = paired_difference(sot[3], direct[3], scale=1.0, seed=seed)
    over_free = paired_difference(
        [v for h in HOPS for v in sot[h]], [v for h in HOPS for v in free[h]], scale=1.0, seed=seed
    )
    made = [
        Claim(
            "at 3 hops Structure of Thought is at least 20 points above the direct answer",
            "Qwen2.5-7B on T2S-Bench: 40.6 against 28.8 exact match, all hops together",
            ahead.value,
            ahead.interval,
            baseline=float(np.mean(direct[3])),
            at_least=0.20,
            main=True,
        ),
        growth("the direct answer", sot, direct, seed),
        growth("a free chain of thought", sot, free, seed),
        Claim(
            "over all hops Structure of Thought is no worse than a free chain of thought",
            "Qwen2.5-7B on T2S-Bench: 40.6 against 36.6 exact match",
            over_free.value,
            over_free.interval,
            baseline=float(np.mean([v for h in HOPS for v in free[h]])),
            at_least=0.0,
        ),
    ]
    r = correlation(drawn, seed)
    made.append(
        Claim(
            "link F1 of the drawn structure and exact match of the answer go together (correlation above 0)",
            "seen over 45 models, not over questions",
            r.value,
            r.interval,
            at_least=0.0,
        )
    )
    return made


def growth(name: str, sot: Scores, other: Scores, seed: int) -> Claim:
    """How much wider the gap is at the most hops than at the fewest; the questions are independent draws."""
    far, near = (np.subtract(sot[hops], other[hops]) for hops in (HOPS[-1], HOPS[0]))
    wider = paired_difference(far, near, scale=1.0, seed=seed)
    return Claim(
        f"the gap to {name} is wider at {HOPS[-1]} hops than at {HOPS[0]}",
        "not reported by hops",
        wider.value,
        wider.interval,
        baseline=float(near.mean()),
        at_least=0.0,
        main=True,
    )


def correlation(pairs: Sequence[tuple[float, float]], seed: int, resamples: int = 2000) -> Figure:
    """Pearson's r with its percentile bootstrap interval; (-1, 1) around 0 where one side does not vary."""
    x = np.asarray(pairs, dtype=np.float64)
    if (x.std(0) == 0).any():
        return Figure(0.0, (-1.0, 1.0))

    def r(rows: Any) -> float:
        return float(np.corrcoef(rows.T)[0, 1]) if (rows.std(0) > 0).all() else 0.0

    rng = np.random.default_rng(seed)
    draws = [r(x[rng.integers(0, len(x), len(x))]) for _ in range(resamples)]
    low, high = np.quantile(draws, (0.025, 0.975))
    return Figure(r(x), (min(float(low), r(x)), max(float(high), r(x))))
