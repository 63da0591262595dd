"""Pico: is there headroom? What the embedded models can do, and what is left for a method to improve.

Every later experiment at scale ``pico`` stands on these figures: greedy accuracy that is neither near zero
nor near one, samples that find what greedy misses, reasoning that pays, reasoning lengths that differ at
equal correctness, and a drafter that is much cheaper and often agrees. There is no paper: the bounds are the
house's.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from dovetail.core import Claim, Completion, Example, Figure, Limits, Score, Task
from dovetail.core.seeds import stream
from dovetail.core.statistics import mean, paired_difference, paired_ratio, wilson
from dovetail.models.local import LocalModel
from dovetail.recipes.base import RecipeArm, RecipeResult, Scale

# Questions, in multiples of the scale's: greedy and pass@8 of sums lie closest to their bound.
TASKS = {"chain-sum": 6, "countdown": 1, "atlas-multihop": 1}
MEMORY_TASKS = ("atlas-facts", "atlas-unknown")
SAMPLES = 8
LIMITS = Limits(max_new_tokens=400)
EXAMPLES: dict[Scale, int] = {"smoke": 6, "pico": 200, "full": 1000}
HOUSE = "none: a bound of the house"


@dataclass(frozen=True)
class Answers:
    """Completions of one arm on one task, one per example, with their scores."""

    completions: Sequence[Completion]
    scores: Sequence[Score]

    @property
    def right(self) -> list[float]:
        return [score.value for score in self.scores]

    @property
    def lengths(self) -> list[float]:
        """Tokens written."""
        return [float(len(completion.token_ids)) for completion in self.completions]

    def figures(self) -> dict[str, Figure | float]:
        n = len(self.scores)
        return {
            "accuracy": wilson(sum(self.right), n),
            "parsed": wilson(sum(score.parsed for score in self.scores), n),
            "tokens_written": mean(self.lengths),
        }


def run(scale: Scale = "pico", seed: int = 0) -> RecipeResult:
    """Measures pico and pico-draft on the default tasks."""
    from dovetail.models import load
    from dovetail.tasks import task as named

    pico, draft = load("pico", device="cpu"), load("pico-draft", device="cpu")
    assert isinstance(pico, LocalModel)
    assert isinstance(draft, LocalModel)
    count = EXAMPLES[scale]
    arms: list[RecipeArm] = []
    claims: list[Claim] = []
    parsed: list[float] = []
    greedy_completions: list[tuple[Example, Completion]] = []
    lengths: dict[str, list[float]] = {}
    for name, times in TASKS.items():
        task = named(name)
        examples, _ = task.examples(times * count, seed)
        greedy = answers(pico, task, examples, seed)
        direct = answers(pico, task, examples, seed, thinking=False)
        samples = [answers(pico, task, examples, seed, sample=k) for k in range(1, SAMPLES + 1)]
        found = [max(sample.right[i] for sample in samples) for i in range(len(examples))]
        pooled = Answers(
            [c for sample in samples for c in sample.completions],
            [s for sample in samples for s in sample.scores],
        )
        arms += [
            RecipeArm(f"{name}: greedy", greedy.figures(), "thinking, most probable token"),
            RecipeArm(f"{name}: no thinking", direct.figures(), "empty thought, most probable token"),
            RecipeArm(
                f"{name}: sampled",
                {
                    # examples, not samples, are independent: bootstrap over examples
                    "accuracy": mean(
                        [sum(s.right[i] for s in samples) / SAMPLES for i in range(len(examples))]
                    ),
                    "parsed": wilson(sum(s.parsed for s in pooled.scores), len(pooled.scores)),
                    "tokens_written": mean(pooled.lengths),
                    f"pass@{SAMPLES}": wilson(sum(found), len(found)),
                },
                f"thinking, temperature 1, {SAMPLES} samples per example",
            ),
        ]
        parsed += [float(score.parsed) for score in (*greedy.scores, *pooled.scores)]
        greedy_completions += zip(examples, greedy.completions, strict=True)
        accuracy = wilson(sum(greedy.right), len(examples))
        claims.append(
            Claim(
                f"greedy accuracy on {name} is between 40% and 85%",
                HOUSE,
                accuracy.value,
                accuracy.interval,
                at_least=0.40,
                at_most=0.85,
                main=True,
            )
        )
        room = paired_difference(found, greedy.right, scale=1.0, seed=seed)
        claims.append(
            Claim(
                f"pass@{SAMPLES} at temperature 1 on {name} is at least 10 points above greedy",
                HOUSE,
                room.value,
                room.interval,
                baseline=accuracy.value,
                at_least=0.10,
                main=True,
            )
        )
        gain = paired_difference(greedy.right, direct.right, scale=1.0, seed=seed)
        claims.append(
            Claim(
                f"thinking is at least 15 points better than no thinking on {name}",
                HOUSE,
                gain.value,
                gain.interval,
                baseline=sum(direct.right) / len(examples),
                at_least=0.15,
                main=name == "chain-sum",
            )
        )
        shortest, longest = spread(samples)
        lengths[name] = [long / short for short, long in zip(shortest, longest, strict=True)]
        if shortest:
            ratio = paired_ratio(longest, shortest, seed=seed)
            claims.append(
                Claim(
                    f"the longest correct sample on {name} is at least 1.5 times as long as the shortest",
                    HOUSE,
                    ratio.value,
                    ratio.interval,
                    at_least=1.5,
                )
            )
    boxed = wilson(sum(parsed), len(parsed))
    claims.append(
        Claim(
            "at least 95% of completions hold a box",
            HOUSE,
            boxed.value,
            boxed.interval,
            at_least=0.95,
            main=True,
        )
    )
    for name in MEMORY_TASKS:
        task = named(name)
        examples, _ = task.examples(count, seed)
        arms.append(
            RecipeArm(f"{name}: greedy", answers(pico, task, examples, seed).figures(), "closed book")
        )
    rounds = 4 if scale == "smoke" else 200
    claims += drafter_claims(pico, draft, greedy_completions, rounds, seed)
    for model in (pico, draft):
        arms.append(
            RecipeArm(model.name, {"parameters": float(parameters(model)), "flops": flops(model)}, "size")
        )
    return RecipeResult(
        arms,
        claims,
        seeds=[seed],
        settings={
            "model": pico.describe(),
            "drafter": draft.describe(),
            "examples": {name: times * count for name, times in TASKS.items()},
            "samples": SAMPLES,
            "max_new_tokens": LIMITS.max_new_tokens,
        },
        notes=[
            "pico is a stand-in, trained on these very task families (other questions): its figures say "
            "nothing of larger models, and serve only to compare methods with each other.",
            "flops are per token, 2 per weight of the layers and the head, attention left out.",
            "Tasks at their default parameters, under the run's seed.",
        ],
        series={"longest_over_shortest_correct_sample": lengths},
    )


def answers(
    model: LocalModel,
    task: Task,
    examples: Sequence[Example],
    seed: int,
    *,
    thinking: bool = True,
    sample: int = 0,
) -> Answers:
    """One completion per example: greedy where `sample` is 0, else that sample at temperature 1."""
    from dovetail.decoding.sampling import Greedy, Sampling

    prompts = [
        model.prompt(e.messages, thinking=thinking, seed=stream(seed, "pico", e.id, sample)) for e in examples
    ]
    decoding = Sampling(temperature=1.0) if sample else Greedy()
    completions = decoding.generate(model.engine, prompts, LIMITS)
    return Answers(completions, [task.scorer(e, c) for e, c in zip(examples, completions, strict=True)])


def spread(samples: Sequence[Answers]) -> tuple[list[float], list[float]]:
    """Tokens of the shortest and the longest correct sample of every example that has at least two."""
    shortest, longest = [], []
    for i in range(len(samples[0].scores)):
        right = [sample.lengths[i] for sample in samples if sample.right[i] == 1]
        if len(right) >= 2:
            shortest.append(min(right))
            longest.append(max(right))
    return shortest, longest


def drafter_claims(
    pico: LocalModel,
    draft: LocalModel,
    written: Sequence[tuple[Example, Completion]],
    rounds: int,
    seed: int,
) -> list[Claim]:
    """How often the drafter's most probable token is the one that pico wrote; what a token costs."""
    agreed, positions = [], []
    for example, completion in written:
        prompt = pico.prompt(example.messages)
        agreed.append(float(agreement(draft, prompt.ids, completion.token_ids)))
        positions.append(float(len(completion.token_ids)))
    same = paired_ratio(agreed, positions, seed=seed)
    work = flops(pico) / flops(draft)
    pairs = step_seconds([pico, draft], rounds)
    faster = paired_ratio([pair[0] for pair in pairs], [pair[1] for pair in pairs], seed=seed)
    return [
        Claim(
            "pico-draft's greedy token is pico's at 60% of positions or more",
            HOUSE,
            same.value,
            same.interval,
            at_least=0.60,
            main=True,
        ),
        Claim(
            "a token of pico-draft takes at most a quarter of the operations of pico's",
            HOUSE,
            work,
            (work, work),
            at_least=4.0,
            main=True,
        ),
        Claim(
            "a decoding step of pico-draft takes at most a quarter of pico's seconds (batch 1)",
            HOUSE,
            faster.value,
            faster.interval,
            at_least=4.0,
            main=True,
        ),
    ]


def agreement(model: LocalModel, prompt: Sequence[int], written: Sequence[int]) -> int:
    """At how many positions of `written` the model's most probable token is the written one."""
    import torch

    ids = torch.tensor([[*prompt, *written]], device=model.engine.device)
    with torch.inference_mode():
        forward = model.engine.forward
        logits = forward(forward.cache(1), ids[:, :-1], all_logits=True).logits
    return int((logits[0, len(prompt) - 1 :].argmax(-1) == ids[0, len(prompt) :]).sum())


def step_seconds(
    models: Sequence[LocalModel], rounds: int, steps: int = 32, context: int = 128
) -> list[list[float]]:
    """Seconds of a decoding step at batch 1: per round the median of `steps` for every model, taken in turns.

    Turns, so that a machine that slows down slows all models; one thread, as more do not speed up this size.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds: list[list[float]] = []
    try:
        with torch.inference_mode():
            for turn in range(rounds + 1):
                row = []
                for model in models:
                    forward = model.engine.forward
                    cache, token = forward.cache(1), torch.ones((1, 1), dtype=torch.int64)
                    forward(cache, token.expand(1, context))
                    taken = []
                    for _ in range(steps):
                        begin = time.perf_counter()
                        forward(cache, token)
                        taken.append(time.perf_counter() - begin)
                    row.append(sorted(taken)[steps // 2])
                if turn:  # the first turn warms up
                    seconds.append(row)
    finally:
        torch.set_num_threads(threads)
    return seconds


def parameters(model: LocalModel) -> int:
    """Weights, tied ones once."""
    return sum(p.numel() for p in model.network.parameters())


def flops(model: LocalModel) -> float:
    """Floating-point operations per token of all matrices, the head included; attention left out."""
    matrices = {name: p for name, p in model.network.named_parameters() if p.ndim == 2}
    # the tied embedding counts once: reading a row is free, the head is a product
    return 2.0 * sum(p.numel() for p in matrices.values())
