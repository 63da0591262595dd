"""The loss on a batch of rollouts. A file per system; this is the table of contents."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Name on the command line -> (module, class).
NAMES: dict[str, tuple[str, str]] = {
    "difficulty-weights": ("difficulty", "DifficultyWeights"),
    "preference": ("preference", "Preference"),
    "entropy-finetuning": ("entropy", "EntropyFinetuning"),
    "policy-gradient": ("policy_gradient", "PolicyGradient"),
    "supervised": ("supervised", "Supervised"),
}

_CLASSES = {name: module for module, name in NAMES.values()}
_CLASSES |= {"Objective": "base"}

__all__ = ["NAMES", *_CLASSES]


def __getattr__(name: str) -> Any:
    if name in _CLASSES:
        return getattr(import_module(f"dovetail.training.objectives.{_CLASSES[name]}"), name)
    raise AttributeError(f"module 'dovetail.training.objectives' has no attribute {name!r}")
