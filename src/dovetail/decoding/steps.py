"""Writing solutions step by step, side by side: what the searches over partial solutions share.

A `StepWriter` makes every unfinished row of a batch write some more steps. A row that has them waits in a
batch of its own until the others have theirs too, so no token is computed twice and none too many; forking
and pruning are `Batch.select`. Where steps ended is kept in ``rows.state`` and so moves with its row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from dovetail.core import Limits, Prompt
from dovetail.core.completion import FinishReason
from dovetail.decoding.base import Decoding, StepwiseDecoding, chain
from dovetail.engine import Batch, Choice, Rows
from dovetail.engine.forward import LayerHook

REASONS: tuple[FinishReason | None, ...] = (None, "stop", "length", "aborted")
"""What ``rows.state["steps.reason"]`` means: 0 is unfinished."""

_MARKS = ("<think>", "</think>")


@dataclass(frozen=True)
class Watch(StepwiseDecoding):
    """Keeps the last layer's output for each row's latest token in ``rows.state["steps.hidden"]`` [B, d]."""

    size: int

    def begin(self, rows: Rows) -> None:
        rows.state["steps.hidden"] = torch.zeros(len(rows), self.size, device=rows.device)

    def hook(self, rows: Rows, layers: int, valid: Tensor | None) -> LayerHook:
        def keep(layer: int, before: Tensor, after: Tensor) -> Tensor:
            if layer == layers - 1:
                rows.state["steps.hidden"] = after[:, -1].float()
            return after

        return keep


@dataclass
class Solutions:
    """R partial or finished solutions, as a verifier sees them.

    Attributes:
        prompts: R questions.
        counts: [R] int64, steps written so far.
        ends: [R, S] int64, tokens written when a step ended.
        scored: [R] int64, steps that were scored in an earlier call.
        tokens: [R, N] int64.
        logprobs: [R, N] nats.
        hidden: [R, S, d] float32, the last layer's output for each step's last token; None unless the
            verifier needs "hidden".
        decode: token ids -> text.
    """

    prompts: Sequence[Prompt]
    counts: Tensor
    ends: Tensor
    scored: Tensor
    tokens: Tensor
    logprobs: Tensor
    hidden: Tensor | None
    decode: Any

    def __len__(self) -> int:
        return len(self.prompts)

    @cached_property
    def steps(self) -> list[list[str]]:
        """The text of each solution's steps."""
        found = []
        for ids, ends, count in zip(
            self.tokens.tolist(), self.ends.tolist(), self.counts.tolist(), strict=True
        ):
            cuts = [0, *ends[:count]]
            found.append([self.decode(ids[a:b]) for a, b in pairwise(cuts)])
        return found


class Delimiter:
    """Tells when a row has completed a text that ends a step.

    A step is over with the token that completes the delimiter, if the step holds more than white space and
    thinking marks. Without a delimiter, a blank line ends a step, and as long as a row has not written any
    blank line, so does a line break.

    Args:
        tokenizer: of the rows' tokens.
        text: the delimiter; None for the rule above.
    """

    def __init__(self, tokenizer: Any, text: str | None) -> None:
        self.tokenizer, self.text = tokenizer, text
        self._last = text[-1] if text else "\n"
        self._known = torch.empty(0, dtype=torch.int8)

    def reached(self, batch: Batch, tokens: Tensor, begun: Tensor) -> Tensor:
        """[B] bool: the step that began at token ``begun`` [B] is over with ``tokens`` [B], just written."""
        over = self._may_end(tokens)
        rows = over.nonzero()[:, 0]
        spans = zip(rows.tolist(), begun[rows].tolist(), batch.rows.step[rows].tolist(), strict=True)
        for (row, start, now), ids in zip(spans, batch.tokens[rows].tolist(), strict=True):
            over[row] = self._ends(ids[:start], ids[start:now])
        return over

    def _ends(self, before: list[int], step: list[int]) -> bool:
        said = self._decode(step)
        for mark in _MARKS:
            said = said.replace(mark, "")
        said = said.lstrip()
        if self.text is not None:
            return bool(said) and self.text in said
        return "\n\n" in said or ("\n" in said and "\n\n" not in self._decode(before))

    def _may_end(self, tokens: Tensor) -> Tensor:
        """[B] bool: the token's text holds the delimiter's last letter. Looked up once per token id."""
        top = int(tokens.max()) + 1
        if top > len(self._known):
            grown = torch.full((top,), -1, dtype=torch.int8, device=tokens.device)
            grown[: len(self._known)] = self._known
            self._known = grown
        for token in tokens[self._known[tokens] < 0].unique().tolist():
            text = self._decode([token])
            # Half a letter decodes to the replacement sign: look at the whole text then.
            self._known[token] = self._last in text or "\ufffd" in text
        return self._known[tokens] > 0

    def _decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=False))


@dataclass
class StepWriter:
    """Makes rows write steps.

    Attributes:
        engine, prompts, limits: of the search; ``batch.index`` points into ``prompts``.
        inner: how tokens are chosen.
        capacity: steps that a row may have at most.
        delimiter: see `Delimiter`.
        max_tokens_per_step: a longer step ends its row, with reason "length".
        watch: whether to keep hidden states.
    """

    engine: Any
    prompts: Sequence[Prompt]
    limits: Limits
    inner: StepwiseDecoding
    capacity: int
    delimiter: str | None = None
    max_tokens_per_step: int = 2048
    watch: bool = False
    _ends_step: Delimiter = field(init=False)
    _stops: list[Delimiter] = field(init=False)

    def __post_init__(self) -> None:
        tokenizer = self.engine.tokenizer
        self._ends_step = Delimiter(tokenizer, self.delimiter)
        self._stops = [Delimiter(tokenizer, text) for text in self.limits.stop]
        self.limits = replace(self.limits, logprobs=True)
        self.step = self.over(self.inner)

    def over(self, inner: StepwiseDecoding) -> StepwiseDecoding:
        """``inner``, watched if this writer watches."""
        if not self.watch:
            return inner
        watched: Decoding = chain([inner, Watch(self.engine.forward.hidden_size)])
        assert isinstance(watched, StepwiseDecoding)
        return watched

    @torch.inference_mode()
    def begin(self, copies: int) -> Batch:
        """Reads the prompts once and forks each ``copies`` times; all rows are unfinished."""
        self.engine.forward.refresh()
        batch: Batch = self.engine.begin(self.prompts, self.limits, self.step)
        rows, device = len(batch), batch.rows.device
        state = batch.rows.state
        state["steps.ends"] = torch.zeros(rows, self.capacity, dtype=torch.int64, device=device)
        state["steps.count"] = torch.zeros(rows, dtype=torch.int64, device=device)
        state["steps.scored"] = torch.zeros(rows, dtype=torch.int64, device=device)
        state["steps.reason"] = torch.zeros(rows, dtype=torch.int64, device=device)
        if self.watch:
            size = state["steps.hidden"].shape[1]
            state["steps.states"] = torch.zeros(rows, self.capacity, size, device=device)
        return batch.select(torch.arange(rows, device=device).repeat_interleave(copies))

    @torch.inference_mode()
    def write(
        self, batch: Batch, steps: int = 1, *, to_end: bool = False, step: StepwiseDecoding | None = None
    ) -> Batch:
        """The rows of ``batch``, in any order, after each unfinished one wrote ``steps`` steps.

        Args:
            to_end: the last of these steps goes on past delimiters, to the end of the solution.
            step: how tokens are chosen this time, from `over`.
        """
        step = step or self.step
        batch.rows.state["steps.begun"] = batch.rows.step.clone()
        batch.rows.state["steps.target"] = batch.rows.state["steps.count"] + steps
        unfinished = batch.rows.state["steps.reason"] == 0
        waiting = [] if bool(unfinished.all()) else [batch.select((~unfinished).nonzero()[:, 0])]
        active = batch.select(unfinished.nonzero()[:, 0])
        while len(active):
            choice = self.engine.choose(active, step)
            reason = self._reason(active, choice, step)
            ended = reason > 0
            if steps > 1 or not to_end:
                ended = ended | self._step_ends(active, choice.tokens, to_end)
            ended &= active.rows.alive > 0
            self.engine.feed(active, choice, step)
            if not bool(ended.any()):
                continue
            state = active.rows.state
            self._note(state, ended.nonzero()[:, 0], active.rows.step, reason)
            over = ended & ((state["steps.reason"] > 0) | (state["steps.count"] >= state["steps.target"]))
            if bool(over.any()):
                done = over.nonzero()[:, 0]
                waiting.append(active.select(done))
                active.rows.alive[done] = 0
                staying = active.rows.alive.nonzero()[:, 0]
                # A few rows that idle along cost less than copying the cache.
                if len(active) - len(staying) >= (len(active) + 7) // 8:
                    active = active.select(staying)
        return waiting[0].join(*waiting[1:])

    def _reason(self, batch: Batch, choice: Choice, step: StepwiseDecoding) -> Tensor:
        """[B] index into `REASONS`: whether, and why, a row's solution has ended."""
        rows, tokens = batch.rows, choice.tokens
        stopped = torch.zeros_like(tokens, dtype=torch.bool)
        for end in self.engine.end_ids:
            stopped |= tokens == end
        for text in self._stops:
            stopped |= text.reached(batch, tokens, torch.zeros_like(tokens))
        long = rows.step - rows.state["steps.begun"] >= self.max_tokens_per_step
        reason = ((rows.step >= batch.room) | long).long() * 2
        aborted = step.stop(choice, rows)
        if aborted is not None:
            reason = reason.masked_fill(aborted, 3)
        return reason.masked_fill(stopped, 1)

    def _step_ends(self, batch: Batch, tokens: Tensor, to_end: bool) -> Tensor:
        """[B] bool: a step is over; where writing goes ``to_end``, the last one that may be is left out."""
        state = batch.rows.state
        ended = self._ends_step.reached(batch, tokens, state["steps.begun"])
        return ended & (state["steps.count"] < state["steps.target"] - 1) if to_end else ended

    def _note(self, state: dict[str, Tensor], ended: Tensor, written: Tensor, reason: Tensor) -> None:
        """Writes down that the rows at ``ended`` are through with a step."""
        at = state["steps.count"][ended]
        state["steps.ends"][ended, at] = written[ended]
        state["steps.begun"][ended] = written[ended]
        state["steps.reason"][ended] = reason[ended]
        state["steps.count"][ended] += 1
        if self.watch:
            state["steps.states"][ended, at] = state["steps.hidden"][ended]

    def solutions(self, batch: Batch) -> Solutions:
        """What a verifier is shown of the rows."""
        state = batch.rows.state
        assert batch.logprobs is not None
        return Solutions(
            [self.prompts[i] for i in batch.index],
            state["steps.count"],
            state["steps.ends"],
            state["steps.scored"],
            batch.tokens,
            batch.logprobs,
            state.get("steps.states"),
            lambda ids: self.engine.text(ids),
        )
