"""How far a proxy can be optimised before the true reward falls: best-of-n curves and the law they follow.

Gao, Schulman and Hilton, "Scaling Laws for Reward Model Overoptimization", arXiv 2210.10760. With d the
square root of the KL divergence from the reference policy, the gain in gold reward is R(d) = d (alpha - beta
d) for best-of-n and R(d) = d (alpha - beta log d) for reinforcement learning.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dovetail.core import InvalidValue

Kind = Literal["bon", "rl"]


@dataclass(frozen=True)
class Fit:
    """The law's parameters.

    Attributes:
        alpha, beta: see the module.
        d_peak: where the gold reward is highest; infinite if it never falls.
        r2: share of the curve's variance that the fit explains.
    """

    alpha: float
    beta: float
    d_peak: float
    r2: float
    kind: Kind = "bon"

    def gain(self, d: ArrayLike) -> NDArray[np.float64]:
        """Gold reward gained at d = sqrt(KL)."""
        x = np.asarray(d, dtype=np.float64)
        bend = x if self.kind == "bon" else np.log(np.maximum(x, 1e-300))
        return np.asarray(x * (self.alpha - self.beta * bend), dtype=np.float64)


def fit_overoptimization(kl: ArrayLike, gold: ArrayLike, kind: Kind = "bon") -> Fit:
    """Least squares of the law, which is linear in alpha and beta.

    Args:
        kl: KL divergence from the reference policy, nats; measured ones below 0 are to be clipped by the
            caller.
        gold: gold reward there; its value where ``kl`` is 0 (or at the smallest ``kl``) is what gains are
            over.

    Raises:
        InvalidValue: fewer than 3 points, unequal lengths, a negative KL, or what is not finite.
    """
    x, y = np.asarray(kl, dtype=np.float64), np.asarray(gold, dtype=np.float64)
    if kind not in ("bon", "rl"):
        raise InvalidValue("kind", kind, "'bon' or 'rl'")
    if x.shape != y.shape or x.ndim != 1:
        raise InvalidValue("gold", f"{y.size} values", f"one for each of {x.size} KL divergences")
    if len(x) < 3:
        raise InvalidValue("kl", f"{len(x)} points", "at least 3 points")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InvalidValue("kl and gold", "not finite", "finite numbers")
    if (x < 0).any():
        raise InvalidValue("kl", float(x.min()), "at least 0")
    d, gain = np.sqrt(x), y - y[np.argmin(x)]
    safe = np.where(d > 0, d, 1.0)
    bend = d**2 if kind == "bon" else d * np.log(safe)
    (alpha, minus_beta), *_ = np.linalg.lstsq(np.column_stack([d, bend]), gain, rcond=None)
    alpha, beta = float(alpha), float(-minus_beta)
    left = gain - d * alpha + bend * beta
    total = float(((gain - gain.mean()) ** 2).sum())
    r2 = 1 - float((left**2).sum()) / total if total > 0 else 1.0
    return Fit(alpha, beta, _peak(alpha, beta, kind), r2, kind)


def _peak(alpha: float, beta: float, kind: Kind) -> float:
    if beta <= 0:
        return math.inf
    if kind == "bon":
        return max(0.0, alpha / (2 * beta))
    return math.exp(min(alpha / beta - 1, 700.0))


def kl_of_best_of(n: int) -> float:
    """KL divergence of best-of-n from what it selects from, nats: log n - (n - 1) / n."""
    if n < 1:
        raise InvalidValue("n", n, "at least 1")
    return math.log(n) - (n - 1) / n


def bon_curve(proxy: ArrayLike, gold: ArrayLike, ns: Sequence[int]) -> dict[int, tuple[float, float, float]]:
    """n -> (KL, mean proxy, mean gold) of the best of n by the proxy.

    Without resampling: the i-th smallest of a prompt's N samples is the best of n drawn ones with chance
    C(i - 1, n - 1) / C(N, n). Samples of equal proxy share what they get.

    Args:
        proxy, gold: [P, N] scores of N samples for each of P prompts.
        ns: sizes from 1 to N.

    Raises:
        InvalidValue: shapes that differ, scores that are not finite, or an n that there are not samples for.
    """
    p, g = np.atleast_2d(np.asarray(proxy, float)), np.atleast_2d(np.asarray(gold, float))
    if p.shape != g.shape:
        raise InvalidValue("gold", f"of shape {g.shape}", f"of the proxy's shape {p.shape}")
    for name, values in (("proxy", p), ("gold", g)):
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            raise InvalidValue(
                f"{name} of prompt {bad[0][0]}, sample {bad[0][1]}", "not finite", "a finite number"
            )
    count = p.shape[1]
    order = np.argsort(p, axis=1, kind="stable")
    sorted_proxy = np.take_along_axis(p, order, 1)
    sorted_gold = _shared(sorted_proxy, np.take_along_axis(g, order, 1))
    curve = {}
    for n in ns:
        if not 1 <= n <= count:
            raise InvalidValue("n", n, f"from 1 to the {count} samples there are")
        weights = _chances(count, n)
        curve[n] = (
            kl_of_best_of(n),
            float((sorted_proxy @ weights).mean()),
            float((sorted_gold @ weights).mean()),
        )
    return curve


def _chances(count: int, n: int) -> NDArray[np.float64]:
    """[count] chance that the i-th smallest is the best of n."""
    from scipy.special import gammaln

    i = np.arange(1, count + 1)
    possible = i >= n
    logs = np.full(count, -np.inf)
    k = i[possible]
    logs[possible] = gammaln(k) - gammaln(n) - gammaln(k - n + 1)
    logs -= gammaln(count + 1) - gammaln(n + 1) - gammaln(count - n + 1)
    return np.asarray(np.exp(logs), dtype=np.float64)


def _shared(proxy: NDArray[np.float64], gold: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gold of samples with equal proxy, replaced by their mean: which of them is drawn is chance."""
    found = gold.copy()
    for row in range(len(proxy)):
        _, first, size = np.unique(proxy[row], return_index=True, return_counts=True)
        for start, n in zip(first[size > 1], size[size > 1], strict=True):
            found[row, start : start + n] = gold[row, start : start + n].mean()
    return found
