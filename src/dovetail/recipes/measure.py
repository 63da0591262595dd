"""What recipes about decoding share: answers of one decoding to the same examples, and seconds per token.

Every example has its own random stream, the same under every decoding; sample k of an example has another.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dovetail.core import Claim, Completion, Example, Figure, Limits, Prompt, Score, Task
from dovetail.core.seeds import stream
from dovetail.core.statistics import mean, paired_difference, paired_ratio
from dovetail.decoding import Decoding
from dovetail.models.local import LocalModel
from dovetail.recipes.base import RecipeArm, over_seeds

LIMITS = Limits(max_new_tokens=400)


@dataclass(frozen=True)
class Answers:
    """Completions and scores, ``[sample][example]``, of one decoding.

    Attributes:
        think_end: the id of ``</think>``, where thinking ends.
    """

    completions: Sequence[Sequence[Completion]]
    scores: Sequence[Sequence[Score]]
    think_end: int | None = None

    @property
    def right(self) -> list[float]:
        """Per example, the share of its samples that are right."""
        return over_seeds([[s.value for s in sample] for sample in self.scores])

    @property
    def thinking(self) -> list[float]:
        """Per example, tokens up to ``</think>`` (all, where it never came), mean over samples."""
        return self.each(lambda c: float(thinking_tokens(c, self.think_end)))

    def each(self, figure: Callable[[Completion], float]) -> list[float]:
        """Per example, a figure of its completions, mean over samples."""
        return over_seeds([[figure(c) for c in sample] for sample in self.completions])

    def figures(self) -> dict[str, Figure | float]:
        """Accuracy and costs per completion; intervals are over examples, which alone are independent."""
        return {
            "accuracy": mean(self.right),
            "thinking_tokens": mean(self.thinking),
            "tokens_written": mean(self.each(lambda c: float(c.cost.tokens_written))),
            "forward_passes": mean(self.each(lambda c: c.cost.forward_passes)),
        }

    def arm(self, name: str, description: str) -> RecipeArm:
        return RecipeArm(name, self.figures(), description)


def answer(
    model: LocalModel,
    task: Task,
    examples: Sequence[Example],
    decoding: Decoding,
    seed: int,
    *,
    samples: int = 1,
    limits: Limits = LIMITS,
    thinking: bool = True,
) -> Answers:
    """Lets ``decoding`` answer every example ``samples`` times, in one of the template's thinking modes."""
    prompts = [
        model.prompt(e.messages, thinking=thinking, seed=stream(seed, e.id, k) if k else stream(seed, e.id))
        for k in range(samples)
        for e in examples
    ]
    written = decoding.generate(model.engine, prompts, limits)
    n = len(examples)
    completions = [written[k * n : (k + 1) * n] for k in range(samples)]
    scores = [[task.scorer(e, c) for e, c in zip(examples, one, strict=True)] for one in completions]
    return Answers(completions, scores, model.engine.think_end)


def thinking_tokens(completion: Completion, think_end: int | None) -> int:
    """Tokens up to ``</think>``, itself included; all of them where it never came."""
    ids = completion.token_ids
    return ids.index(think_end) + 1 if think_end in ids else len(ids)


def accuracy_claim(
    text: str,
    paper: str,
    arm: Answers,
    baseline: Answers,
    *,
    at_least: float,
    seed: int,
    main: bool = False,
) -> Claim:
    """A bound on the paired difference of two arms' accuracy."""
    difference = paired_difference(arm.right, baseline.right, scale=1.0, seed=seed)
    base = mean(baseline.right).value
    return Claim(text, paper, difference.value, difference.interval, base, at_least=at_least, main=main)


def exact(text: str, differing: int, *, main: bool = False) -> Claim:
    """A count that must be 0 by the method's definition; nothing about it is uncertain."""
    n = float(differing)
    return Claim(text, "follows from the definition", n, (n, n), at_most=0.0, main=main)


def differing(one: Answers, other: Answers) -> int:
    """Completions of the first sample whose tokens are not the same."""
    pairs = zip(one.completions[0], other.completions[0], strict=True)
    return sum(a.token_ids != b.token_ids for a, b in pairs)


def step_seconds(
    model: LocalModel,
    decodings: Mapping[str, Decoding],
    prompts: Sequence[Prompt],
    *,
    rounds: int,
    steps: int = 24,
) -> dict[str, list[float]]:
    """Seconds per step of the whole batch: per round the median of ``steps`` for every decoding, in turns.

    Turns, so that a machine that slows down slows all; one thread, as more do not speed up this size.
    """
    import torch

    engine, threads = model.engine, torch.get_num_threads()
    taken: dict[str, list[float]] = {name: [] for name in decodings}
    torch.set_num_threads(1)
    try:
        for turn in range(rounds + 1):
            for name, decoding in decodings.items():
                batch = engine.begin(prompts, Limits(steps), decoding)
                seconds: list[float] = []
                for _ in range(steps):
                    begin = time.perf_counter()
                    engine.feed(batch, engine.choose(batch, decoding))
                    seconds.append(time.perf_counter() - begin)
                if turn:  # the first turn warms up
                    taken[name].append(sorted(seconds)[steps // 2])
    finally:
        torch.set_num_threads(threads)
    return taken


def overhead_claim(
    text: str, paper: str, taken: Mapping[str, Sequence[float]], arm: str, baseline: str, at_most: float
) -> Claim:
    """A bound on the ratio of two decodings' seconds per step, as `step_seconds` took them."""
    ratio = paired_ratio(taken[arm], taken[baseline])
    return Claim(text, paper, ratio.value, ratio.interval, 1.0, at_most=at_most)
