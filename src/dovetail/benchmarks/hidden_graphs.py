"""Texts with a hidden graph: shuffled sentences that each tell one link, and a question on several of them.

The built-in stand-in for scientific text with a figure. Names come from atlas, so nothing can be known
beforehand; every graph has a chain of the asked length, and side branches that begin on it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from dovetail.core import InvalidValue
from dovetail.tasks.atlas import every_name

LETTERS = "ABCD"
Question = Literal["reach", "fault"]
Wording = Literal["names", "letters"]
Link = tuple[str, str]
# Nodes named by letters; A to D are the options, and I and O look like digits.
NODES = tuple("EFGHJKLMNPQRSTUVWXYZ")
SENTENCES: dict[str, str] = {"names": "{} gives to {}.", "letters": "If {} then {}."}
MOST_LETTERED_LINKS = len(NODES) - 2  # two chains, with one node more than links each


@dataclass(frozen=True)
class HiddenGraph:
    """A text, the graph that it tells, and a question about it.

    Attributes:
        text: one sentence per link, shuffled.
        links: (source, target) names, in the order in which they are told.
        start: the node that the question is about.
        hops: links between it and what is asked for.
        path: the shortest chain from ``start`` to the (first) right option, both included.
        question: in words; ``options``: names for A to D; ``answer``: letters, sorted.
    """

    text: str
    links: tuple[Link, ...]
    start: str
    hops: int
    path: tuple[str, ...]
    question: str
    options: tuple[str, ...]
    answer: tuple[str, ...]

    @property
    def nodes(self) -> tuple[str, ...]:
        """All names, as they come up in the links."""
        return tuple(dict.fromkeys(name for link in self.links for name in link))


def hidden_graph(
    rng: random.Random,
    hops: int,
    links: int = 9,
    branching: float = 0.5,
    kind: Question = "reach",
    wording: Wording = "names",
) -> HiddenGraph:
    """A graph and a question of ``hops`` hops.

    Args:
        links: told in all; the chain of ``hops`` links among them.
        branching: chance that a further link starts a branch at a node that is told already, rather than
            belonging to an unconnected chain.
        kind: "reach" asks what is reached in so many steps (one option is right); "fault" asks what stops
            too when a node stops (every option downstream is right).
        wording: "names" ("Kalo gives to Mira.") or "letters" ("If E then K."), which are a token each.

    Raises:
        InvalidValue: a chain longer than ``links - 3``: the wrong options need some links, too; or more
            links than there are letters for.
    """
    if not 1 <= hops <= links - 3:
        raise InvalidValue("hops", hops, f"from 1 to links - 3, which is {links - 3}")
    lettered = wording == "letters"
    if lettered and links > MOST_LETTERED_LINKS:
        raise InvalidValue("links", links, f"at most {MOST_LETTERED_LINKS} where nodes are letters")
    names = iter(rng.sample(NODES, len(NODES)) if lettered else rng.sample(every_name(), 2 * links + 2))
    chain = [next(names) for _ in range(hops + 1)]
    told: list[Link] = list(pairwise(chain))
    loose = [next(names)]  # an unconnected chain, which grows by the other links
    while len(told) < links:
        forks = [n for n in _reached(told, chain[0]) if sum(source == n for source, _ in told) < 2]
        spare = links - len(told) > 3 - len(loose)  # wrong options need three nodes apart
        if forks and spare and rng.random() < branching:
            told.append((rng.choice(forks), next(names)))
        else:
            loose.append(next(names))
            told.append((loose[-2], loose[-1]))
    start, goal = chain[0], chain[-1]
    depth = _reached(told, start)
    everything = sorted({name for link in told for name in link} - {start})
    if kind == "reach":
        wrong = [n for n in everything if depth.get(n) != hops]
        options = [goal, *rng.sample(wrong, min(3, len(wrong)))]
        question = f"What is reached from {start} in {hops} step{'s' if hops > 1 else ''}?"
    else:
        downstream = [n for n in everything if n in depth and n != goal]
        apart = [n for n in everything if n not in depth]
        more = rng.sample(downstream, min(len(downstream), rng.randint(0, 2)))
        options = [goal, *more, *rng.sample(apart, min(len(apart), 3 - len(more)))]
        question = f"{start} stops. Which of these stop too?"
    rng.shuffle(options)
    right = {n for n in options if (n == goal if kind == "reach" else n in depth)}
    answer = tuple(letter for letter, n in zip(LETTERS, options, strict=False) if n in right)
    rng.shuffle(told)
    text = " ".join(SENTENCES[wording].format(*link) for link in told)
    return HiddenGraph(text, tuple(told), start, hops, tuple(chain), question, tuple(options), answer)


def breadth_first(links: Iterable[Link], start: str, hops: int | None = None) -> list[Link]:
    """The links that can be walked from ``start`` within ``hops`` steps, nearest first."""
    links = list(links)
    depth = _reached(links, start)
    walked = [link for link in links if link[0] in depth and (hops is None or depth[link[0]] < hops)]
    order = {name: i for i, name in enumerate(depth)}
    return sorted(walked, key=lambda link: (order[link[0]], order[link[1]]))


def _reached(links: Iterable[Link], start: str) -> dict[str, int]:
    """Node -> steps from ``start``, nearest first."""
    targets: dict[str, list[str]] = {}
    for source, target in links:
        targets.setdefault(source, []).append(target)
    depth, queue = {start: 0}, [start]
    for node in queue:
        for target in targets.get(node, ()):
            if target not in depth:
                depth[target] = depth[node] + 1
                queue.append(target)
    return depth
