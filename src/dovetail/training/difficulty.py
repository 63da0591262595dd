"""How hard problems are for a model: its success rate over samples, and the shortest hint that helps.

The measuring part of customized curriculum learning (arXiv 2506.04065); `training.data.curriculum` trains by
what is found. The paper draws 16 answers at temperature 0.7. How long its hints get is not known; here a
quarter, half and three quarters of the steps are tried, until some answer is right.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from dovetail.core import Example, InvalidValue, Limits, Scorer
from dovetail.core.seeds import stream
from dovetail.decoding.sampling import Sampling
from dovetail.models.local import LocalModel
from dovetail.training.asking import put
from dovetail.training.data.curriculum import TEMPLATE, hint_lengths, hinted, split_steps

#: Scores in [0, 1] of several answers to each example.
Sampler = Callable[[Sequence[Example]], Sequence[Sequence[float]]]


def sampler(
    model: LocalModel,
    scorer: Scorer,
    samples: int = 16,
    temperature: float = 0.7,
    *,
    max_new_tokens: int = 256,
    thinking: bool = True,
    seed: int = 0,
) -> Sampler:
    """Lets a model answer every example ``samples`` times.

    Raises:
        InvalidValue: fewer than one sample.
    """
    if samples < 1:
        raise InvalidValue("samples", samples, "at least 1")
    if temperature <= 0 and samples > 1:
        warnings.warn("at temperature 0 all samples of a problem are the same", stacklevel=2)

    def sample(examples: Sequence[Example]) -> list[list[float]]:
        prompts = [
            put(model, e, thinking=thinking, seed=stream(seed, "difficulty", e.id, k))
            for e in examples
            for k in range(samples)
        ]
        written = iter(
            Sampling(temperature=temperature).generate(model.engine, prompts, Limits(max_new_tokens))
        )
        return [[scorer(e, next(written)).value for _ in range(samples)] for e in examples]

    return sample


def measure_difficulty(sample: Sampler, examples: Sequence[Example]) -> list[float]:
    """The share of right answers to each example, in [0, 1].

    Raises:
        InvalidValue: the sampler gave another number of rows, no score for an example, or one outside [0, 1].
    """
    scores = sample(examples) if examples else []
    if len(scores) != len(examples):
        raise InvalidValue("sample", f"{len(scores)} rows", f"one for each of {len(examples)} examples")
    found = []
    for example, row in zip(examples, scores, strict=True):
        if not row or not all(0 <= s <= 1 for s in row):
            raise InvalidValue(f"scores of example {example.id}", list(row), "one or more in [0, 1]")
        found.append(sum(row) / len(row))
    return found


def measured(
    sample: Sampler,
    examples: Sequence[Example],
    *,
    theta: float = 0.0,
    target: float = 0.0,
    fractions: Sequence[float] = (0.25, 0.5, 0.75),
    solution: str = "solution",
    template: str = TEMPLATE,
) -> list[Example]:
    """The examples with the column ``accuracy``, and for those that need a hint ``hint_steps`` and
    ``hint_accuracy``.

    Args:
        sample: answers examples; see `sampler`.
        theta: problems of at most this accuracy get a hint.
        target: hints grow until accuracy is above this.
        fractions: of the solution's steps, tried in order; an example that none makes solvable has the
            largest, with a ``hint_accuracy`` at or below the target.
        solution: the column with the reference solution; one without two steps gets no hint.
        template: how a hint is put; see `GuidedPrompting`.
    """
    accuracies = measure_difficulty(sample, examples)
    columns: list[dict[str, Any]] = [
        {**e.columns, "accuracy": a} for e, a in zip(examples, accuracies, strict=True)
    ]
    steps = [split_steps(str(e.columns.get(solution) or "")) for e in examples]
    lengths = [
        hint_lengths(len(own), fractions) if accuracy <= theta and len(own) > 1 else []
        for own, accuracy in zip(steps, accuracies, strict=True)
    ]
    waiting = [i for i, own in enumerate(lengths) if own]
    turn = 0
    while waiting:
        asked = [hinted(examples[i], "".join(steps[i][: lengths[i][turn]]), template) for i in waiting]
        for i, accuracy in zip(waiting, measure_difficulty(sample, asked), strict=True):
            columns[i] |= {"hint_steps": lengths[i][turn], "hint_accuracy": accuracy}
        turn += 1
        waiting = [i for i in waiting if columns[i]["hint_accuracy"] <= target and turn < len(lengths[i])]
    return [replace(e, columns=own) for e, own in zip(examples, columns, strict=True)]
