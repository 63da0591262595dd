"""The embedded model, as recipes begin from it."""

from __future__ import annotations

from dovetail.models.local import LocalModel


def pico() -> LocalModel:
    """Pico on the CPU, loaded anew."""
    from dovetail.models import load

    made = load("pico", device="cpu")
    assert isinstance(made, LocalModel)
    return made
