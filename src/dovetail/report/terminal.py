"""The report as a table for the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dovetail.core import Arm, Difference, Figure, Report
from dovetail.report.notes import further, headline

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.table import Table

_COLOUR = {"better": "green", "worse": "red", "cannot tell": "dim"}


_WIDE = 108  # columns that the table takes with everything on one line


def terminal(report: Report) -> Renderable:
    """What ``rich.print`` or a ``rich.console.Console`` prints: the table, and below it the notes.

    Accuracies are in percent with half the width of their 95% interval, differences in points, costs
    are means per example. A narrow terminal gets the same figures on two lines a row.
    """
    return Renderable(report)


@dataclass(frozen=True)
class Renderable:
    """The report as rich asks for it, once the width is known."""

    report: Report

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        from rich.text import Text

        report = self.report
        examples = max((a.examples for a in report.arms), default=0)
        yield Text(report.title, style="bold")
        yield Text(
            f"{examples:,} examples, baseline {report.baseline}, 95% intervals, costs per example", "dim"
        )
        yield Text()
        yield _table(report, options.max_width >= _WIDE)
        yield Text()
        if not report.complete:
            yield Text("Partial: the run was interrupted.", style="yellow")
        yield Text(headline(report))
        for note in report.notes:
            # A note that begins with a space continues the one before it.
            yield Text(note if note[:1].isspace() else f"- {note}")


def _table(report: Report, wide: bool) -> Table:
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 1), collapse_padding=True, header_style="dim")
    extra = further(report.arms)
    table.add_column("arm", overflow="fold", min_width=12)
    for name in ("accuracy", "strict", "parsed", *extra):
        table.add_column(escape(name), justify="right", no_wrap=True)
    table.add_column(escape(f"vs {report.baseline}"), justify="right", no_wrap=True)
    if wide:
        table.add_column("verdict", no_wrap=True)
    for name in ("tokens", "passes", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)

    between = " " if wide else "\n"
    for arm in report.arms:
        title = Text(arm.name, style="bold")
        if arm.name == report.baseline:
            title.append(" (baseline)", style="not bold dim")
        d = arm.difference
        verdict = Text("" if d is None else d.verdict, style="" if d is None else _COLOUR[d.verdict])
        if wide:
            against = [Text(_difference(d)), verdict]
        else:
            against = [Text.assemble(_difference(d, with_interval=False), " ", verdict, "\n", _interval(d))]
        table.add_row(
            title,
            _with_half_width(arm.figures.get("accuracy"), between),
            _percent(arm.figures.get("strict")),
            _percent(arm.figures.get("parsed")),
            *(_plain(arm.figures.get(n)) for n in extra),
            *against,
            _cost(arm, "tokens_written"),
            _cost(arm, "forward_passes"),
            _cost(arm, "seconds"),
        )
    return table


def _missing(figure: Figure | None) -> bool:
    return figure is None or math.isnan(figure.value)


def _with_half_width(figure: Figure | None, between: str) -> str:
    if figure is None or _missing(figure):
        return "–"
    low, high = figure.interval
    return f"{100 * figure.value:.1f}{between}±{100 * (high - low) / 2:.1f}"


def _percent(figure: Figure | None) -> str:
    return "–" if figure is None or _missing(figure) else f"{100 * figure.value:.1f}"


def _plain(figure: Figure | None) -> str:
    return "–" if figure is None or _missing(figure) else f"{figure.value:.3g}"


def _difference(d: Difference | None, *, with_interval: bool = True) -> str:
    if d is None or math.isnan(d.value):
        return "–"
    return f"{100 * d.value:+.1f}" + (f" {_interval(d)}" if with_interval else "")


def _interval(d: Difference | None) -> str:
    if d is None or math.isnan(d.value):
        return ""
    return f"[{100 * d.interval[0]:+.1f}, {100 * d.interval[1]:+.1f}]"


def _cost(arm: Arm, name: str) -> str:
    figure = arm.mean_cost.get(name)
    if figure is None or _missing(figure):
        return "–"
    value = figure.value
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:#.2g}"
