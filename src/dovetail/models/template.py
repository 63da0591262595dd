"""Chat templates: from messages to the exact text, and the exact ids, that a local model reads."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from dovetail.core import InvalidValue, Message, Prompt, Unsupported

PLAIN = "{% for message in messages %}{{ message['content'] }}\n\n{% endfor %}"
_OPENING = re.compile(r"<\|?(?:seed:)?think(?:ing)?\|?>|\[THINK\]|◁think▷")


class Template:
    """A tokenizer's chat template, and what it can do.

    Models without one (base models) get the plain template: the contents of all messages, each followed
    by an empty line, no roles; a beginning-of-text token in front where the tokenizer adds one by itself.

    Args:
        tokenizer: of the model.
        given: a Jinja template in place of the tokenizer's own; "plain" for the plain one.

    Attributes:
        origin: "tokenizer", "given" or "plain": which one it is; part of the record.
        text: the template itself.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, given: str | None = None) -> None:
        self.tokenizer = tokenizer
        if given is not None and given != "plain":
            self.origin, self.text = "given", given
        elif given is None and tokenizer.chat_template:
            self.origin, self.text = "tokenizer", tokenizer.get_chat_template()
        else:
            self.origin, self.text = "plain", self._beginning() + PLAIN

    @property
    def digest(self) -> str:
        """sha256 of the template's text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @cached_property
    def thinking_modes(self) -> bool:
        """Whether the template writes another prompt with thinking off."""
        probe = [Message("user", "?")]
        return self._render(probe, True) != self._render(probe, False)

    @cached_property
    def folds_system(self) -> bool:
        """Whether the template refuses or drops system messages, so that their content is put in front
        of the first user message instead."""
        probe = [Message("system", "7f3a"), Message("user", "?")]
        try:
            return "7f3a" not in self._render(probe, True)
        except TemplateError:
            return True

    def prompt(
        self, messages: Sequence[Message], *, thinking: bool = True, prefix: str = "", seed: int = 0
    ) -> Prompt:
        """Renders and tokenizes a conversation.

        Args:
            messages: up to the model's turn; the last is not the model's.
            thinking: passed on as ``enable_thinking`` (Qwen, GLM) and ``thinking`` (DeepSeek, Granite).
            prefix: text that the model's turn begins with.
            seed: the row's random stream.

        Returns:
            A prompt whose ids are exactly those of ``apply_chat_template(..., tokenize=True)``. With a
            prefix they are followed by the prefix's own, so that a longer prefix never changes
            the ids before it. ``assistant_prefix`` holds the template's part (such as an empty thinking
            block) and ``prefix``.

        Raises:
            InvalidValue: no messages, or a last one that is the model's own.
            Unsupported: the template refuses this conversation; gives its words.
        """
        if not messages:
            raise InvalidValue("messages", messages, "at least one message")
        if messages[-1].role == "assistant":
            raise InvalidValue(
                "messages",
                [m.role for m in messages],
                "a conversation up to the model's turn: give the begun answer as prefix",
            )
        sent = _folded(messages) if self.folds_system else messages
        try:
            text = self._render(sent, thinking)
            turn = _after_common(text, self._render(sent, thinking, generate=False))
        except TemplateError as error:
            roles = ", ".join(m.role for m in messages)
            raise Unsupported(f"the chat template refuses this conversation ({roles}): {error}") from error
        opening = _OPENING.search(turn)
        begun = (turn[opening.start() :] if opening else "") + prefix
        ids = self._encode(text)
        if prefix:
            # Together where that leaves the ids in front as they are, as it nearly always does; else
            # apart, as a model would have written it.
            whole = self._encode(text + prefix)
            ids = whole if whole[: len(ids)] == ids else ids + self._encode(prefix)
        return Prompt(tuple(messages), text + prefix, tuple(ids), seed, begun)

    def _render(self, messages: Sequence[Message], thinking: bool, generate: bool = True) -> str:
        rendered = self.tokenizer.apply_chat_template(
            [m.as_dict() for m in messages],
            chat_template=self.text,
            tokenize=False,
            add_generation_prompt=generate,
            enable_thinking=thinking,
            thinking=thinking,
        )
        assert isinstance(rendered, str)
        return rendered

    def _encode(self, text: str) -> list[int]:
        # The template has written the special tokens already; the tokenizer would add a second BOS.
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def _beginning(self) -> str:
        bos: Any = self.tokenizer.bos_token_id
        return "{{ bos_token }}" if bos is not None and self.tokenizer.encode("?")[:1] == [bos] else ""


def _after_common(text: str, other: str) -> str:
    """What follows in ``text`` after the beginning that it shares with ``other``."""
    at = next(
        (i for i, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), min(len(text), len(other))
    )
    return text[at:]


def _folded(messages: Sequence[Message]) -> list[Message]:
    """System contents in front of the first user message; a user message of their own where there is none."""
    system = "\n\n".join(m.content for m in messages if m.role == "system")
    others = [m for m in messages if m.role != "system"]
    if not system:
        return others
    at = next((i for i, m in enumerate(others) if m.role == "user"), None)
    if at is None:
        return [Message("user", system), *others]
    others[at] = Message("user", f"{system}\n\n{others[at].content}")
    return others
