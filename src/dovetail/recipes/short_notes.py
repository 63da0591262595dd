"""Short notes about people of atlas: open-ended texts with a house style, and noisy copies of them.

``Introduce Kalo. home: Bado. trade: baker.`` asks for a text that tells both; it can be put in four ways, of
which references follow one, the house style.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

from dovetail.core import Example
from dovetail.tasks.atlas import TRADES, every_name

KINDS = ("Introduce", "Give a note on", "Say who is", "Tell of")
HOUSE = 2  # of the four styles
STYLES = 4
RELATIONS = ("friend", "teacher", "sister", "boss", "home", "trade")


@dataclass(frozen=True)
class Note:
    """What is asked: a kind of request (an index of `KINDS`), a name, and facts (relation, object)."""

    kind: int
    name: str
    facts: tuple[tuple[str, str], ...]

    @property
    def question(self) -> str:
        told = " ".join(f"{relation}: {value}." for relation, value in self.facts)
        return f"{KINDS[self.kind]} {self.name}. {told}"

    @property
    def reference(self) -> str:
        """The house style's answer."""
        return self.written(HOUSE)

    def written(self, style: int) -> str:
        """The answer in one of four styles."""
        who, facts = self.name, self.facts
        if style == 0:
            return f"This is {who}. " + " ".join(f"The {r} of {who} is {v}." for r, v in facts)
        if style == 1:
            return " ".join(f"{who}'s {r} is {v}." for r, v in facts) + f" That is all on {who}."
        if style == 2:
            return f"Let me think of {who}: " + ", ".join(f"{v} is the {r}" for r, v in facts) + "."
        return f"You know {who}? " + " ".join(f"For {r}, give {v}." for r, v in facts)

    def holds(self, text: str) -> float:
        """Share of the name and of the facts' objects that a text mentions."""
        wanted = [self.name, *(value for _, value in self.facts)]
        return sum(word in text for word in wanted) / len(wanted)


def note(rng: random.Random, kind: int) -> Note:
    """A note with one or two facts."""
    relations = rng.sample(RELATIONS, rng.randint(1, 2))
    name, *others = rng.sample(every_name(), 1 + len(relations))
    facts = tuple(
        (r, rng.choice(TRADES) if r == "trade" else o) for r, o in zip(relations, others, strict=True)
    )
    return Note(kind, name, facts)


def fold(question: str) -> int:
    """0, 1 or 2: what is practised and trained, what chooses settings and what is reported are disjoint."""
    return max(0, crc32(question.encode()) % 8 - 5)


def notes(rng: random.Random, count: int, fold_: int) -> list[Note]:
    """``count`` different notes of a fold, the kinds in turns."""
    made: dict[str, Note] = {}
    while len(made) < count:
        one = note(rng, len(made) % len(KINDS))
        if fold(one.question) == fold_:
            made[one.question] = one
    return list(made.values())


def example(id: str, made: Note) -> Example:
    """An example whose reference is the house style's answer; column ``kind``."""
    return Example.ask(id, made.question, made.reference, kind=made.kind)


def noisy(text: str, share: float, words: Sequence[str], rng: random.Random) -> str:
    """``text`` with about that share of its words replaced, left out or said twice, a third each: its length
    stays as it was on average, and tells nothing about the noise."""
    made: list[str] = []
    for word in text.split():
        if rng.random() >= share:
            made.append(word)
            continue
        change = rng.randrange(3)
        made += [rng.choice(words)] if change == 0 else [word, word] if change == 1 else []
    return " ".join(made)
