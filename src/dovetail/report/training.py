"""A training run as one HTML file: curves, evaluations, alarms, and what the model wrote over time.

Plain HTML and SVG without any script, so nothing that a model wrote can run; no request leaves the page.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path

from dovetail.core import Difference
from dovetail.report.curves import Curve, plot
from dovetail.report.document import document
from dovetail.report.files import plain
from dovetail.training.run import Run, Sample

# figure -> title; in this order, and then every reward's own and whatever else a part logged
_SHOWN = {
    "reward": "Reward",
    "length": "Tokens per completion",
    "loss": "Loss",
    "kl": "KL to the reference",
    "entropy": "Entropy, nats per token",
    "truncated": "Share cut by the limit",
    "zero_variance": "Groups all paid the same",
    "gradient": "Gradient norm",
}
_SHARES = {"truncated", "zero_variance"}
_UNPLOTTED = ("step", "seconds", "rate", "padding", "read", "completions_per_second", "skipped/", "held_out/")


def save(run: Run, folder: str | os.PathLike[str]) -> Path:
    """Writes ``training.html`` and ``evaluations.json`` into the run's folder; returns the page's path."""
    path = Path(folder) / "training.html"
    path.write_text(html(run), encoding="utf-8")
    found = json.dumps([plain(e.as_dict()) for e in run.evaluations], indent=1)
    (Path(folder) / "evaluations.json").write_text(found + "\n", encoding="utf-8")
    return path


def html(run: Run) -> str:
    """The whole page as text, to be written as UTF-8."""
    title = f"Training: {run.model.name}"
    return document(
        title,
        ("report.css", "training.css"),
        [
            _header(run, title),
            _notes(run),
            _evaluations(run),
            _curves(run),
            _samples(run.samples),
            _record(run),
        ],
        "Every step's figures are in log.jsonl, scores per question in evaluations.json.",
    )


def headline(run: Run) -> str:
    """What came of it, in a sentence or two."""
    told = []
    if len(run.evaluations) > 1:
        first, last = run.evaluations[0].accuracy, run.final.accuracy
        told.append(
            f"On {len(run.final.values)} held-out questions accuracy went from {first.value:.1%} to "
            f"{last.value:.1%} ({_difference(run.gain)})."
        )
    if run.history and "reward" in run.history[0]:
        _, rewards = run.curve("reward")
        tenth = max(1, len(rewards) // 10)
        begun, ended = sum(rewards[:tenth]) / tenth, sum(rewards[-tenth:]) / tenth
        told.append(f"Mean reward went from {begun:.3g} to {ended:.3g}.")
    return " ".join(told) or "No held-out questions were asked."


def _header(run: Run, title: str) -> str:
    seconds = sum(f["seconds"] for f in run.history)
    objective = run.settings.get("objective", {}).get("class", "")
    facts = [
        ("Steps", f"{len(run.history):,}"),
        ("Objective", objective),
        ("Rewards", ", ".join(run.settings.get("rewards", {})) or "none"),
        ("Minutes of training", f"{seconds / 60:.1f}"),
    ]
    stopped = '<span class="tag warn">stopped</span>' if run.stopped else ""
    shown = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    return (
        f"<header><h1>{escape(title)}{stopped}</h1>"
        f'<p class="headline">{escape(headline(run))}</p><dl class="facts">{shown}</dl></header>'
    )


def _notes(run: Run) -> str:
    notes = [f"The run was stopped by {run.stopped}"] if run.stopped else []
    notes += [f"Step {a.step + 1}, {a.monitor}: {a.text}" for a in run.alarms]
    notes += [f"Left out, {reason}: {count:,}" for reason, count in run.skipped.items()]
    if not notes:
        return ""
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f'<section class="notes"><h2>Alarms, and what was left out</h2><ul>{items}</ul></section>'


def _evaluations(run: Run) -> str:
    if not run.evaluations:
        return ""
    first, rows = run.evaluations[0], []
    heads = ("Accuracy", "Against the beginning", "Tokens", "Cut by the limit")
    for one in run.evaluations:
        a, n = one.accuracy, one.length
        against = "" if one is first else _difference(one.minus(first))
        cut = sum(one.truncated) / max(1, len(one.truncated))
        values = (
            f"{a.value:.1%}<small>{a.interval[0]:.1%} – {a.interval[1]:.1%}</small>",
            escape(against),
            f"{n.value:.1f}",
            f"{cut:.1%}",
        )
        shown = "".join(
            f'<td class="num{"" if place else " main"}" data-k="{head}">{value}</td>'
            for place, (head, value) in enumerate(zip(heads, values, strict=True))
        )
        rows.append(f'<tr><th scope="row">after {one.step} steps</th>{shown}</tr>')
    cells = "".join(f'<th scope="col" class="plain{" num" if h else ""}">{h}</th>' for h in ("", *heads))
    return (
        f'<section><h2>Held-out questions</h2><p class="lead">{len(first.values)} questions that were not '
        "trained on, answered greedily. Differences are in points, paired over the questions, with 95% "
        f'intervals.</p><div class="scroll"><table><thead><tr>{cells}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _curves(run: Run) -> str:
    alarms = [float(a.step) for a in run.alarms]
    figures = []
    if len(run.evaluations) > 1:
        accuracy = [e.accuracy for e in run.evaluations]
        curve = Curve(
            [e.step - 1.0 for e in run.evaluations],
            [a.value for a in accuracy],
            [a.interval for a in accuracy],
        )
        figures.append(_figure("Held-out accuracy", curve, alarms, percent=True))
    names = dict.fromkeys(name for f in run.history for name in f)
    logged = [n for n in _SHOWN if n in names]
    logged += [n for n in names if n not in _SHOWN and not n.startswith(_UNPLOTTED)]
    only_reward = sum(n.startswith("reward/") for n in names) == 1
    for name in logged:
        if name == "reward_deviation" or (only_reward and name.startswith("reward/")):
            continue
        steps, values = run.curve(name)
        title = _SHOWN.get(name, name.replace("/", ": ").replace("_", " "))
        figures.append(_figure(title, Curve(steps, values), alarms, percent=name in _SHARES))
    if not run.history:
        return ""
    note = " Dashed lines mark alarms." if alarms else ""
    return (
        '<section><h2>Curves</h2><p class="lead">Thin: every step. Thick: mean of the last five.'
        f'{note}</p><div class="curves">{"".join(figures)}</div></section>'
    )


def _figure(title: str, curve: Curve, alarms: Sequence[float], percent: bool) -> str:
    finite = [y for y in curve.y if math.isfinite(y)]
    if not finite:
        return ""
    last = f"{finite[-1]:.1%}" if percent else f"{finite[-1]:.3g}"
    drawn = plot(title, curve, marks=alarms, percent=percent)
    return f"<figure><figcaption>{escape(title)}<span>{last}</span></figcaption>{drawn}</figure>"


def _samples(samples: Sequence[Sample]) -> str:
    if not samples:
        return ""
    rows = []
    for sample in samples:
        paid = ", ".join(f"{name} {value:.3g}" for name, value in sample.rewards.items())
        worth = f"reward {sample.reward:.3g}" if math.isfinite(sample.reward) else ""
        rows.append(
            f"<details><summary><b>step {sample.step + 1}</b><b>{worth}</b>"
            f"<span>{escape(_gist(sample.question))}</span></summary>"
            f"<pre>{escape(sample.question)}</pre><pre>{escape(sample.text)}</pre>"
            f"<small>{escape(paid)}</small></details>"
        )
    return (
        '<section class="samples"><h2>Completions over time</h2><p class="lead">A few of every step that was '
        f"kept, as written.</p>{''.join(rows)}</section>"
    )


def _record(run: Run) -> str:
    text = json.dumps(plain(run.settings), indent=1, ensure_ascii=False)
    return (
        '<section class="record"><h2>Record</h2><details><summary>The resolved run</summary>'
        f"<pre>{escape(text)}</pre></details></section>"
    )


def _difference(d: Difference) -> str:
    low, high = d.interval
    return f"{100 * d.value:+.1f} points, {100 * low:+.1f} to {100 * high:+.1f}"


def _gist(text: str, length: int = 90) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"
