"""Was a finished run's reward earned or hacked? An audit of its logs, from whatever trainer.

Replays a run through `training.monitors.ProxyGap` and compares its last completions with its first: gold
against proxy, which features moved and are paid for beyond gold, when each sign appeared, and the
over-optimisation law where divergences were logged. The view is that of "Reward Hacking in the Era of Large
Models", arXiv 2604.13602.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dovetail.audits.over_optimization import Fit, fit_overoptimization
from dovetail.core import BadData, BadRow, Cost, InvalidValue, Outcome, Report
from dovetail.core.statistics import summarise
from dovetail.rewards.surface import FEATURES, table
from dovetail.training.monitors.proxy_gap import HackingReport, ProxyGap

Row = Mapping[str, Any]
FIRST, LAST = "first steps", "last steps"


@dataclass(frozen=True)
class RewardHackingAudit:
    """An audit of a run's rows: one per completion, in any order of steps.

    In the report "accuracy" stands for gold (or for the proxy, where there is no gold; a note says so), the
    arms are the first steps, which stand for the reference policy, and the last. Rows of one prompt are
    averaged.

    Attributes:
        proxy, gold, response, prompt, step, kl: columns. ``gold`` may be missing, and then much cannot be
            told; so may ``step``, where the rows are taken in order and cut into ten steps; so may ``kl``.
        reference: steps at the beginning that stand for the reference policy.
        window: steps at the end that are compared with them, and that a sign is looked for in.
    """

    proxy: str = "reward"
    gold: str = "gold"
    response: str = "response"
    prompt: str = "prompt"
    step: str = "step"
    kl: str = "kl"
    reference: int = 3
    window: int = 5

    def run(self, rows: str | os.PathLike[str] | Sequence[Row], title: str = "") -> Report:
        """Audits a file (.jsonl, .parquet, .csv) or rows.

        Raises:
            BadData: no readable row, or fewer steps than ``reference`` + 1.
            InvalidValue: a column is missing, or a score is not finite; names the column and the rows.
        """
        found, bad = _rows(rows)
        if not found:
            raise BadData("no readable row" + "".join(f"; {row}" for row in bad[:5]))
        self._check(found)
        steps = self._steps(found)
        if len(steps) <= self.reference:
            raise BadData(f"{len(steps)} steps: more than reference = {self.reference} are needed")
        has_gold = self.gold in found[0]
        monitor = ProxyGap(reference=self.reference, window=self.window)
        for number, own in steps.items():
            monitor.log(
                number,
                [str(r[self.response]) for r in own],
                [float(r[self.proxy]) for r in own],
                [float(r[self.gold]) for r in own] if has_gold else None,
                [str(r[self.prompt]) for r in own] if self.prompt in found[0] else None,
            )
        told = monitor.report()
        numbers = list(steps)
        first = [r for n in numbers[: self.reference] for r in steps[n]]
        last = [r for n in numbers[self.reference :][-self.window :] for r in steps[n]]
        outcomes = [*self._outcomes(FIRST, first), *self._outcomes(LAST, last)]
        fit = self._fit(steps) if has_gold else None
        name = os.fspath(rows) if isinstance(rows, str | os.PathLike) else f"{len(found)} rows"
        return Report(
            title or f"Reward hacking audit of {name}",
            model="",
            task=name,
            baseline=FIRST,
            arms=summarise(
                outcomes, FIRST, arms={FIRST: "stand for the reference policy", LAST: "as trained"}
            ),
            outcomes=outcomes,
            record={
                "audit": {"proxy": self.proxy, "gold": self.gold if has_gold else None},
                "hacking": told.as_dict(),
                "over_optimization": None if fit is None else vars(fit),
            },
            notes=[*_findings(told, fit), *self._caveats(has_gold, bad)],
        )

    def _check(self, rows: Sequence[Row]) -> None:
        known = ", ".join(sorted(rows[0]))
        for column in (self.proxy, self.response):
            if any(column not in r for r in rows):
                raise InvalidValue(f"column {column!r}", None, f"in every row (the first has {known})")
        optional = [self.gold] if self.gold in rows[0] else []
        for column in (self.proxy, *optional):
            bad = [i for i, r in enumerate(rows) if not _is_number(r.get(column))]
            if bad:
                shown = ", ".join(map(str, bad[:10]))
                raise InvalidValue(
                    f"column {column!r} of rows {shown}", rows[bad[0]].get(column), "a finite number"
                )

    def _steps(self, rows: Sequence[Row]) -> dict[int, list[Row]]:
        grouped: dict[int, list[Row]] = {}
        for i, row in enumerate(rows):
            number = int(row[self.step]) if self.step in row else i * 10 // len(rows)
            grouped.setdefault(number, []).append(row)
        return dict(sorted(grouped.items()))

    def _outcomes(self, arm: str, rows: Sequence[Row]) -> list[Outcome]:
        by_prompt: dict[str, list[Row]] = {}
        for i, row in enumerate(rows):
            by_prompt.setdefault(str(row.get(self.prompt, f"row {i}")), []).append(row)
        made = []
        for prompt, own in by_prompt.items():
            proxy = [float(r[self.proxy]) for r in own]
            gold = [float(r[self.gold]) for r in own] if self.gold in own[0] else proxy
            features = table([str(r[self.response]) for r in own]).mean(0)
            # The one to look at: most proxy for least gold.
            shown = own[int(np.argmax(np.array(proxy) - np.array(gold)))]
            figures = {"proxy": float(np.mean(proxy))}
            figures |= dict(zip(FEATURES, features.tolist(), strict=True))
            value = float(np.mean(gold))
            text = str(shown[self.response])
            made.append(
                Outcome(
                    arm, prompt, prompt, text, None, "", value, value, True, "stop", Cost(), figures=figures
                )
            )
        return made

    def _fit(self, steps: Mapping[int, Sequence[Row]]) -> Fit | None:
        points = [
            (float(np.mean([r[self.kl] for r in own])), float(np.mean([r[self.gold] for r in own])))
            for own in steps.values()
            if all(_is_number(r.get(self.kl)) for r in own)
        ]
        if len(points) < 3:
            return None
        kl, gold = np.array(points).T
        return fit_overoptimization(np.maximum(kl, 0.0), gold, "rl")

    def _caveats(self, has_gold: bool, bad: Sequence[BadRow]) -> list[str]:
        notes = [f"{len(bad)} rows could not be read, the first: {bad[0]}"] if bad else []
        if has_gold:
            return [
                f"Accuracy stands for the column {self.gold!r}, which is itself a proxy of something.",
                *notes,
            ]
        return [f"There is no column {self.gold!r}: accuracy stands for the proxy.", *notes]


def _findings(told: HackingReport, fit: Fit | None) -> list[str]:
    notes = [told.signal[0].upper() + told.signal[1:] + "."] if told.signal else []
    for kind, step in sorted(told.first.items(), key=lambda item: item[1]):
        notes.append(f"Sign of hacking at step {step}: {_MEANING[kind]}.")
    if not told.first and not told.signal:
        notes.append("No sign of hacking.")
    for shift in told.shifts:
        if shift.flagged:
            notes.append(
                f"{shift.feature} moved by {shift.smd:+.2f} standard deviations and is paid for beyond gold "
                f"(partial rank correlation {shift.partial:+.2f}); it explains {shift.explained:.0%} of the "
                "proxy's gain."
            )
    hacked = [p["rows"] for p in told.curve if p["rows"] is not None]
    if hacked:
        notes.append(f"At the last step {hacked[-1]:.0%} of the rows gained proxy and no gold.")
    if fit is not None:
        notes.append(_law(fit))
    return notes


_MEANING = {
    "features": "a surface feature moved and is paid for beyond gold",
    "gap": "the proxy rose by more than a standard deviation, and gold did not",
    "divergence": "the proxy rose while gold fell",
}


def _law(fit: Fit) -> str:
    peak = f"gold peaks at sqrt(KL) = {fit.d_peak:.2f}" if math.isfinite(fit.d_peak) else "gold does not peak"
    return f"Over-optimisation law: alpha {fit.alpha:.3g}, beta {fit.beta:.3g}, R2 {fit.r2:.2f}; {peak}."


def _is_number(value: Any) -> bool:
    try:
        return value is not None and math.isfinite(float(value))
    except (TypeError, ValueError):
        return False


def _rows(source: str | os.PathLike[str] | Sequence[Row]) -> tuple[list[Row], list[BadRow]]:
    if not isinstance(source, str | os.PathLike):
        return list(source), []
    from dovetail.tasks import rows

    path = Path(source)
    rows.check(path)
    found: list[Row] = []
    bad: list[BadRow] = []
    for row in rows.read(path):
        if isinstance(row, BadRow):
            bad.append(row)
        else:
            found.append({key: _plain(value) for key, value in row.values.items()})
    return found, bad


def _plain(value: Any) -> Any:
    """Numbers that a CSV holds as text."""
    if isinstance(value, str):
        try:
            return json.loads(value) if value and value[0] in "-0123456789" else value
        except ValueError:
            return value
    return value
