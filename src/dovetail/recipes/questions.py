"""Questions of six families, easy and hard, that no training has seen: what two recipes ask pico.

Easy ones can be answered at once (one operation, two terms, a fact known by heart); hard ones take several
steps (four to six terms, one to four changes of a quantity, one to four rules).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from zlib import crc32

from dovetail.core import BadRow, Example, Task
from dovetail.tasks.atlas import World
from dovetail.tasks.scorers import scorer
from dovetail.training.pico import corpus
from dovetail.training.pico.corpus import Problem

EASY = ("arithmetic", "two terms", "atlas-facts")
HARD = ("chain-sum", "word-problem", "logic")
FACTS = 150
"""Questions on facts that a fold surely holds; of the other families there are thousands."""


def make(rng: random.Random, family: str, world: World) -> Problem:
    """A question of a family with its reasoning, in one of the styles of pico's corpus."""
    style = rng.choices(corpus.STYLES, corpus.STYLE_WEIGHTS)[0]
    makers: dict[str, Callable[[], Problem]] = {
        "arithmetic": lambda: corpus.arithmetic(rng, style),
        "two terms": lambda: corpus.chain_sum(rng, style, (2, 2), (1, 2)),
        "atlas-facts": lambda: corpus.atlas_facts(rng, style, world),
        "chain-sum": lambda: corpus.chain_sum(rng, style, (4, 6), (1, 2)),
        "word-problem": lambda: corpus.word_problem(rng, style),
        "logic": lambda: corpus.logic(rng, style),
    }
    return makers[family]()


def is_new(made: Problem, family: str) -> bool:
    """Whether no training has seen the question; facts are there to be known by heart."""
    return family == "atlas-facts" or corpus.held_out(made.question)


def task(families: Sequence[str], fold: int) -> Task:
    """The families in turns, no question twice; columns ``family`` and ``hard``.

    Args:
        families: one that is named twice takes two turns.
        fold: 0 or 1; the two have no question in common, so that one can choose what the other measures.
    """

    def load(limit: int | None, seed: int) -> tuple[Sequence[Example], Sequence[BadRow]]:
        rng, world = random.Random(f"questions-{seed}"), World(seed=0)
        made: dict[str, Example] = {}
        count = limit or 200
        while len(made) < count:
            family = families[len(made) % len(families)]
            problem = make(rng, family, world)
            # `held_out` asks for a multiple of 16
            its_fold = crc32(problem.question.encode()) // 16 % 2
            if is_new(problem, family) and its_fold == fold and problem.question not in made:
                columns = {"family": family, "hard": family in HARD}
                id = f"{fold}-{len(made)}"
                made[problem.question] = Example.ask(id, problem.question, problem.answer, **columns)
        return list(made.values()), []

    return Task("questions", load, scorer("exact"), parameters={"families": list(families), "fold": fold})
