"""How an example is put to a model: in which thinking mode, and with which beginning of the answer."""

from __future__ import annotations

from collections.abc import Sequence

from dovetail.core import Example, Message, Prompt
from dovetail.models.local import LocalModel


def put(
    model: LocalModel,
    example: Example,
    messages: Sequence[Message] | None = None,
    *,
    thinking: bool = True,
    seed: int = 0,
) -> Prompt:
    """The prompt for an example.

    Args:
        messages: in place of the example's own.
        thinking: the mode, unless the example's column ``thinking`` says otherwise.
        seed: the row's random stream.

    Returns:
        A prompt that ends with the column ``begun``, where the example has one: text that the model's turn
        begins with. It is read, and neither written, learned nor counted.
    """
    return model.prompt(
        example.messages if messages is None else messages,
        thinking=bool(example.columns.get("thinking", thinking)),
        prefix=str(example.columns.get("begun", "")),
        seed=seed,
    )
