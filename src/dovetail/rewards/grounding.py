"""UniVG-R1's rewards: how well a stated box covers the true one, and whether it is stated as asked.

"UniVG-R1: Reasoning Guided Universal Visual Grounding with Reinforcement Learning", arXiv 2505.14231: the
overlap itself is the reward, without a threshold, so that a box that is nearly right is paid nearly all.
Boxes are ``(x1, y1), (x2, y2)`` on a grid from 0 to 1000 that spans the image (Qwen2-VL's convention).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dovetail.core import Completion, Example, InvalidValue, Score
from dovetail.rewards.base import Batch, Reward

Box = tuple[float, float, float, float]

_INTEGER, _DECIMAL = r"(\d{1,9})", r"(\d{1,9}(?:\.\d{0,9})?)"
_STRICT = re.compile(rf"\({_INTEGER},\s{{0,9}}{_INTEGER}\),\s{{0,9}}\({_INTEGER},\s{{0,9}}{_INTEGER}\)")
_LENIENT = re.compile(
    r"[(\[]\s{0,9}" + r"\s{0,9}[)\]]?,\s{0,9}[(\[]?\s{0,9}".join([_DECIMAL] * 4) + r"\s{0,9}[)\]]"
)
_OPEN, _CLOSE = "<answer>", "</answer>"


@dataclass(frozen=True)
class BoxIoU(Reward):
    """The overlap of the first box in the first answer block with the true one, in [0, 1]; 0 without a box.

    Rows whose column ``thinking`` is False were asked for the box alone: their whole text is searched.

    Attributes:
        column: holds the true boxes, ``(x1, y1, x2, y2)``.
        grid: the largest coordinate that a true box may have.
        lenient: also read decimals and ``[x1, y1, x2, y2]``, which the official pattern does not.
    """

    column: str = "box"
    grid: float = 1000.0
    lenient: bool = False

    name = "box-iou"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.grid) and self.grid > 0):
            raise InvalidValue("grid", self.grid, "a finite number > 0")

    def pay(self, batch: Batch) -> Sequence[float]:
        boxes = batch.column(self.column)
        golds = [gold_box(f"column {self.column!r}, row {i}", b, self.grid) for i, b in enumerate(boxes)]
        rows = zip(golds, _whole_texts(batch), _thinks(batch), strict=True)
        return [self.overlap(gold, text, thinks) for gold, text, thinks in rows]

    def overlap(self, gold: Box, text: str, thinks: bool = True) -> float:
        """What a text's box is paid."""
        stated = parse_box(answer_block(text) if thinks else text, self.lenient)
        return 0.0 if stated is None else iou_xyxy(stated, gold)


@dataclass(frozen=True)
class BoxFormat(Reward):
    """1 for a thought, an answer block that holds one box and nothing else, and the end of the text; else 0.

    Rows whose column ``thinking`` is False need a box somewhere.

    Attributes:
        thinking: of rows without such a column.
    """

    thinking: bool = True

    name = "box-format"

    def pay(self, batch: Batch) -> Sequence[float]:
        rows = zip(_whole_texts(batch), _thinks(batch, self.thinking), strict=True)
        return [float(box_format(text, thinks)) for text, thinks in rows]


@dataclass(frozen=True)
class BoxScorer:
    """Judges held-out answers: the overlap, and whether it is above each threshold (``acc@0.5``).

    Attributes:
        reward: reads text and true box, from the example's column.
        thresholds: of the further figures.
    """

    reward: BoxIoU = BoxIoU()
    thresholds: tuple[float, ...] = (0.3, 0.5, 0.7)

    name = "box-iou"
    extraction = "first (x1, y1), (x2, y2) in the first <answer> block"

    def __call__(self, example: Example, completion: Completion) -> Score:
        column = self.reward.column
        gold = gold_box(f"example {example.id}: {column}", example.columns.get(column), self.reward.grid)
        text = str(completion.columns.get("assistant_prefix", "")) + completion.text
        thinks = bool(example.columns.get("thinking", True))
        value = self.reward.overlap(gold, text, thinks)
        formed = box_format(text, thinks)
        figures = {f"acc@{t:g}": acc_at_iou(value, t) for t in self.thresholds}
        return Score(value, value * formed, self.extract(text), formed, figures)

    def extract(self, text: str) -> str:
        box = parse_box(answer_block(text), self.reward.lenient)
        return "" if box is None else "({:g},{:g}),({:g},{:g})".format(*box)


def iou_xyxy(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes ``(x1, y1, x2, y2)``; 0 where one of them is empty or reversed.

    >>> iou_xyxy((0, 0, 10, 10), (5, 0, 15, 10))
    0.3333333333333333
    """
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if min(width, height, a[2] - a[0], a[3] - a[1], b[2] - b[0], b[3] - b[1]) <= 0:
        return 0.0
    common = width * height
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def acc_at_iou(iou: float, threshold: float = 0.5) -> float:
    """1 if the overlap is above the threshold, as referring expressions are scored; else 0."""
    return float(iou > threshold)


def parse_box(text: str, lenient: bool = False) -> Box | None:
    """The first box in a text, as written (reversed corners stay reversed); None if there is none.

    >>> parse_box("it is at (10, 20),(30,40)")
    (10.0, 20.0, 30.0, 40.0)
    """
    found = (_LENIENT if lenient else _STRICT).search(text)
    if found is None:
        return None
    x1, y1, x2, y2 = map(float, found.groups())
    return x1, y1, x2, y2


def answer_block(text: str) -> str:
    """What stands in the first ``<answer>`` block; "" if there is none."""
    inside, closed, _ = text.partition(_OPEN)[2].partition(_CLOSE)
    return inside if closed else ""


def box_format(text: str, thinks: bool = True) -> bool:
    """Whether a text ends in a thought and an answer block with one box; any box will do without thinking."""
    if not thinks:
        return parse_box(text) is not None
    head, opened, tail = text.removesuffix("\n").rpartition(_OPEN)
    inside, closed, rest = tail.partition(_CLOSE)
    if not (opened and closed) or rest or not _STRICT.fullmatch(inside):
        return False
    thought, closing, between = head.rpartition("</think>")
    return bool(closing) and not between.strip() and "<think>" in thought


def gold_box(name: str, value: Any, grid: float = 1000.0) -> Box:
    """A true box, checked.

    Raises:
        InvalidValue: not four finite numbers, empty, reversed, or beyond the grid; gives ``name``.
    """
    try:
        x1, y1, x2, y2 = (float(v) for v in value)
    except (TypeError, ValueError, OverflowError):
        raise InvalidValue(name, value, "four numbers (x1, y1, x2, y2)") from None
    if not (0 <= x1 < x2 <= grid and 0 <= y1 < y2 <= grid):
        raise InvalidValue(name, value, f"0 <= x1 < x2 <= {grid:g} and 0 <= y1 < y2 <= {grid:g}")
    return x1, y1, x2, y2


def _whole_texts(batch: Batch) -> list[str]:
    return [opened + text for opened, text in zip(batch.opened, batch.texts, strict=True)]


def _thinks(batch: Batch, otherwise: bool = True) -> list[bool]:
    """Whether each row was asked to think."""
    if not batch.has("thinking"):
        return [otherwise] * len(batch)
    return [otherwise if asked is None else bool(asked) for asked in batch.column("thinking")]
