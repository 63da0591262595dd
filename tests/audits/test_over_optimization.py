"""Best-of-n curves and the over-optimisation law, against numbers worked out by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from dovetail.audits.over_optimization import bon_curve, fit_overoptimization, kl_of_best_of
from dovetail.core import InvalidValue


def test_divergence_of_best_of_n() -> None:
    assert kl_of_best_of(1) == 0
    assert kl_of_best_of(2) == pytest.approx(math.log(2) - 0.5)
    assert kl_of_best_of(4) == pytest.approx(1.3863 - 0.75, abs=1e-4)
    with pytest.raises(InvalidValue, match="n is 0"):
        kl_of_best_of(0)


def test_three_samples_by_hand() -> None:
    """Sorted by proxy gold is 5, 1, 3. Of the three pairs, two have the last as best and one the middle."""
    curve = bon_curve([[0.2, 0.9, 0.5]], [[5.0, 3.0, 1.0]], [1, 2, 3])
    assert curve[1] == (0.0, pytest.approx(1.6 / 3), pytest.approx(3.0))
    assert curve[2][1:] == (pytest.approx((0.5 + 0.9 + 0.9) / 3), pytest.approx((1 + 3 + 3) / 3))
    assert curve[3][1:] == (pytest.approx(0.9), pytest.approx(3.0))


def test_it_is_what_drawing_all_subsets_gives() -> None:
    rng = np.random.default_rng(0)
    proxy, gold = rng.normal(size=(3, 7)), rng.normal(size=(3, 7))
    curve = bon_curve(proxy, gold, range(1, 8))
    for n in range(1, 8):
        best = [
            gold[p][max(subset, key=lambda i, p=p: proxy[p][i])]
            for p in range(3)
            for subset in itertools.combinations(range(7), n)
        ]
        assert curve[n][2] == pytest.approx(np.mean(best))
    assert curve[1][1:] == (pytest.approx(proxy.mean()), pytest.approx(gold.mean()))
    assert curve[7][2] == pytest.approx(np.mean(gold[np.arange(3), proxy.argmax(1)]))


def test_equal_proxies_share_what_they_get() -> None:
    assert bon_curve([[1.0, 1.0, 0.0]], [[4.0, 0.0, 9.0]], [3])[3][2] == pytest.approx(2.0)
    # A constant proxy selects nothing: gold stays its mean.
    assert bon_curve([[1.0] * 4], [[0.0, 1.0, 2.0, 3.0]], [4])[4][2] == pytest.approx(1.5)


def test_proxy_equal_to_gold_never_falls() -> None:
    gold = np.random.default_rng(1).normal(size=(50, 64))
    curve = bon_curve(gold, gold, [1, 2, 4, 8, 16, 32, 64])
    values = [curve[n][2] for n in curve]
    assert values == sorted(values)


@pytest.mark.parametrize(("kind", "peak"), [("bon", 0.9 / (2 * 0.5)), ("rl", math.exp(0.9 / 0.5 - 1))])
def test_noiseless_curves_are_recovered(kind: str, peak: float) -> None:
    d = np.array([0.0, 0.3, 0.7, 1.2, 2.0])
    bend = d if kind == "bon" else np.log(np.maximum(d, 1e-9))
    gold = 2.0 + d * (0.9 - 0.5 * bend)
    fit = fit_overoptimization(d**2, gold, kind)  # type: ignore[arg-type]
    assert (fit.alpha, fit.beta, fit.r2) == pytest.approx((0.9, 0.5, 1.0))
    assert fit.d_peak == pytest.approx(peak)
    assert fit.gain(d) == pytest.approx(gold - 2.0)


def test_a_curve_that_only_rises_has_no_peak() -> None:
    assert fit_overoptimization([0, 1, 4, 9], [0, 1, 2.2, 3.6]).d_peak == math.inf


def test_the_simulation_of_the_specification() -> None:
    """Gold peaks at a moderate n and falls far below its start, while the proxy goes on rising; an ensemble
    whose members disagree about style does not fall, one of identical members is no better than one."""
    rng = np.random.default_rng(0)
    quality, style, noise = rng.normal(size=(3, 300, 512))
    gold = quality - 0.6 * np.maximum(style - 0.5, 0) ** 2

    def member(weight: float) -> np.ndarray:
        return quality + weight * style + 0.5 * noise

    ns = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    alone = bon_curve(member(1.3), gold, ns)
    golds = [alone[n][2] for n in ns]
    assert 4 <= ns[int(np.argmax(golds))] <= 64
    assert golds[-1] < min(golds[0], max(golds) - 0.4)
    assert alone[512][1] > alone[1][1] + 4
    fit = fit_overoptimization([alone[n][0] for n in ns], golds)
    assert fit.r2 > 0.9
    assert 0.5 < fit.d_peak < 1.5
    members = np.stack([member(w) for w in (1.3, 0.6, 0.0, -0.3)])
    ensemble = bon_curve(members.mean(0) - members.std(0), gold, ns)
    assert ensemble[512][2] > 2
    same = np.stack([member(1.3)] * 4)
    assert bon_curve(same.mean(0) - same.std(0), gold, ns)[512][2] == pytest.approx(golds[-1])


def test_bad_input_is_named() -> None:
    with pytest.raises(InvalidValue, match="2 points"):
        fit_overoptimization([0, 1], [0, 1])
    with pytest.raises(InvalidValue, match=r"kl is -0\.5"):
        fit_overoptimization([0, -0.5, 1], [0, 1, 2])
    with pytest.raises(InvalidValue, match="2 values"):
        fit_overoptimization([0, 1, 2], [0, 1])
    with pytest.raises(InvalidValue, match="finite"):
        fit_overoptimization([0, 1, 2], [0, 1, math.nan])
    with pytest.raises(InvalidValue, match="n is 3: must be from 1 to the 2"):
        bon_curve([[0, 1]], [[0, 1]], [3])
    with pytest.raises(InvalidValue, match="shape"):
        bon_curve([[0, 1]], [[0, 1, 2]], [1])
    with pytest.raises(InvalidValue, match="proxy of prompt 0, sample 1"):
        bon_curve([[0, math.nan]], [[0, 1]], [1])
