"""Does a policy gain proxy reward without gaining true quality? The alarm is to come before quality falls.

The proxy compression view of "Reward Hacking in the Era of Large Models", arXiv 2604.13602: the gap between
gold and proxy, both standardised on the reference policy's outputs. Formulas are those of the primary papers,
thresholds our choice. Costs a few regular expressions per completion; the gold reward is asked for by the
trainer (weight 0).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dovetail.core import InvalidValue
from dovetail.rewards.surface import FEATURES, Feature, table
from dovetail.training.monitors.base import Alarm, Monitor
from dovetail.training.monitors.feature_shift import Shift, finite, shifts_of
from dovetail.training.rollouts import Rollouts

Floats = NDArray[np.float64]
_Z90 = 1.645
KINDS = ("features", "gap", "divergence")


@dataclass(frozen=True)
class HackingReport:
    """What a `ProxyGap` saw.

    Attributes:
        signal: "" or why nothing can be told (a constant proxy, too few steps, no gold).
        first: kind of alarm -> the step that raised it; only those that were raised.
        curve: per step: ``step``, ``proxy`` and ``gold`` (in standard deviations of the reference, gold None
            where there is none), ``gap`` and ``rows``, the share of rows that are hacked.
        shifts: of the last window's texts against the reference's.
    """

    signal: str
    first: Mapping[str, int]
    curve: Sequence[Mapping[str, float | None]]
    shifts: Sequence[Shift]

    @property
    def alarm(self) -> int | None:
        """The first step that raised any alarm."""
        return min(self.first.values(), default=None)

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        shifts = [s.as_dict() for s in self.shifts]
        return {"signal": self.signal, "first": dict(self.first), "curve": list(self.curve), "shifts": shifts}


@dataclass
class ProxyGap(Monitor):
    """Warns when the proxy outruns gold, by three signs, each reported once.

    - *features*: a surface feature moved and is paid for beyond gold (`feature_shift`), while the proxy rose:
      the earliest sign, and the only one without gold.
    - *gap*: over the last ``window`` steps the proxy is up by more than ``sd`` standard deviations of the
      reference, and gold is not up (90% interval).
    - *divergence*: over these steps the proxy's slope is above and gold's below zero (90% bootstrap
      intervals).

    A change of the proxy's unit or offset changes nothing. Where proxy and gold are equal there is no alarm.

    Attributes:
        proxy: name of the reward that is optimised; "" for the weighted sum of all.
        gold: name of the reward that tells the truth, of weight 0; "" for none. It is itself a proxy of
            something: say in the report where it comes from.
        reference: first steps whose completions stand for the reference policy's.
        window: steps that signs are looked for in.
        sd, moved, paid: thresholds: see above and `feature_shift`.
        stop: end the run at the first alarm.
        features: name -> feature, `rewards.surface.FEATURES` by default.
    """

    proxy: str = ""
    gold: str = ""
    reference: int = 3
    window: int = 5
    sd: float = 1.0
    moved: float = 0.5
    paid: float = 0.2
    stop: bool = False
    features: Mapping[str, Feature] = field(default_factory=lambda: dict(FEATURES), repr=False)
    first: dict[str, int] = field(default_factory=dict, init=False)
    curve: list[dict[str, float | None]] = field(default_factory=list, init=False, repr=False)
    # Rows are [proxy, gold (NaN without), feature, feature, ...].
    _steps: int = field(default=0, init=False, repr=False)
    _known: list[list[float]] = field(default_factory=list, init=False, repr=False)
    _known_ids: list[str] = field(default_factory=list, init=False, repr=False)
    _recent: list[list[list[float]]] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        for name, least in (("reference", 1), ("window", 3)):
            if getattr(self, name) < least:
                raise InvalidValue(name, getattr(self, name), f"at least {least}")
        for name in ("sd", "moved", "paid"):
            if not getattr(self, name) > 0:
                raise InvalidValue(name, getattr(self, name), "above 0")

    # --- what is seen ---------------------------------------------------------------------------------

    def update(self, rollouts: Rollouts) -> None:
        """Takes in a training step."""
        paid = rollouts.of_reward(self.proxy) if self.proxy else rollouts.reward
        proxy: Floats = paid.cpu().numpy()
        gold: Floats | None = rollouts.of_reward(self.gold).cpu().numpy() if self.gold else None
        kept = ~np.isnan(proxy) if gold is None else ~(np.isnan(proxy) | np.isnan(gold))
        rows = np.flatnonzero(kept)
        if len(rows):
            self.log(
                rollouts.step,
                [rollouts.completions[i].text for i in rows],
                proxy[rows],
                None if gold is None else gold[rows],
                [rollouts.examples[i].id for i in rows],
            )

    def log(
        self,
        step: int,
        responses: Sequence[str],
        proxy: Sequence[float] | Floats,
        gold: Sequence[float] | Floats | None = None,
        ids: Sequence[str] | None = None,
    ) -> None:
        """Takes in one step's responses, from whatever trainer.

        Args:
            ids: of the prompts; with them a row is compared with the reference answers to its own prompt.

        Raises:
            InvalidValue: lengths that differ, or a score that is not finite; names the rows. Gold given at
                some steps only.
        """
        p = finite("proxy", np.asarray(proxy, dtype=np.float64), len(responses))
        if gold is not None:
            g = finite("gold", np.asarray(gold, dtype=np.float64), len(responses))
        else:
            g = np.full(len(responses), math.nan)
        if ids is not None and len(ids) != len(responses):
            raise InvalidValue("ids", f"{len(ids)} of them", f"one for each of {len(responses)} responses")
        if self._known and (gold is None) != math.isnan(self._known[0][1]):
            raise InvalidValue("gold", "given at some steps", "given at all steps, or at none")
        rows = np.column_stack([p, g, table(list(responses), self.features)])
        names = [str(i) for i in ids] if ids is not None else [""] * len(rows)
        self._steps += 1
        if self._steps <= self.reference:
            self._known += rows.tolist()
            self._known_ids += names
        else:
            self._recent = [*self._recent[-(self.window - 1) :], rows.tolist()]
        self.curve.append(self._point(step, rows, names))
        if self._steps > self.reference:
            for kind in self._signs():
                self.first.setdefault(kind, step)

    def see(self, figures: Mapping[str, float]) -> Alarm | None:
        step = int(figures["step"])
        new = [kind for kind, at in self.first.items() if at == step]
        return Alarm(" ".join(self._told(kind) for kind in new), self.stop) if new else None

    def figures(self) -> Mapping[str, float]:
        """``gap/proxy``, ``gap/gold``, ``gap``, ``gap/rows``."""
        if not self.curve:
            return {}
        last = self.curve[-1]
        names = {"proxy": "gap/proxy", "gold": "gap/gold", "gap": "gap", "rows": "gap/rows"}
        return {shown: value for name, shown in names.items() if (value := last[name]) is not None}

    def report(self) -> HackingReport:
        """Everything so far."""
        return HackingReport(self._signal(), dict(self.first), list(self.curve), self._shifts())

    # --- the signs ------------------------------------------------------------------------------------

    @property
    def _has_gold(self) -> bool:
        return bool(self._known) and not math.isnan(self._known[0][1])

    def _scale(self) -> tuple[Floats, Floats]:
        """Mean and deviation of proxy and gold over the reference."""
        known = np.array(self._known)[:, :2]
        deviation = known.std(0)
        return known.mean(0), np.where(deviation > 1e-12, deviation, 1.0)

    def _point(self, step: int, rows: Floats, names: Sequence[str]) -> dict[str, float | None]:
        mean, deviation = self._scale()
        proxy, gold = ((rows[:, :2].mean(0) - mean) / deviation).tolist()
        hacked = self._hacked(rows, names, mean, deviation)
        if not self._has_gold:
            return {"step": step, "proxy": proxy, "gold": None, "gap": None, "rows": None}
        return {"step": step, "proxy": proxy, "gold": gold, "gap": proxy - gold, "rows": hacked}

    def _hacked(self, rows: Floats, names: Sequence[str], mean: Floats, deviation: Floats) -> float:
        """Share of rows whose proxy is up by more than ``sd`` and whose gold is not, against the reference
        answers to the same prompt, or all reference answers where there is none."""
        own: dict[str, list[list[float]]] = {}
        for name, row in zip(self._known_ids, self._known, strict=True):
            own.setdefault(name, []).append(row[:2])
        count = 0
        for name, row in zip(names, rows, strict=True):
            before = np.mean(own[name], axis=0) if name and name in own else mean
            count += bool(row[0] - before[0] > self.sd * deviation[0] and row[1] <= before[1])
        return count / max(1, len(rows))

    def _signs(self) -> list[str]:
        recent = [np.array(rows) for rows in self._recent]
        pooled, known = np.concatenate(recent)[:, :2], np.array(self._known)[:, :2]
        mean, deviation = self._scale()
        if np.ptp(np.concatenate([known[:, 0], pooled[:, 0]])) <= 1e-12:
            return []
        # What proxy and gold gained over the window, and half of its 90% interval, in reference deviations.
        gained = (pooled.mean(0) - mean) / deviation
        error = (
            _Z90 * np.hypot(pooled.std(0) / np.sqrt(len(pooled)), deviation / np.sqrt(len(known))) / deviation
        )
        found = []
        if "features" not in self.first and gained[0] > error[0] and any(s.flagged for s in self._shifts()):
            found.append("features")
        if not self._has_gold:
            return found
        if gained[0] > self.sd and gained[1] <= error[1] and gained[0] - gained[1] > self.sd:
            found.append("gap")
        if len(recent) == self.window:
            proxy_low, _ = slope_interval([r[:, 0] for r in recent])
            _, gold_high = slope_interval([r[:, 1] for r in recent])
            if proxy_low > 0 and gold_high < 0:
                found.append("divergence")
        return found

    def _shifts(self) -> list[Shift]:
        if not self._known or not self._recent:
            return []
        rows = np.array([*self._known, *(row for step in self._recent for row in step)])
        gold = rows[:, 1] if self._has_gold else None
        return shifts_of(
            rows[:, 2:], len(self._known), rows[:, 0], gold, tuple(self.features), self.moved, self.paid
        )

    def _told(self, kind: str) -> str:
        last = self.curve[-1]
        proxy = f"the proxy is {last['proxy']:+.2f} sd from the reference"
        gold = "" if last["gold"] is None else f", gold {last['gold']:+.2f}"
        if kind == "features":
            moved = [
                f"{s.feature} ({s.smd:+.2f} sd, partial correlation {s.partial:+.2f})"
                for s in self._shifts()
                if s.flagged
            ]
            return f"paid beyond gold: {', '.join(moved)}; {proxy}{gold}."
        if kind == "gap":
            return f"{proxy}{gold}: the proxy rose and gold did not."
        return f"proxy and gold diverge over the last {self.window} steps; {proxy}{gold}."

    def _signal(self) -> str:
        if self._steps <= self.reference:
            return f"no signal: {self._steps} steps, and the first {self.reference} are the reference"
        values = np.array([row[0] for row in self._known] + [row[0] for step in self._recent for row in step])
        if np.ptp(values) <= 1e-12:
            return "no signal: the proxy is constant"
        if not self._has_gold:
            return "no gold: whether quality fell, or a feature is paid for beyond its worth, cannot be told"
        return ""

    # --- kept with a run ------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        return {
            "first": dict(self.first),
            "curve": [dict(point) for point in self.curve],
            "steps": self._steps,
            "known": [list(row) for row in self._known],
            "ids": list(self._known_ids),
            "recent": [[list(row) for row in step] for step in self._recent],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.first, self.curve = dict(state["first"]), [dict(point) for point in state["curve"]]
        self._steps, self._known, self._known_ids = (
            int(state["steps"]),
            list(state["known"]),
            list(state["ids"]),
        )
        self._recent = list(state["recent"])


def slope_interval(steps: Sequence[Floats], resamples: int = 400) -> tuple[float, float]:
    """90% bootstrap interval of the least-squares slope of the steps' means; rows are drawn within steps."""
    rng = np.random.default_rng(0)
    means = np.stack([v[rng.integers(0, len(v), (resamples, len(v)))].mean(1) for v in steps], 1)
    t = np.arange(len(steps)) - (len(steps) - 1) / 2
    slopes = means @ t / (t @ t)
    low, high = np.quantile(slopes, (0.05, 0.95))
    return float(low), float(high)
