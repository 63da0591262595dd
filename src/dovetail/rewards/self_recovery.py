"""ASRR: train under a closed thinking block; lengths cost something only where the group gets it right.

"When to Continue Thinking: Adaptive Thinking Mode Switching for Efficient Reasoning", arXiv
2505.15400 (EMNLP 2025 Findings): equations 1 (the prefix) and 5 to 7. Under the prefix a model answers at
once, or falls back into reasoning inside its answer; the reward teaches it to do so on hard questions only.

With ``tau = 1`` the penalty acts in groups that are right throughout, where plain correctness says nothing:
there, GRPO's division by the group's deviation turns small differences of length into whole advantages.
``PolicyGradient(scale="batch")`` or ``scale="none"`` keeps them small.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dovetail.core import InvalidValue
from dovetail.rewards.base import Batch, Floats, Reward, numbered, whole
from dovetail.rewards.correct import Correct


@dataclass(frozen=True)
class Gate:
    """What decides over one group.

    Attributes:
        accuracy: share of right answers.
        alpha: weight of the penalty.
        shortest: tokens of the shortest right answer; None where none is right.
        overlong: [K] O_i in [0, 1] of each completion.
    """

    accuracy: float
    alpha: float
    shortest: int | None
    overlong: Floats


@dataclass(frozen=True)
class AdaptiveSelfRecovery(Reward):
    """Correctness less ``alpha * O_i``: how much longer than the group's shortest right answer, gated.

    ``alpha`` is 0 for groups whose accuracy is below ``tau``, and rises to ``beta`` at accuracy 1 (eq. 7).

    Attributes:
        tau: accuracy from which length costs; 0 penalises always, as soon as one answer is right.
        beta: the penalty's weight in a group that is right throughout.
        window: tokens over the shortest right answer at which the penalty is full.
        eps: the small constant of eq. 7; the paper does not give it.
        judge: tells right answers from wrong ones.
    """

    tau: float = 1.0
    beta: float = 0.5
    window: int = 2048
    eps: float = 1e-6
    judge: Correct = field(default_factory=Correct)

    name = "asrr"

    def __post_init__(self) -> None:
        if not 0 <= self.tau <= 1:
            raise InvalidValue("tau", self.tau, "in [0, 1]")
        for name, least in (("beta", 0.0), ("window", 1e-9), ("eps", 1e-300)):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= least):
                raise InvalidValue(name, value, ">= 0" if name == "beta" else "above 0")

    def alpha(self, accuracy: float) -> float:
        """The penalty's weight in a group of that accuracy (eq. 7)."""
        if accuracy < self.tau:
            return 0.0
        return self.beta * (accuracy - self.tau + self.eps) / (1 - self.tau + self.eps)

    def gate(self, correct: Sequence[bool] | Floats, lengths: Any) -> Gate:
        """What one group's right and wrong answers and their lengths come to (eq. 5 and 7).

        A group without a right answer has no shortest one, and so no penalty, whatever ``tau``.
        """
        right, tokens = np.asarray(correct, dtype=bool), np.asarray(lengths, dtype=np.int64)
        accuracy = float(right.mean())
        if not right.any():
            return Gate(accuracy, 0.0, None, np.zeros(len(right)))
        shortest = int(tokens[right].min())
        return Gate(
            accuracy, self.alpha(accuracy), shortest, np.clip((tokens - shortest) / self.window, 0.0, 1.0)
        )

    def shaped(self, correct: Any, lengths: Any, groups: Any = None) -> Floats:
        """[N] rewards of completions that were judged elsewhere.

        Args:
            correct: [N] 0 or 1.
            lengths: [N] tokens.
            groups: [N] equal for completions of one question; None for a single question.

        Raises:
            InvalidValue: an argument that cannot be; names it.
        """
        right, tokens = np.asarray(correct, dtype=np.float64), whole("lengths", lengths)
        same = numbered([0] * len(right) if groups is None else list(np.asarray(groups).tolist()))
        if not len(right):
            raise InvalidValue("correct", [], "at least one completion")
        if not np.isin(right, (0, 1)).all():
            raise InvalidValue("correct", float(right[~np.isin(right, (0, 1))][0]), "0 or 1")
        for name, values in (("lengths", tokens), ("groups", same)):
            if len(values) != len(right):
                raise InvalidValue(name, f"{len(values)} values", f"one for each of {len(right)} completions")
        paid = right.copy()
        for group in np.unique(same):
            rows = same == group
            gate = self.gate(right[rows], tokens[rows])
            paid[rows] -= gate.alpha * gate.overlong
        return paid

    def pay(self, batch: Batch) -> Sequence[float | None]:
        scores = self.judge.scores(batch)
        rows = [row for row, score in enumerate(scores) if score is not None]
        paid: list[float | None] = [None] * len(batch)
        if rows:
            right = [float(s.value >= 1) for s in scores if s is not None]
            values = self.shaped(right, batch.lengths[rows], batch.groups[rows])
            for row, value in zip(rows, values.tolist(), strict=True):
                paid[row] = value
        return paid


#: Phrases that show a model resuming its reasoning. The paper names some; extend them for other models.
RESUMING = (
    "wait", "let me check", "let me verify", "let's verify", "let me think", "let me reconsider",
    "alternatively", "another method", "another way", "step by step", "first,", "hmm",
)  # fmt: skip


def no_thinking(
    prompt: str,
    prefix: str = "Okay, I have finished thinking.",
    opening: str = "<think>",
    closing: str = "</think>",
) -> str:
    """A prompt with its thinking closed before it began (eq. 1): what training and inference start from.

    Args:
        prompt: as the chat template renders it, up to where the model writes. If it ends with the opening
            mark already, as some templates do, none is added.
        prefix: the sentence inside the block. Models with a no-thinking mode of their own were trained on
            its block instead: there, ``model.prompt(messages, thinking=False)`` is the prompt to take.

    Raises:
        InvalidValue: the prompt ends in a closed block already.
    """
    end = prompt.rstrip()
    if end.endswith(closing):
        raise InvalidValue("prompt", end[-60:], "without a closed block of thinking at its end")
    head = end + "\n" if end.endswith(opening) else f"{prompt}{opening}\n"
    return f"{head}{prefix}\n{closing}\n\n"


def continue_thinking_ratio(responses: Iterable[str], phrases: Iterable[str] = RESUMING) -> float:
    """The share of responses (after the prefix) in which reasoning was resumed, told by its phrases."""
    words = "|".join(re.escape(p) for p in phrases)
    pattern = re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE)
    found = [pattern.search(text) is not None for text in responses]
    if not found:
        raise InvalidValue("responses", [], "at least one response")
    return sum(found) / len(found)
