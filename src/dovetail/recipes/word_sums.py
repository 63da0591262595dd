"""Word sums of any length, what two recipes about training data ask: a story in which one number changes.

``Anna has 8 coins. Tom gives Anna 5 more. Anna loses 3 of them. How many coins does Anna have now?`` is
solved in as many steps as there are changes. Numbers are small, so that a wrong answer is a story misread or
cut short, not a slip in adding.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

from dovetail.core import Example
from dovetail.core.seeds import stream

PEOPLE = ("Anna", "Ben", "Clara", "David", "Emma", "Tom", "Lucy", "Sam")
THINGS = ("apples", "books", "coins", "eggs", "marbles", "pens", "stamps")


@dataclass(frozen=True)
class WordSum:
    """A story, its steps as equations, and the number it ends with."""

    question: str
    steps: tuple[str, ...]
    answer: str

    @property
    def solution(self) -> str:
        """The steps, one a line."""
        return "\n".join(self.steps)

    @property
    def completion(self) -> str:
        """What pico learns to write."""
        return thought(self.solution, self.answer)


def thought(reasoning: str, answer: str) -> str:
    """A thinking model's turn."""
    return f"<think>\n{reasoning}\n</think>\n\n\\boxed{{{answer}}}"


def word_sum(rng: random.Random, changes: int) -> WordSum:
    """A story with that many changes, of 2 to 9 each, that never goes below 1 or above 99."""
    who, other = rng.sample(PEOPLE, 2)
    thing = rng.choice(THINGS)
    total = rng.randint(2, 20)
    story = [f"{who} has {total} {thing}."]
    steps: list[str] = []
    while len(steps) < changes:
        number, kind = rng.randint(2, 9), rng.choice(("get", "buy", "lose", "give"))
        after = total + number if kind in ("get", "buy") else total - number
        if not 1 <= after <= 99:
            continue
        story.append(
            {
                "get": f"{other} gives {who} {number} more.",
                "buy": f"{who} buys {number} more {thing}.",
                "lose": f"{who} loses {number} of them.",
                "give": f"{who} gives {number} {thing} to {other}.",
            }[kind]
        )
        steps.append(f"{total}{'+' if after > total else '-'}{number}={after}")
        total = after
    story.append(f"How many {thing} does {who} have now?")
    return WordSum(" ".join(story), tuple(steps), str(total))


def fold(question: str) -> int:
    """0, 1 or 2: what trains, what chooses settings and what is reported have no question in common."""
    return max(0, crc32(question.encode()) % 8 - 5)


def word_sums(rng: random.Random, count: int, changes: Sequence[int], fold_: int) -> list[WordSum]:
    """``count`` different word sums of a fold, the numbers of changes in turns."""
    made: dict[str, WordSum] = {}
    while len(made) < count:
        one = word_sum(rng, changes[len(made) % len(changes)])
        if fold(one.question) == fold_:
            made[one.question] = one
    return list(made.values())


def example(name: str, made: WordSum) -> Example:
    """An example with columns ``changes``, ``solution`` and ``completion``."""
    columns = {"changes": len(made.steps), "solution": made.solution, "completion": made.completion}
    return Example.ask(name, made.question, made.answer, **columns)


def word_sum_examples(count: int, changes: Sequence[int], fold_: int, seed: int, name: str) -> list[Example]:
    """``count`` of a fold, by ``seed`` and ``name``, which their ids begin with."""
    made = word_sums(random.Random(stream(seed, name)), count, changes, fold_)
    return [example(f"{name}-{i}", one) for i, one in enumerate(made)]
