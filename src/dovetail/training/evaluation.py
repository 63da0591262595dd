"""Accuracy on questions that are not trained on, before, during and after a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dovetail.core import Difference, Example, Figure, Limits, Scorer
from dovetail.core.seeds import stream
from dovetail.decoding.base import Decoding
from dovetail.decoding.sampling import Greedy
from dovetail.models.local import LocalModel
from dovetail.training.asking import put


@dataclass(frozen=True)
class Evaluation:
    """How a model answered a list of examples.

    Attributes:
        step: after how many training steps (-1 outside of a run).
        ids: of the examples.
        values: score of each in [0, 1].
        lengths: tokens written for each.
        truncated: whether the limit ended it.
        figures: the scorer's own, per example.
    """

    step: int
    ids: tuple[str, ...]
    values: tuple[float, ...]
    lengths: tuple[int, ...]
    truncated: tuple[bool, ...]
    texts: tuple[str, ...] = ()
    figures: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def accuracy(self) -> Figure:
        """Mean score with its 95% interval over examples."""
        from dovetail.core.statistics import score

        return score(self.values)

    @property
    def length(self) -> Figure:
        """Mean number of tokens written."""
        from dovetail.core.statistics import mean

        return mean([float(n) for n in self.lengths])

    def minus(self, other: Evaluation) -> Difference:
        """The paired difference of two evaluations over the same examples."""
        from dovetail.core.statistics import paired_difference

        if self.ids != other.ids:
            raise ValueError("the two evaluations are over different examples")
        return paired_difference(self.values, other.values, scale=1.0)

    def as_dict(self) -> dict[str, Any]:
        accuracy, length = self.accuracy, self.length
        return {
            "step": self.step,
            "accuracy": accuracy.value,
            "accuracy_interval": list(accuracy.interval),
            "length": length.value,
            "truncated": sum(self.truncated) / max(1, len(self.truncated)),
            "values": list(self.values),
            "lengths": list(self.lengths),
            "ids": list(self.ids),
        }


def evaluate(
    model: LocalModel,
    examples: Sequence[Example],
    scorer: Scorer,
    *,
    decoding: Decoding | None = None,
    max_new_tokens: int = 256,
    thinking: bool = True,
    seed: int = 0,
    step: int = -1,
) -> Evaluation:
    """Lets the model answer every example once (greedily, unless a decoding is given) and scores the answers.

    An example's random stream is ``stream(seed, example id)``: the same for every model that is evaluated.
    """
    prompts = [put(model, e, thinking=thinking, seed=stream(seed, e.id)) for e in examples]
    written = (decoding or Greedy()).generate(model.engine, prompts, Limits(max_new_tokens))
    scores = [scorer(e, c) for e, c in zip(examples, written, strict=True)]
    names = dict.fromkeys(name for s in scores for name in s.figures)
    return Evaluation(
        step,
        tuple(e.id for e in examples),
        tuple(s.value for s in scores),
        tuple(len(c.token_ids) for c in written),
        tuple(c.finish_reason == "length" for c in written),
        tuple(c.text for c in written),
        {name: tuple(float(s.figures.get(name, 0.0)) for s in scores) for name in names},
    )
