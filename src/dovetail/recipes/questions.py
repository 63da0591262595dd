"""Questions that take no thought and questions that take some: what two recipes ask pico.

Some are known by heart (facts, the tables of small numbers) and can be answered at once; the others take
several steps, and no training has seen them.
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

BY_HEART = ("table", "atlas-facts")
"""There are 312 facts and 1,296 questions on the tables; of the other families there is no end."""


def make(rng: random.Random, family: str, world: World) -> Problem:
    """A question of a family with its reasoning, in one of the styles of pico's corpus."""
    style = rng.choices(corpus.STYLES, corpus.STYLE_WEIGHTS)[0]
    makers: dict[str, Callable[[], Problem]] = {
        "table": lambda: table(rng, style),
        "two terms": lambda: corpus.chain_sum(rng, style, (2, 2), (1, 2)),
        "atlas-facts": lambda: corpus.atlas_facts(rng, style, world),
        "chain-sum": lambda: corpus.chain_sum(rng, style, (4, 6), (1, 2)),
        "word-problem": lambda: corpus.word_problem(rng, style),
    }
    return makers[family]()


def table(rng: random.Random, style: str) -> Problem:
    """One operation on two numbers from 1 to 12."""
    a, b, sign = rng.randint(1, 12), rng.randint(1, 12), rng.choice("+-*")
    value = {"+": a + b, "-": a - b, "*": a * b}[sign]
    question = rng.choice(("What is {} {} {}?", "Compute {} {} {}.", "{} {} {} = ?")).format(a, sign, b)
    step = f"{a}{sign}{b}={value}"
    return Problem(
        "table", question, f"{step}\nLet me check: {step}. Yes." if style == "checked" else step, str(value)
    )


def is_new(made: Problem, family: str) -> bool:
    """Whether no training has seen the question, or it is there to be known by heart."""
    return family in BY_HEART or corpus.held_out(made.question)


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
                columns = {"family": family, "hard": family not in BY_HEART}
                id = f"{fold}-{len(made)}"
                made[problem.question] = Example.ask(id, problem.question, problem.answer, **columns)
        return list(made.values()), []

    return Task("questions", load, scorer("exact"), parameters={"families": list(families), "fold": fold})
