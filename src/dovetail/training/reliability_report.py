"""How far a model's answers can be relied on: accuracy, truthfulness and reliability, with intervals.

The metrics of "BARREL", arXiv 2505.13529: `rewards.boundary.reliability` has the formula. Reliability is no
mean over questions, so its intervals, and those of its differences, come from resampling the questions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dovetail.core import Figure, InvalidValue
from dovetail.rewards.boundary import contained, extract_answer, is_refusal, reliability
from dovetail.tasks import extraction

RESAMPLES = 2000
NAMES = ("accuracy", "truthfulness", "reliability", "wrong", "answered")


def outcome(
    response: str, golds: Sequence[str], match: Callable[[str, str], bool] = contained
) -> tuple[bool, bool]:
    """(right, refused) of a response, as the metrics take it: what is both counts as right there.

    Where no answer can be extracted all that follows the thinking is taken; a response whose thinking does
    not end is neither.

    Raises:
        InvalidValue: no list of accepted answers.
    """
    if isinstance(golds, str) or not golds:
        raise InvalidValue("golds", golds, "a list of accepted answers, at least one")
    said = extraction.after_thinking(response)
    if said is None:
        return False, False
    answer = extract_answer(said) or said
    return any(match(answer, gold) for gold in golds), is_refusal(said)


def reliability_metrics(
    right: ArrayLike, refused: ArrayLike, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, Figure]:
    """The five figures of `rewards.boundary.Reliability` with 95% bootstrap intervals over questions.

    Args:
        right, refused: [N], or [S, N] for S answers (samples, seeds) to each question: figures are those of
            all S * N answers.

    Raises:
        InvalidValue: no answer, or shapes that differ.
    """
    good, gave_up = _checked(right, refused)
    value = asdict(reliability(good.ravel().tolist(), gave_up.ravel().tolist()))
    drawn = _resampled(good, gave_up, seed, resamples)
    return {name: _figure(value[name], drawn[name]) for name in NAMES}


def reliability_gain(
    right: ArrayLike,
    refused: ArrayLike,
    base_right: ArrayLike,
    base_refused: ArrayLike,
    figure: str = "reliability",
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Figure:
    """By how much a figure is above the baseline's on the same questions, with its 95% interval.

    Raises:
        InvalidValue: as above; other numbers of questions; no such figure.
    """
    if figure not in NAMES:
        raise InvalidValue("figure", figure, f"one of {', '.join(NAMES)}")
    own, base = _checked(right, refused), _checked(base_right, base_refused)
    if own[0].shape[1] != base[0].shape[1]:
        raise InvalidValue(
            "base_right", f"{base[0].shape[1]} questions", f"the same {own[0].shape[1]} questions"
        )
    value = [asdict(reliability(g.ravel().tolist(), r.ravel().tolist()))[figure] for g, r in (own, base)]
    drawn = [
        _resampled(g, r, seed, resamples)[figure] for g, r in (own, base)
    ]  # the same questions each time
    return _figure(value[0] - value[1], drawn[0] - drawn[1])


def _checked(right: ArrayLike, refused: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    good, gave_up = (np.atleast_2d(np.asarray(a, dtype=bool)) for a in (right, refused))
    if not good.size or good.shape != gave_up.shape:
        raise InvalidValue("right, refused", (good.shape, gave_up.shape), "of one size, at least 1")
    return good, gave_up


def _resampled(good: Any, gave_up: Any, seed: int, resamples: int) -> dict[str, NDArray[np.float64]]:
    """[R] of each figure: of R draws of the questions."""
    rng = np.random.default_rng(seed)
    n = good.shape[1]
    index = rng.integers(0, n, (resamples, n))
    c = good.mean(0)[index].mean(1)
    r = (gave_up & ~good).mean(0)[index].mean(1)
    # The formula with a = 1 - r and truth = c + r.
    return {
        "accuracy": c,
        "truthfulness": c + r,
        "reliability": c + r * (1 - r),
        "wrong": 1 - c - r,
        "answered": 1 - r,
    }


def _figure(value: float, drawn: NDArray[np.float64]) -> Figure:
    low, high = (float(q) for q in np.quantile(drawn, (0.025, 0.975)))
    return Figure(value, (min(low, value), max(high, value)))
