"""LASER: a right answer that is no longer than a target earns a bonus; LASER-D's target hangs on difficulty.

Liu et al., "Learn to Reason Efficiently with Adaptive Length-based Reward Shaping", arXiv 2505.15612 (ICLR
2026): table 2 and sections 4 and 5. A step, not a slope: the context window stays large, and a long answer is
paid like any other. Costs nothing beside judging; LASER-D fits its targets to the training rollouts
themselves, where the paper samples a monitor set anew (3.5% of its compute).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from dovetail.core import InvalidValue, Score
from dovetail.rewards.base import Batch, Floats
from dovetail.rewards.length_targets import (
    CLASSES,
    AdaptiveTargets,
    Difficulty,
    difficulty_of,
    targets_from,
)
from dovetail.rewards.length_terms import WRONG, Judged, TargetReward, Terms, not_negative

Kind = Literal["reward", "penalty", "hybrid"]


@dataclass(frozen=True)
class Laser(TargetReward):
    """The base score, and for right answers ``alpha`` if they are at most ``target`` tokens long.

    Attributes:
        alpha: the bonus.
        kind: "reward" (the paper); "penalty" takes alpha off longer right answers instead; "hybrid" does
            both.
    """

    alpha: float = 0.5
    kind: Kind = "reward"

    name = "laser"

    def __post_init__(self) -> None:
        super().__post_init__()
        not_negative("alpha", self.alpha)
        if self.kind not in ("reward", "penalty", "hybrid"):
            raise InvalidValue("kind", self.kind, "'reward', 'penalty' or 'hybrid'")

    def terms(self, judged: Judged) -> Terms:
        short = judged.lengths <= self.goals(judged)
        return Terms(judged.base, judged.right, self.alpha * step(short, self.kind))


@dataclass
class Targets:
    """What `LaserD` remembers.

    Attributes:
        targets: per class of difficulty; None before they are first chosen.
        chosen: the training step of the last choice.
        calls: how often the reward was asked, which counts as steps where no trainer tells them.
        correct, lengths: of the groups since the last choice, a row for each.
    """

    targets: dict[Difficulty, int] | None = None
    chosen: int = 0
    calls: int = 0
    correct: list[list[int]] = field(default_factory=list)
    lengths: list[list[int]] = field(default_factory=list)


@dataclass(frozen=True)
class LaserD(Laser):
    """`Laser` with a target for easy, medium and hard questions each, chosen anew every ``refresh`` steps.

    A question's class is that of its group: easy from 2/3 right answers, medium from 1/3. The targets are
    chosen by `AdaptiveTargets` from the groups seen since the last choice (at first: from the first batch
    itself), or by whoever calls `fit`. In training over several processes each fits to what it sees.

    Attributes:
        target: the lowest target that may be chosen, L_T.
        upper, interval: the other candidates lie this far apart, up to ``upper``.
        refresh: steps between choices; 0 leaves them to `fit` (before it, ``target`` holds for all classes).
        expected, rounding: see `AdaptiveTargets`.
    """

    upper: int = 16384
    interval: int = 1024
    refresh: int = 20
    expected: float = 1.0
    rounding: Literal["floor", "ceil"] = "floor"
    memory: Targets = field(default_factory=Targets, init=False, repr=False, compare=False)

    name = "laser-d"

    def __post_init__(self) -> None:
        super().__post_init__()
        not_negative("refresh", self.refresh)
        self.rule  # noqa: B018 (checks its fields)

    @property
    def rule(self) -> AdaptiveTargets:
        return AdaptiveTargets(self.target, self.upper, self.interval, self.expected, self.rounding)

    def fit(self, correct: Any, lengths: Any, step: int | None = None) -> dict[Difficulty, int]:
        """Chooses the targets from a monitor set.

        Args:
            correct, lengths: [Q, K] whether samples of the present model are right, and their tokens.
            step: of the training, where the next choice should be counted from it.
        """
        self.memory.targets = self.rule.fit(correct, lengths)
        self.memory.chosen = self.memory.chosen if step is None else step
        self.memory.correct, self.memory.lengths = [], []
        return self.memory.targets

    def target_of(self, difficulty: Difficulty) -> int:
        return self.target if self.memory.targets is None else self.memory.targets[difficulty]

    def goals(self, judged: Judged) -> Floats:
        if judged.targets is not None:
            return super().goals(judged)
        goals = np.zeros(len(judged.base))
        for group in np.unique(judged.groups):
            rows = judged.groups == group
            goals[rows] = self.target_of(difficulty_of(int(judged.right[rows].sum()), int(rows.sum())))
        return goals

    def _judged(self, batch: Batch, rows: list[int], scores: Sequence[Score]) -> Judged:
        judged = super()._judged(batch, rows, scores)
        self._watch(judged, [s.value >= 1 for s in scores], batch.step)
        return judged

    def _watch(self, judged: Judged, right: Sequence[bool], step: int | None) -> None:
        """Takes note of the batch's groups and chooses the targets where it is time to."""
        memory = self.memory
        now = memory.calls if step is None else step
        memory.calls += 1
        if not self.refresh or self.targets:
            return
        # The monitor set is judged by the answer alone, whatever its format.
        correct, lengths = _grouped(judged, right)
        if memory.targets is None:
            self.fit(correct, lengths, now)
        elif now - memory.chosen >= self.refresh and memory.correct:
            self.fit(memory.correct, memory.lengths, now)
        memory.correct += correct
        memory.lengths += lengths

    def figures(self) -> Mapping[str, float]:
        if self.memory.targets is None:
            return {}
        return {f"{self.name}/target/{d}": float(self.memory.targets[d]) for d in CLASSES}

    def state_dict(self) -> dict[str, Any]:
        memory = self.memory
        return {
            "targets": None if memory.targets is None else dict(memory.targets),
            "chosen": memory.chosen,
            "calls": memory.calls,
            "correct": [list(row) for row in memory.correct],
            "lengths": [list(row) for row in memory.lengths],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        memory = self.memory
        memory.targets = None if state["targets"] is None else targets_from(state["targets"])
        memory.chosen, memory.calls = int(state["chosen"]), int(state["calls"])
        memory.correct = [[int(v) for v in row] for row in state["correct"]]
        memory.lengths = [[int(v) for v in row] for row in state["lengths"]]


@dataclass(frozen=True)
class LaserDE(LaserD):
    """`LaserD` that also pays wrong answers for being longer than the target: failing, explore.

    Malformed answers are never paid for their length.

    Attributes:
        pay_loops: whether wrong answers that repeat themselves are paid too. The formula pays them; the
            official code, and the default, does not. Its test (`repeats`) finds loops in most long texts.
    """

    pay_loops: bool = False

    name = "laser-de"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind != "reward":
            raise InvalidValue("kind", self.kind, "'reward': the other kinds are Laser's and LaserD's")

    def terms(self, judged: Judged) -> Terms:
        short = judged.lengths <= self.goals(judged)
        explores = (judged.base == WRONG) & ~short
        if not self.pay_loops:
            if judged.ids is None:
                raise InvalidValue("column 'completion_ids'", None, "given, or pay_loops=True")
            for row in np.flatnonzero(explores):
                explores[row] = not repeats(judged.ids[int(row)])
        paid = judged.right * short + explores.astype(np.float64)
        return Terms(judged.base, np.ones(len(short)), self.alpha * paid)


def step(short: np.ndarray, kind: Kind = "reward") -> Floats:
    """[N] bool -> [N]: 1 for short answers, -1 for long ones, or both."""
    gain = short.astype(np.float64)
    return {"reward": gain, "penalty": gain - 1, "hybrid": 2 * gain - 1}[kind]


def repeats(tokens: Sequence[int]) -> bool:
    """Whether a text repeats itself, by the rule of the official code.

    Read from the end: an n-gram (n = 2 below 30 tokens, 3 below 100, else 4) that stands there twice (three
    times from 200 tokens on), two of them less than a third of the text apart; or any 2n-gram twice. N-grams
    of one repeated token do not count for n > 2, and texts of up to 8 tokens never loop.
    """
    ids = [int(t) for t in tokens]
    n = 2 if len(ids) < 30 else 3 if len(ids) < 100 else 4
    if len(ids) <= 8:
        return False
    often = 2 if len(ids) < 200 else 3
    seen: dict[tuple[int, ...], list[int]] = {}
    for at in range(len(ids) - n, -1, -1):
        gram = tuple(ids[at : at + n])
        if n > 2 and len(set(gram)) == 1:
            continue
        places = seen.setdefault(gram, [])
        places.append(at)
        near = any(a - b < len(ids) // 3 for a, b in pairwise(places))
        if len(places) >= often and near:
            return True
        if len(places) > often:
            del places[:-often]
    if len(ids) < 4 * n:
        return False
    wide = [tuple(ids[at : at + 2 * n]) for at in range(len(ids) - 2 * n + 1)]
    return len(set(wide)) < len(wide)


def _grouped(judged: Judged, right: Sequence[bool]) -> tuple[list[list[int]], list[list[int]]]:
    """Rows of [K] right answers and lengths, K the size of the smallest group. A larger group (a question
    that was drawn twice) is cut into several."""
    found = [np.flatnonzero(judged.groups == g) for g in np.unique(judged.groups)]
    k = min(map(len, found))
    correct, lengths = [], []
    for rows in found:
        for at in range(0, len(rows) - k + 1, k):
            part = rows[at : at + k]
            correct.append([int(right[row]) for row in part])
            lengths.append(judged.lengths[part].tolist())
    return correct, lengths
