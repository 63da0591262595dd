"""Fewer resamples: intervals are tested with the statistics, and here they only take time."""

from __future__ import annotations

from functools import partial

import pytest

from dovetail.core import statistics


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "summarise", partial(statistics.summarise, resamples=200))
