"""Int8 weights: close to the network they stand for, smaller, on both paths of the engine."""

from __future__ import annotations

import pytest
import torch

import dovetail as dt
from dovetail.core import InvalidValue, Limits, Unsupported
from dovetail.engine import LeanForward, TransformersForward
from dovetail.models.int8 import Int8Linear, is_int8, to_int8_


def test_each_weight_is_off_by_half_a_step_at_most():
    linear = torch.nn.Linear(7, 5)
    with torch.no_grad():
        linear.weight[2] = 0
        linear.weight[3] *= 1e-6
    small = Int8Linear(linear)
    wide = small.weight.double() * small.scale[:, None]
    step = linear.weight.abs().amax(1, keepdim=True) / 127
    assert small.weight.dtype == torch.int8
    assert bool(((wide - linear.weight).abs() <= step * 0.5001).all())
    x = torch.randn(3, 7, generator=torch.Generator().manual_seed(0))
    expected = x.double() @ wide.T + linear.bias
    torch.testing.assert_close(small(x).double(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["qwen3", "qwen2", "gemma2"])
@torch.no_grad()
def test_both_paths_compute_what_the_network_does(family, tiny_network):
    network = tiny_network(family)
    ids = torch.arange(9)[None]
    exact = network(ids).logits[0, -1]
    to_int8_(network)
    expected = network(ids).logits[0, -1]
    assert is_int8(network)
    assert 0 < float((exact - expected).abs().max()) < 0.1 * float(exact.abs().max())
    paths = [TransformersForward] + ([LeanForward] if LeanForward.supports(network) else [])
    for path in paths:
        forward = path(network)
        cache = forward.cache(1)
        forward(cache, ids[:, :8])
        torch.testing.assert_close(forward(cache, ids[:, 8:]).logits[0], expected, atol=1e-4, rtol=0)


def test_load_says_so_and_refuses_what_does_not_apply():
    model = dt.load("pico", int8=True)
    assert model.describe()["dtype"] == "float32, int8 weights"
    assert model.describe()["parameters"] == dt.load("pico").describe()["parameters"]
    assert model.complete("What is 2 + 3?", limits=Limits(4)).token_ids
    with pytest.raises(InvalidValue, match="int8"):
        dt.load("openai/x@http://127.0.0.1:1/v1", int8=True)
    with pytest.raises(Unsupported, match="Sequential has no plain linear layers"):
        to_int8_(torch.nn.Sequential(torch.nn.ReLU()))
