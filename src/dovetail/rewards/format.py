"""Format: one closed block of thinking, then one boxed answer.

The rule-based format reward of DeepSeek-R1 (arXiv 2501.12948, section 2.2.2), for boxed answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dovetail.rewards.base import Batch, Reward
from dovetail.tasks import extraction

OPENING, CLOSING = "<think>", "</think>"


@dataclass(frozen=True)
class Format(Reward):
    """1 for ``<think>...</think>`` followed by text with a ``\\boxed{}`` that holds something, else 0.

    Attributes:
        thinking: whether the thinking is asked for; False pays the box alone, and only without thinking.
        blank: whether an empty block of thinking will do.
    """

    thinking: bool = True
    blank: bool = False

    name = "format"

    def pay(self, batch: Batch) -> Sequence[float]:
        rows = zip(batch.texts, batch.opened, strict=True)
        return [float(self.holds(opened + text)) for text, opened in rows]

    def holds(self, text: str) -> bool:
        """Whether a text has the format; linear in its length."""
        thoughts, closing, answer = text.partition(CLOSING)
        if not self.thinking:
            return OPENING not in text and not closing and _one_box(text)
        before, opening, thoughts = thoughts.partition(OPENING)
        if not (opening and closing) or before.strip() or OPENING in thoughts + answer or CLOSING in answer:
            return False
        return (self.blank or bool(thoughts.strip())) and _one_box(answer)


def _one_box(text: str) -> bool:
    return text.count("\\boxed") == 1 and extraction.boxed(text) is not None
