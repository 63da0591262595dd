"""An evaluator that keeps up with the policy: every few steps it is taught on labels of current outputs.

"Reward Hacking in the Era of Large Models", arXiv 2604.13602, names co-adaptation with control as a remedy;
the procedure is our choice. The evaluator is linear in features, refitted by ridge regression on all labels
so far. Those who are labelled are chosen by the old evaluator (half of them what it likes best) and scored
only by the next one, so that no evaluator judges its own selection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dovetail.core import InvalidValue
from dovetail.core.seeds import stream
from dovetail.rewards.base import Batch, Reward
from dovetail.rewards.members import paid_by

Floats = NDArray[np.float64]


@dataclass
class RefreshingEvaluator(Reward):
    """A linear reward that is refitted to gold labels while a policy trains on it.

    Attributes:
        features: batch -> [N, K] numbers.
        gold: the reward that labels; asked for ``sample`` completions every ``every`` steps only.
        start: [K + 1] first weights, the constant last; the first fit is drawn towards them.
        every, sample: steps between refits; completions labelled for each.
        ridge: strength of the pull towards ``start``, in labels.
        seed: draws the half of the sample that is not what the evaluator likes best.
    """

    features: Callable[[Batch], ArrayLike]
    gold: Any
    start: Sequence[float]
    every: int = 10
    sample: int = 32
    ridge: float = 1.0
    seed: int = 0
    weights: list[float] = field(default_factory=list, init=False)
    labelled: list[list[float]] = field(default_factory=list, init=False, repr=False)

    name = "refreshing"

    def __post_init__(self) -> None:
        for name in ("every", "sample"):
            if getattr(self, name) < 1:
                raise InvalidValue(name, getattr(self, name), "at least 1")
        if not self.ridge > 0:
            raise InvalidValue("ridge", self.ridge, "above 0")
        self.weights = [float(w) for w in self.start]

    def pay(self, batch: Batch) -> list[float | None]:
        return [float(v) for v in self._design(batch) @ np.array(self.weights)]

    def update(self, rollouts: Any) -> None:
        """Labels and refits, after every ``every``-th step."""
        if (rollouts.step + 1) % self.every:
            return
        from dovetail.rewards.rollout_batch import batch_of

        batch = batch_of(rollouts)
        chosen = self.choose(np.array(self.pay(batch), dtype=np.float64), rollouts.step)
        gold, design = paid_by(self.gold, batch), self._design(batch)
        self.learn(design[chosen, :-1], gold[chosen])

    def choose(self, scores: Floats, step: int) -> list[int]:
        """Which of [N] scored completions are labelled: half what scores best, half drawn from the rest."""
        order = np.argsort(-scores, kind="stable")
        best = order[: (self.sample + 1) // 2].tolist()
        rest = order[len(best) :]
        rng = np.random.default_rng(stream(self.seed, "refresh", step))
        return [*best, *rng.permutation(rest)[: self.sample - len(best)].tolist()]

    def learn(self, features: ArrayLike, gold: ArrayLike) -> None:
        """Adds labels ([n, K] features, [n] gold; NaN is left out) and refits."""
        x, y = np.asarray(features, dtype=np.float64), np.asarray(gold, dtype=np.float64)
        self.labelled += [
            [*row, label] for row, label in zip(x.tolist(), y.tolist(), strict=True) if label == label
        ]
        held = np.array(self.labelled)
        if len(held):
            self.weights = ridge(held[:, :-1], held[:, -1], self.start, self.ridge).tolist()

    def figures(self) -> Mapping[str, float]:
        return {"refreshing/labels": float(len(self.labelled))}

    def state_dict(self) -> dict[str, Any]:
        return {"weights": list(self.weights), "labelled": [list(row) for row in self.labelled]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.weights, self.labelled = list(state["weights"]), [list(row) for row in state["labelled"]]

    def _design(self, batch: Batch) -> Floats:
        x = np.asarray(self.features(batch), dtype=np.float64)
        if x.shape != (len(batch), len(self.weights) - 1):
            raise InvalidValue("features", x.shape, f"of shape ({len(batch)}, {len(self.weights) - 1})")
        return np.column_stack([x, np.ones(len(batch))])


def ridge(x: ArrayLike, y: ArrayLike, start: Sequence[float], strength: float) -> Floats:
    """[K + 1] weights, constant last: least squares of y on x, pulled towards ``start``."""
    design = np.column_stack([np.asarray(x, dtype=np.float64), np.ones(len(np.asarray(y)))])
    before = np.asarray(start, dtype=np.float64)
    left = design.T @ design + strength * np.eye(design.shape[1])
    moved = np.linalg.solve(left, design.T @ (np.asarray(y) - design @ before))
    return np.asarray(before + moved, dtype=np.float64)
