"""Outputs that an evaluator has not been made for: far from the reference policy's in some space of latents.

Miao et al., "InfoRM", arXiv 2402.09345, and its follow-up: the Mahalanobis distance of a response's latent
to those of the reference policy's responses, the share of outliers (MOP), and a cluster separation index
(CSI). Latents are a reward model's hidden states where there are any; surface features serve where not.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dovetail.core import InvalidValue

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Outliers:
    """What `latent_outliers` found.

    Attributes:
        mop: share of the samples that are outliers; about 1 - level where nothing changed.
        csi: sum over clusters of samples of their size times the distance from their centre to the nearest
            reference latent, per sample; in standard deviations of the reference.
        flags: [M] bool.
        distances: [M] squared Mahalanobis distances.
    """

    mop: float
    csi: float
    flags: NDArray[np.bool_]
    distances: Floats


@dataclass(frozen=True)
class Reference:
    """Mean and inverse square root of the covariance of the reference latents, and these, whitened."""

    mean: Floats
    whitener: Floats
    whitened: Floats

    @classmethod
    def of(cls, latents: ArrayLike) -> Reference:
        """Fits [N, K] latents, with shrinkage.

        Raises:
            InvalidValue: fewer than two latents, or one that is not finite.
        """
        x = _matrix("reference latents", latents)
        if len(x) < 2:
            raise InvalidValue("reference latents", f"{len(x)} of them", "at least 2")
        if len(x) <= x.shape[1]:
            warnings.warn(
                f"{len(x)} reference latents for {x.shape[1]} dimensions: their covariance is mostly made up",
                stacklevel=2,
            )
        values, vectors = np.linalg.eigh(shrunk_covariance(x))
        top = max(float(values.max()), 1e-12)
        whitener = vectors / np.sqrt(np.maximum(values, 1e-9 * top))
        mean = x.mean(0)
        return cls(mean, whitener, (x - mean) @ whitener)

    def distances(self, latents: ArrayLike) -> Floats:
        """[M] squared Mahalanobis distances of [M, K] latents."""
        return np.asarray((self.place(latents) ** 2).sum(1), dtype=np.float64)

    def place(self, latents: ArrayLike) -> Floats:
        """[M, K] latents in the reference's standard deviations."""
        x = _matrix("latents", latents)
        if x.shape[1] != len(self.mean):
            raise InvalidValue(
                "latents", f"{x.shape[1]} dimensions", f"{len(self.mean)}, as the reference has"
            )
        return (x - self.mean) @ self.whitener


def latent_outliers(reference: ArrayLike | Reference, samples: ArrayLike, level: float = 0.99) -> Outliers:
    """Which of [M, K] samples lie outside of the reference latents' ``level`` ellipsoid (chi-squared)."""
    from scipy.stats import chi2

    if not 0 < level < 1:
        raise InvalidValue("level", level, "between 0 and 1")
    known = reference if isinstance(reference, Reference) else Reference.of(reference)
    placed = known.place(samples)
    squared = np.asarray((placed**2).sum(1), dtype=np.float64)
    flags = squared > chi2.ppf(level, placed.shape[1])
    return Outliers(
        float(flags.mean()) if len(flags) else 0.0, _separation(known.whitened, placed), flags, squared
    )


def shrunk_covariance(x: Floats) -> Floats:
    """Ledoit and Wolf's estimate (2004): the covariance, drawn towards a multiple of the identity."""
    n, k = x.shape
    centred = x - x.mean(0)
    covariance = centred.T @ centred / n
    mu = np.trace(covariance) / k
    spread = ((covariance - mu * np.eye(k)) ** 2).sum() / k
    squared = centred**2
    noise = ((squared.T @ squared) / n - covariance**2).sum() / (n * k)
    shrinkage = min(noise, spread) / spread if spread > 0 else 1.0
    return np.asarray((1 - shrinkage) * covariance + shrinkage * mu * np.eye(k), dtype=np.float64)


def _separation(reference: Floats, samples: Floats) -> float:
    """CSI per sample. Clusters are what hangs together within twice the reference's usual spacing (DBSCAN
    with a core of one)."""
    if not len(samples):
        return 0.0
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    tree = cKDTree(reference)
    spacing = 2 * float(np.median(tree.query(reference, k=2)[0][:, 1]))
    own = cKDTree(samples)
    near = own.sparse_distance_matrix(own, max(spacing, 1e-9))
    near.setdiag(1.0)
    count, cluster = connected_components(near, directed=False)
    sizes = np.bincount(cluster, minlength=count)
    centres = (
        np.stack([np.bincount(cluster, samples[:, j], count) for j in range(samples.shape[1])], 1)
        / sizes[:, None]
    )
    return float((sizes * tree.query(centres)[0]).sum() / len(samples))


def _matrix(name: str, values: ArrayLike) -> Floats:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 2 or not x.shape[1]:
        raise InvalidValue(name, f"an array of shape {x.shape}", "of shape [N, K]")
    bad = np.flatnonzero(~np.isfinite(x).all(1))
    if len(bad):
        raise InvalidValue(f"{name} of rows {', '.join(map(str, bad[:10]))}", "not finite", "finite numbers")
    return x
