"""Is the run still honest? A file per system; this is the table of contents."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Name on the command line -> (module, class).
NAMES: dict[str, tuple[str, str]] = {
    "adaptive-kl": ("adaptive_kl", "AdaptiveKL"),
    "early-stop-on-gold": ("early_stop", "EarlyStopOnGold"),
    "early-stop-on-outliers": ("early_stop", "EarlyStopOnOutliers"),
    "floor": ("floor", "Floor"),
    "proxy-gap": ("proxy_gap", "ProxyGap"),
    "transcript": ("transcript", "Transcript"),
}

_CLASSES = {name: module for module, name in NAMES.values()}
_CLASSES |= dict.fromkeys(("Alarm", "Monitor"), "base")

__all__ = ["NAMES", *_CLASSES]


def __getattr__(name: str) -> Any:
    if name in _CLASSES:
        return getattr(import_module(f"dovetail.training.monitors.{_CLASSES[name]}"), name)
    raise AttributeError(f"module 'dovetail.training.monitors' has no attribute {name!r}")
