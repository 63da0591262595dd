"""Soft Thinking beside sampled and greedy chains of thought, and Cold Stop where there is something to cut.

Pico as it ships writes little that could be cut, so the second half runs on a copy that was taught to
go on talking when it has found its result: low-entropy text, the state that Cold Stop is made for.
Its thresholds are chosen on other questions than the reported ones.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dovetail.core import Claim, Example, Task
from dovetail.core.statistics import mean, paired_ratio
from dovetail.decoding import Greedy, Sampling, SoftThinking
from dovetail.models.local import LocalModel
from dovetail.recipes.base import RecipeArm, RecipeResult, Scale
from dovetail.recipes.finetune import finetune
from dovetail.recipes.measure import (
    Answers,
    accuracy_claim,
    answer,
    differing,
    exact,
    overhead_claim,
    step_seconds,
)
from dovetail.training.pico.corpus import Document, chain_sum, held_out

# The paper's filters, which are also SoftThinking's defaults.
COT = Sampling(temperature=0.6, top_k=30, top_p=0.95)
NO_STOP = SoftThinking(entropy_threshold=0.0)
# Entropies as in the paper; lengths as pico's texts are, a tenth of the paper's.
THRESHOLDS = [(tau, k) for tau in (0.001, 0.01, 0.1) for k in (16, 32, 48)]
LINGERING = """So the answer is {0}.
Let me check: the answer is {0}. Yes.
I know the answer: {0}.
The answer is {0}, so {0} is the answer.
Now let me check the answer: {0}. Yes, the answer is {0}.
Yes, so the answer is {0}."""


@dataclass(frozen=True)
class Size:
    """How much is run: examples of the report, and of its second half; of the choice of thresholds; samples
    of the baseline."""

    examples: int
    lingering: int
    tuning: int
    samples: int
    steps: int
    rounds: int


SIZES: dict[Scale, Size] = {
    "smoke": Size(examples=4, lingering=4, tuning=2, samples=2, steps=1, rounds=1),
    "pico": Size(examples=300, lingering=1000, tuning=60, samples=2, steps=120, rounds=12),
    "full": Size(examples=500, lingering=500, tuning=100, samples=16, steps=0, rounds=12),
}

TASKS: dict[Scale, tuple[str, ...]] = {
    "smoke": ("chain-sum",),
    "pico": ("chain-sum", "atlas-multihop", "countdown"),
    "full": ("gsm8k",),
}


def run(scale: Scale = "pico", seed: int = 0) -> RecipeResult:
    """Measures Soft Thinking; at scale ``full`` the paper's QwQ-32B on GSM8K, without the taught copy."""
    from dovetail.models import load
    from dovetail.tasks import task as named

    size = SIZES[scale]
    model = load("Qwen/QwQ-32B", dtype="bfloat16") if scale == "full" else load("pico", device="cpu")
    assert isinstance(model, LocalModel)
    arms: list[RecipeArm] = []
    claims: list[Claim] = []
    for name in TASKS[scale]:
        task = named(name)
        examples, _ = task.examples(size.examples if name == TASKS[scale][0] else size.examples // 5, seed)
        more, checked = as_shipped(model, task, examples, size, seed)
        arms += more
        claims += checked
    checker = model if scale == "full" else taught_to_linger(model, size.steps, seed)
    task = named(TASKS[scale][0])
    tuning, _ = task.examples(size.tuning, seed + 1)
    stopping = choose_thresholds(checker, task, tuning, seed + 1)
    examples, _ = task.examples(size.lingering, seed + 4)
    more, checked = cold_stop(checker, task, examples, stopping, size, seed)
    arms += more
    claims += [*checked, overhead(model, examples, size.rounds)]
    return RecipeResult(
        arms,
        claims,
        seeds=[seed, seed + 1, seed + 4],
        settings={
            "model": model.describe(),
            "examples": size.examples,
            "examples, taught": size.lingering,
            "samples": size.samples,
            "fine-tuning steps": size.steps,
            "entropy_threshold": stopping.entropy_threshold,
            "length_threshold": stopping.length_threshold,
            "thresholds tried": THRESHOLDS,
        },
        notes=[
            f"Seed {seed + 1} chose the thresholds ({size.tuning} questions); seed {seed} is reported, of "
            f"the taught copy seed {seed + 4}.",
            "Two set-ups came before. After 30 steps of teaching the copy lingered with doubts (accuracy "
            "0.40), and Cold Stop saved 13% of its tokens [9, 18]. After these 120 steps it hardly doubts "
            "anywhere, and thresholds from a list without 0.001 stopped it within its sum (accuracy 0.21).",
            '"taught" is pico after fine-tuning on sums after which it says their result several times over.',
            "Thinking tokens are over all answers, right or wrong; the paper counts the right ones alone.",
        ],
    )


def as_shipped(
    model: LocalModel, task: Task, examples: Sequence[Example], size: Size, seed: int
) -> tuple[list[RecipeArm], list[Claim]]:
    """Soft thinking without Cold Stop beside sampling and greedy; what must be equal is counted."""
    sampled = answer(model, task, examples, COT, seed, samples=size.samples)
    greedy = answer(model, task, examples, Greedy(), seed)
    soft = answer(model, task, examples, NO_STOP, seed)
    one = answer(
        model, task, examples, SoftThinking(max_topk=1, entropy_threshold=0.0, after_temperature=0.0), seed
    )
    reseeded = answer(model, task, examples, NO_STOP, seed + 2)
    arms = [
        sampled.arm(f"{task.name}: sampled", "chain of thought, the paper's filters"),
        greedy.arm(f"{task.name}: greedy", "chain of thought, most probable token"),
        soft.arm(f"{task.name}: soft thinking", "without Cold Stop"),
    ]
    claims = [
        exact(
            f"on {task.name}, max_topk = 1 thinks as greedy does, token for token (answers that differ)",
            differing(one, greedy),
            main=True,
        ),
        exact(
            f"on {task.name}, thinking does not depend on the seed (answers whose thinking differs)",
            sum(a != b for a, b in zip(thought(soft), thought(reseeded), strict=True)),
        ),
        accuracy_claim(
            f"on {task.name}, soft thinking is at least as accurate as the mean of sampled answers",
            "+1.1 to +2.5 points (mathematics, 32B to 70B); models of 7B and less do poorly",
            soft,
            sampled,
            at_least=0.0,
            seed=seed,
        ),
    ]
    return arms, claims


def cold_stop(
    model: LocalModel,
    task: Task,
    examples: Sequence[Example],
    stopping: SoftThinking,
    size: Size,
    seed: int,
) -> tuple[list[RecipeArm], list[Claim]]:
    """What Cold Stop saves, and what it costs; with one-hot mixtures, which part of it is the stop's."""
    sampled = answer(model, task, examples, COT, seed, samples=size.samples)
    soft = answer(model, task, examples, NO_STOP, seed)
    stopped = answer(model, task, examples, stopping, seed)
    greedy = answer(model, task, examples, replace(stopping, max_topk=1), seed)
    arms = [
        sampled.arm("taught: sampled", "chain of thought, the paper's filters"),
        soft.arm("taught: soft thinking", "without Cold Stop"),
        stopped.arm("taught: soft thinking, Cold Stop", "the thresholds in the settings"),
        greedy.arm("taught: greedy, Cold Stop", "max_topk = 1: the stop without the mixtures"),
    ]
    fewer = paired_ratio(stopped.thinking, sampled.thinking, seed=seed)
    without = paired_ratio(soft.thinking, sampled.thinking, seed=seed)
    claims = [
        Claim(
            "Cold Stop thinks with at most 0.85 of the tokens of sampled chains of thought",
            "11.6% to 22.4% fewer tokens",
            fewer.value,
            fewer.interval,
            mean(sampled.thinking).value,
            at_most=0.85,
            main=True,
        ),
        accuracy_claim(
            "with Cold Stop, accuracy is at most 3 points below sampled chains of thought",
            "+1.1 to +2.5 points",
            stopped,
            sampled,
            at_least=-0.03,
            seed=seed,
            main=True,
        ),
        Claim(
            "without Cold Stop, thinking is as long as sampled chains of thought (0.9 to 1.1)",
            "not reported",
            without.value,
            without.interval,
            mean(sampled.thinking).value,
            at_least=0.9,
            at_most=1.1,
        ),
    ]
    return arms, claims


def choose_thresholds(model: LocalModel, task: Task, examples: Sequence[Example], seed: int) -> SoftThinking:
    """The shortest thinking among the thresholds that lose at most a point to no stop at all; where all lose
    more, the most accurate."""
    whole = sum(answer(model, task, examples, NO_STOP, seed).right)
    tried = []
    for tau, k in THRESHOLDS:
        method = SoftThinking(entropy_threshold=tau, length_threshold=k)
        found = answer(model, task, examples, method, seed)
        lost = max(0.0, whole - sum(found.right) - 0.01 * len(examples))
        tried.append((lost, sum(found.thinking), tau, k, method))
    return min(tried, key=lambda row: row[:4])[-1]


def taught_to_linger(model: LocalModel, steps: int, seed: int) -> LocalModel:
    """A copy of pico that goes on talking, always in the same words, when it has found its result."""
    rng = random.Random(f"soft-thinking-{seed}")
    documents: list[Document] = []
    while len(documents) < 32 * steps:
        made = chain_sum(rng, "stepwise", (3, 6), (1, 2))
        if held_out(made.question):
            continue
        thoughts = f"{made.reasoning}\n{LINGERING.format(made.answer)}"
        completion = f"<think>\n{thoughts}\n</think>\n\n\\boxed{{{made.answer}}}"
        documents.append(Document(({"role": "user", "content": made.question},), completion, thinking=True))
    return finetune(model, documents, steps, seed=seed, rate=0.3, name="pico (taught to linger)")


def overhead(model: LocalModel, examples: Sequence[Example], rounds: int) -> Claim:
    """Seconds of a step at batch 16, beside sampling with the same filters."""
    prompts = [model.prompt(e.messages, seed=i) for i, e in enumerate(examples[:16])]
    taken = step_seconds(model, {"sampling": COT, "soft": SoftThinking()}, prompts, rounds=rounds)
    return overhead_claim(
        "a token takes at most 1.1 times as long as a sampled one (batch 16)",
        "not reported",
        taken,
        "soft",
        "sampling",
        1.1,
    )


def thought(answers: Answers) -> list[tuple[int, ...]]:
    """The tokens of every completion up to ``</think>``."""
    return [c.token_ids[: c.columns["thinking_tokens"]] for c in answers.completions[0]]
