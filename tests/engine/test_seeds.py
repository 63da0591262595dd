"""Random numbers per row: uniform, independent, the same in any company."""

from __future__ import annotations

import torch
from scipy import stats

from dovetail.core import seeds
from dovetail.engine import Rows


def test_streams_are_stable_and_apart():
    names = {seeds.stream(s, n, i) for s in range(5) for n in "abc" for i in range(20)}
    assert len(names) == 300
    assert all(0 <= n < 2**63 for n in names)


def test_uniform_is_uniform_in_every_direction():
    streams = torch.tensor([seeds.stream(0, i) for i in range(300)])[:, None]
    u = seeds.uniform(streams, torch.arange(300))
    assert float(u.min()) > 0
    assert float(u.max()) < 1
    for sample in (u.flatten(), u[:, 0], u[0], u[:, 7]):
        assert stats.kstest(sample.numpy(), "uniform").pvalue > 0.001
    # neighbours in either direction are uncorrelated
    for a, b in ((u[:, 1:], u[:, :-1]), (u[1:], u[:-1])):
        assert abs(float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])) < 0.015


def test_small_consecutive_streams_do_not_overlap():
    u = seeds.uniform(torch.arange(64)[:, None], torch.arange(64))
    assert len(u.unique()) == 64 * 64


def test_draws_of_different_purposes_at_one_step_are_independent():
    rows = Rows(torch.arange(500), torch.full((500,), 3), torch.ones(500), torch.ones(500, dtype=torch.bool))
    first, second = rows.uniform(purpose=0)[:, 0], rows.uniform(purpose=1)[:, 0]
    assert not bool((first == second).any())
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.15


def test_no_stream_is_another_one_moved_on():
    """Streams are any numbers; two that differ by the generator's own step must not share their draws."""
    step = seeds._signed(seeds._GAMMA)
    counters = torch.arange(100)
    one = seeds.uniform(torch.tensor(12345), counters + 1)
    other = seeds.uniform(torch.tensor(12345) + step, counters)
    assert not bool((one == other).any())
