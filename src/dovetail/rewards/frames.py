"""Rewards of predicted video frames: the metric itself, signed so that more is better.

RLVR-World, arXiv 2505.13934, eq. 3. The paper sums over frames, its code takes the mean; advantages that are
normalised within a group are the same. Shapes: B predictions, T frames, C channels, H x W pixels in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from dovetail.core import InvalidValue

#: Metric -> +1 where more is better, -1 where less is.
SIGNS: dict[str, int] = {"mae": -1, "mse": -1, "lpips": -1, "ssim": 1, "psnr": 1}
AGGREGATES = ("mean", "last", "discount")
DISCOUNT = 0.9
#: ``lpips(a, b) -> [N]`` distances of images [N, C, H, W] in [-1, 1], such as ``lpips.LPIPS()``.
Perceptual = Callable[[Tensor, Tensor], Tensor]
_SMALLEST = 1e-10  # mean squared error of equal frames for PSNR, which then is 100 dB
_WINDOW, _SIGMA = 11, 1.5


def frame_reward(
    predicted: Tensor,
    true: Tensor,
    weights: Mapping[str, float] | None = None,
    aggregate: Literal["mean", "last", "discount"] = "mean",
    lpips: Perceptual | None = None,
) -> Tensor:
    """[B] the weighted sum of signed metrics of each prediction.

    Args:
        predicted, true: [B, T, C, H, W], floating point in [0, 1].
        weights: metric of `SIGNS` -> weight; None: ``mae`` 1, and ``lpips`` 1 where a network is given.
        aggregate: over frames: the mean, the last one, or weights that fall by 0.9 a frame and sum to 1.
        lpips: the network; it is not shipped.

    Raises:
        InvalidValue: frames of unequal shapes, of integers, outside [0, 1], or none at all; an unknown metric
            or aggregate; all weights 0; a weight for LPIPS without a network.
    """
    for name, frames in (("predicted", predicted), ("true", true)):
        _check(name, frames)
    if predicted.shape != true.shape:
        raise InvalidValue("predicted", tuple(predicted.shape), f"of the shape {tuple(true.shape)} of true")
    if aggregate not in AGGREGATES:
        raise InvalidValue("aggregate", aggregate, f"one of {', '.join(AGGREGATES)}")
    if weights is None:
        weights = {"mae": 1.0} if lpips is None else {"mae": 1.0, "lpips": 1.0}
    for metric in weights:
        if metric not in SIGNS:
            raise InvalidValue("weights", metric, f"metrics among {', '.join(SIGNS)}")
    chosen = {metric: float(w) for metric, w in weights.items() if w}
    if not chosen:
        raise InvalidValue("weights", dict(weights), "above 0 for at least one metric")
    if "lpips" in chosen and lpips is None:
        raise InvalidValue("lpips", None, "a network where lpips has a weight, such as lpips.LPIPS()")
    per_frame = sum(
        w * SIGNS[metric] * frame_metric(metric, predicted, true, lpips) for metric, w in chosen.items()
    )
    assert isinstance(per_frame, Tensor)
    return (per_frame * _shares(aggregate, per_frame)).sum(1)


def frame_metric(metric: str, predicted: Tensor, true: Tensor, lpips: Perceptual | None = None) -> Tensor:
    """[B, T] one metric, unsigned; PSNR in dB."""
    if metric == "mae":
        return (predicted - true).abs().mean((2, 3, 4))
    squared = (predicted - true).square().mean((2, 3, 4))
    if metric == "mse":
        return squared
    if metric == "psnr":
        return -10 * squared.clamp(min=_SMALLEST).log10()
    flat_p, flat_t = predicted.flatten(0, 1), true.flatten(0, 1)
    if metric == "ssim":
        return structural_similarity(flat_p, flat_t).view(predicted.shape[:2])
    assert lpips is not None
    return lpips(2 * flat_p - 1, 2 * flat_t - 1).reshape(predicted.shape[:2])


def structural_similarity(a: Tensor, b: Tensor) -> Tensor:
    """[N] SSIM of images [N, C, H, W] in [0, 1]: Gaussian window of 11 pixels, sigma 1.5 (Wang et al. 2004).

    Raises:
        InvalidValue: images smaller than the window.
    """
    if min(a.shape[-2:]) < _WINDOW:
        raise InvalidValue("frames", tuple(a.shape[-2:]), f"at least {_WINDOW} pixels high and wide for ssim")
    at = torch.arange(_WINDOW, dtype=a.dtype, device=a.device) - _WINDOW // 2
    line = (-(at**2) / (2 * _SIGMA**2)).exp()
    line = line / line.sum()
    channels = a.shape[1]
    window = torch.outer(line, line).expand(channels, 1, _WINDOW, _WINDOW)

    def blurred(x: Tensor) -> Tensor:
        return functional.conv2d(x, window, groups=channels)

    mean_a, mean_b = blurred(a), blurred(b)
    var_a, var_b = blurred(a * a) - mean_a**2, blurred(b * b) - mean_b**2
    both = blurred(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    found = (2 * mean_a * mean_b + c1) * (2 * both + c2)
    return (found / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean((1, 2, 3))


def repetition_rate(frames: Tensor) -> Tensor:
    """[B] share of the frames after the first that equal the one before them; 0 for a single frame.

    Args:
        frames: [B, T, ...] pixels, or tokens of frames.

    Raises:
        InvalidValue: fewer than two dimensions, or no frame.
    """
    if frames.ndim < 2 or frames.shape[1] < 1:
        raise InvalidValue("frames", tuple(frames.shape), "of shape [B, T, ...] with at least one frame")
    if frames.shape[1] == 1:
        return torch.zeros(len(frames), device=frames.device)
    equal = (frames[:, 1:] == frames[:, :-1]).flatten(2) if frames.ndim > 2 else _pairs(frames)
    return equal.all(2).float().mean(1)


def _pairs(tokens: Tensor) -> Tensor:
    return (tokens[:, 1:] == tokens[:, :-1])[..., None]


def _shares(aggregate: str, per_frame: Tensor) -> Tensor:
    """[T] weights of the frames, which sum to 1."""
    count = per_frame.shape[1]
    shares = torch.ones(count, dtype=per_frame.dtype, device=per_frame.device)
    if aggregate == "last":
        shares[:-1] = 0
    elif aggregate == "discount":
        shares = DISCOUNT ** torch.arange(count, dtype=per_frame.dtype, device=per_frame.device)
    return shares / shares.sum()


def _check(name: str, frames: Any) -> None:
    if not isinstance(frames, Tensor) or not frames.is_floating_point():
        kind = getattr(frames, "dtype", type(frames).__name__)
        raise InvalidValue(name, kind, "a floating point tensor in [0, 1] (divide uint8 by 255)")
    if frames.ndim != 5 or frames.shape[1] < 1 or not frames.numel():
        raise InvalidValue(name, tuple(frames.shape), "of shape [B, T, C, H, W] with at least one frame")
    low, high = float(frames.min()), float(frames.max())
    if not 0 <= low <= high <= 1:
        raise InvalidValue(name, f"in [{low:.3g}, {high:.3g}]", "in [0, 1]")
