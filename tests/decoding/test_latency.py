"""The latency model: recovered from simulated times, break-even by hand, and a real measurement."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dovetail.core import InvalidValue
from dovetail.decoding.latency import (
    LatencyModel,
    LatencyProfile,
    break_even_tokens,
    fit_latency_model,
    latency_profile,
)

TRUE = LatencyModel(fixed_s=0.02, text_s=1e-4, output_s=3e-3, visual_s=2e-4)


def simulated(visual: bool = True, noise: float = 0.0) -> list[LatencyProfile]:
    profiles = []
    for i, (text, output) in enumerate((t, o) for t in (16, 64, 256) for o in (1, 8, 32, 128)):
        pixels = (i * 37 % 5) * 100 if visual else 0
        seconds = TRUE.predict(text, output, pixels) * (1 + noise * (-1) ** i)
        profiles.append(LatencyProfile(text, output, seconds, visual_tokens=pixels))
    return profiles


@pytest.mark.parametrize("visual", [True, False])
def test_the_coefficients_are_recovered(visual):
    found = fit_latency_model(simulated(visual))
    assert found.fixed_s == pytest.approx(TRUE.fixed_s)
    assert found.text_s == pytest.approx(TRUE.text_s)
    assert found.output_s == pytest.approx(TRUE.output_s)
    assert found.visual_s == pytest.approx(TRUE.visual_s if visual else 0)
    assert found.r_squared(simulated(visual)) == pytest.approx(1)


def test_steps_that_grow_with_the_context_are_told_from_their_number():
    grows = replace(TRUE, attended_s=2e-5)
    # three tokens after ten others attend to 10, 11 and 12 positions
    assert grows.predict(10, 3) - TRUE.predict(10, 3) == pytest.approx(33 * 2e-5)
    made = [
        replace(p, total_s=grows.predict(p.text_tokens, p.output_tokens, p.visual_tokens))
        for p in simulated()
    ]
    found = fit_latency_model(made)
    assert found.attended_s == pytest.approx(2e-5)
    assert found.output_s == pytest.approx(TRUE.output_s)
    shrinks = [
        replace(p, total_s=p.total_s - 1e-6 * p.text_tokens * p.output_tokens)
        for p in simulated(visual=False)
    ]
    assert fit_latency_model(shrinks).attended_s == 0, "a context costs nothing or something"


def test_short_answers_count_as_much_as_long_ones():
    """Absolute errors would let a 10% error of the longest run drown a threefold one of the shortest."""
    profiles = [LatencyProfile(10, n, 1.0 + n) for n in (1, 2, 4, 8)] + [LatencyProfile(10, 1000, 1101.0)]
    found = fit_latency_model(profiles)
    assert found.predict(10, 1) == pytest.approx(2, rel=0.1)
    assert found.r_squared(profiles) < 1


def test_what_does_not_vary_is_fixed():
    profiles = [replace(p, text_tokens=64) for p in simulated(visual=False) if p.text_tokens == 64]
    found = fit_latency_model(profiles)
    assert found.text_s == 0
    assert found.fixed_s == pytest.approx(TRUE.fixed_s + 64 * TRUE.text_s)


def test_r_squared_by_hand():
    model = LatencyModel(0.0, 0.0, 1.0)
    profiles = [LatencyProfile(1, 1, 2.0), LatencyProfile(1, 4, 4.0)]  # errors 1 and 0, spread 2
    assert model.r_squared(profiles) == pytest.approx(1 - 1 / 2)
    with pytest.raises(InvalidValue, match="different seconds"):
        model.r_squared(profiles[:1])


def test_break_even_by_hand():
    small = LatencyModel(fixed_s=0.1, text_s=0.01, output_s=0.25)
    large = LatencyModel(fixed_s=0.5, text_s=0.01, output_s=1.0)
    # large: 0.5 + 0.1 + 4 = 4.6 s; small: 0.2 + n / 4, so equal at 17.6 and faster from 18 on
    n = break_even_tokens(small, large, large_output_tokens=4, text_tokens=10)
    assert n == 18
    assert small.predict(10, n - 1) <= large.predict(10, 4) < small.predict(10, n)
    assert break_even_tokens(large, small, 1, 10) == 1, "the cheaper model is ahead at once"
    with pytest.raises(InvalidValue, match="output_s"):
        break_even_tokens(replace(small, output_s=0.0), large, 4, 10)


def test_break_even_where_steps_grow_with_the_context():
    small = LatencyModel(fixed_s=0.1, text_s=0.01, output_s=0.25, attended_s=0.01)
    large = LatencyModel(fixed_s=0.5, text_s=0.01, output_s=1.1)
    n = break_even_tokens(small, large, large_output_tokens=4, text_tokens=10)
    assert 1 < n < 18
    assert small.predict(10, n - 1) <= large.predict(10, 4) < small.predict(10, n)


def test_a_profile_writes_exactly_what_was_asked(tiny_engine):
    profile = latency_profile(tiny_engine, 12, 40, repeats=3, warmup=1)
    assert (profile.text_tokens, profile.output_tokens) == (12, 40)
    assert 0 < profile.prefill_s < profile.total_s
    assert 0 < profile.decode_s_per_token < profile.total_s / 20
    short = latency_profile(tiny_engine, 12, 1, repeats=3, warmup=1)
    assert short.total_s < profile.total_s


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 5), "text_tokens is 0"),
        ((5, 0), "output_tokens is 0"),
        ((100, 29), "is 129"),
    ],
)
def test_impossible_profiles(tiny_engine, arguments, message):
    with pytest.raises(InvalidValue, match=message):
        latency_profile(tiny_engine, *arguments)
    with pytest.raises(InvalidValue, match="repeats is 0"):
        latency_profile(tiny_engine, 4, 4, repeats=0)


def test_bad_measurements_are_refused():
    good = simulated()
    with pytest.raises(InvalidValue, match="at least 3"):
        fit_latency_model(good[:2])
    for seconds in (0.0, -1.0, float("nan")):
        with pytest.raises(InvalidValue, match=r"profiles\[1\].total_s"):
            fit_latency_model([good[0], replace(good[1], total_s=seconds), *good[2:]])
    with pytest.raises(InvalidValue, match="output length"):
        fit_latency_model([replace(p, output_tokens=8) for p in good])
