"""Trains a tiny verifier: will this solution end in the right answer, as its steps look so far?

Solutions are sampled, their final answers judged, and every step of a solution gets the solution's label
(outcome supervision, as in Cobbe et al., arXiv 2110.14168, sect. 4.2, whose token-level verifier is a head on
the language model too). What is learned is thus the chance of success after each step. Needs no labelled
steps; costs the samples and seconds of training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from dovetail.core import Completion, InvalidValue, Limits, Prompt
from dovetail.core.completion import FinishReason
from dovetail.decoding.base import StepwiseDecoding
from dovetail.decoding.sampling import Sampling
from dovetail.decoding.steps import Solutions
from dovetail.decoding.verified_search import BestOfN
from dovetail.decoding.verifiers import HiddenStateVerifier, Verifier, evidence, head


@dataclass(frozen=True)
class LabelledSteps:
    """Steps of judged solutions.

    Attributes:
        states: [R, e] float32, `verifiers.evidence` at the end of each step.
        labels: [R] float32, 1 where the solution's answer is right.
        questions: [R] int64, which question a step belongs to.
        last: [R] bool, whether it is its solution's last step.
    """

    states: Tensor
    labels: Tensor
    questions: Tensor
    last: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, rows: Tensor) -> LabelledSteps:
        return LabelledSteps(self.states[rows], self.labels[rows], self.questions[rows], self.last[rows])


def collect(
    engine: Any,
    prompts: Sequence[Prompt],
    limits: Limits,
    right: Callable[[int, Completion], float],
    *,
    n: int = 8,
    inner: StepwiseDecoding | None = None,
    max_steps: int = 12,
    delimiter: str | None = None,
) -> LabelledSteps:
    """Samples ``n`` solutions per prompt and labels their steps.

    Args:
        right: (position in ``prompts``, completion) -> its score; above 0.5 counts as right.
        inner, max_steps, delimiter: as the search will have them (`VerifiedSearch`).
    """
    recorder = _Recorder(engine, prompts, right)
    sampler = BestOfN(
        n, recorder, max_steps=max_steps, delimiter=delimiter, inner=inner or Sampling(temperature=0.8)
    )
    sampler.generate(engine, prompts, limits)
    parts = recorder.parts
    return LabelledSteps(*(torch.cat(column) for column in zip(*parts, strict=True)))


def train(
    data: LabelledSteps,
    *,
    width: int = 64,
    epochs: int = 40,
    batch: int = 256,
    rate: float = 2e-3,
    weight_decay: float = 0.05,
    held_out: float = 0.15,
    seed: int = 0,
) -> HiddenStateVerifier:
    """Fits the head by cross-entropy; keeps the epoch that is best on held-out questions.

    Args:
        width: h, units of its one hidden layer.
        batch: steps of text per optimizer step.
        held_out: share of the questions that only judge the epochs.

    Raises:
        InvalidValue: all labels are equal, so there is nothing to learn.
    """
    if len(data) == 0 or bool((data.labels == data.labels[0]).all()):
        raise InvalidValue("data", f"{len(data)} steps of one label", "right and wrong solutions")
    rng = torch.Generator().manual_seed(seed)
    judging = torch.rand(int(data.questions.max()) + 1, generator=rng)[data.questions] < held_out
    fit, judge = data.select(~judging), data.select(judging) if bool(judging.any()) else data
    size = data.states.shape[1]
    weights = {
        "mean": fit.states.mean(0),
        "scale": fit.states.std(0) + 1e-6,
        "in": torch.randn(width, size, generator=rng) / size**0.5,
        "bias": torch.zeros(width),
        "out": torch.zeros(width),
        "shift": torch.zeros(()),
    }
    learned = [weights[name].requires_grad_() for name in ("in", "bias", "out", "shift")]
    optimizer = torch.optim.AdamW(learned, lr=rate, weight_decay=weight_decay)
    steps = epochs * -(-len(fit) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    best, lowest = weights, float("inf")
    for _ in range(epochs):
        for rows in torch.randperm(len(fit), generator=rng).split(batch):
            loss = cross_entropy(head(weights, fit.states[rows]), fit.labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            now = float(cross_entropy(head(weights, judge.states), judge.labels))
        if now < lowest:
            lowest, best = now, {name: w.detach().clone() for name, w in weights.items()}
    return HiddenStateVerifier(best)


def separation(verifier: HiddenStateVerifier, data: LabelledSteps) -> float:
    """The chance that a step of a right solution scores above one of a wrong solution (area under the ROC
    curve); 0.5 is no better than chance, NaN where there is only one kind."""
    with torch.no_grad():
        scores = head(verifier.weights, data.states)
    good, bad = scores[data.labels > 0.5], scores[data.labels <= 0.5]
    if len(good) == 0 or len(bad) == 0:
        return float("nan")
    place = torch.searchsorted(bad.sort().values, good)
    ties = torch.searchsorted(bad.sort().values, good, right=True)
    return float((place + ties).double().mean() / 2 / len(bad))


@dataclass
class _Recorder(Verifier):
    """A verifier without opinion that keeps what it is shown."""

    engine: Any
    prompts: Sequence[Prompt]
    right: Callable[[int, Completion], float]
    parts: list[tuple[Tensor, Tensor, Tensor, Tensor]] = field(default_factory=list)

    needs = frozenset({"hidden"})

    def score(self, solutions: Solutions) -> list[list[float]]:
        seen = evidence(solutions).cpu()
        place = {id(p): i for i, p in enumerate(self.prompts)}
        questions = torch.tensor([place[id(p)] for p in solutions.prompts])
        counts = solutions.counts.cpu()
        written = solutions.ends.gather(1, (solutions.counts - 1)[:, None])[:, 0].tolist()
        labels = []
        for question, ids, end in zip(questions.tolist(), solutions.tokens.tolist(), written, strict=True):
            reason: FinishReason = "stop" if ids[end - 1] in self.engine.end_ids else "length"
            completion = Completion(self.engine.text(ids[:end]), tuple(ids[:end]), finish_reason=reason)
            labels.append(float(self.right(question, completion) > 0.5))
        steps = torch.arange(seen.shape[1])
        kept = steps < counts[:, None]  # [R, S]
        last = steps == counts[:, None] - 1
        self.parts.append(
            (
                seen[kept].clone(),
                torch.tensor(labels)[:, None].expand_as(kept)[kept],
                questions[:, None].expand_as(kept)[kept],
                last[kept],
            )
        )
        return [[0.5] * n for n in counts.tolist()]
