"""Intervals, paired differences and verdicts: every number of a report that carries an uncertainty.

Proportions get Wilson intervals (Wilson 1927), other means percentile bootstrap intervals (Efron 1979).
An arm is compared with the baseline over the examples that both have, by a *paired* bootstrap of the mean
difference, and Holm's step-down correction (Holm 1979) keeps the chance of any false verdict among all arms
of a report under 5%.

The paired bootstrap here is smoothed: two pseudo-examples, one in favour of either arm, join the observed
differences before resampling, as Bonett and Price (Journal of Educational and Behavioral Statistics 37,
2012) do for paired proportions. Without them the bootstrap takes "no example spoke for the baseline" for
"none ever will": five wins against no loss among 200 examples come out at p = 0.013, where the exact sign
test says 0.06. Summed over all outcomes of right/wrong scores, at rates of disagreement from 2% to 100%, the
plain percentile bootstrap tells equal arms apart in up to 12% of comparisons of 5 or 6 examples and 7% of
10; the smoothed one in at most 4.4% for 6 examples to 200, close to the exact test. At 200 the two hardly
differ. Resamples that tie with zero count against both sides, which is the conservative choice. What no
test can help: graded scores whose differences are mostly small one way and rarely large the other need
hundreds of examples before the rare ones are seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dovetail.core.completion import Cost
from dovetail.core.errors import BadData, InvalidValue
from dovetail.core.report import Arm, Difference, Figure, Outcome, Verdict

Floats = NDArray[np.float64]

LEVEL = 0.95
RESAMPLES = 10_000
# With fewer pairs not even unanimity reaches p < 0.05 in a sign test, so no verdict is given.
FEWEST_PAIRS = 6
COSTS = ("tokens_read", "tokens_written", "forward_passes", "seconds")

_CHUNK = 2_000_000  # resampled values held at a time: 16 MB
_NOTHING = float("nan")


def wilson(successes: float, n: int) -> Figure:
    """A proportion with its 95% Wilson interval; ``n`` = 0 gives NaN with the interval (0, 1).

    Raises:
        InvalidValue: if ``successes`` is not between 0 and ``n``.
    """
    if n < 0 or not 0 <= successes <= n:
        raise InvalidValue("successes", successes, f"between 0 and n = {n}")
    if n == 0:
        return Figure(_NOTHING, (0.0, 1.0))
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(successes, n, alpha=1 - LEVEL, method="wilson")
    value = successes / n
    # Rounding can leave a bound a hair inside of the value at 0 and n.
    return Figure(value, (min(max(float(low), 0.0), value), max(min(float(high), 1.0), value)))


def mean(
    values: ArrayLike, *, ids: Sequence[str] | None = None, seed: int = 0, resamples: int = RESAMPLES
) -> Figure:
    """The mean of ``values`` (shape ``[n]``, any unit) with its 95% percentile bootstrap interval.

    No values give NaN throughout; a single one, or equal ones, an interval of no width: such data
    says nothing of its spread.

    Raises:
        InvalidValue: if a value is NaN or infinite, naming the example by ``ids``.
    """
    x = _finite(values, "values", ids)
    if len(x) == 0:
        return Figure(_NOTHING, (_NOTHING, _NOTHING))
    value = float(x.mean())
    low, high = _quantiles(_resampled_means(x, resamples, np.random.default_rng(seed)))
    return Figure(value, (min(low, value), max(high, value)))


def score(
    values: ArrayLike, *, ids: Sequence[str] | None = None, seed: int = 0, resamples: int = RESAMPLES
) -> Figure:
    """The mean of scores: Wilson where all of them are 0 or 1, ``mean`` otherwise (F1, graded scores).

    Raises:
        InvalidValue: as ``mean``.
    """
    x = _finite(values, "values", ids)
    if bool(np.isin(x, (0.0, 1.0)).all()):
        return wilson(float(x.sum()), len(x))
    return mean(x, seed=seed, resamples=resamples)


def paired_difference(
    values: ArrayLike,
    baseline: ArrayLike,
    *,
    ids: Sequence[str] | None = None,
    scale: float = 0.0,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Difference:
    """Mean of ``values - baseline`` over the same examples, by the smoothed paired bootstrap.

    Args:
        values, baseline: shape ``[n]``; position i of both is the same example.
        ids: the examples' names, for errors.
        scale: size of the two pseudo-examples where no example shows a difference, so that the interval
            keeps a width (1 for scores in [0, 1]; 0 leaves it at no width). Where some do, the root mean
            square of the differences that are not zero is used.
        seed: of the resampling; equal inputs and seed give equal results.

    Returns:
        a difference whose ``p_adjusted`` is its ``p_value``; ``compare_to_baseline`` corrects for several
        arms. Fewer than ``FEWEST_PAIRS`` pairs are never called better or worse.

    Raises:
        InvalidValue: if the lengths differ or a value is NaN or infinite.
    """
    a, b = _finite(values, "values", ids), _finite(baseline, "baseline", ids)
    if len(a) != len(b):
        raise InvalidValue(
            "values", f"{len(a)} values", f"as many as the baseline's {len(b)}: one per example"
        )
    n = len(a)
    if n == 0:
        return Difference(_NOTHING, (_NOTHING, _NOTHING), 1.0, 1.0, "cannot tell", 0)
    d = a - b
    largest = float(np.abs(d).max())
    # 0.3 - 0.1 and 0.2 are the same difference.
    d = np.round(d, 12) if largest < 1e3 else d
    value = float(d.mean())
    moved = d[d != 0]
    pseudo = float(np.sqrt(np.mean(moved**2))) if len(moved) else scale
    means = _resampled_means(np.append(d, (pseudo, -pseudo)), resamples, np.random.default_rng(seed))
    means[np.abs(means) <= 1e-9 * max(pseudo, largest)] = 0.0
    p = _two_sided(means)
    low, high = _quantiles(means)
    interval = (min(low, value), max(high, value))
    return Difference(value, interval, p, p, _verdict(value, p, n), n)


def paired_ratio(
    values: ArrayLike,
    baseline: ArrayLike,
    *,
    ids: Sequence[str] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Figure:
    """Ratio of sums ``values / baseline`` over the same examples (of tokens, say), bootstrapped in pairs.

    A ratio of sums rather than a mean of ratios: it is the factor that a bill changes by. The interval's
    upper end is infinite where resamples come without any baseline.

    Raises:
        InvalidValue: if the lengths differ, a value is NaN, infinite or negative, or the baseline sums to 0.
    """
    a, b = _finite(values, "values", ids), _finite(baseline, "baseline", ids)
    if len(a) != len(b):
        raise InvalidValue(
            "values", f"{len(a)} values", f"as many as the baseline's {len(b)}: one per example"
        )
    if (a < 0).any() or (b < 0).any():
        raise InvalidValue("values", "a negative number", "at least 0 to form a ratio of sums")
    if b.sum() <= 0:
        raise InvalidValue("baseline", "a sum of 0", "positive somewhere to form a ratio")
    rng = np.random.default_rng(seed)
    ratios = []
    for index in _resampled_indices(len(a), resamples, rng):
        above, below = a[index].sum(1), b[index].sum(1)
        ratios.append(np.divide(above, below, out=np.full_like(above, np.inf), where=below > 0))
    value = float(a.sum() / b.sum())
    low, high = _quantiles(np.concatenate(ratios))
    return Figure(value, (min(low, value), max(high, value)))


def compare_to_baseline(
    values: Mapping[str, ArrayLike],
    baseline: str,
    *,
    ids: Sequence[str] | None = None,
    scale: float = 1.0,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Difference]:
    """Every other arm's paired difference to the baseline arm, Holm-corrected over those arms.

    Args:
        values: arm name -> scores, shape ``[n]``, the same examples in the same order for every arm.
        baseline: a key of ``values``.
        ids: the examples' names, for errors.

    Raises:
        InvalidValue: if there is no such arm, the lengths differ or a value is NaN (arm and example named).
    """
    if baseline not in values:
        raise InvalidValue("baseline", baseline, f"one of the arms {', '.join(values)}")
    scores = {arm: _finite(v, f"arm {arm!r}", ids) for arm, v in values.items()}
    n = len(scores[baseline])
    for arm, x in scores.items():
        if len(x) != n:
            raise InvalidValue(
                f"arm {arm!r}", f"{len(x)} values", f"{n} values, as the baseline {baseline!r} has"
            )
    return holm(
        {
            arm: paired_difference(x, scores[baseline], scale=scale, seed=seed, resamples=resamples)
            for arm, x in scores.items()
            if arm != baseline
        }
    )


def holm(differences: Mapping[str, Difference]) -> dict[str, Difference]:
    """The differences with Holm-corrected p-values and the verdicts that follow from them.

    Intervals stay as they are, 95% each on its own, so one may exclude zero where the verdict, which
    answers for all arms together, is "cannot tell". Arms without a single pair are left out of the count.
    """
    tested = sorted((arm for arm, d in differences.items() if d.pairs), key=lambda a: differences[a].p_value)
    # Three lines rather than statsmodels' multipletests, which runs a full garbage collection per call.
    corrected, largest = dict(differences), 0.0
    for i, arm in enumerate(tested):
        d = differences[arm]
        largest = max(largest, min(1.0, (len(tested) - i) * d.p_value))
        corrected[arm] = replace(d, p_adjusted=largest, verdict=_verdict(d.value, largest, d.pairs))
    return corrected


def summarise(
    outcomes: Iterable[Outcome],
    baseline: str,
    *,
    arms: Mapping[str, str] | Sequence[str] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> tuple[Arm, ...]:
    """Rows of examples.parquet -> rows of the report.

    Each arm's figures and costs are over all its outcomes; the difference to the baseline is over the
    examples that both arms have (``Difference.pairs`` says how many). An outcome with an ``error``
    counts with the value it carries, which is 0.

    Args:
        outcomes: at most one per arm and example, in any order.
        baseline: the arm that the others are compared with.
        arms: names in the order of the report, or name -> description; without it, as they first come.
            An arm without outcomes is kept, with 0 examples.
        seed: of all resampling.

    Raises:
        BadData: if an arm has two outcomes for one example, or a task figure takes a reserved name.
        InvalidValue: if the baseline is not among the arms or a score is NaN (arm and example named).
    """
    rows: dict[str, dict[str, Outcome]] = {name: {} for name in arms or ()}
    for o in outcomes:
        if arms is not None and o.arm not in rows:
            raise InvalidValue("arms", list(rows), f"all arms of the outcomes, {o.arm!r} too")
        if o.example_id in rows.setdefault(o.arm, {}):
            raise BadData(f"arm {o.arm!r} has two outcomes for example {o.example_id!r}: keep one of them")
        rows[o.arm][o.example_id] = o
    if baseline not in rows:
        raise InvalidValue("baseline", baseline, f"one of the arms {', '.join(rows)}")

    differences = {}
    for name, own in rows.items():
        if name == baseline:
            continue
        both = [i for i in rows[baseline] if i in own]
        differences[name] = paired_difference(
            _finite([own[i].value for i in both], f"arm {name!r}", both),
            _finite([rows[baseline][i].value for i in both], f"arm {baseline!r}", both),
            scale=1.0,
            seed=seed,
            resamples=resamples,
        )
    differences = holm(differences)

    described = arms if isinstance(arms, Mapping) else {}
    return tuple(
        Arm(
            name=name,
            description=described.get(name, ""),
            examples=len(own),
            figures=_figures(name, list(own.values()), seed, resamples),
            cost=sum((o.cost for o in own.values()), Cost()),
            mean_cost={
                cost: mean([getattr(o.cost, cost) for o in own.values()], seed=seed, resamples=resamples)
                for cost in COSTS
            },
            difference=differences.get(name),
        )
        for name, own in rows.items()
    )


def _figures(arm: str, outcomes: Sequence[Outcome], seed: int, resamples: int) -> dict[str, Figure]:
    columns: dict[str, list[tuple[str, float]]] = {
        "accuracy": [(o.example_id, o.value) for o in outcomes],
        "strict": [(o.example_id, o.strict) for o in outcomes],
        "parsed": [(o.example_id, float(o.parsed)) for o in outcomes],
    }
    reserved = set(columns)
    for o in outcomes:
        for name, value in o.figures.items():
            if name in reserved:
                raise BadData(f"the task's figure {name!r} of example {o.example_id!r} takes a reserved name")
            columns.setdefault(name, []).append((o.example_id, float(value)))
    return {
        name: score(
            _finite([v for _, v in column], f"{name} of arm {arm!r}", [i for i, _ in column]),
            seed=seed,
            resamples=resamples,
        )
        for name, column in columns.items()
    }


def _verdict(value: float, p: float, pairs: int) -> Verdict:
    if pairs < FEWEST_PAIRS or not p < 1 - LEVEL or value == 0:
        return "cannot tell"
    return "better" if value > 0 else "worse"


def _two_sided(means: Floats) -> float:
    """Twice the smaller tail at zero, ties in both; the added one keeps p above 0 (Davison, Hinkley 1997)."""
    r = len(means)
    tail = min(int((means <= 0).sum()), int((means >= 0).sum()))
    return min(1.0, 2 * (tail + 1) / (r + 1))


def _quantiles(means: Floats) -> tuple[float, float]:
    # "lower" and "higher" return resampled values and never mix two: inf and a number would make NaN.
    low = np.quantile(means, (1 - LEVEL) / 2, method="lower")
    high = np.quantile(means, (1 + LEVEL) / 2, method="higher")
    return float(low), float(high)


def _resampled_means(x: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """Means of ``resamples`` resamples of ``x``, shape ``[resamples]``."""
    n = len(x)
    distinct, counts = np.unique(x, return_counts=True)
    # Resampling n items of k kinds is one multinomial draw: for right/wrong scores 3 numbers, not n.
    if len(distinct) <= max(3, n // 8):
        return np.asarray(rng.multinomial(n, counts / n, size=resamples) @ distinct / n, dtype=np.float64)
    return np.concatenate([x[index].mean(1) for index in _resampled_indices(n, resamples, rng)])


def _resampled_indices(n: int, resamples: int, rng: np.random.Generator) -> Iterable[NDArray[np.int64]]:
    """Index matrices ``[some, n]`` that add up to ``resamples`` rows."""
    rows = max(1, _CHUNK // n)
    for start in range(0, resamples, rows):
        yield rng.integers(0, n, (min(rows, resamples - start), n))


def _finite(values: Any, name: str, ids: Sequence[str] | None) -> Floats:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1:
        raise InvalidValue(name, f"an array of shape {x.shape}", "one number per example, shape [n]")
    bad = np.flatnonzero(~np.isfinite(x))
    if len(bad):
        i = int(bad[0])
        where = f"example {ids[i]!r}" if ids is not None and i < len(ids) else f"position {i}"
        raise InvalidValue(f"{name} at {where}", float(x[i]), "a finite number")
    return x
