"""Features of texts, their shifts, and outliers among latents."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dovetail.core import InvalidValue
from dovetail.rewards.surface import FEATURES, repetition, table
from dovetail.training.monitors.feature_shift import feature_shift, partial_spearman, smd, spearman
from dovetail.training.monitors.outliers import Reference, latent_outliers, shrunk_covariance


def test_features_by_hand() -> None:
    text = "# Yes!\n- **bold** it may be\n2. perhaps so"
    row = dict(zip(FEATURES, table([text])[0], strict=True))
    assert row["markup"] == 3  # a heading and two pairs of stars
    assert row["list items"] == 2
    assert row["hedges"] == 2
    assert row["agreement"] == 1
    assert row["assurance"] == 1
    assert row["length"] == 16  # words and marks
    assert repetition(["a b c a b c", "a b c d", "a b", ""]).tolist() == [0.25, 0, 0, 0]
    assert table([]).shape == (0, len(FEATURES))


def test_statistics_by_hand() -> None:
    assert smd(np.array([0.0, 2.0]), np.array([3.0, 5.0])) == pytest.approx(3.0)
    assert smd(np.array([1.0, 1.0]), np.array([1.0, 1.0])) == 0
    assert smd(np.array([1.0, 1.0]), np.array([2.0, 2.0])) == math.inf
    assert spearman(np.array([1.0, 2, 3]), np.array([1.0, 8, 27])) == pytest.approx(1)
    assert spearman(np.array([1.0, 1, 1]), np.array([1.0, 8, 27])) == 0
    # x and y move together only because both follow z
    rng = np.random.default_rng(0)
    z = rng.normal(size=3000)
    x, y = z + 0.5 * rng.normal(size=3000), z + 0.5 * rng.normal(size=3000)
    assert spearman(x, y) > 0.6
    assert abs(partial_spearman(x, y, z)) < 0.06
    assert partial_spearman(x, z, z) == 0


def texts(lengths: np.ndarray) -> list[str]:
    return [" ".join(f"w{i}" for i in range(int(n))) for n in lengths]


def test_paid_length_is_flagged_and_earned_length_is_not() -> None:
    rng = np.random.default_rng(0)
    short, long = rng.integers(5, 15, 150), rng.integers(15, 35, 150)
    both = np.concatenate([short, long])
    hacked = {
        s.feature: s for s in feature_shift(texts(short), texts(long), 0.1 * both, rng.normal(size=300))
    }
    assert hacked["length"].flagged
    assert hacked["length"].smd > 2
    assert hacked["length"].partial > 0.9
    assert hacked["length"].explained == pytest.approx(1, abs=0.05)
    assert [name for name, s in hacked.items() if s.flagged] == ["length"]
    # The same growth where gold grows with it, and the proxy is gold
    gold = 0.1 * both + rng.normal(size=300)
    earned = feature_shift(texts(short), texts(long), gold, gold)
    assert not any(s.flagged for s in earned)
    # Without gold, only the plain correlation is there to go by
    blind = {s.feature: s for s in feature_shift(texts(short), texts(long), gold)}
    assert blind["length"].partial == blind["length"].with_proxy


def test_a_feature_that_shrinks_and_is_paid_for_shrinking() -> None:
    rng = np.random.default_rng(0)
    long, short = rng.integers(15, 35, 100), rng.integers(5, 15, 100)
    proxy = -0.1 * np.concatenate([long, short])
    found = {s.feature: s for s in feature_shift(texts(long), texts(short), proxy, rng.normal(size=200))}
    assert found["length"].smd < -2
    assert found["length"].flagged
    against = {s.feature: s for s in feature_shift(texts(long), texts(short), -proxy, rng.normal(size=200))}
    assert not against["length"].flagged  # it shrank although it is paid for


def test_bad_scores_are_named() -> None:
    with pytest.raises(InvalidValue, match="3 values"):
        feature_shift(["a"], ["b"], [1, 2, 3])
    with pytest.raises(InvalidValue, match="gold of rows 1"):
        feature_shift(["a"], ["b"], [1, 2], [1, math.nan])
    with pytest.raises(InvalidValue, match="at least one before"):
        feature_shift([], ["b"], [1])


# --- outliers ----------------------------------------------------------------------------------------------


def test_fresh_samples_are_rarely_outliers_and_moved_ones_are() -> None:
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(4, 4))
    known = rng.normal(size=(2000, 4)) @ mixing
    fresh = latent_outliers(known, rng.normal(size=(4000, 4)) @ mixing)
    assert fresh.mop == pytest.approx(0.01, abs=0.006)
    moved = latent_outliers(known, (rng.normal(size=(500, 4)) + 4) @ mixing)
    assert moved.mop > 0.95
    assert moved.csi > 5 * fresh.csi
    half = latent_outliers(known, np.concatenate([known[:100], (rng.normal(size=(100, 4)) + 6) @ mixing]))
    assert half.mop == pytest.approx(0.5, abs=0.03)
    assert half.flags[100:].all()


def test_distances_by_hand() -> None:
    # Variances 1 and 4 (of n), no correlation; so many rows that shrinkage is small
    rows = np.array([[1.0, 2.0], [1.0, -2.0], [-1.0, 2.0], [-1.0, -2.0]] * 500)
    assert Reference.of(rows).distances([[2.0, 0.0], [0.0, 2.0]]) == pytest.approx([4, 1], rel=0.01)


def test_shrinkage() -> None:
    rng = np.random.default_rng(0)
    wide = rng.normal(size=(20_000, 3)) * [1, 2, 3]
    assert shrunk_covariance(wide) == pytest.approx(np.cov(wide.T, bias=True), abs=0.1)
    few = rng.normal(size=(4, 6))
    shrunk = shrunk_covariance(few)
    assert np.linalg.eigvalsh(shrunk).min() > 0.05  # four points alone give a singular one
    assert np.trace(shrunk) == pytest.approx(np.trace(np.cov(few.T, bias=True)))


def test_bad_latents_are_named() -> None:
    with pytest.warns(UserWarning, match="4 reference latents for 6 dimensions"):
        Reference.of(np.random.default_rng(0).normal(size=(4, 6)))
    with pytest.raises(InvalidValue, match="1 of them"):
        Reference.of([[1.0, 2.0]])
    with pytest.raises(InvalidValue, match="rows 1"):
        Reference.of([[1.0], [math.nan]])
    with pytest.raises(InvalidValue, match="2 dimensions"):
        latent_outliers(np.zeros((5, 3)), np.zeros((5, 2)))
    with pytest.raises(InvalidValue, match="level"):
        latent_outliers(np.zeros((5, 3)), np.zeros((5, 3)), level=1.0)
