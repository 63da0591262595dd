"""A model as the rest of the house sees it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from dovetail.core.completion import Completion, Limits, Prompt
from dovetail.core.example import Message


class Model(ABC):
    """A loaded model: local (Hugging Face) or remote (behind an OpenAI-compatible URL).

    Attributes:
        name: as the user gave it.
        provides: what a method may ask of it: "text", "logprobs", and for local models also
            "logits", "embeddings", "hidden", "cache".
        engine: produces tokens (``engine.Engine`` locally, ``models.remote.RemoteEngine`` else).
    """

    name: str
    provides: frozenset[str]
    engine: Any

    @abstractmethod
    def prompt(
        self, messages: Sequence[Message], *, thinking: bool = True, prefix: str = "", seed: int = 0
    ) -> Prompt:
        """Renders messages with the model's chat template.

        Args:
            messages: the conversation up to the model's turn.
            thinking: the template's thinking mode where it has one.
            prefix: text that the model's turn begins with (local models only).
            seed: the row's random stream.
        """

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What the record says of it: name, class, parameters, dtype, device, template digest."""

    def complete(
        self,
        prompt: str | Sequence[Message],
        decoding: Any = None,
        limits: Limits | None = None,
        *,
        thinking: bool = True,
        prefix: str = "",
        seed: int = 0,
    ) -> Completion:
        """One completion in one line: ``model.complete("What is 17 + 25?").text``.

        Args:
            prompt: a user message, or a conversation up to the model's turn.
            decoding: how the model writes (``decoding.SoftThinking()``); greedy if None.
            limits: where writing ends; ``Limits()`` if None.
            thinking, prefix, seed: see `prompt`.
        """
        messages = (Message("user", prompt),) if isinstance(prompt, str) else prompt
        rendered = self.prompt(messages, thinking=thinking, prefix=prefix, seed=seed)
        limits = limits or Limits()
        completions: list[Completion] = (
            self.engine.generate([rendered], limits)
            if decoding is None
            else decoding.generate(self.engine, [rendered], limits)
        )
        return completions[0]
