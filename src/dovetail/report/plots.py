"""Plots as SVG text: no script, no library, colours and fonts left to the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_CHARACTER = 6.9  # px of one character at the label's size; an upper estimate for common system fonts
_LABEL_HEIGHT = 16.0
_TOP, _BOTTOM = 14.0, 46.0
_RADIUS = 5.0


@dataclass(frozen=True, slots=True)
class Point:
    """An arm in the plane of cost (x) and accuracy in [0, 1] (y), with 95% intervals."""

    name: str
    x: float
    x_interval: tuple[float, float]
    y: float
    y_interval: tuple[float, float]
    baseline: bool = False


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        """Shared area in square pixels."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.bottom, other.bottom) - max(self.top, other.top)
        return wide * high if wide > 0 and high > 0 else 0.0


def frontier(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats in one of accuracy and cost without losing in the other, by cost."""
    return sorted(
        (
            p
            for p in points
            if not any(q.x <= p.x and q.y >= p.y and (q.x < p.x or q.y > p.y) for q in points)
        ),
        key=lambda p: p.x,
    )


def pareto(points: Sequence[Point], label: str, width: int, height: int, *, numbered: bool = False) -> str:
    """Accuracy against a cost, the frontier as a stepped line, intervals as thin bars.

    Args:
        points: in the order of the report.
        label: of the x axis.
        width, height: of the drawing, px.
        numbered: marks points by their number in the report instead of by name, where room is short.
    """
    left = 46.0
    right, bottom = width - 14.0, height - _BOTTOM
    low_x, high_x, log = _x_range(points)
    low_y, high_y = _y_range(points)

    def at_x(x: float) -> float:
        if log:
            part = math.log(max(x, low_x) / low_x) / math.log(high_x / low_x)
        else:
            part = (x - low_x) / (high_x - low_x)
        return left + min(max(part, 0.0), 1.0) * (right - left)

    def at_y(y: float) -> float:
        return bottom - (y - low_y) / (high_y - low_y) * (bottom - _TOP)

    out = [
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="Accuracy against {escape(label, quote=True)}: {escape(_in_words(points), quote=True)}">'
    ]
    for y in _ticks(low_y, high_y, 5):
        out.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{at_y(y):.1f}" y2="{at_y(y):.1f}"/>')
        out.append(
            f'<text class="tick" x="{left - 8}" y="{at_y(y) + 4:.1f}" text-anchor="end">{100 * y:.0f}%</text>'
        )
    for x in _log_ticks(low_x, high_x) if log else _ticks(low_x, high_x, 5 if width > 500 else 4):
        out.append(
            f'<text class="tick" x="{at_x(x):.1f}" y="{bottom + 18}" text-anchor="middle">{_short(x)}</text>'
        )
        out.append(
            f'<line class="tickmark" x1="{at_x(x):.1f}" x2="{at_x(x):.1f}" y1="{bottom}" y2="{bottom + 4}"/>'
        )
    out.append(f'<line class="axis" x1="{left}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    suffix = ", log scale" if log else ""
    out.append(
        f'<text class="label" x="{(left + right) / 2:.0f}" y="{height - 8}" text-anchor="middle">'
        f"{escape(label + suffix)}</text>"
    )

    best = frontier(points)
    if best:
        path = f"M{at_x(best[0].x):.1f} {at_y(best[0].y):.1f}"
        for p in best[1:]:
            path += f"H{at_x(p.x):.1f}V{at_y(p.y):.1f}"
        out.append(f'<path class="frontier" d="{path}H{right}"/>')

    obstacles = []
    for p, after in zip(best, [*best[1:], None], strict=True):
        end = at_x(after.x) if after else right
        obstacles.append(Box(at_x(p.x), at_y(p.y) - 2, end, at_y(p.y) + 2))
        if after:
            obstacles.append(Box(end - 2, at_y(after.y), end + 2, at_y(p.y)))
    for p in points:
        x, y = at_x(p.x), at_y(p.y)
        y0, y1 = at_y(p.y_interval[1]), at_y(p.y_interval[0])
        x0, x1 = at_x(p.x_interval[0]), at_x(p.x_interval[1])
        out.append(f'<path class="bar" d="M{x:.1f} {y0:.1f}V{y1:.1f}M{x0:.1f} {y:.1f}H{x1:.1f}"/>')
        obstacles += [Box(x - 1.5, y0, x + 1.5, y1), Box(x0, y - 1.5, x1, y + 1.5)]
    marks = [
        Box(at_x(p.x) - r, at_y(p.y) - r, at_x(p.x) + r, at_y(p.y) + r)
        for p in points
        for r in [12.0 if p.baseline else 8.0]
    ]
    for p in points:
        kind = "mark" + (" best" if p in best else "") + (" baseline" if p.baseline else "")
        out.append(f'<circle class="{kind}" cx="{at_x(p.x):.1f}" cy="{at_y(p.y):.1f}" r="{_RADIUS}"/>')
        if p.baseline:
            out.append(
                f'<circle class="ring" cx="{at_x(p.x):.1f}" cy="{at_y(p.y):.1f}" r="{_RADIUS + 3.5}"/>'
            )
    names = [str(i + 1) if numbered else p.name for i, p in enumerate(points)]
    frame = Box(left + 2, 2.0, right + 12, bottom - 2)
    centres = [(at_x(p.x), at_y(p.y)) for p in points]
    for p, name, (x, y), box in zip(
        points, names, centres, place(names, centres, marks, obstacles, frame), strict=True
    ):
        near_x = min(max(x, box.left), box.right)
        near_y = min(max(y, box.top), box.bottom)
        if math.hypot(near_x - x, near_y - y) > 14:
            out.append(
                f'<line class="leader" x1="{x:.1f}" y1="{y:.1f}" x2="{near_x:.1f}" y2="{near_y:.1f}"/>'
            )
        kind = "name best" if p in best else "name"
        middle = (box.left + box.right) / 2
        out.append(
            f'<text class="{kind}" x="{middle:.1f}" y="{box.bottom - 4:.1f}" text-anchor="middle">'
            f"{escape(name)}</text>"
        )
    out.append("</svg>")
    return "".join(out)


def place(
    names: Sequence[str],
    centres: Sequence[tuple[float, float]],
    marks: Sequence[Box],
    obstacles: Sequence[Box],
    frame: Box,
) -> list[Box]:
    """Where the labels go: near their points, not over each other, off marks and, if possible, off bars.

    Greedy, the most crowded point first; around each point eight directions at growing distance.
    """
    placed: dict[int, Box] = {}

    def crowd(i: int) -> float:
        x, y = centres[i]
        return sum(1 / (1 + math.hypot(x - a, (y - b) * 2)) for j, (a, b) in enumerate(centres) if j != i)

    for i in sorted(range(len(names)), key=lambda i: -crowd(i)):
        wide = _CHARACTER * len(names[i]) + 4
        best: tuple[float, Box] | None = None
        for box, distance in _candidates(*centres[i], wide):
            outside = (box.right - box.left) * (box.bottom - box.top) - box.overlap(frame)
            penalty = (
                100 * outside
                + 60 * sum(box.overlap(other) for other in placed.values())
                + 30 * sum(box.overlap(m) for m in marks)
                + 4 * sum(box.overlap(o) for o in obstacles)
                + 2 * distance
            )
            if best is None or penalty < best[0]:
                best = penalty, box
        assert best is not None
        placed[i] = best[1]
    return [placed[i] for i in range(len(names))]


def _candidates(x: float, y: float, wide: float) -> list[tuple[Box, float]]:
    h = _LABEL_HEIGHT
    found = []
    for gap in (9.0, 13.0, 20.0, 30.0, 44.0, 62.0, 84.0):
        for dx, dy in ((1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (1, 1), (-1, -1), (-1, 1)):
            reach = gap if not (dx and dy) else gap * 0.75
            left = x + reach if dx > 0 else x - reach - wide if dx < 0 else x - wide / 2
            top = y + reach if dy > 0 else y - reach - h if dy < 0 else y - h / 2
            found.append((Box(left, top, left + wide, top + h), gap + (2 if dx and dy else 0)))
    return found


def _in_words(points: Sequence[Point]) -> str:
    return "; ".join(f"{p.name} {100 * p.y:.1f}% at {_short(p.x)}" for p in points)


def _x_range(points: Sequence[Point]) -> tuple[float, float, bool]:
    lows = [min(p.x, p.x_interval[0]) for p in points]
    highs = [max(p.x, p.x_interval[1]) for p in points]
    if min(lows) > 0 and max(highs) > 8 * min(lows):
        return min(lows) / 1.25, max(highs) * 1.25, True
    return 0.0, (max(highs) * 1.08) or 1.0, False


def _y_range(points: Sequence[Point]) -> tuple[float, float]:
    low = min(p.y_interval[0] for p in points)
    high = max(p.y_interval[1] for p in points)
    room = max(0.02, 0.08 * (high - low))
    return max(0.0, low - room), min(1.0, high + room)


def _ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers from ``low`` to ``high``, about that many."""
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
    if step < 0.01 and high <= 1:
        step = 0.01  # the y axis shows whole percents
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [m * 10.0**k for k in powers for m in (1, 2, 5) if low <= m * 10.0**k <= high]
    if len(ticks) > 7:
        ticks = [t for t in ticks if math.isclose(math.log10(t) % 1, 0, abs_tol=1e-9)]
    return ticks


def _short(x: float) -> str:
    """12,000 as 12k, without digits that say nothing."""
    for size, sign in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(x) >= size:
            return f"{x / (1e3 if sign == 'k' else size):.3g}{sign}"
    return f"{x:,.0f}" if abs(x) >= 1000 else f"{x:.3g}"
