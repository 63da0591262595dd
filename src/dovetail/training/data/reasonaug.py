"""ReasonAug: triples for reasoning-heavy retrieval, written and checked by a language model.

"Diffusion vs. Autoregressive Language Models: A Text Embedding Perspective", arXiv 2505.15045, sect. 4 and
App. B: of each concept a definition and several questions with solutions; a question is paired with its
concept's definition and with other questions of the concept, since what makes texts relevant to one another
here is the concept that they use, not their words. Costs 2 to 5 calls of the generator per question.

The prompts are ours; the paper's set comes from GPT-4o-mini, 8 questions for each of 260 concepts.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher

from dovetail.core import InvalidValue
from dovetail.training.contrastive import Triple

Generator = Callable[[str], str]

TYPES = ("a calculation", "a proof or derivation", "an explanation of an observation", "a design task")
CONTEXTS = ("everyday life", "engineering", "natural science", "business", "games and puzzles", "none at all")
DIFFICULTIES = ("easy", "of high-school level", "of undergraduate level", "hard")
LENGTHS = ("one sentence", "two or three sentences", "a short paragraph", "a long paragraph")

DEFINE = "Define the concept {concept!r} ({field}) in one self-contained paragraph. Give the definition only."
ASK = (
    "Write a question that can only be solved with {concept!r} ({field}), without naming it: {type}, context "
    "{context}, {difficulty}, {length} long. Then solve it step by step. Answer with JSON and nothing else: "
    '{{"question": "...", "solution": "..."}}'
)
CHECK_CONCEPT = "Does solving this question need {concept!r} ({field})? Answer yes or no.\n\n{question}"
CHECK_SOLUTION = "Is this solution correct and complete? Answer yes or no.\n\n{question}\n\n{solution}"
IMITATE = (
    "Write a question that looks like this one, in its words and setting, but is solved with another concept "
    "than {concept!r}. Then solve it. Answer with JSON and nothing else: "
    '{{"question": "...", "solution": "..."}}\n\n{question}'
)
TO_CONCEPT = "Given a question, retrieve the definition of the concept that solves it."
TO_QUESTION = "Given a question, retrieve another question that is solved with the same concept."


@dataclass(frozen=True)
class Concept:
    """What questions are written about, such as ("binary search", "algorithms")."""

    name: str
    field: str


@dataclass
class ReasonAug:
    """The triples, and what was thrown away on the way, by reason."""

    triples: list[Triple] = field(default_factory=list)
    discarded: Counter[str] = field(default_factory=Counter)


def build_reasonaug(
    concepts: Sequence[Concept],
    generator: Generator,
    *,
    questions: int = 8,
    attempts: int = 3,
    imitations: float = 0.5,
    kept_out: Sequence[str] = (),
    most_alike: float = 0.8,
    seed: int = 0,
) -> ReasonAug:
    """Triples of questions with definitions and with other questions of the same concept.

    Args:
        generator: prompt -> text; a `Model`'s answer, say.
        questions: per concept (paper: 8).
        attempts: at each question, until one passes both checks; then it is given up and counted.
        imitations: share of negatives that the generator writes as look-alikes; the others are the texts
            of other concepts that BM25 finds most alike.
        kept_out: texts of the evaluation; a triple that shares with one a run of more than ``most_alike`` of
            the shorter text's characters is dropped (`overlap`).

    Raises:
        InvalidValue: fewer than two concepts, a concept twice, or an impossible number.
    """
    _check(concepts, questions, attempts, imitations, most_alike)
    rng = random.Random(f"reasonaug-{seed}")
    made = ReasonAug()
    definitions: dict[str, str] = {}
    asked: dict[str, list[tuple[str, str]]] = {}
    for concept in concepts:
        about = {"concept": concept.name, "field": concept.field}
        definitions[concept.name] = generator(DEFINE.format(**about)).strip()
        pairs = (_question(generator, about, rng, attempts, made.discarded) for _ in range(questions))
        asked[concept.name] = [pair for pair in pairs if pair is not None]
    solved = {name: [f"{q}\n{s}" for q, s in pairs] for name, pairs in asked.items()}
    similar_definition = Bm25({name: [text] for name, text in definitions.items()})
    similar_question = Bm25(solved)

    for concept in concepts:
        for i, (question, _) in enumerate(asked[concept.name]):
            others = solved[concept.name][:i] + solved[concept.name][i + 1 :]
            targets = [(TO_CONCEPT, definitions[concept.name], similar_definition)]
            targets += [(TO_QUESTION, rng.choice(others), similar_question)] if others else []
            for instruction, positive, similar in targets:
                negative = None
                if rng.random() < imitations:
                    pair = _json(generator(IMITATE.format(concept=concept.name, question=question)))
                    negative = None if pair is None else "\n".join(pair)
                    made.discarded["imitation unreadable"] += pair is None
                negative = negative or similar.nearest(question, besides=concept.name)
                if negative is None:
                    made.discarded["no negative"] += 1
                    continue
                triple = Triple(question, positive, (negative,), instruction, concept.name)
                if any(
                    overlap(text, seen) > most_alike for text in (question, positive) for seen in kept_out
                ):
                    made.discarded["too like a text of the evaluation"] += 1
                    continue
                made.triples.append(triple)
    return made


def overlap(one: str, other: str) -> float:
    """Length of the longest run of characters in both, as a share of the shorter text; 0 if one is empty."""
    shorter = min(len(one), len(other))
    if shorter == 0:
        return 0.0
    return SequenceMatcher(None, one, other, autojunk=False).find_longest_match().size / shorter


class Bm25:
    """Finds texts by shared words (Robertson and Zaragoza 2009, k1 = 1.5, b = 0.75).

    Args:
        groups: group -> texts.
    """

    def __init__(self, groups: Mapping[str, Sequence[str]], k1: float = 1.5, b: float = 0.75) -> None:
        self.k1, self.b = k1, b
        self.texts = [
            (group, text, Counter(_words(text))) for group, texts in groups.items() for text in texts
        ]
        self.mean = sum(count.total() for _, _, count in self.texts) / max(1, len(self.texts)) or 1.0
        self.holders = Counter(word for _, _, count in self.texts for word in count)

    def nearest(self, query: str, besides: str) -> str | None:
        """The best text outside the group ``besides``; the first one where none shares a word; None if
        there is no other text."""
        words = set(_words(query))
        others = [(self._score(words, count), text) for group, text, count in self.texts if group != besides]
        return max(others, key=lambda pair: pair[0])[1] if others else None

    def _score(self, words: set[str], count: Counter[str]) -> float:
        long = self.k1 * (1 - self.b + self.b * count.total() / self.mean)
        total = 0.0
        for word in words & count.keys():
            rare = math.log(1 + (len(self.texts) - self.holders[word] + 0.5) / (self.holders[word] + 0.5))
            total += rare * count[word] * (self.k1 + 1) / (count[word] + long)
        return total


def _question(
    generator: Generator, about: Mapping[str, str], rng: random.Random, attempts: int, discarded: Counter[str]
) -> tuple[str, str] | None:
    """One question and solution that pass both checks, or None."""
    for _ in range(attempts):
        style = {
            "type": rng.choice(TYPES),
            "context": rng.choice(CONTEXTS),
            "difficulty": rng.choice(DIFFICULTIES),
            "length": rng.choice(LENGTHS),
        }
        pair = _json(generator(ASK.format(**about, **style)))
        if pair is None:
            discarded["question unreadable"] += 1
        elif not _yes(generator(CHECK_CONCEPT.format(**about, question=pair[0]))):
            discarded["question without the concept"] += 1
        elif not _yes(generator(CHECK_SOLUTION.format(question=pair[0], solution=pair[1]))):
            discarded["solution wrong"] += 1
        else:
            return pair
    discarded["question given up"] += 1
    return None


def _json(text: str) -> tuple[str, str] | None:
    """Question and solution out of an answer that holds them as JSON, fenced or with words around it."""
    match = re.search(r"\{.*\}", text, re.DOTALL)
    try:
        found = json.loads(match.group()) if match else None
    except json.JSONDecodeError:
        return None
    if not isinstance(found, dict):
        return None
    question, solution = found.get("question"), found.get("solution")
    if not (isinstance(question, str) and isinstance(solution, str) and question.strip()):
        return None
    return question.strip(), solution.strip()


def _yes(text: str) -> bool:
    return text.strip().lower().startswith("yes")


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _check(
    concepts: Sequence[Concept], questions: int, attempts: int, imitations: float, most_alike: float
) -> None:
    names = [concept.name for concept in concepts]
    if len(names) < 2:
        raise InvalidValue("concepts", names, "at least two: negatives come from other concepts")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise InvalidValue("concepts", twice[0], "named once")
    for name, number in (("questions", questions), ("attempts", attempts)):
        if number < 1:
            raise InvalidValue(name, number, "at least 1")
    for name, share in (("imitations", imitations), ("most_alike", most_alike)):
        if not 0 <= share <= 1:
            raise InvalidValue(name, share, "from 0 to 1")
