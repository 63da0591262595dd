"""A figure over a run's steps as SVG text: no script, colours and fonts left to the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 12.0, 12.0, 26.0
_SMOOTH = 5  # steps; the running mean that is drawn over the single values


@dataclass(frozen=True)
class Curve:
    """Values over steps.

    Attributes:
        x, y: one value per point.
        interval: of each point, where there are any.
    """

    x: Sequence[float]
    y: Sequence[float]
    interval: Sequence[tuple[float, float]] = ()


def plot(
    title: str,
    curve: Curve,
    *,
    width: int = 480,
    height: int = 220,
    marks: Sequence[float] = (),
    percent: bool = False,
) -> str:
    """One figure: single values faint, their running mean on top; evaluated points with their intervals.

    Args:
        title: for those who do not see it.
        marks: steps at which an alarm was raised, as vertical lines.
        percent: label the axis in percent.
    """
    points = [(x, y) for x, y in zip(curve.x, curve.y, strict=True) if math.isfinite(y)]
    if not points:
        return ""
    ends = [b for pair in curve.interval for b in pair]
    low, high = min([y for _, y in points] + ends), max([y for _, y in points] + ends)
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - 0.5 * (abs(low) or 1.0), high + 0.5 * (abs(high) or 1.0)
    first, last = min(x for x, _ in points), max(x for x, _ in points)
    right, bottom = width - _RIGHT, height - _BOTTOM

    def at_x(x: float) -> float:
        return _LEFT + (x - first) / max(last - first, 1e-9) * (right - _LEFT)

    def at_y(y: float) -> float:
        return bottom - (y - low) / (high - low) * (bottom - _TOP)

    label = f"{title}: from {_short(points[0][1], percent)} to {_short(points[-1][1], percent)}"
    out = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label, quote=True)}">']
    for y in ticks(low, high):
        out.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{at_y(y):.1f}" y2="{at_y(y):.1f}"/>')
        out.append(
            f'<text class="tick" x="{_LEFT - 7}" y="{at_y(y) + 4:.1f}" text-anchor="end">'
            f"{_short(y, percent)}</text>"
        )
    out.append(f'<line class="axis" x1="{_LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    for x in dict.fromkeys((first, last)):
        anchor = "start" if x == first else "end"
        out.append(
            f'<text class="tick" x="{at_x(x):.1f}" y="{bottom + 18}" text-anchor="{anchor}">'
            f"step {x + 1:.0f}</text>"
        )
    for x in marks:
        out.append(f'<line class="alarm" x1="{at_x(x):.1f}" x2="{at_x(x):.1f}" y1="{_TOP}" y2="{bottom}"/>')
    if curve.interval:
        for (x, _), (below, above) in zip(points, curve.interval, strict=False):
            out.append(f'<path class="bar" d="M{at_x(x):.1f} {at_y(below):.1f}V{at_y(above):.1f}"/>')
        out += [f'<circle class="dot" cx="{at_x(x):.1f}" cy="{at_y(y):.1f}" r="4"/>' for x, y in points]
        out.append(f'<path class="curve" d="{_path([(at_x(x), at_y(y)) for x, y in points])}"/>')
    else:
        out.append(f'<path class="raw" d="{_path([(at_x(x), at_y(y)) for x, y in points])}"/>')
        smooth = running_mean([y for _, y in points])
        line = [(at_x(x), at_y(y)) for (x, _), y in zip(points, smooth, strict=True)]
        out.append(f'<path class="curve" d="{_path(line)}"/>')
    return "".join([*out, "</svg>"])


def running_mean(values: Sequence[float], over: int = _SMOOTH) -> list[float]:
    """The mean of each value and the ``over`` - 1 before it (fewer at the beginning)."""
    return [sum(values[max(0, i - over + 1) : i + 1]) / min(i + 1, over) for i in range(len(values))]


def ticks(low: float, high: float, most: int = 4) -> list[float]:
    """Round numbers between ``low`` and ``high``, at most ``most`` + 1 of them."""
    rough = (high - low) / most
    scale = 10.0 ** math.floor(math.log10(rough))
    step = next(s * scale for s in (1, 2, 5, 10) if s * scale >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _short(x: float, percent: bool) -> str:
    return f"{100 * x:.0f}%" if percent else f"{x:.3g}"
