"""Portraits: retrieval over atlas's people, in four sets that ask for different things of an embedder.

A portrait tells facts about somebody ("The home is Bado. The boss is Mira."). There are few objects for each
relation, so every fact, and every name, stands in many texts:

- "short": two facts; right are the texts that tell both.
- "long": a name and a fact; a text has one at its beginning and the other at its end, with sentences about
  cities between, and for every right text there are some that have one of the two.
- "logic": a fact, and one that must not be ("The home is Bado. The boss is not Mira."); right are the texts
  that tell the first and another boss.
- "recall": three facts of a real person of this world, whose texts tell three others. No word is shared: only
  one who has read about the people (`Portraits.text`) can tell, as where texts share what a question needs to
  be solved and not its words.

Facts of the first three are invented for each text; those of "recall" and of `Portraits.text` are true.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from dovetail.core import InvalidValue, UnknownName
from dovetail.tasks.atlas import TRADES, every_name
from dovetail.tasks.retrieval import RetrievalSet

SETS: tuple[str, ...] = ("short", "long", "logic", "recall")
TOLD: tuple[str, ...] = ("friend", "teacher", "sister")
ASKED: tuple[str, ...] = ("boss", "home", "trade")
RELATIONS = TOLD + ASKED
_VALUES = 8  # objects of each relation


@dataclass(frozen=True)
class Pairing:
    """A query, a text that answers it, one that looks as if it did, and whom they are about (if anyone)."""

    query: str
    text: str
    wrong: str
    person: str | None = None


@dataclass(frozen=True)
class Portraits:
    """People and their facts; equal arguments give equal people on every machine.

    Attributes:
        seed: of names and facts.
        people: how many; a quarter of them is kept for the queries of "long" and "recall".
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
        """person -> (relation -> object), as it is true in this world."""
        rng = random.Random(f"portraits-facts-{self.seed}")
        return {name: {r: rng.choice(self.objects[r]) for r in RELATIONS} for name in self.names}

    @cached_property
    def objects(self) -> dict[str, list[str]]:
        """relation -> the eight objects that it can have."""
        rest = self._names[self.people :]
        made = {r: rest[i * _VALUES : (i + 1) * _VALUES] for i, r in enumerate(RELATIONS[:-1])}
        return {**made, "trade": list(TRADES)}

    @property
    def seen(self) -> tuple[str, ...]:
        """The people whom `pairing` is about."""
        return self.names[: self.people * 3 // 4]

    @property
    def unseen(self) -> tuple[str, ...]:
        """The people whom the queries of "long" and "recall" are about; `text` tells of all."""
        return self.names[self.people * 3 // 4 :]

    def text(self, rng: random.Random) -> str:
        """What a language model reads to know them: a portrait with its name first, last or nowhere."""
        name = rng.choice(self.names)
        order = rng.sample(RELATIONS, rng.randint(3, len(RELATIONS)))
        told = _sentences(self.facts[name], order)
        between = rng.sample(self._cities, rng.randint(0, 6)) if rng.random() < 0.6 else []
        cut = rng.randint(1, len(told))
        body = [*told[:cut], *between, *told[cut:]]
        place = rng.random()
        if place < 0.4:
            body = [f"This is {name}.", *body]
        elif place < 0.8:
            body = [*body, f"That was {name}."]
        return " ".join(body)

    # -- what is learned from ----------------------------------------------------------------------------

    def pairing(self, rng: random.Random, kind: str) -> Pairing:
        """A query of one of the `SETS`, a right text, and one that is wrong in a single point (in "recall",
        about whoever shares most facts)."""
        made: Callable[[random.Random], Pairing] = {
            "short": self._short_pairing,
            "long": self._long_pairing,
            "logic": self._logic_pairing,
            "recall": self._recall_pairing,
        }[_known(kind)]
        return made(rng)

    def _short_pairing(self, rng: random.Random) -> Pairing:
        facts, order, one, two = self._invented(rng)
        other = {**facts, two: self._other(rng, two, facts[two])}
        query = " ".join(_sentences(facts, (one, two)))
        return Pairing(query, " ".join(_sentences(facts, order)), " ".join(_sentences(other, order)))

    def _logic_pairing(self, rng: random.Random) -> Pairing:
        while True:
            facts, order, yes, no = self._invented(rng)
            wrong = self._other(rng, no, facts[no])
            if not _asked_later(yes, facts[yes], no, wrong):
                break
        text, untrue = (" ".join(_sentences(f, order)) for f in (facts, {**facts, no: wrong}))
        return Pairing(_without(yes, facts[yes], no, wrong), text, untrue)

    def _long_pairing(self, rng: random.Random) -> Pairing:
        name, relation = rng.choice(self.seen), rng.choice(RELATIONS)
        value, early = rng.choice(self.objects[relation]), rng.random() < 0.5
        if rng.random() < 0.5:
            wrong = (rng.choice([n for n in self.seen if n != name]), value)
        else:
            wrong = (name, self._other(rng, relation, value))
        text, untrue = (self._long(rng, n, relation, v, early) for n, v in ((name, value), wrong))
        return Pairing(_of(name, relation, value), text, untrue)

    def _recall_pairing(self, rng: random.Random) -> Pairing:
        name = rng.choice(self.seen)
        others = [n for n in self.names if n != name]
        double = max(others, key=lambda n: (self._shared(n, name), rng.random()))
        text, wrong = (" ".join(_sentences(self.facts[n], rng.sample(TOLD, 3))) for n in (name, double))
        return Pairing(" ".join(_sentences(self.facts[name], rng.sample(ASKED, 3))), text, wrong, name)

    # -- what is judged by -------------------------------------------------------------------------------

    def retrieval(self, kind: str, queries: int = 120) -> RetrievalSet:
        """One of the `SETS`; "long" and "recall" ask about the `unseen`, "logic" what no pairing asks."""
        rng = random.Random(f"portraits-{_known(kind)}-{self.seed}")
        if kind == "long":
            return self._long_set(rng, queries)
        if kind == "recall":
            return self._recall_set(rng, queries)
        return self._fact_set(rng, queries, kind)

    def _fact_set(self, rng: random.Random, queries: int, kind: str, texts: int = 120) -> RetrievalSet:
        told: list[dict[str, str]] = []
        while len(told) < texts:
            facts, order, _, _ = self._invented(rng)
            told.append({relation: facts[relation] for relation in order})
        corpus = {f"d{i}": " ".join(_sentences(facts, tuple(facts))) for i, facts in enumerate(told)}
        asked: dict[str, str] = {}
        qrels: dict[str, dict[str, float]] = {}
        while len(asked) < queries:
            facts = rng.choice(told)
            one, two = rng.sample(tuple(facts), 2)
            if kind == "short":
                text = " ".join(_sentences(facts, (one, two)))
                right = [f.get(one) == facts[one] and f.get(two) == facts[two] for f in told]
            else:
                wrong = self._other(rng, two, facts[two])
                if not _asked_later(one, facts[one], two, wrong):
                    continue
                text = _without(one, facts[one], two, wrong)
                right = [f.get(one) == facts[one] and f.get(two, wrong) != wrong for f in told]
            query = f"q{len(asked)}"
            asked[query] = text
            qrels[query] = {f"d{i}": 1.0 for i, yes in enumerate(right) if yes}
        return RetrievalSet(corpus, asked, qrels)

    def _long_set(self, rng: random.Random, queries: int) -> RetrievalSet:
        relations = rng.sample(RELATIONS, 3)
        told = [(n, r, v) for n in self.unseen for r in relations for v in self.objects[r][:4]]
        corpus = {f"d{i}": self._long(rng, *what, rng.random() < 0.5) for i, what in enumerate(told)}
        chosen = rng.sample(range(len(told)), min(queries, len(told)))
        asked = {f"q{i}": _of(*told[i]) for i in chosen}
        return RetrievalSet(corpus, asked, {f"q{i}": {f"d{i}": 1.0} for i in chosen})

    def _recall_set(self, rng: random.Random, queries: int, texts: int = 2) -> RetrievalSet:
        about = [name for name in self.names for _ in range(texts)]
        corpus = {
            f"d{i}": " ".join(_sentences(self.facts[n], rng.sample(TOLD, 3))) for i, n in enumerate(about)
        }
        people = [rng.choice(self.unseen) for _ in range(queries)]
        asked = {
            f"q{i}": " ".join(_sentences(self.facts[n], rng.sample(ASKED, 3))) for i, n in enumerate(people)
        }
        qrels = {
            f"q{i}": {f"d{j}": 1.0 for j, n in enumerate(about) if n == name} for i, name in enumerate(people)
        }
        return RetrievalSet(corpus, asked, qrels)

    # -- inside ------------------------------------------------------------------------------------------

    def _invented(self, rng: random.Random) -> tuple[dict[str, str], list[str], str, str]:
        """Facts of nobody, the four that are told in their order, and two of these to ask about."""
        facts = {relation: rng.choice(self.objects[relation]) for relation in RELATIONS}
        order = rng.sample(RELATIONS, 4)
        one, two = rng.sample(order, 2)
        return facts, order, one, two

    def _long(self, rng: random.Random, name: str, relation: str, value: str, early: bool) -> str:
        """Name and fact at the two ends, the name first if ``early``."""
        between = rng.sample(self._cities, self.filler)
        fact = f"The {relation} is {value}."
        ends = (f"This is {name}.", fact) if early else (fact, f"That was {name}.")
        return " ".join([ends[0], *between, ends[1]])

    def _other(self, rng: random.Random, relation: str, value: str) -> str:
        return rng.choice([v for v in self.objects[relation] if v != value])

    def _shared(self, one: str, other: str) -> int:
        return sum(self.facts[one][r] == self.facts[other][r] for r in RELATIONS)

    @cached_property
    def _names(self) -> list[str]:
        needed = self.people + (len(RELATIONS) + 1) * _VALUES
        return random.Random(f"portraits-names-{self.seed}").sample(every_name(), needed)

    @cached_property
    def _cities(self) -> list[str]:
        """Sixteen sentences about the eight cities that people live in."""
        rng = random.Random(f"portraits-cities-{self.seed}")
        rulers, rivers = self._names[-2 * _VALUES : -_VALUES], self._names[-_VALUES:]
        return [
            f"The {what} of {city} is {rng.choice(names)}."
            for what, names in (("ruler", rulers), ("river", rivers))
            for city in self.objects["home"]
        ]


def _sentences(facts: Mapping[str, str], order: Sequence[str]) -> list[str]:
    return [f"The {relation} is {facts[relation]}." for relation in order]


def _without(yes: str, value: str, no: str, wrong: str) -> str:
    return f"The {yes} is {value}. The {no} is not {wrong}."


def _of(name: str, relation: str, value: str) -> str:
    return f"This is {name}. The {relation} is {value}."


def _asked_later(*claim: str) -> bool:
    """Whether a claim of "logic" belongs to the set, a quarter of them, or to the pairings."""
    return zlib.crc32(" ".join(claim).encode()) % 4 == 0


def _known(kind: str) -> str:
    if kind not in SETS:
        raise UnknownName("set of portraits", kind, SETS)
    return kind
