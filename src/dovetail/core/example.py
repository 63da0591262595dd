"""What a model is asked: messages, and the example that holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation, as chat templates and OpenAI-compatible servers take it."""

    role: Role
    content: str

    def as_dict(self) -> dict[str, str]:
        return {"role": self.role, "content": self.content}


@dataclass(frozen=True, slots=True)
class Example:
    """One question with what is needed to judge an answer.

    Attributes:
        id: unique within its task; random streams and resumed runs are keyed by it.
        messages: the conversation up to the model's turn.
        reference: the accepted answer as text; None where only the scorer can tell.
        images, audio, video: paths or arrays that the messages refer to.
        columns: everything else that the source held (choices, difficulty, metadata); rewards and
            scorers receive it by name.
    """

    id: str
    messages: tuple[Message, ...]
    reference: str | None = None
    images: tuple[Any, ...] = ()
    audio: tuple[Any, ...] = ()
    video: tuple[Any, ...] = ()
    columns: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def ask(cls, id: str, question: str, reference: str | None = None, **columns: Any) -> Example:
        """An example with a single user message."""
        return cls(id, (Message("user", question),), reference, columns=columns)

    @property
    def question(self) -> str:
        """The content of the last user message ("" where there is none)."""
        return next((m.content for m in reversed(self.messages) if m.role == "user"), "")
