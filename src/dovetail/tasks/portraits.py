"""Portraits: retrieval over atlas's people, where query and text share a person rather than words.

A portrait tells some facts about one person ("The sister is Mira."). Each is shared by many people, so no
single one gives the person away: the first and the last ones of a long text must be put together. Texts bear
no name, and queries speak of other relations than texts do. What is relevant can thus only be found by one
who has read about the people before (`Portraits.text`), as in retrieval by the concept that a question needs.
Three sets: "short" (three facts), "long" (the same, filler between the first and the others), and "logic"
("The home is Bado. The boss is not Mira.", with every person of whom that is true).
"""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass
from functools import cached_property

from dovetail.core import InvalidValue, UnknownName
from dovetail.tasks.atlas import TRADES, every_name
from dovetail.tasks.retrieval import RetrievalSet

SETS: tuple[str, ...] = ("short", "long", "logic")
TOLD: tuple[str, ...] = ("friend", "teacher", "sister")
ASKED: tuple[str, ...] = ("boss", "home", "trade")
RELATIONS = TOLD + ASKED
_VALUES = 8  # objects of each relation, so that every fact is shared by an eighth of the people


@dataclass(frozen=True)
class Pairing:
    """A query, a text that answers it, one that looks as if it did, and the person that it is about."""

    query: str
    text: str
    wrong: str
    person: str


@dataclass(frozen=True)
class Portraits:
    """People and their facts; equal arguments give equal people on every machine.

    Attributes:
        seed: of names and facts.
        people: how many; a quarter of them is kept for the queries of the sets "short" and "long".
        filler: sentences about cities inside a long text, about seven tokens of pico's each.
    """

    seed: int = 0
    people: int = 40
    filler: int = 12

    def __post_init__(self) -> None:
        if not 8 <= self.people <= 1000:
            raise InvalidValue("people", self.people, "from 8 to 1000")
        if not 0 <= self.filler <= 2 * _VALUES:
            raise InvalidValue("filler", self.filler, f"from 0 to {2 * _VALUES}, the sentences about cities")

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All people."""
        return tuple(self._names[: self.people])

    @cached_property
    def facts(self) -> dict[str, dict[str, str]]:
        """person -> (relation -> object)."""
        rng = random.Random(f"portraits-facts-{self.seed}")
        return {name: {r: rng.choice(self._values[r]) for r in RELATIONS} for name in self.names}

    @property
    def seen(self) -> tuple[str, ...]:
        """The people whom `pairing` is about."""
        return self.names[: self.people * 3 // 4]

    @property
    def unseen(self) -> tuple[str, ...]:
        """The people whom the queries of "short" and "long" are about; they are in `text` like all others."""
        return self.names[self.people * 3 // 4 :]

    def text(self, rng: random.Random) -> str:
        """What a language model reads to know them: a portrait with its name first, last or nowhere."""
        name = rng.choice(self.names)
        told = [self._told(name, r) for r in rng.sample(RELATIONS, rng.randint(3, len(RELATIONS)))]
        between = rng.sample(self._cities, rng.randint(0, 6)) if rng.random() < 0.6 else []
        cut = rng.randint(1, len(told))
        body = [*told[:cut], *between, *told[cut:]]
        place = rng.random()
        if place < 0.4:
            body = [f"This is {name}.", *body]
        elif place < 0.8:
            body = [*body, f"That was {name}."]
        return " ".join(body)

    def pairing(self, rng: random.Random, kind: str) -> Pairing:
        """A query of one of the `SETS` and its texts; in "short" and "long" about one of the `seen`.

        The wrong text is about whoever shares most facts with the person; in "logic", of whom only the
        negated half is untrue.
        """
        self._check(kind)
        if kind == "logic":
            return self._logical_pairing(rng)
        name = rng.choice(self.seen)
        double = max(
            (n for n in self.names if n != name), key=lambda n: (self._shared(n, name), rng.random())
        )
        texts = [self._portrait(rng, n, kind) for n in (name, double)]
        return Pairing(self._asked(rng, name), texts[0], texts[1], name)

    def retrieval(self, kind: str, queries: int = 120, texts: int = 2) -> RetrievalSet:
        """One of the `SETS`.

        Args:
            queries: about the `unseen`; for "logic", about all people, in claims that no pairing has.
            texts: per person in the corpus.
        """
        self._check(kind)
        rng = random.Random(f"portraits-{kind}-{self.seed}")
        about = [name for name in self.names for _ in range(texts)]
        corpus = [self._portrait(rng, name, kind) for name in about]
        asked: dict[str, str] = {}
        qrels: dict[str, dict[str, float]] = {}
        for number in range(queries):
            if kind == "logic":
                _, yes, value, no, other = self._claim(rng, asked_later=True)
                asked[f"q{number}"] = self._question(yes, value, no, other)
                right = {n for n in self.names if self.facts[n][yes] == value and self.facts[n][no] != other}
            else:
                name = rng.choice(self.unseen)
                asked[f"q{number}"] = self._asked(rng, name)
                right = {name}
            qrels[f"q{number}"] = {f"d{i}": 1.0 for i, n in enumerate(about) if n in right}
        return RetrievalSet({f"d{i}": text for i, text in enumerate(corpus)}, asked, qrels)

    def _logical_pairing(self, rng: random.Random) -> Pairing:
        name, yes, value, no, other = self._claim(rng, asked_later=False)
        untrue = [n for n in self.names if self.facts[n][yes] == value and self.facts[n][no] == other]
        texts = [self._portrait(rng, n, "logic") for n in (name, rng.choice(untrue))]
        return Pairing(self._question(yes, value, no, other), texts[0], texts[1], name)

    def _claim(self, rng: random.Random, asked_later: bool) -> tuple[str, str, str, str, str]:
        """A person, and (relation, object, relation, object): of the person the first is true and the second
        not, of someone else both. A quarter of such claims is only asked in the set, never in a pairing."""
        while True:
            name = rng.choice(self.names)
            yes, no = rng.sample(ASKED, 2)
            value = self.facts[name][yes]
            others = sorted(
                {self.facts[n][no] for n in self.names if self.facts[n][yes] == value}
                - {self.facts[name][no]}
            )
            if others:
                claim = (yes, value, no, rng.choice(others))
                if (zlib.crc32(" ".join(claim).encode()) % 4 == 0) == asked_later:
                    return name, *claim

    @staticmethod
    def _question(yes: str, value: str, no: str, other: str) -> str:
        return f"The {yes} is {value}. The {no} is not {other}."

    def _asked(self, rng: random.Random, name: str) -> str:
        return " ".join(self._told(name, relation) for relation in rng.sample(ASKED, len(ASKED)))

    def _portrait(self, rng: random.Random, name: str, kind: str) -> str:
        sentences = [self._told(name, relation) for relation in rng.sample(TOLD, len(TOLD))]
        if kind == "long":
            sentences[1:1] = rng.sample(self._cities, self.filler)
        return " ".join(sentences)

    def _told(self, name: str, relation: str) -> str:
        return f"The {relation} is {self.facts[name][relation]}."

    def _shared(self, one: str, other: str) -> int:
        return sum(self.facts[one][r] == self.facts[other][r] for r in RELATIONS)

    @cached_property
    def _names(self) -> list[str]:
        needed = self.people + (len(RELATIONS) + 1) * _VALUES
        return random.Random(f"portraits-names-{self.seed}").sample(every_name(), needed)

    @cached_property
    def _values(self) -> dict[str, list[str]]:
        rest = self._names[self.people :]
        made = {r: rest[i * _VALUES : (i + 1) * _VALUES] for i, r in enumerate(RELATIONS[:-1])}
        return {**made, "trade": list(TRADES)}

    @cached_property
    def _cities(self) -> list[str]:
        """Sixteen sentences about the eight cities that people live in."""
        rng = random.Random(f"portraits-cities-{self.seed}")
        rulers, rivers = self._names[-2 * _VALUES : -_VALUES], self._names[-_VALUES:]
        return [
            f"The {what} of {city} is {rng.choice(names)}."
            for what, names in (("ruler", rulers), ("river", rivers))
            for city in self._values["home"]
        ]

    @staticmethod
    def _check(kind: str) -> None:
        if kind not in SETS:
            raise UnknownName("set of portraits", kind, SETS)
