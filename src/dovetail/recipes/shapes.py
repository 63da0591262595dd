"""Two small images and a question about the second: where is the shape that is named, or that is like the one
in the first? 16 x 16 pixels each, coloured shapes on noise, true boxes on a grid from 0 to 1000.

Easy questions name a large shape's colour and kind. Hard ones ask for a small shape, among three, that has
the colour or the kind of the shape in the first image, so both images must be read. Kinds differ at every
size, and reach all four edges of their boxes.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dovetail.core import Example

SIDE = 16
COLOURS = {
    "red": (230, 40, 40),
    "green": (40, 200, 60),
    "blue": (60, 80, 240),
    "yellow": (230, 220, 50),
    "white": (240, 240, 240),
    "pink": (240, 100, 200),
}
KINDS = ("square", "frame", "cross", "corner")
LARGE, SMALL = (6, 8), (3, 5)
Pixels = NDArray[np.uint8]  # [3, SIDE, SIDE]


@dataclass(frozen=True)
class Shape:
    """What was drawn: where its first pixel is, how many it is wide and high, and what it looks like."""

    x: int
    y: int
    size: int
    colour: str
    kind: str

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Its corners on the grid."""
        ends = (self.x, self.y, self.x + self.size, self.y + self.size)
        x1, y1, x2, y2 = (on_grid(pixel) for pixel in ends)
        return x1, y1, x2, y2

    def meets(self, other: Shape) -> bool:
        """Whether the two overlap or touch."""
        return all(
            a <= b + other.size and b <= a + self.size for a, b in ((self.x, other.x), (self.y, other.y))
        )

    def mask(self) -> NDArray[np.bool_]:
        """[size, size]: the pixels that have its colour."""
        place = np.arange(self.size) - (self.size - 1) / 2
        across, down = np.abs(place)[None, :], np.abs(place)[:, None]
        edge = (self.size - 1) / 2
        if self.kind == "frame":
            filled = np.maximum(across, down) >= edge
        elif self.kind == "corner":
            filled = (place[None, :] == -edge) | (place[:, None] == edge)
        elif self.kind == "cross":
            filled = np.minimum(across, down) <= (0.5 if self.size % 2 == 0 else 0.0)
        else:
            filled = across + down >= 0
        return np.asarray(filled, dtype=np.bool_)


def on_grid(pixel: int) -> int:
    """A pixel's edge on the grid from 0 to 1000."""
    return round(1000 * pixel / SIDE)


def draw(shapes: Sequence[Shape], seed: int) -> Pixels:
    """The shapes on dark noise."""
    image = np.random.default_rng(seed).integers(0, 50, (3, SIDE, SIDE)).astype(np.uint8)
    for shape in shapes:
        part = image[:, shape.y : shape.y + shape.size, shape.x : shape.x + shape.size]
        part[:, shape.mask()] = np.asarray(COLOURS[shape.colour], dtype=np.uint8)[:, None]
    return image


def place(rng: random.Random, looks: Sequence[tuple[str, str]], sizes: tuple[int, int]) -> list[Shape]:
    """Shapes of these looks that do not touch."""
    while True:
        found: list[Shape] = []
        for colour, kind in looks:
            size = rng.randint(*sizes)
            x, y = rng.randint(0, SIDE - size), rng.randint(0, SIDE - size)
            shape = Shape(x, y, size, colour, kind)
            if any(shape.meets(other) for other in found):
                break
            found.append(shape)
        else:
            return found


def seen(shapes: Sequence[Shape], cells: int) -> NDArray[np.int64]:
    """What each of cells x cells patches of an image shows, ``[patch, 6]``.

    Of the shape whose box has most of the patch: colour, kind, and x1, y1, x2, y2 in pixels. Colours count
    from 1; a patch without a shape has 0 everywhere.
    """
    found = np.zeros((cells, cells, 6), dtype=np.int64)
    most = np.zeros((cells, cells), dtype=np.int64)
    side = SIDE // cells
    for s in shapes:
        inside = np.zeros((SIDE, SIDE), dtype=np.int64)
        inside[s.y : s.y + s.size, s.x : s.x + s.size] = 1
        covered = inside.reshape(cells, side, cells, side).sum((1, 3))
        label = [1 + list(COLOURS).index(s.colour), KINDS.index(s.kind), s.x, s.y, s.x + s.size, s.y + s.size]
        found[covered > most] = label
        most = np.maximum(most, covered)
    return found.reshape(cells * cells, 6)


@dataclass(frozen=True)
class Item:
    """One question, before images have their numbers.

    Attributes:
        images: the two of them.
        shown: the shapes in each.
        question: without the images.
        target: the shape in the second image that is asked for.
        hard: whether the first image must be read.
    """

    images: tuple[Pixels, Pixels]
    shown: tuple[list[Shape], list[Shape]]
    question: str
    target: Shape
    hard: bool

    @property
    def completion(self) -> str:
        """The chain of thought of the practice, and its box: what the target looks like; before that, for a
        hard question, what the first image shows."""
        steps = [*self.shown[0], self.target] if self.hard else [self.target]
        thought = ": ".join(f"{shape.colour} {shape.kind}" for shape in steps)
        x1, y1, x2, y2 = self.target.box
        return f"<think>{thought}</think><answer>({x1},{y1}),({x2},{y2})</answer>"

    def example(self, id: str, first: int) -> Example:
        """As it is asked where its images are number ``first`` and the next one of a gallery."""
        asked = f"image 1 <image {first}> image 2 <image {first + 1}> {self.question}"
        columns: dict[str, Any] = {"box": self.target.box, "completion": self.completion, "hard": self.hard}
        made = Example.ask(id, asked, **columns)
        return Example(made.id, made.messages, None, self.images, columns=columns)


def item(rng: random.Random, hard: bool) -> Item:
    """A question with its images."""
    count = 3 if hard else 2
    colours, kinds = rng.sample(list(COLOURS), count), rng.sample(KINDS, count)
    shapes = place(rng, list(zip(colours, kinds, strict=True)), SMALL if hard else LARGE)
    target = rng.choice(shapes)
    relation = rng.choice(("colour", "kind"))
    # Of the first image's shape nothing but what the question asks about is the target's.
    others = [c for c in COLOURS if c not in colours] if hard else list(COLOURS)
    left = [k for k in KINDS if k not in kinds] if hard else list(KINDS)
    colour, kind = rng.choice(others), rng.choice(left)
    if hard and relation == "colour":
        colour = target.colour
    elif hard:
        kind = target.kind
    model = place(rng, [(colour, kind)], SMALL if hard else LARGE)
    images = draw(model, rng.getrandbits(32)), draw(shapes, rng.getrandbits(32))
    question = f"find the same {relation}" if hard else f"find the {target.colour} {target.kind}"
    return Item(images, (model, shapes), question, target, hard)


def items(name: str, count: int) -> list[Item]:
    """As many easy questions as hard ones, in turns; ``name`` seeds them."""
    rng = random.Random(name)
    return [item(rng, hard=bool(i % 2)) for i in range(count)]
