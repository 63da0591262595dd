"""Atlas: one built-in procedural world, the same for every experiment that needs knowledge.

One seed makes a world: people, cities and rivers with invented two-syllable names, functional relations
between them (``the teacher of Kalo is Mira``), the knowledge graph of those facts, and documents that tell
them. On top of it stand three task families: open-book multi-hop questions over fresh miniature worlds,
closed-book facts of the one large world (memorised by pico), and questions about names that the world does
not hold, whose reference answer is "I don't know".

Names are built from fixed syllables so that each is two tokens of pico's tokenizer; nothing here is real.
"""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from dovetail.core import BadRow, Example, InvalidValue, Scorer, Task, UnknownName
from dovetail.tasks.parameters import converted, named

FAMILIES: tuple[str, ...] = ("atlas-multihop", "atlas-facts", "atlas-unknown")
UNKNOWN_ANSWER = "I don't know"

_FIRST = (
    "Ba Be Bo Da De Do Fa Fe Fo Ga Go Gu Ha He Hu Ja Jo Ka Ke Ko La Le Lu Ma Mi Mo "
    "Na Ne Ni Pa Pe Po Ra Ri Ro Sa Se Su Ta Te To Va Ve Vi Wa Wi Ya Za"
)
_LAST = (
    "bar ben bo da del do fa fin ga gon gu ha hen ja jin ka kel ko la len lo ma mir mo na nel "
    "no pa pin po ra rek ro sa sel so ta tan to va vel vo wen wo ya yan za zor"
)
FIRST_SYLLABLES: tuple[str, ...] = tuple(_FIRST.split())
LAST_SYLLABLES: tuple[str, ...] = tuple(_LAST.split())

PERSON, CITY, RIVER, TRADE = "person", "city", "river", "trade"
TRADES: tuple[str, ...] = ("baker", "doctor", "farmer", "judge", "miller", "painter", "sailor", "singer")


@dataclass(frozen=True)
class Relation:
    """A functional relation: every subject of kind `domain` has exactly one object of kind `range`."""

    name: str
    domain: str
    range: str


RELATIONS: tuple[Relation, ...] = (
    Relation("friend", PERSON, PERSON),
    Relation("teacher", PERSON, PERSON),
    Relation("sister", PERSON, PERSON),
    Relation("boss", PERSON, PERSON),
    Relation("home", PERSON, CITY),
    Relation("trade", PERSON, TRADE),
    Relation("ruler", CITY, PERSON),
    Relation("river", CITY, RIVER),
)
# Trades are common nouns, so they can end a chain but never carry it on; open-book worlds leave them out.
OPEN_BOOK_RELATIONS: tuple[Relation, ...] = tuple(r for r in RELATIONS if r.range != TRADE)


@dataclass(frozen=True)
class Fact:
    """One edge of the knowledge graph: `object` is the `relation` of `subject`."""

    subject: str
    relation: Relation
    object: str

    @property
    def sentence(self) -> str:
        return f"The {self.relation.name} of {self.subject} is {self.object}."

    @property
    def possessive_sentence(self) -> str:
        return f"{self.subject}'s {self.relation.name} is {self.object}."


@dataclass(frozen=True)
class AtlasQuestion:
    """A question with its answer and the facts that prove it, in the order in which they are needed."""

    question: str
    answer: str
    chain: tuple[Fact, ...] = ()
    family: str = "atlas-multihop"


def every_name() -> tuple[str, ...]:
    """All 2,304 names that atlas can give, in a fixed order."""
    return tuple(first + last for first in FIRST_SYLLABLES for last in LAST_SYLLABLES)


def ask(relations: tuple[Relation, ...], subject: str) -> str:
    """A chain's question: ``(friend, teacher), Kalo`` -> ``Who is the teacher of the friend of Kalo?``"""
    word = "Who" if relations[-1].range == PERSON else "What"
    return f"{word} is the {phrase(relations, subject)}?"


def phrase(relations: tuple[Relation, ...], subject: str) -> str:
    """``(friend, teacher), Kalo`` -> ``teacher of the friend of Kalo``: the last hop is named first."""
    return " of the ".join(r.name for r in reversed(relations)) + f" of {subject}"


@dataclass(frozen=True)
class World:
    """One procedural world; equal arguments give equal worlds on every machine.

    Parameters
    ----------
    seed: chooses names and facts. Seed 0 is the world that pico has learned by heart.
    people, cities: how many of each; there are as many rivers as cities.

    Examples
    --------
    >>> world = World(seed=0)
    >>> len(world.facts)
    312
    >>> world == World(seed=0) and world.facts == World(seed=0).facts
    True
    """

    seed: int = 0
    people: int = 48
    cities: int = 12

    def __post_init__(self) -> None:
        if self.people < 2 or self.cities < 1:
            raise InvalidValue("people, cities", (self.people, self.cities), "at least (2, 1)")
        if self.people + 2 * self.cities > len(FIRST_SYLLABLES) * len(LAST_SYLLABLES) // 2:
            raise InvalidValue(
                "people, cities", (self.people, self.cities), "at most half of all 2,304 names"
            )

    @cached_property
    def entities(self) -> dict[str, tuple[str, ...]]:
        """Names by kind; no name is used twice."""
        names = random.Random(f"atlas-names-{self.seed}").sample(every_name(), self.people + 2 * self.cities)
        return {
            PERSON: tuple(names[: self.people]),
            CITY: tuple(names[self.people : self.people + self.cities]),
            RIVER: tuple(names[self.people + self.cities :]),
            TRADE: TRADES,
        }

    @cached_property
    def facts(self) -> tuple[Fact, ...]:
        """Every edge of the knowledge graph, grouped by relation."""
        rng = random.Random(f"atlas-facts-{self.seed}")
        facts = []
        for relation in RELATIONS:
            for subject in self.entities[relation.domain]:
                objects = [name for name in self.entities[relation.range] if name != subject]
                facts.append(Fact(subject, relation, rng.choice(objects)))
        return tuple(facts)

    @cached_property
    def graph(self) -> dict[tuple[str, str], str]:
        """The knowledge graph as a mapping ``(subject, relation name) -> object``."""
        return {(fact.subject, fact.relation.name): fact.object for fact in self.facts}

    @cached_property
    def known_names(self) -> frozenset[str]:
        return frozenset(name for kind in (PERSON, CITY, RIVER) for name in self.entities[kind])

    @cached_property
    def unknown_names(self) -> tuple[str, ...]:
        """Names that no entity of this world bears."""
        return tuple(name for name in every_name() if name not in self.known_names)

    def about(self, entity: str) -> tuple[Fact, ...]:
        """The facts whose subject is `entity`."""
        return tuple(fact for fact in self.facts if fact.subject == entity)

    def document(self, entity: str) -> str:
        """A short text that tells all facts about `entity`."""
        facts = self.about(entity)
        if not facts:
            raise UnknownName("entity with facts of its own", entity, {fact.subject for fact in self.facts})
        return " ".join(fact.sentence for fact in facts)

    def popularity(self, entity: str) -> float:
        """How often `entity` is spoken of, in (0, 1]: famous, ordinary and obscure names, a third each.

        A model that learns the world from text weighted so knows the famous names well and the obscure ones
        badly, which is what experiments on the boundary of knowledge need.
        """
        return (1.0, 0.5, 0.2)[zlib.crc32(f"{self.seed}:{entity}".encode()) % 3]

    def closed_book(self, rng: random.Random, popular: bool = False) -> AtlasQuestion:
        """One question on one fact, no document given; `popular` draws subjects by their popularity."""
        fact = rng.choices(self.facts, self._popularities)[0] if popular else rng.choice(self.facts)
        return AtlasQuestion(ask((fact.relation,), fact.subject), fact.object, (fact,), "atlas-facts")

    @cached_property
    def _popularities(self) -> tuple[float, ...]:
        return tuple(self.popularity(fact.subject) for fact in self.facts)

    def unknown(self, rng: random.Random, train: bool = False) -> AtlasQuestion:
        """A question about a name that this world does not hold; train and test names are disjoint."""
        name = rng.choice(self._unknown_names_of[train])
        relation = rng.choice(RELATIONS)
        return AtlasQuestion(ask((relation,), name), UNKNOWN_ANSWER, (), "atlas-unknown")

    @cached_property
    def _unknown_names_of(self) -> dict[bool, tuple[str, ...]]:
        test = [name for name in self.unknown_names if zlib.crc32(name.encode()) % 4 == 0]
        return {False: tuple(test), True: tuple(sorted(set(self.unknown_names) - set(test)))}


def multihop(
    rng: random.Random, hops: int = 2, sentences: int = 8, answerable: bool = True, possessive: float = 0.3
) -> AtlasQuestion:
    """An open-book question over a fresh miniature world: shuffled facts, then a question of `hops` hops.

    Parameters
    ----------
    hops: facts that must be chained; each is in the text exactly once.
    sentences: facts told, the chain included. Half of the rest are near misses: about an entity told already.
    answerable: False leaves out one fact of the chain; the answer is then "I don't know".
    possessive: share of sentences that read ``Kalo's friend is Mira.``, not ``The friend of Kalo is Mira.``
    """
    if not 1 <= hops <= sentences:
        raise InvalidValue("hops", hops, f"from 1 to sentences, which is {sentences}")
    names = iter(rng.sample(every_name(), 2 * sentences + 2))
    kinds: dict[str, str] = {}  # every entity so far -> its kind

    def new(kind: str) -> str:
        name = next(names)
        kinds[name] = kind
        return name

    subject = new(CITY if rng.random() < 0.2 else PERSON)
    chain: list[Fact] = []
    for hop in range(hops):
        # rivers are the subject of nothing, so only the last hop may lead to one
        options = [r for r in OPEN_BOOK_RELATIONS if r.domain == kinds[subject]]
        options = [r for r in options if hop == hops - 1 or r.range != RIVER]
        relation = rng.choice(options)
        chain.append(Fact(subject, relation, new(relation.range)))
        subject = chain[-1].object
    told = list(chain)
    if not answerable:
        told.pop(rng.randrange(hops))
    taken = {(fact.subject, fact.relation.name) for fact in chain}
    while len(told) < sentences:
        subjects = [name for name, kind in kinds.items() if kind != RIVER]
        near = rng.random() < 0.5
        subject = rng.choice(subjects) if near else new(PERSON if rng.random() < 0.7 else CITY)
        options = [
            r for r in OPEN_BOOK_RELATIONS if r.domain == kinds[subject] and (subject, r.name) not in taken
        ]
        if not options:
            continue
        relation = rng.choice(options)
        candidates = [n for n, kind in kinds.items() if kind == relation.range and n != subject]
        other = rng.choice(candidates) if candidates and (rng.random() < 0.5) else new(relation.range)
        taken.add((subject, relation.name))
        told.append(Fact(subject, relation, other))
    rng.shuffle(told)
    text = " ".join(f.possessive_sentence if rng.random() < possessive else f.sentence for f in told)
    question = f"{text}\n{ask(tuple(fact.relation for fact in chain), chain[0].subject)}"
    return AtlasQuestion(question, chain[-1].object if answerable else UNKNOWN_ANSWER, tuple(chain))


@dataclass(frozen=True)
class AtlasTask:
    """A family of questions about atlas, with its parameters.

    Parameters
    ----------
    family: ``atlas-multihop`` (open book), ``atlas-facts`` (closed book: the world that pico knows by heart)
        or ``atlas-unknown`` (closed book: names that the world does not hold).
    min_hops, max_hops, min_sentences, max_sentences: of ``atlas-multihop``.
    unanswerable: share of ``atlas-multihop`` whose text leaves out one needed fact; answer "I don't know".
    split: "test" or "train". Open-book questions come from disjoint random streams, unknown names from
        disjoint sets; the closed-book facts are the same, since they are there to be remembered.
    world: seed of the world that closed-book questions are about.
    size: examples where no limit is given; ``atlas-facts`` has as many as the world has facts at most.
    """

    family: str
    min_hops: int = 1
    max_hops: int = 2
    min_sentences: int = 2
    max_sentences: int = 5
    unanswerable: float = 0.0
    split: str = "test"
    world: int = 0
    size: int = 200

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise UnknownName("task", self.family, FAMILIES)
        if self.split not in ("train", "test"):
            raise InvalidValue("split", self.split, "train or test")
        if not 1 <= self.min_hops <= self.max_hops:
            raise InvalidValue(
                "max_hops", self.max_hops, f"at least min_hops, which is {self.min_hops} (1 or more)"
            )
        if not self.max_hops <= self.min_sentences <= self.max_sentences:
            raise InvalidValue(
                "min_sentences", self.min_sentences, f"from max_hops ({self.max_hops}) to max_sentences"
            )
        if not 0 <= self.unanswerable <= 1:
            raise InvalidValue("unanswerable", self.unanswerable, "from 0 to 1")

    def questions(self, count: int | None, seed: int) -> list[AtlasQuestion]:
        """The first `count` questions under `seed`; a longer list begins with the shorter one."""
        rng = random.Random(f"{self.family}-{self.split}-{seed}")
        count = self.size if count is None else count
        if self.family == "atlas-multihop":
            return [self._multihop(rng) for _ in range(count)]
        world = World(self.world)
        if self.family == "atlas-unknown":
            return [world.unknown(rng, train=self.split == "train") for _ in range(count)]
        facts = rng.sample(world.facts, len(world.facts))[:count]
        return [AtlasQuestion(ask((f.relation,), f.subject), f.object, (f,), self.family) for f in facts]

    def _multihop(self, rng: random.Random) -> AtlasQuestion:
        hops = rng.randint(self.min_hops, self.max_hops)
        sentences = rng.randint(self.min_sentences, self.max_sentences)
        return multihop(rng, hops, sentences, rng.random() >= self.unanswerable)

    def load(self, limit: int | None, seed: int) -> tuple[list[Example], list[BadRow]]:
        """What `dovetail.core.Task` asks for; columns ``hops`` (facts needed), ``subject``, ``relations``."""
        source = self.family if self.split == "test" else f"{self.family}-{self.split}"
        examples = []
        for index, item in enumerate(self.questions(limit, seed)):
            columns = {
                "hops": len(item.chain),
                "subject": item.chain[0].subject if item.chain else "",
                "relations": tuple(fact.relation.name for fact in item.chain),
            }
            examples.append(Example.ask(f"{source}-s{seed}-{index}", item.question, item.answer, **columns))
        return examples, []


def task(
    family: str,
    *,
    instruction: str | None = None,
    scorer: Scorer | None = None,
    name: str | None = None,
    **parameters: Any,
) -> Task:
    """An atlas family as a task; `parameters` are the fields of `AtlasTask`, numbers may be given as text.

    Raises:
        UnknownName: there is no such family or parameter.
        InvalidValue: a parameter has an impossible value.
    """
    from dovetail.tasks.scorers.exact import Exact

    parameters = converted(family, AtlasTask(family), parameters, fixed="family")
    made = AtlasTask(family, **parameters)
    settings = {f.name: getattr(made, f.name) for f in fields(made) if f.name != "family"}
    return Task(
        name or named(family, parameters),
        made.load,
        scorer or Exact(),
        instruction or "",
        "atlas 2",
        settings,
    )
