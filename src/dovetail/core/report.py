"""The report: what every comparison, audit and training run ends in.

Plain data: ``report/`` renders it (terminal, HTML, JSON, Parquet), ``core.statistics`` computes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from dovetail.core.completion import Cost

Verdict = Literal["better", "worse", "cannot tell"]


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value with its 95% interval."""

    value: float
    interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Difference:
    """An arm minus the baseline arm over the same examples.

    Attributes:
        value, interval: paired mean difference with its 95% bootstrap interval.
        p_value: two-sided paired bootstrap; ``p_adjusted`` is Holm's over all arms of the report.
        verdict: "better" or "worse" where ``p_adjusted`` < 0.05, else "cannot tell".
        pairs: examples that both arms have, which the difference is over.
    """

    value: float
    interval: tuple[float, float]
    p_value: float
    p_adjusted: float
    verdict: Verdict
    pairs: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """One example under one arm: a row of ``examples.parquet``.

    Attributes:
        error: why there is no completion ("" if there is one); such rows score 0 and are counted.
    """

    arm: str
    example_id: str
    prompt: str
    completion: str
    reference: str | None
    answer: str
    value: float
    strict: float
    parsed: bool
    finish_reason: str
    cost: Cost
    figures: Mapping[str, float] = field(default_factory=dict)
    columns: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True, slots=True)
class Arm:
    """A row of the report.

    Attributes:
        figures: by name; "accuracy" (lenient), "strict", "parsed" always, then the task's own.
        cost: summed over its examples.
        mean_cost: figures of the costs per example: "tokens_read", "tokens_written",
            "forward_passes", "seconds".
        difference: to the baseline arm's accuracy; None for the baseline itself.
    """

    name: str
    description: str
    examples: int
    figures: Mapping[str, Figure]
    cost: Cost
    mean_cost: Mapping[str, Figure]
    difference: Difference | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """Arms x figures, the outcomes behind them, and the record of how they came about.

    Attributes:
        record: prompt template, extraction rule, versions, seeds, commit, machine, settings.
        notes: what a reader must know: bad rows by name, missing outcomes, warnings, low accuracy.
        complete: False for the partial report of an interrupted run.
    """

    title: str
    model: str
    task: str
    baseline: str
    arms: Sequence[Arm]
    outcomes: Sequence[Outcome]
    record: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    complete: bool = True

    def arm(self, name: str) -> Arm:
        """The arm of that name; KeyError lists the known ones."""
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise KeyError(f"no arm {name!r}: {', '.join(a.name for a in self.arms)}")

    def save(self, folder: str) -> Any:
        """Writes report.html, report.json and examples.parquet into ``folder``; returns the HTML's path."""
        from importlib import import_module

        # Rendering lives above core; it is looked up by name so that nouns stay importable alone.
        return import_module("dovetail.report").save(self, folder)
