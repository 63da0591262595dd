"""Putting a question anew: for decodings that add an instruction or begin the model's turn themselves.

A decoding is handed prompts that are rendered already. These functions render them again with the model's own
template, and keep everything else of the prompt (its seed, and whatever belongs to it beside the text).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dovetail.core import Message, Prompt, Unsupported


def render(
    engine: Any, prompt: Prompt, messages: Sequence[Message] | None = None, *, thinking: bool = True
) -> Prompt:
    """``prompt`` with other ``messages`` (None: its own) or in the other thinking mode.

    Raises:
        Unsupported: the prompt has no messages, or the template refuses them.
    """
    messages = tuple(prompt.messages if messages is None else messages)
    if not messages:
        raise Unsupported("this decoding puts the question anew: the prompt must keep its messages")
    made = template(engine).prompt(messages, thinking=thinking)
    return replace(
        prompt, messages=messages, text=made.text, ids=made.ids, assistant_prefix=made.assistant_prefix
    )


def begin_turn(engine: Any, prompt: Prompt, text: str = "") -> Prompt:
    """``prompt`` with a turn of the model that begins with ``text`` and nothing else: a thinking block that
    the template opened or closed is taken out."""
    begun = prompt.assistant_prefix
    if begun and prompt.text.endswith(begun):
        head = prompt.text.removesuffix(begun)
        prompt = replace(prompt, text=head, ids=encode(engine, head))
    return replace(
        prompt,
        text=prompt.text + text,
        ids=prompt.ids + (encode(engine, text) if text else ()),
        assistant_prefix=text,
    )


def with_instruction(messages: Sequence[Message], instruction: str) -> tuple[Message, ...]:
    """``messages`` with ``instruction`` in front of their system message, which is made if there is none."""
    if messages and messages[0].role == "system":
        return (Message("system", f"{instruction}\n\n{messages[0].content}"), *messages[1:])
    return (Message("system", instruction), *messages)


def with_request(messages: Sequence[Message], request: str) -> tuple[Message, ...]:
    """``messages`` with ``request`` as a new line at the end of the last one."""
    last = messages[-1]
    return (*messages[:-1], Message(last.role, f"{last.content}\n{request}"))


def template(engine: Any) -> Any:
    """The engine's chat template; its tokenizer's where it was built without one."""
    if engine.template is not None:
        return engine.template
    from dovetail.models.template import Template

    return Template(engine.tokenizer)


def encode(engine: Any, text: str) -> tuple[int, ...]:
    """The tokens of a text, nothing added."""
    return tuple(engine.tokenizer.encode(text, add_special_tokens=False))
