"""The prompting slot: how a question is put.

A prompting method is a frozen dataclass whose fields are the paper's hyperparameters. It turns an example
into the messages that the model is sent, and nothing else: how the model then writes is the decoding's
affair, so every prompting method stacks with every decoding (``structure-of-thought+self-consistency:n=4``).
It works with any chat model, a remote one too, unless it reads the model itself (`Prompting.needs`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Self

from dovetail.core import Example, Message, Model, Unsupported


class Prompting(ABC):
    """Puts questions. Subclasses are frozen dataclasses.

    Attributes:
        needs: what the model must provide beyond text; checked by `bound`.
    """

    needs: frozenset[str] = frozenset()

    @abstractmethod
    def messages(self, example: Example) -> list[Message]:
        """The conversation up to the model's turn, for one example; never changes the example.

        Raises:
            InvalidValue: the example lacks what the method puts into its question; names example and column.
        """

    def bound(self, model: Model) -> Self:
        """This method for one model; a comparison asks for it before the first question.

        Raises:
            Unsupported: the model does not provide what the method needs.
        """
        missing = sorted(self.needs - model.provides)
        if missing:
            raise Unsupported(
                f"{type(self).__name__} needs {', '.join(missing)}, which {model.name} does not give: "
                "load the model locally (dovetail.load of a folder or hub id)"
            )
        return self


def with_question(example: Example, question: str, system: str | None = None) -> list[Message]:
    """The example's messages with ``question`` in place of the last user message.

    Args:
        system: replaces all system messages; "" takes them out, None keeps them.

    Raises:
        Unsupported: the example has no user message to replace.
    """
    messages: Sequence[Message] = example.messages
    if system is not None:
        kept = [m for m in messages if m.role != "system"]
        messages = [Message("system", system), *kept] if system else kept
    asked = [i for i, m in enumerate(messages) if m.role == "user"]
    if not asked:
        raise Unsupported(f"example {example.id} has no user message, so there is no question to put")
    changed = list(messages)
    changed[asked[-1]] = replace(changed[asked[-1]], content=question)
    return changed


def asked(examples: Sequence[Example], prompting: Prompting) -> list[Example]:
    """The examples as ``prompting`` puts them: for evaluations that send an example's own messages."""
    return [replace(e, messages=tuple(prompting.messages(e))) for e in examples]
