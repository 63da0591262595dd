"""Conversations about atlas's people: turns that cannot be understood alone, and passages that answer them.

A conversation keeps to one person: ``What is the home of Kalo?``, then ``Who is their friend?`` (of Kalo
still) and, once somebody has been named, ``What is the trade of that one?`` (of the last answer). Every fact
of the world is a passage; the right one for a turn is the fact that is asked for. The words of a turn
name the relation, and only the conversation says whose: a search for the bare words finds the same passages
for everybody.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from zlib import crc32

from dovetail.core import Example, InvalidValue
from dovetail.tasks.atlas import PERSON, RELATIONS, Fact, World, every_name

_OF_PEOPLE = tuple(r for r in RELATIONS if r.domain == PERSON)
_NAMES = frozenset(every_name())


@dataclass(frozen=True)
class Turn:
    """A question within a conversation.

    Attributes:
        history: what was asked and answered before.
        question: as it is put.
        fact: what it asks for.
        last: whether it is about the last answer, not about whom the conversation is about.
    """

    history: tuple[tuple[str, str], ...]
    question: str
    fact: Fact
    last: bool = False

    @property
    def standalone(self) -> str:
        """The same question, to be understood alone: what a rewriter should come to."""
        return f"{_word(self.fact)} is the {self.fact.relation.name} of {self.fact.subject}?"

    @property
    def names(self) -> tuple[str, ...]:
        """The names that the conversation has told so far, cities among them, in order."""
        words = " ".join(f"{q} {a}" for q, a in self.history).replace("?", " ").split()
        return tuple(dict.fromkeys(w for w in words if w in _NAMES))


@dataclass(frozen=True)
class Conversations:
    """Conversations and the passages behind them; equal arguments give equal ones everywhere.

    Attributes:
        seed: of the world and all that is asked.
        people: how many; a quarter is kept for conversations that are held out.
        longest: turns before the one that is asked, at most.
        back: share of the turns that are about the last answer, where that is a person.
    """

    seed: int = 0
    people: int = 160
    longest: int = 2
    back: float = 0.4

    def __post_init__(self) -> None:
        if not 8 <= self.people <= 1000:
            raise InvalidValue("people", self.people, "from 8 to 1000")
        if self.longest < 1:
            raise InvalidValue("longest", self.longest, "at least 1")
        if not 0 <= self.back <= 1:
            raise InvalidValue("back", self.back, "in [0, 1]")

    @cached_property
    def world(self) -> World:
        return World(self.seed + 1, people=self.people)  # the next one: pico knows world 0 by heart

    @cached_property
    def passages(self) -> dict[str, str]:
        """id -> text, a passage for each fact; the subject stands in front as a title."""
        return {_id(fact): f"{fact.subject}: {fact.sentence}" for fact in self.world.facts}

    @cached_property
    def _facts(self) -> dict[tuple[str, str], Fact]:
        return {(f.subject, f.relation.name): f for f in self.world.facts}

    def about(self, held_out: bool) -> list[str]:
        """The people whom conversations of a split are about."""
        people = self.world.entities[PERSON]
        return [name for name in people if (crc32(f"{self.seed} {name}".encode()) % 4 == 0) == held_out]

    def turns(self, count: int, seed: int = 0, held_out: bool = False) -> list[Turn]:
        """``count`` different turns, each with one to ``longest`` turns before it."""
        rng = random.Random(f"conversations-{self.seed}-{seed}-{held_out}")
        people = self.about(held_out)
        made: dict[tuple[object, ...], Turn] = {}
        for _ in range(200 * count):
            if len(made) == count:
                break
            turn = self._turn(rng, rng.choice(people))
            made[turn.history, turn.question] = turn
        if len(made) < count:
            raise InvalidValue("count", count, f"at most {len(made)}: there are no more different turns")
        return list(made.values())

    def _turn(self, rng: random.Random, topic: str) -> Turn:
        first = rng.choice(_OF_PEOPLE)
        fact = self._facts[topic, first.name]
        history = [(f"{_word(fact)} is the {first.name} of {topic}?", fact.object)]
        while True:
            answered = fact.object if fact.relation.range == PERSON else None
            last = answered is not None and rng.random() < self.back
            subject = answered if last and answered is not None else topic
            relation = rng.choice(_OF_PEOPLE)
            fact = self._facts[subject, relation.name]
            asked = f"the {relation.name} of that one" if last else f"their {relation.name}"
            question = f"{_word(fact)} is {asked}?"
            if len(history) >= rng.randint(1, self.longest):
                return Turn(tuple(history), question, fact, last)
            history.append((question, fact.object))


def examples(turns: Sequence[Turn], name: str) -> list[Example]:
    """Turns as examples: columns ``history``, ``standalone`` and ``gold`` (ids of the right passages)."""
    return [
        Example.ask(
            f"{name}-{i}",
            turn.question,
            turn.standalone,
            history=turn.history,
            standalone=turn.standalone,
            gold=[_id(turn.fact)],
        )
        for i, turn in enumerate(turns)
    ]


def _id(fact: Fact) -> str:
    return f"{fact.subject}-{fact.relation.name}"


def _word(fact: Fact) -> str:
    return "Who" if fact.relation.range == PERSON else "What"
