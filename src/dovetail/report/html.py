"""The report as one HTML file: no request leaves it, and nothing that a model wrote can run in it.

Tables, plots and the record are plain HTML and SVG, written here and readable without scripts; the
script (page/report.js) sorts, switches costs and shows examples. The examples travel compressed and are
put on the page as text nodes, a few at a time. A content security policy allows this file's own script
and no other, and no connection at all.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from dovetail.core import Arm, Difference, Figure, Outcome, Report
from dovetail.report.document import asset, document
from dovetail.report.files import FORMAT, plain
from dovetail.report.notes import further, headline
from dovetail.report.plots import Point, pareto

# name -> (column title, axis label)
_COSTS = {
    "tokens_written": ("Tokens written", "tokens written per example"),
    "forward_passes": ("Forward passes", "forward passes per example"),
    "seconds": ("Seconds", "seconds per example"),
    "tokens_read": ("Tokens read", "tokens read per example"),
}
_PLOTTED = ("tokens_written", "forward_passes", "seconds")
_SHOWN_FIRST = {
    "tokens_written": "Tokens",
    "seconds": "Seconds",
}  # beside the results; all in their own table
_CHIPS = {"better": ("better", "▲"), "worse": ("worse", "▼"), "cannot tell": ("unclear", "≈")}
_CONTINUED_SHOWN = 3  # lines under a note before they are folded
_RECORD_FIRST = (
    "prompt",
    "model",
    "task",
    "arms",
    "seed",
    "seeds",
    "limits",
    "versions",
    "commit",
    "machine",
)


def html(report: Report) -> str:
    """The whole page as text, to be written as UTF-8."""
    parts = (_header, _notes, _results, _further, _forest, _pareto, _costs, _examples, _record)
    return document(
        report.title,
        ("report.css",),
        [part(report) for part in parts],
        f"Format {FORMAT}. The same figures are in report.json, every completion in examples.parquet.",
        data=_payload(report),
        script=asset("report.js"),
    )


# ---- the parts of the page, from top to bottom


def _header(report: Report) -> str:
    examples = max((a.examples for a in report.arms), default=0)
    facts = [
        ("Model", report.model),
        ("Task", report.task),
        ("Examples", f"{examples:,}"),
        ("Baseline", report.baseline),
    ]
    partial = "" if report.complete else '<span class="tag warn">partial</span>'
    return (
        f"<header><h1>{escape(report.title)}{partial}</h1>"
        f'<p class="headline">{escape(headline(report))}</p>'
        '<dl class="facts">'
        + "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
        + "</dl></header>"
    )


def _notes(report: Report) -> str:
    notes = [
        *([] if report.complete else ["The run was interrupted: this report is partial."]),
        *report.notes,
    ]
    if not notes:
        return ""
    items: list[tuple[str, list[str]]] = []
    for note in notes:
        # A note that begins with a space continues the one before it.
        if note[:1].isspace() and items:
            items[-1][1].append(note.strip())
        else:
            items.append((note, []))
    out = []
    for note, continued in items:
        lines = "".join(f"<li>{escape(line)}</li>" for line in continued)
        if len(continued) > _CONTINUED_SHOWN:
            out.append(
                f"<li class='folded'><details><summary>{escape(note)}</summary>"
                f"<ul class='rows'>{lines}</ul></details></li>"
            )
        else:
            out.append(f"<li>{escape(note)}" + (f"<ul class='rows'>{lines}</ul>" if lines else "") + "</li>")
    items_html = "".join(out)
    return f'<section class="notes"><h2>Before you read on</h2><ul>{items_html}</ul></section>'


def _results(report: Report) -> str:
    heads = [("Arm", False), ("Accuracy", True)]
    compared = len(report.arms) > 1
    if compared:
        heads += [(f"Against {report.baseline}", True), ("Verdict", False)]
    heads += [(name, True) for name in ("Strict", "Parsed", *_SHOWN_FIRST.values())]
    rows = []
    for i, arm in enumerate(report.arms):
        cells = [_arm_cell(report, arm, i), _figure_cell(arm.figures.get("accuracy"), _percent, "main")]
        if compared:
            cells += [_difference_cell(arm.difference), _verdict_cell(arm.difference)]
        for n in ("strict", "parsed"):
            cells.append(_figure_cell(arm.figures.get(n), _percent, "minor", interval=False))
        for n in _SHOWN_FIRST:
            cells.append(_figure_cell(arm.mean_cost.get(n), _number, "minor", interval=False))
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return (
        '<section><h2>Results</h2><p class="lead">Small print under a figure is its 95% interval. '
        "Differences are in points, paired over the same examples. Costs are means per example.</p>"
        + _table("results", heads, rows)
        + "</section>"
    )


def _further(report: Report) -> str:
    names = further(report.arms)
    if not names:
        return ""
    heads = [("Arm", False), *((name, True) for name in names)]
    rows = []
    for i, arm in enumerate(report.arms):
        cells = [_figure_cell(arm.figures.get(n), _number) for n in names]
        rows.append(f"<tr>{_arm_cell(report, arm, i, described=False)}{''.join(cells)}</tr>")
    return (
        '<details class="further"><summary>What the task measures beside accuracy: '
        + f"{escape(', '.join(names))}</summary>"
        + _table("further", heads, rows)
        + "</details>"
    )


def _forest(report: Report) -> str:
    compared = [
        (a.name, a.difference) for a in report.arms if a.difference and not math.isnan(a.difference.value)
    ]
    if not compared:
        return ""
    reach = max(0.02, *(abs(b) for _, d in compared for b in d.interval)) * 1.08
    step = next(s for s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0) if reach / s <= 4 or s == 1.0)
    ticks = [i * step for i in range(-int(reach / step), int(reach / step) + 1)]

    def at(x: float) -> str:
        return f"{50 + 50 * x / reach:.2f}%"

    rows = []
    for name, d in compared:
        kind = _CHIPS[d.verdict][0]
        low, high = d.interval
        rows.append(
            f'<div class="row {kind}"><span class="who">{_breakable(name)}</span>'
            f'<span class="track" aria-hidden="true"><i class="zero"></i>'
            f'<i class="span" style="left:{at(low)};right:calc(100% - {at(high)})"></i>'
            f'<i class="dot" style="left:{at(d.value)}"></i></span>'
            f'<span class="what">{_points(d.value)}</span>'
            f'<small class="range">{_points(low)} to {_points(high)}</small></div>'
        )
    labels = "".join(f'<span style="left:{at(t)}">{_points(t, 0)}</span>' for t in ticks)
    return (
        f'<section><h2>Difference to {escape(report.baseline)}</h2><p class="lead">Accuracy in points, with '
        "its 95% interval. An interval that crosses the line is compatible with no difference.</p>"
        f'<div class="forest">{"".join(rows)}<div class="row scale" aria-hidden="true">'
        f'<span class="who"></span><span class="track">{labels}</span></div></div></section>'
    )


def _pareto(report: Report) -> str:
    if sum(a.examples > 0 for a in report.arms) < 2:
        return ""
    plots: list[str] = []
    choices: list[str] = []
    for cost in _PLOTTED:
        points = [
            Point(
                a.name,
                a.mean_cost[cost].value,
                a.mean_cost[cost].interval,
                a.figures["accuracy"].value,
                a.figures["accuracy"].interval,
                a.name == report.baseline,
            )
            for a in report.arms
            if a.examples and cost in a.mean_cost
        ]
        if not any(p.x > 0 for p in points):
            continue  # a server that does not say how many passes it took, for one
        title, label = _COSTS[cost]
        first = not choices
        choices.append(
            f'<label><input type="radio" name="cost" value="{cost}"{" checked" if first else ""}>'
            f"<span>{title}</span></label>"
        )
        hidden = "" if first else " hidden"
        plots.append(
            f'<div class="plot" data-cost="{cost}"{hidden}>'
            f'<div class="wide">{pareto(points, label, 960, 430)}</div>'
            f'<div class="narrow">{pareto(points, label, 336, 330, numbered=True)}</div></div>'
        )
    if not plots:
        return ""
    keys = "".join(f"<li>{escape(a.name)}</li>" for a in report.arms if a.examples)
    return (
        '<section><h2>Accuracy against cost</h2><p class="lead">On the line: no other arm is both cheaper '
        "and more accurate. The ring marks the baseline; bars are 95% intervals.</p>"
        f'<fieldset class="switch"><legend>Cost</legend>{"".join(choices)}</fieldset>'
        f'{"".join(plots)}<ol class="narrow keys">{keys}</ol></section>'
    )


def _costs(report: Report) -> str:
    shown = [c for c in _COSTS if any(a.mean_cost.get(c) and a.mean_cost[c].value > 0 for a in report.arms)]
    if not shown:
        return ""
    base = next((a for a in report.arms if a.name == report.baseline), None)
    memory = any(a.cost.peak_memory for a in report.arms)
    heads = [("Arm", False), *((_COSTS[c][0], True) for c in shown), ("Total seconds", True)]
    if memory:
        heads.append(("Peak memory", True))
    rows = []
    for i, arm in enumerate(report.arms):
        cells = [_arm_cell(report, arm, i, described=False)]
        for cost in shown:
            figure = arm.mean_cost.get(cost)
            reference = base.mean_cost.get(cost) if base is not None and arm is not base else None
            cells.append(_figure_cell(figure, _number, factor=_factor(figure, reference)))
        cells.append(_cell(arm.cost.seconds, _number(arm.cost.seconds)))
        if memory:
            cells.append(_cell(arm.cost.peak_memory, _bytes(arm.cost.peak_memory)))
        rows.append(f"<tr>{''.join(cells)}</tr>")
    factor = f", and as a factor of {escape(report.baseline)}" if len(report.arms) > 1 else ""
    return (
        f'<section><h2>Costs</h2><p class="lead">Means per example with their 95% intervals{factor}.</p>'
        + _table("costs", heads, rows)
        + "</section>"
    )


def _examples(report: Report) -> str:
    if not report.outcomes:
        return ""
    options = {
        "all": "All examples",
        "disagree": "Arms disagree",
        "right": "Every arm right",
        "wrong": "Every arm wrong",
        "cut": "Cut off or failed",
    }
    choices = "".join(f'<option value="{value}">{text}</option>' for value, text in options.items())
    return (
        '<section id="examples"><h2>Examples</h2>'
        '<p class="lead">What every arm wrote, side by side. The marks of a row are the arms, in the order '
        'of the table: <b class="m right"></b> right, <b class="m part"></b> in part, '
        '<b class="m wrong"></b> wrong, <b class="m none"></b> missing.</p>'
        '<form class="tools"><label>Show <select id="filter">' + choices + "</select></label>"
        '<label class="grow">Search <input id="search" type="search" '
        'placeholder="question, completion or id" autocomplete="off" spellcheck="false"></label>'
        '<output id="count" aria-live="polite"></output></form>'
        '<div id="list"><noscript><p>Examples need JavaScript; examples.parquet holds them.</p></noscript>'
        '</div><button type="button" id="more" hidden>Show more</button></section>'
    )


def _record(report: Report) -> str:
    record: Any = plain(report.record)
    if not record:
        return ""
    record.pop("bad_rows", None)  # named in the notes
    arms = record.get("arms")
    if isinstance(arms, dict):
        record["arms"] = {k: _own(arm, record.get("prompt")) for k, arm in arms.items()}
    keys = [k for k in _RECORD_FIRST if k in record] + [k for k in record if k not in _RECORD_FIRST]
    rows = "".join(f"<div><dt>{_words(k)}</dt><dd>{_value(record[k])}</dd></div>" for k in keys)
    return (
        '<section class="record"><h2>Record</h2><p class="lead">Everything needed to repeat or dispute these '
        f"figures.</p><dl>{rows}</dl></section>"
    )


# ---- cells


_CELL = re.compile(r"<t[dh] ")


def _table(id: str, heads: Sequence[tuple[str, bool]], rows: Sequence[str]) -> str:
    """On a phone the rows become cards, in which each cell carries the head of its column (``data-k``)."""
    names = [escape(name, quote=True) for name, _ in heads]
    labelled = []
    for row in rows:
        column = iter(names)
        labelled.append(_CELL.sub(lambda cell: f'{cell[0]}data-k="{next(column)}" ', row))  # noqa: B023
    cells = "".join(
        f'<th scope="col"{" class=num" if number else ""}><button type="button">{escape(name)}</button></th>'
        for name, number in heads
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{id}"><table id="{id}">'
        f"<thead><tr>{cells}</tr></thead><tbody>{''.join(labelled)}</tbody></table></div>"
    )


def _arm_cell(report: Report, arm: Arm, order: int, *, described: bool = True) -> str:
    tag = '<span class="tag">baseline</span>' if arm.name == report.baseline else ""
    about = f"<small>{escape(arm.description)}</small>" if described and arm.description else ""
    return (
        f'<th scope="row" data-v="{order}"><span class="arm">{_breakable(arm.name)}</span>{tag}{about}</th>'
    )


def _cell(sort: float, text: str, kind: str = "") -> str:
    value = "" if math.isnan(sort) else f"{sort:.9g}"
    return f'<td class="{f"num {kind}".strip()}" data-v="{value}">{text}</td>'


def _figure_cell(
    figure: Figure | None,
    write: Callable[[float], str],
    kind: str = "",
    *,
    interval: bool = True,
    factor: str = "",
) -> str:
    if figure is None or math.isnan(figure.value):
        return _cell(math.nan, "–", kind)
    low, high = figure.interval
    small = f"<small>{write(low)} – {write(high)}</small>" if interval else ""
    return _cell(figure.value, f"{write(figure.value)}{factor}{small}", kind)


def _difference_cell(d: Difference | None) -> str:
    if d is None or math.isnan(d.value):
        return _cell(0.0 if d is None else math.nan, "–")
    low, high = d.interval
    return _cell(d.value, f"{_points(d.value)}<small>{_points(low)} to {_points(high)}</small>")


def _verdict_cell(d: Difference | None) -> str:
    if d is None:
        return '<td class="verdict" data-v="0"></td>'
    kind, mark = _CHIPS[d.verdict]
    order = {"better": 1, "cannot tell": 0, "worse": -1}[d.verdict]
    p = f"p {d.p_value:.2g}, corrected over all arms {d.p_adjusted:.2g}, {d.pairs} pairs"
    return (
        f'<td class="verdict" data-v="{order}"><span class="chip {kind}" title="{p}">'
        f'<span aria-hidden="true">{mark}</span> {d.verdict}</span></td>'
    )


def _factor(figure: Figure | None, reference: Figure | None) -> str:
    if figure is None or reference is None or not reference.value > 0 or math.isnan(figure.value):
        return ""
    return f' <span class="factor">×{figure.value / reference.value:.2f}</span>'


def _breakable(name: str) -> str:
    """An arm's name that may wrap between its parts rather than within a word."""
    return re.sub(r"([+:=,_/])(?=.)", r"\1<wbr>", escape(name, quote=False))


def _percent(x: float) -> str:
    return f"{100 * x:.1f}%"


def _points(x: float, digits: int = 1) -> str:
    text = f"{100 * x:+.{digits}f}".replace("-", "−")
    return text[1:] if not text.strip("+−0.") else text


def _number(x: float) -> str:
    if not math.isfinite(x):
        return "–"
    if abs(x) >= 1000:
        return f"{x:,.0f}"
    if abs(x) >= 10:
        return f"{x:.1f}"
    return f"{x:.2f}" if abs(x) >= 0.1 or not x else f"{x:#.2g}"


def _bytes(n: float) -> str:
    for unit in ("B", "KB", "MB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} GB"


# ---- record


def _words(key: str) -> str:
    return escape(key.replace("_", " "))


def _value(value: Any, depth: int = 0) -> str:
    if value is None or value == "" or value == [] or value == {}:
        return '<span class="nothing">none</span>'
    if isinstance(value, Mapping):
        rows = "".join(
            f"<div><dt>{_words(str(k))}</dt><dd>{_value(v, depth + 1)}</dd></div>" for k, v in value.items()
        )
        inner = f'<dl class="inner">{rows}</dl>'
        if len(value) > 4 or depth > 0:
            return f"<details><summary>{escape(_gist(value))}</summary>{inner}</details>"
        return inner
    if isinstance(value, list):
        if all(not isinstance(v, list | Mapping) for v in value) and len(value) <= 40:
            return escape(", ".join(str(v) for v in value))
        return "<ol>" + "".join(f"<li>{_value(v, depth + 1)}</li>" for v in value) + "</ol>"
    text = str(value)
    return f"<pre>{escape(text)}</pre>" if "\n" in text else escape(text)


def _own(arm: Any, prompt: Any) -> Any:
    """An arm's record without what is the same for all, or not set."""
    if not isinstance(arm, Mapping):
        return arm
    return {k: v for k, v in arm.items() if v is not None and not (k == "prompt" and v == prompt)}


def _gist(value: Mapping[str, Any], length: int = 72) -> str:
    """A folded record in a line: its description, or its first plain values, or what it is about."""
    said = value.get("description")
    plain_ones = [f"{k} {v}" for k, v in value.items() if isinstance(v, str | int | float) and str(v)]
    text = " ".join(str(said or ", ".join(plain_ones or value)).split())
    return text if len(text) <= length else text[: length - 1].rstrip(" ,") + "…"


# ---- examples


def _payload(report: Report) -> str:
    """The examples as base64 of gzipped JSON: small, and free of any character that HTML could mistake."""
    prompts: dict[str, int] = {}
    rows: dict[str, dict[str, Any]] = {}
    order = {arm.name: i for i, arm in enumerate(report.arms)}
    for o in report.outcomes:
        if o.arm not in order:
            continue
        row = rows.setdefault(
            o.example_id,
            {"id": o.example_id, "q": question(o.prompt), "ref": o.reference, "arms": [None] * len(order)},
        )
        row["arms"][order[o.arm]] = _shown(o, prompts.setdefault(o.prompt, len(prompts)))
    data = {"arms": list(order), "prompts": list(prompts), "examples": list(rows.values())}
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode("ascii"), 9, mtime=0)).decode()


def _shown(o: Outcome, prompt: int) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "p": prompt,
        "t": o.completion,
        "a": o.answer,
        "v": round(float(o.value), 4),
        "f": o.finish_reason,
        "n": o.cost.tokens_written,
        "w": round(o.cost.forward_passes, 1),
    }
    if not o.parsed:
        shown["u"] = 1
    if o.error:
        shown["e"] = o.error
    further = {**o.figures, **o.columns}
    if further:
        shown["c"] = {str(k): _brief(v) for k, v in further.items()}
    return shown


def _brief(value: Any, length: int = 400) -> str:
    value = plain(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= length else text[:length] + "…"


_USER_TURN = re.compile(
    r"(?:<\|im_start\|>user\n|<\|start_header_id\|>user<\|end_header_id\|>\s*|\[INST\]|<start_of_turn>user\n)"
    r"(.*?)(?:<\|im_end\|>|<\|eot_id\|>|\[/INST\]|<end_of_turn>)",
    re.DOTALL,
)


def question(prompt: str, length: int = 200) -> str:
    """The last user turn of a rendered prompt in one line; the prompt's end where turns are not marked."""
    turns = _USER_TURN.findall(prompt)
    line = " ".join((turns[-1] if turns else prompt).split())
    if len(line) <= length:
        return line
    return line[: length - 1] + "…" if turns else "…" + line[-length + 1 :]
