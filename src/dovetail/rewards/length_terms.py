"""What rewards that look at length have in common: C + gate * S over a rule-based score of the answer.

Liu et al., "Learn to Reason Efficiently with Adaptive Length-based Reward Shaping", arXiv 2505.15612 (section
3, table 2): nearly every published length reward is ``C(y) + lambda(y) * S(y)``, a part for correctness, a
gate, and a part for length. The family's members stand in `length` and `length_baselines`.

Shapes: N completions.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dovetail.core import InvalidValue, Score
from dovetail.rewards.base import Batch, Floats, Ints, Reward, numbered, whole
from dovetail.rewards.correct import Correct

#: What an answer is worth before its length is looked at: right, wrong, not in the asked-for format.
RIGHT, WRONG, MALFORMED = 1.0, -0.5, -1.0
SMALL = 1e-6


@dataclass(frozen=True)
class Terms:
    """The three parts of a length reward, [N] each."""

    correct: Floats
    gate: Floats
    length: Floats

    @property
    def total(self) -> Floats:
        return self.correct + self.gate * self.length


@dataclass(frozen=True)
class Judged:
    """N completions of a length reward that were judged.

    Attributes:
        base: R, each `RIGHT`, `WRONG` or `MALFORMED`.
        lengths: tokens written.
        groups: equal for completions of one question.
        targets: of each completion, where the caller gives them (``targets=``); else None.
        ids: token ids, where they are known.
    """

    base: Floats
    lengths: Ints
    groups: Ints
    targets: Floats | None = None
    ids: Sequence[Sequence[int]] | None = None

    @property
    def right(self) -> Floats:
        """I(R): 1 where the base is `RIGHT`, else 0."""
        return (self.base == RIGHT).astype(np.float64)

    @classmethod
    def of(cls, base: Any, lengths: Any, groups: Any = None, targets: Any = None) -> Judged:
        """Checked arrays; without groups all completions answer one question.

        Raises:
            InvalidValue: nothing there, unequal sizes, a base or length that cannot be; names it.
        """
        worth, counts = np.asarray(base, dtype=np.float64), whole("lengths", lengths)
        if not len(worth):
            raise InvalidValue("base", [], "at least one completion")
        if not np.isin(worth, (RIGHT, WRONG, MALFORMED)).all():
            bad = float(worth[~np.isin(worth, (RIGHT, WRONG, MALFORMED))][0])
            expected = f"{RIGHT:g} (right), {WRONG:g} (wrong) or {MALFORMED:g} (not in the asked-for format)"
            raise InvalidValue("base", bad, expected)
        same = numbered([0] * len(worth) if groups is None else list(np.asarray(groups).tolist()))
        goals = None if targets is None else np.broadcast_to(np.asarray(targets, np.float64), worth.shape)
        for name, values in (("lengths", counts), ("groups", same)):
            if len(values) != len(worth):
                raise InvalidValue(name, f"{len(values)} values", f"one for each of {len(worth)} completions")
        return cls(worth, counts, same, goals)


@dataclass(frozen=True)
class LengthReward(Reward):
    """Base of the family: judges the answers, then lets the member turn score and length into its terms.

    Attributes:
        judge: tells right answers from wrong ones.
        heading: a text that a well-formed completion must hold beside its box. The official code asks for
            "Final Answer", a habit of the models that it trains; by default nothing is asked for.
        alone: pay the whole of C + gate * S. False pays only what the length adds to the base score, for use
            beside a reward of correctness.
    """

    judge: Correct = field(default_factory=Correct, kw_only=True)
    heading: str = field(default="", kw_only=True)
    alone: bool = field(default=True, kw_only=True)

    @abstractmethod
    def terms(self, judged: Judged) -> Terms:
        """C, gate and S of every completion."""

    def shaped(self, base: Any, lengths: Any, groups: Any = None, targets: Any = None) -> Floats:
        """[N] rewards of completions that were judged elsewhere.

        Args:
            base: [N] `RIGHT`, `WRONG` or `MALFORMED`.
            lengths: [N] tokens.
            groups: [N] equal for completions of one question; None for a single question.
            targets: one target, or one for each completion, in place of the reward's own.

        Raises:
            InvalidValue: an argument that cannot be; names it.
        """
        return self._paid(Judged.of(base, lengths, groups, targets))

    def pay(self, batch: Batch) -> Sequence[float | None]:
        scores = self.judge.scores(batch)
        rows = [row for row, score in enumerate(scores) if score is not None]
        paid: list[float | None] = [None] * len(batch)
        if rows:
            judged = self._judged(batch, rows, [s for s in scores if s is not None])
            for row, value in zip(rows, self._paid(judged).tolist(), strict=True):
                paid[row] = value
        return paid

    def _paid(self, judged: Judged) -> Floats:
        total = self.terms(judged).total
        return total if self.alone else total - judged.base

    def _judged(self, batch: Batch, rows: list[int], scores: Sequence[Score]) -> Judged:
        base = [rule_score(s, self.heading in batch.texts[row]) for row, s in zip(rows, scores, strict=True)]
        column = getattr(self, "targets", "")
        targets = batch.numbers(column)[rows] if column else None
        ids = batch.column("completion_ids") if batch.has("completion_ids") else None
        return Judged(
            np.asarray(base),
            batch.lengths[rows],
            batch.groups[rows],
            targets,
            None if ids is None else [ids[row] for row in rows],
        )


@dataclass(frozen=True)
class TargetReward(LengthReward):
    """A length reward with a target.

    Attributes:
        target: L_T, tokens.
        targets: a column with a target for each completion, in place of ``target``; "" for none.
    """

    target: int = 4096
    targets: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        positive("target", self.target)

    def goals(self, judged: Judged) -> Floats:
        """[N] targets."""
        if judged.targets is None:
            return np.full(len(judged.base), float(self.target))
        if not (judged.targets > 0).all():
            raise InvalidValue("targets", float(judged.targets.min()), "above 0")
        return judged.targets


def rule_score(score: Score, well_formed: bool = True) -> float:
    """R of one answer. An answer that is right but not in its box is malformed."""
    if not (score.parsed and well_formed):
        return MALFORMED
    return RIGHT if score.strict >= 1 else WRONG


def positive(name: str, value: float) -> None:
    if not (np.isfinite(value) and value > 0):
        raise InvalidValue(name, value, "a finite number above 0")


def not_negative(name: str, value: float) -> None:
    if not (np.isfinite(value) and value >= 0):
        raise InvalidValue(name, value, "a finite number >= 0")
