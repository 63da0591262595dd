"""A model, an engine and a task that need no weights: sums answered by arithmetic, with mistakes by seed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dovetail.core import (
    BadRow,
    Completion,
    Cost,
    Example,
    InvalidValue,
    Limits,
    Message,
    Model,
    NotReachable,
    Prompt,
    Score,
    Task,
    seeds,
)
from dovetail.decoding.base import Decoding, StepwiseDecoding


class FakeEngine:
    """Answers `a+b` rightly as often as the step's temperature says; records what it was asked."""

    provides = frozenset({"text", "logprobs", "logits", "embeddings"})
    name = "fake"

    def __init__(self, delay: float = 0.0, interrupt_after: int | None = None) -> None:
        self.delay, self.interrupt_after = delay, interrupt_after
        self.calls: list[tuple[str, ...]] = []  # the questions of each counted call

    def generate(self, prompts: Sequence[Prompt], limits: Limits, step: Any = None) -> list[Completion]:
        if limits.max_new_tokens > 2:  # not a rehearsal
            self.calls.append(tuple(p.text for p in prompts))
            if self.interrupt_after is not None and len(self.calls) > self.interrupt_after:
                raise KeyboardInterrupt
        time.sleep(self.delay * len(prompts))
        return [self._one(p, limits, step) for p in prompts]

    def _one(self, prompt: Prompt, limits: Limits, step: Any) -> Completion:
        question = prompt.messages[-1].content
        if "boom" in question:
            raise InvalidValue("prompt", question, "harmless")
        if "unplugged" in question:
            raise NotReachable("the server went away")
        temperature = getattr(step, "temperature", 0.0)
        luck = seeds.stream(prompt.seed, "answer", temperature) / 2**63
        a, b = map(int, question.split("+")[:2])
        right = luck > (0.3 if temperature == 0 else 0.3 + 0.4 * temperature)
        answer = a + b if right else a + b + 1
        tokens = min(4 + a % 3, limits.max_new_tokens)
        return Completion(
            f"so \\boxed{{{answer}}}",
            tuple(range(tokens)),
            cost=Cost(len(question), tokens, float(tokens), 0.001),
            finish_reason="length" if tokens == limits.max_new_tokens else "stop",
            columns={"luck": round(luck, 3)},
        )


@dataclass
class FakeModel(Model):
    name: str = "fake"
    engine: Any = field(default_factory=FakeEngine)
    provides: frozenset[str] = FakeEngine.provides

    def prompt(
        self, messages: Sequence[Message], *, thinking: bool = True, prefix: str = "", seed: int = 0
    ) -> Prompt:
        text = " | ".join(m.content for m in messages) + ("" if thinking else " (no thinking)")
        return Prompt(tuple(messages), text, tuple(range(len(text))), seed)

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "template": "none"}


class BoxedScorer:
    name = "boxed"
    extraction = "what stands in the last \\boxed{}"

    def __call__(self, example: Example, completion: Completion) -> Score:
        answer = self.extract(completion.text)
        right = float(answer == example.reference)
        return Score(right, right, answer, bool(answer), {"length": float(len(completion.token_ids))})

    def extract(self, text: str) -> str:
        return text.rpartition("\\boxed{")[2].rstrip("}")


def sums(n: int = 100, poison: dict[int, str] | None = None, bad: Sequence[BadRow] = ()) -> Task:
    """``n`` sums; ``poison`` puts words into the question at an index (``boom``, ``unplugged``)."""

    def load(limit: int | None, seed: int) -> tuple[list[Example], list[BadRow]]:
        count = n if limit is None else min(limit, n)
        made = []
        for i in range(count):
            a, b = (i * 7 + seed) % 50, (i * 13) % 50
            question = f"{a}+{b}" + (f"+{poison[i]}" if poison and i in poison else "")
            made.append(Example.ask(f"sum-{i}", question, str(a + b)))
        return made, list(bad)

    return Task("sums", load, BoxedScorer(), version="1", parameters={"n": n})


@dataclass(frozen=True)
class NeedsMore(StepwiseDecoding):
    """Asks for what no fake gives.

    Attributes:
        depth: a parameter.
    """

    depth: int = 3
    needs = frozenset({"hidden", "cache"})
    chooses = True


@dataclass(frozen=True)
class Broken(Decoding):
    """Raises on every call."""

    needs = frozenset({"text"})

    def generate(self, engine: Any, prompts: Sequence[Prompt], limits: Limits) -> list[Completion]:
        raise ZeroDivisionError("by design")
