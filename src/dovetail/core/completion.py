"""What a model is given, what it wrote, and what that cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from dovetail.core.errors import InvalidValue
from dovetail.core.example import Message

FinishReason = Literal["stop", "length", "aborted"]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A question rendered for one model.

    Attributes:
        messages: the conversation; what a remote model is sent.
        text: the chat template's output; part of the record, so that scores can be disputed.
        ids: the tokens of ``text``; empty for a remote model, whose server tokenizes.
        seed: the row's random stream (see ``core.seeds``); equal seeds write equal tokens.
        assistant_prefix: text at the end of ``text`` that the template put into the model's mouth
            (such as an empty thinking block), "" if none.
    """

    messages: tuple[Message, ...]
    text: str = ""
    ids: tuple[int, ...] = ()
    seed: int = 0
    assistant_prefix: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """Where writing ends, whatever the decoding.

    Attributes:
        max_new_tokens: tokens written per completion at most (finish reason "length").
        stop: strings that end a completion; the text is cut before the first of them.
        logprobs: keep the log-probability of every written token under the distribution it was
            drawn from the model with (temperature 1, before filters).
    """

    max_new_tokens: int = 512
    stop: tuple[str, ...] = ()
    logprobs: bool = False

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise InvalidValue("max_new_tokens", self.max_new_tokens, "at least 1")
        if isinstance(self.stop, str) or any(not s for s in self.stop):
            raise InvalidValue("stop", self.stop, "a tuple of non-empty strings")


@dataclass(frozen=True, slots=True)
class Cost:
    """What was spent. Adds up over completions.

    Attributes:
        tokens_read: prompt tokens, counted for every completion as a server would bill them.
        tokens_written: tokens produced, thinking, rejected drafts' replacements and end tokens included.
        forward_passes: passes of the model that this completion took part in; a batched pass counts
            once for each row, so the figure does not depend on the batch.
        seconds: wall-clock share: a batch's seconds divided over its rows.
        peak_memory: bytes; the largest, not the sum.
    """

    tokens_read: int = 0
    tokens_written: int = 0
    forward_passes: float = 0.0
    seconds: float = 0.0
    peak_memory: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.tokens_read + other.tokens_read,
            self.tokens_written + other.tokens_written,
            self.forward_passes + other.forward_passes,
            self.seconds + other.seconds,
            max(self.peak_memory, other.peak_memory),
        )


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model wrote to one prompt.

    Attributes:
        text: the written text, special tokens left out except thinking marks; cut at a stop string.
        token_ids: the ids as generated (never re-tokenized), the end token included.
        logprobs: nats, one per token id, where asked for.
        cost: everything spent for it, discarded samples included.
        finish_reason: "stop" (end token or stop string), "length", "aborted" (by the method).
        columns: what the method wants known (thinking length, cold_stopped, votes, ...): JSON values.
    """

    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] | None = None
    cost: Cost = field(default_factory=Cost)
    finish_reason: FinishReason = "stop"
    columns: Mapping[str, Any] = field(default_factory=dict)
