"""A claim of a paper beside what was measured here; the verdict is computed, never written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

ClaimVerdict = Literal["holds", "fails", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Claim:
    """One checkable statement.

    Attributes:
        text: the statement, with its threshold.
        paper: the paper's own figure, in words.
        baseline: the baseline's measured figure (None where the claim has no baseline).
        measured: the measured figure that ``interval`` belongs to (often a difference or ratio).
        interval: 95% interval of ``measured``.
        at_least, at_most: the bound(s) that the statement sets on ``measured``.
        main: whether the system's verdict rests on it.
    """

    text: str
    paper: str
    measured: float
    interval: tuple[float, float]
    baseline: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    main: bool = False

    def __post_init__(self) -> None:
        if self.at_least is None and self.at_most is None:
            raise ValueError(f"claim {self.text!r} sets no bound: give at_least or at_most")

    @property
    def verdict(self) -> ClaimVerdict:
        """``holds`` if the whole interval is within the bounds, ``fails`` if all of it is outside one."""
        low, high = self.interval
        above = self.at_least is None or low >= self.at_least
        below = self.at_most is None or high <= self.at_most
        if above and below:
            return "holds"
        if (self.at_least is not None and high < self.at_least) or (
            self.at_most is not None and low > self.at_most
        ):
            return "fails"
        return "inconclusive"

    def as_dict(self) -> dict[str, Any]:
        """The claim as ``results/<id>.json`` holds it."""
        return {
            "text": self.text,
            "paper": self.paper,
            "baseline": self.baseline,
            "measured": self.measured,
            "interval": list(self.interval),
            "at_least": self.at_least,
            "at_most": self.at_most,
            "verdict": self.verdict,
            "main": self.main,
        }
