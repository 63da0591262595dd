"""VideoAuto-R1's inference: answer first, think only when that answer is not confident, then answer again.

"VideoAuto-R1: Video Auto Reasoning via Thinking Once, Answering Twice", arXiv 2601.05175 (CVPR 2026). The
model writes ``\\boxed{first}<think>...</think>\\boxed{second}``; as soon as the first box is closed, the mean
log-probability of its content decides whether the row ends there (the first answer counts) or simply goes on
(the second one does). Going on is the same row with the same cache, so nothing is read twice or tokenized
anew, and rows that end early leave the batch. Nothing here is about video: what a prompt holds is the model's
affair.

Costs a softmax of [B, V] per token of the first answer; saves the thought where that answer is confident.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from dovetail.core import Completion, InvalidValue, Limits, Prompt
from dovetail.decoding.asking import begin_turn, render, with_instruction
from dovetail.decoding.base import Decoding, StepwiseDecoding, with_inner
from dovetail.decoding.sampling import Greedy
from dovetail.engine import Choice, Rows, Stepwise
from dovetail.engine.forward import LayerHook

FALLBACK = "Let's analyze"
"""How the text begins that a model puts into the first box when it cannot answer without thinking."""

INSTRUCTIONS = {
    "paper": (
        "You are a helpful assistant. FIRST give your initial answer inside a first \\boxed{...}, without "
        "any analysis before it; if the question requires reasoning, write \\boxed{Let's analyze the problem "
        "step by step.} instead. THEN think inside <think>...</think>. AT LAST give the final answer inside "
        "a second \\boxed{...}: repeat the first answer if it was right, otherwise correct it. "
        "Format: \\boxed{...}<think>...</think>\\boxed{...}"
    ),
    "pico": "First answer, then think, then answer again.",
    "none": "",
}
"""System messages by name: after the paper's, the one that pico was trained with, and none."""

_BOX = r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}"
_WHOLE = re.compile(rf"\s*{_BOX}\s*<think>(.*?)</think>\s*{_BOX}\s*", re.DOTALL)
_OPTION = re.compile(r"\s*\(?([A-Za-z])[.):]\s+\S")


class TwiceAnswer(NamedTuple):
    """A completion's parts; ``first`` and ``second`` are "" where there is not exactly one box, and
    ``valid`` says whether the whole completion has the format (a blank thought included)."""

    first: str
    think: str
    second: str
    valid: bool


def parse_twice(text: str) -> TwiceAnswer:
    """The parts of a completion; boxes may hold one level of braces.

    Text without thinking marks is one answer, which is both the first and the second.

    >>> parse_twice(r"\\boxed{4}<think>2+3=5</think>\\boxed{5}")
    TwiceAnswer(first='4', think='2+3=5', second='5', valid=True)
    >>> parse_twice(r"\\boxed{4}")
    TwiceAnswer(first='4', think='', second='4', valid=False)
    """
    before, opened, rest = text.partition("<think>")
    think, closed, after = rest.partition("</think>")
    if not opened and "</think>" not in text:
        after, closed = before, "none needed"
    second = _only_box(after) if closed else ""
    once = text.count("<think>") == text.count("</think>") == 1
    return TwiceAnswer(_only_box(before), think.strip(), second, once and _WHOLE.fullmatch(text) is not None)


def first_answer_confidence(token_ids: Sequence[int], logprobs: Sequence[float], tokenizer: Any) -> float:
    """exp of the mean log-probability of the tokens inside the first box; the paper's s, in (0, 1].

    Of an option such as ``A. Paris`` only the letter is measured. A token counts if any of its characters
    stands inside.

    Args:
        token_ids: what was written, up to or beyond the closing of the box.
        logprobs: nats, one per token.
        tokenizer: its ``decode`` gives the text.

    Returns:
        -1 where there is no box before ``<think>``, where it is empty or says `FALLBACK`, and (with a
        warning) where log-probabilities are missing: all of these mean that the model should think.
    """
    text = tokenizer.decode(token_ids, skip_special_tokens=False)
    box = re.search(_BOX, text.partition("<think>")[0])
    if box is None or not box[1].strip() or box[1].strip().startswith(FALLBACK):
        return -1.0
    option = _OPTION.match(box[1])
    start, end = (box.start(1) + option.start(1), box.start(1) + option.end(1)) if option else box.span(1)
    start += len(text[start:end]) - len(text[start:end].lstrip())
    end -= len(text[start:end]) - len(text[start:end].rstrip())
    ends = [
        len(tokenizer.decode(token_ids[: n + 1], skip_special_tokens=False)) for n in range(len(token_ids))
    ]
    inside = [n for n, stop in enumerate(ends) if stop > start and (ends[n - 1] if n else 0) < end]
    if not inside or inside[-1] >= len(logprobs):
        warnings.warn("log-probabilities of the first answer are missing: it counts as unsure", stacklevel=2)
        return -1.0
    return math.exp(min(0.0, sum(logprobs[n] for n in inside) / len(inside)))


@dataclass(frozen=True)
class ThinkOnceAnswerTwice(Decoding):
    """Answers, and thinks and answers again only where the first answer is not confident.

    The model must know the format, by training or by following ``instruction``.

    Attributes:
        threshold: tau in [0, 1]: a first answer at least as confident ends the completion (paper: 0.97,
            released scripts: 0.98); infinity always thinks.
        mode: "auto" (the gate), or always the "first" or the "second" answer.
        instruction: system message: "paper", "pico", "none" (the prompt as it is), or a text of your own.
        max_first_tokens: a first answer that is not complete by then is not measured, and the model thinks.
        inner: how tokens are chosen (paper: greedy).
    """

    threshold: float = 0.97
    mode: Literal["auto", "first", "second"] = "auto"
    instruction: str = "paper"
    max_first_tokens: int = 256
    inner: StepwiseDecoding = field(default_factory=Greedy)

    needs = frozenset({"logits"})

    def __post_init__(self) -> None:
        if not (0 <= self.threshold <= 1 or self.threshold == math.inf):
            raise InvalidValue("threshold", self.threshold, "in [0, 1], or inf to think always")
        if self.mode not in ("auto", "first", "second"):
            raise InvalidValue("mode", self.mode, "auto, first or second")
        if self.max_first_tokens < 1:
            raise InvalidValue("max_first_tokens", self.max_first_tokens, "at least 1")

    def generate(self, engine: Any, prompts: Sequence[Prompt], limits: Limits) -> list[Completion]:
        """One completion per prompt, in order.

        Columns: ``first``, ``second`` (None if not thought), ``confidence`` (-1: nothing to measure),
        ``thought``, ``first_tokens`` (written up to the closing of the first box).
        """
        self.check(engine)
        self.inner.check(engine)
        gate = _Gate(self, engine, min(self.max_first_tokens, limits.max_new_tokens))
        asked = [self._asked(engine, prompt) for prompt in prompts]
        return [_reported(c) for c in engine.generate(asked, limits, gate)]

    def over(self, modifiers: Sequence[StepwiseDecoding]) -> Decoding:
        return with_inner(self, modifiers)

    def answers_at_once(self, confidence: float) -> bool:
        """Whether a first answer of this confidence ends the completion."""
        return self.mode == "first" or (self.mode == "auto" and confidence >= self.threshold)

    def _asked(self, engine: Any, prompt: Prompt) -> Prompt:
        instruction = INSTRUCTIONS.get(self.instruction, self.instruction)
        if instruction:
            prompt = render(engine, prompt, with_instruction(prompt.messages, instruction))
        return begin_turn(engine, prompt)  # the turn begins with the first box, not with a thought


class _Gate(Stepwise):
    """``inner``, and the end of rows whose first answer will do.

    State: ``twice.tokens``, ``twice.logprobs`` [B, W] of the first W tokens; ``twice.confidence`` [B], NaN
    until the first box is closed; ``twice.first`` [B], tokens up to there; ``twice.ended`` [B] bool.
    """

    chooses = True

    def __init__(self, method: ThinkOnceAnswerTwice, engine: Any, width: int) -> None:
        self.method, self.inner, self.width = method, method.inner, width
        self.tokenizer = engine.tokenizer
        self.closing = _closing(engine.tokenizer, engine.forward.vocab_size).to(engine.device)

    def begin(self, rows: Rows) -> None:
        self.inner.begin(rows)
        n, device = len(rows), rows.device
        rows.state["twice.tokens"] = torch.zeros(n, self.width, dtype=torch.int64, device=device)
        rows.state["twice.logprobs"] = torch.zeros(n, self.width, device=device)
        rows.state["twice.confidence"] = torch.full((n,), math.nan, dtype=torch.float64, device=device)
        rows.state["twice.first"] = torch.zeros(n, dtype=torch.int64, device=device)
        rows.state["twice.ended"] = torch.zeros(n, dtype=torch.bool, device=device)

    def adjust(self, logits: Tensor, rows: Rows) -> Tensor:
        return self.inner.adjust(logits, rows)

    def hook(self, rows: Rows, layers: int, valid: Tensor | None) -> LayerHook | None:
        return self.inner.hook(rows, layers, valid)

    def choose(self, logits: Tensor, rows: Rows) -> Choice:
        choice = self.inner.choose(logits, rows)
        measured = self._open(rows, rows.step).nonzero()[:, 0]
        if len(measured):
            at, tokens = rows.step[measured], choice.tokens[measured]
            logprobs = logits[measured].log_softmax(-1).gather(1, tokens[:, None])[:, 0]
            rows.state["twice.tokens"][measured, at] = tokens
            rows.state["twice.logprobs"][measured, at] = logprobs.float()
        return choice

    def stop(self, choice: Choice, rows: Rows) -> Tensor | None:
        closed = self._open(rows, rows.step - 1) & self.closing[choice.tokens] & (rows.alive > 0)
        ended = torch.zeros_like(closed)
        for row in closed.nonzero()[:, 0].tolist():  # once per row: those that have just written a brace
            ended[row] = self._closes(rows, row)
        rows.state["twice.ended"] |= ended
        inner = self.inner.stop(choice, rows)
        return ended if inner is None else ended | inner

    def columns(self, rows: Rows, index: int) -> dict[str, Any]:
        confidence = float(rows.state["twice.confidence"][index])
        return {
            **self.inner.columns(rows, index),
            "confidence": -1.0 if math.isnan(confidence) else confidence,
            "thought": not bool(rows.state["twice.ended"][index]),
            "first_tokens": int(rows.state["twice.first"][index]),
        }

    def _open(self, rows: Rows, at: Tensor) -> Tensor:
        """[B] bool: the rows whose first box is not closed yet, at token number ``at`` [B]."""
        return rows.state["twice.confidence"].isnan() & (at < self.width)

    def _closes(self, rows: Rows, row: int) -> bool:
        """Measures the first box if it is closed by now; whether the row ends with it."""
        n = int(rows.step[row])
        tokens = rows.state["twice.tokens"][row, :n].tolist()
        if re.search(_BOX, self.tokenizer.decode(tokens, skip_special_tokens=False)) is None:
            return False
        logprobs = rows.state["twice.logprobs"][row, :n].tolist()
        confidence = first_answer_confidence(tokens, logprobs, self.tokenizer)
        rows.state["twice.confidence"][row] = confidence
        rows.state["twice.first"][row] = n
        return self.method.answers_at_once(confidence)


def _reported(completion: Completion) -> Completion:
    """The completion with both answers in its columns; a first answer that will do is a finished one."""
    parts, thought = parse_twice(completion.text), completion.columns["thought"]
    columns = {
        **completion.columns,
        "first": parts.first,
        "second": parts.second if thought else None,
    }
    return replace(completion, finish_reason=completion.finish_reason if thought else "stop", columns=columns)


def _only_box(text: str) -> str:
    found = re.findall(_BOX, text)
    return found[0].strip() if len(found) == 1 else ""


@lru_cache(maxsize=4)
def _closing(tokenizer: Any, size: int) -> Tensor:
    """[V] bool: the tokens that hold a closing brace."""
    names = tokenizer.convert_ids_to_tokens(list(range(min(size, len(tokenizer)))))
    held = torch.zeros(size, dtype=torch.bool)
    held[: len(names)] = torch.tensor(["}" in (name or "") for name in names], dtype=torch.bool)
    return held
