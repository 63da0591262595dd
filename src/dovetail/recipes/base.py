"""What a recipe returns: arms with figures, claims, seeds, notes, and series for plots."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from dovetail.core import Arm, Claim, Figure, InvalidValue

Scale = Literal["smoke", "pico", "full"]
SCALES: tuple[Scale, ...] = ("smoke", "pico", "full")


@dataclass(frozen=True, slots=True)
class RecipeArm:
    """One arm of a recipe.

    Attributes:
        figures: by name; a plain number where an interval has no meaning (a parameter count, say).
        description: the method with its parameters, as a reader would write it.
    """

    name: str
    figures: Mapping[str, Figure | float]
    description: str = ""

    @classmethod
    def of(cls, arm: Arm) -> RecipeArm:
        """An arm of a comparison's report: its figures, its costs per example, and its difference to the
        baseline as ``difference``."""
        figures: dict[str, Figure | float] = {**arm.figures, **arm.mean_cost}
        if arm.difference is not None:
            figures["difference"] = Figure(arm.difference.value, arm.difference.interval)
        return cls(arm.name, figures, arm.description)

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "description": self.description,
            "figures": {name: _figure(figure) for name, figure in self.figures.items()},
        }


def over_seeds(runs: Iterable[Sequence[float]]) -> list[float]:
    """``[run][example]`` -> ``[example]``: each example's mean over seeds (or samples). Examples alone are
    independent of each other, so an interval is over these."""
    return [sum(row) / len(row) for row in zip(*runs, strict=True)]


@dataclass(frozen=True, slots=True)
class RecipeResult:
    """What a recipe measured.

    Attributes:
        arms: the system, its baseline(s) and its ablations, measured on the same examples and seeds.
        claims: the paper's checkable statements; at least one is ``main``, unless the scale is smoke.
        seeds: every seed that was run.
        notes: what a reader must know: why a claim does not hold at this scale, what stands in for what.
        settings: model, task, number of examples, hyperparameters: JSON values.
        series: data of plots by name, such as ``{"accuracy_by_length": {"x": [...], "y": [...]}}``.
    """

    arms: Sequence[RecipeArm]
    claims: Sequence[Claim]
    seeds: Sequence[int]
    notes: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    series: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise InvalidValue("arms", names, "arms of different names")
        if not self.seeds:
            raise InvalidValue("seeds", self.seeds, "the seeds that were run")


class Recipe(Protocol):
    """The function ``run`` of every module in ``recipes/``."""

    def __call__(self, scale: Scale, seed: int) -> RecipeResult: ...


def plain(value: Any) -> Any:
    """``value`` as JSON can hold it: mappings and sequences of plain numbers and strings; arrays become
    lists, and a number that is not finite becomes None, since JSON has no NaN."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy and torch, arrays and scalars
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    return str(value)


def _figure(figure: Figure | float) -> dict[str, Any]:
    if isinstance(figure, Figure):
        return {"value": figure.value, "interval": list(figure.interval)}
    return {"value": figure, "interval": None}
