"""How solutions and their verifications are written, and what a verification is paid (RL Tango).

Zha et al., arXiv 2505.15034 (NeurIPS 2025), eq. 8: a verifier judges every step of a solution and then the
whole. It is paid for the final verdict alone, and for the layout; nobody labels steps. What the format score
takes off is not published: here it is a quarter for each of four criteria that is not met.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dovetail.core import InvalidValue
from dovetail.rewards.base import Batch, Reward
from dovetail.tasks import extraction

PROMPT = """\
Verify the solution of a math problem. It has {steps} steps. Judge every step, then the final answer.

Write exactly this, with one item for each of the {steps} steps:
Step Verification:
Step 1: <analysis> \\boxed{{CORRECT}} or \\boxed{{INCORRECT}}
Final Verification: \\boxed{{CORRECT}} or \\boxed{{INCORRECT}}

For example, for "What is 2 + 3 * 4?" with the steps "3 * 4 = 12" and "2 + 12 = 15":
Step Verification:
Step 1: 3 * 4 is 12. \\boxed{{CORRECT}}
Step 2: 2 + 12 is 14, not 15. \\boxed{{INCORRECT}}
Final Verification: \\boxed{{INCORRECT}}

Problem: {problem}

Solution:
{solution}"""


class Solution(NamedTuple):
    """The character spans (start, end) of the steps, and the boxed answer (None if there is none)."""

    steps: list[tuple[int, int]]
    answer: str | None


class Verification(NamedTuple):
    """What a verification says.

    Attributes:
        steps: +1 or -1 per item, None for an item without a verdict.
        final: the final verdict, 1 or 0; None where there is none.
        score: the format score in [0, 1], given the number of steps that it was asked for.
    """

    steps: list[int | None]
    final: int | None
    score: float


@dataclass(frozen=True)
class Layout:
    """The marks of solutions and verifications; the defaults are for models that follow instructions.

    Attributes:
        step: the tag around each step of a solution; "" takes each line of the thinking for a step.
        section: heads the judgments of the steps; "" for none.
        item: what each of them begins with, before its number; "" takes each line for one.
        final: stands before the final verdict.
        right, wrong: the words that are boxed.
        prompt: what the verifier is asked; ``{problem}``, ``{solution}`` and ``{steps}``, their number.
    """

    step: str = "step"
    section: str = "Step Verification:"
    item: str = "Step"
    final: str = "Final Verification:"
    right: str = "CORRECT"
    wrong: str = "INCORRECT"
    prompt: str = PROMPT

    def __post_init__(self) -> None:
        if not self.final:
            raise InvalidValue("final", self.final, "the mark before the final verdict")
        if not (self.right and self.wrong and self.right != self.wrong):
            raise InvalidValue("right, wrong", (self.right, self.wrong), "two different words")
        if "{solution}" not in self.prompt:
            raise InvalidValue("prompt", self.prompt[:80], "a text with {solution}")

    def solution(self, text: str) -> Solution:
        """The steps inside the thinking (of a text without any, inside all of it) and the answer behind."""
        start = text.find("<think>") + len("<think>") if "<think>" in text else 0
        end = text.find("</think>", start)
        block = text[start : end if end >= 0 else len(text)]
        pattern = rf"<{re.escape(self.step)}>.*?</{re.escape(self.step)}>" if self.step else r"[^\n]*\S[^\n]*"
        spans = [(start + m.start(), start + m.end()) for m in re.finditer(pattern, block, re.DOTALL)]
        return Solution(spans, extraction.boxed(extraction.after_thinking(text) or ""))

    def ask(self, problem: str, solution: str) -> str:
        """What the verifier is asked about a solution."""
        shown = solution.replace("<think>", "").replace("</think>", "").strip()
        shown = re.sub(r"\n\s*\n", "\n", shown)
        return self.prompt.format(problem=problem, solution=shown, steps=len(self.solution(solution).steps))

    def verification(self, text: str, steps: int = 0) -> Verification:
        """What a verification says; ``steps`` is the number of steps that it was asked to judge."""
        answer = extraction.after_thinking(text) or ""
        body, marked, closing = answer.rpartition(self.final)
        if not marked:
            body, closing = answer, ""
        before, headed, inside = body.partition(self.section) if self.section else ("", "", body)
        items = self._items(inside if headed or not self.section else before)
        verdicts = [self._verdicts(item) for item in items]
        finals = self._verdicts(closing)
        criteria = (
            bool(items) and (bool(headed) or not self.section),
            len(items) == steps,
            bool(items) and all(len(v) == 1 for v in verdicts),
            len(finals) == 1,
        )
        judged = [2 * v[-1] - 1 if v else None for v in verdicts]
        return Verification(judged, finals[-1] if finals else None, sum(criteria) / len(criteria))

    def _items(self, text: str) -> list[str]:
        if not self.item:
            return [line for line in text.splitlines() if line.strip()]
        found = list(re.finditer(rf"^[\W_]{{0,8}}{re.escape(self.item)} ?\d", text, re.MULTILINE))
        ends = [*(m.start() for m in found[1:]), len(text)][: len(found)]
        return [text[m.start() : end] for m, end in zip(found, ends, strict=True)]

    def _verdicts(self, text: str) -> list[int]:
        words = {self.right: 1, self.wrong: 0}
        pattern = rf"\\boxed\{{\s{{0,4}}({'|'.join(map(re.escape, words))})\s{{0,4}}\}}"
        return [words[word] for word in re.findall(pattern, text)]


def verifier_reward(final: int | None, right: bool, score: float, gamma: float = 0.8) -> float:
    """Eq. 8 (the sum is a reading): 1 where the final verdict is right, plus gamma times the format score.

    >>> verifier_reward(1, True, 1.0), verifier_reward(0, True, 1.0), verifier_reward(None, False, 0.0)
    (1.8, 0.8, 0.0)
    """
    return float(final is not None and final == int(right)) + gamma * score


@dataclass(frozen=True)
class VerifierReward(Reward):
    """Pays a verification for its final verdict and its layout.

    Columns: ``gold_correct``, whether the solution is right; ``n_steps``, how many steps it has.

    Attributes:
        gamma: weight of the format score (paper: 0.8).
        layout: how verifications are written.
    """

    gamma: float = 0.8
    layout: Layout = Layout()

    name = "verifier"

    def __post_init__(self) -> None:
        if not (np.isfinite(self.gamma) and self.gamma >= 0):
            raise InvalidValue("gamma", self.gamma, "a finite number >= 0")

    def pay(self, batch: Batch) -> Sequence[float]:
        paid = []
        columns = zip(batch.numbers("gold_correct"), batch.numbers("n_steps"), strict=True)
        for text, closed, opened, (right, steps) in zip(
            batch.texts, batch.closed, batch.opened, columns, strict=True
        ):
            said = self.layout.verification(text if closed else opened + text, int(steps))
            paid.append(verifier_reward(said.final, bool(right), said.score, self.gamma))
        return paid
