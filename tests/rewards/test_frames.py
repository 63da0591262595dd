"""Metrics of predicted frames by hand, and frames that are none."""

from __future__ import annotations

import pytest
import torch

from dovetail.core import InvalidValue
from dovetail.rewards.frames import frame_reward, repetition_rate, structural_similarity


@pytest.fixture
def frames():
    return torch.rand(2, 3, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def distance(a, b):
    return (a - b).abs().mean((1, 2, 3))[:, None, None, None]  # LPIPS returns [N, 1, 1, 1]


def test_equal_frames_are_best(frames):
    paid = frame_reward(frames, frames, lpips=distance)
    assert paid.tolist() == [0, 0]
    noise = torch.rand(frames.shape, generator=torch.Generator().manual_seed(1)) - 0.5
    worse = [frame_reward((frames + s * noise).clamp(0, 1), frames, lpips=distance) for s in (0.1, 0.3, 0.9)]
    assert all((a > b).all() for a, b in zip([paid, *worse], worse, strict=False))


def test_each_metric_by_hand():
    true = torch.zeros(1, 2, 1, 11, 11)
    said = true.clone()
    said[:, 0] = 0.5
    assert frame_reward(said, true).item() == pytest.approx(-0.25)
    assert frame_reward(said, true, {"mse": 2}).item() == pytest.approx(-0.25)
    assert frame_reward(said, true, {"mae": 1}, "last").item() == 0
    assert frame_reward(said, true, {"mae": 1}, "discount").item() == pytest.approx(-0.5 / 1.9)
    # PSNR: 10 log10(4) and 100 dB for equal frames.
    assert frame_reward(said, true, {"psnr": 1}).item() == pytest.approx((6.0206 + 100) / 2, abs=1e-3)
    # Of flat frames, SSIM is (2ab + c1) / (a^2 + b^2 + c1).
    assert frame_reward(said, true, {"ssim": 1}).item() == pytest.approx((1e-4 / 0.2501 + 1) / 2, abs=1e-5)
    # Networks read [-1, 1], where distances are twice as large.
    assert frame_reward(said, true, {"lpips": 1}, lpips=distance).item() == pytest.approx(-0.5)


def test_ssim_is_one_of_equal_images_and_symmetric(frames):
    a, b = frames[:, 0], frames[:, 1]
    assert structural_similarity(a, a).tolist() == pytest.approx([1, 1])
    assert torch.allclose(structural_similarity(a, b), structural_similarity(b, a))
    with pytest.raises(InvalidValue, match="at least 11"):
        structural_similarity(a[..., :8, :8], b[..., :8, :8])


def test_repetition():
    tokens = torch.tensor([[1, 1, 1, 1], [1, 2, 2, 3], [1, 2, 1, 2]])
    assert repetition_rate(tokens).tolist() == pytest.approx([1, 1 / 3, 0])
    frames = torch.stack([tokens, torch.zeros_like(tokens)], -1)
    assert repetition_rate(frames).tolist() == pytest.approx([1, 1 / 3, 0])
    assert repetition_rate(tokens[:, :1]).tolist() == [0, 0, 0]
    with pytest.raises(InvalidValue, match="at least one frame"):
        repetition_rate(tokens[:, :0])


@pytest.mark.parametrize(
    ("change", "given", "named"),
    [
        (lambda f: f[:, :2], {}, "of the shape"),
        (lambda f: (f * 255).to(torch.uint8), {}, "divide uint8 by 255"),
        (lambda f: f * 255, {}, r"in \[0, 1\]"),
        (lambda f: f * float("nan"), {}, r"in \[0, 1\]"),
        (lambda f: f[:, :0], {}, "at least one frame"),
        (lambda f: f[0], {}, "B, T, C, H, W"),
        (lambda f: f, {"weights": {"mea": 1}}, "mae, mse, lpips, ssim, psnr"),
        (lambda f: f, {"weights": {"mae": 0}}, "at least one metric"),
        (lambda f: f, {"weights": {"lpips": 1}}, "a network"),
        (lambda f: f, {"aggregate": "sum"}, "mean, last, discount"),
    ],
)
def test_what_is_no_pair_of_frames(frames, change, given, named):
    with pytest.raises(InvalidValue, match=named):
        frame_reward(change(frames), frames, **given)
