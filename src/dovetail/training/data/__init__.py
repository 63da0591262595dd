"""Which examples are learned from, when, and how they are asked. A file per system; this is the table of
contents."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Name on the command line -> (module, class).
NAMES: dict[str, tuple[str, str]] = {
    "boundary-aware": ("boundary_aware", "BoundaryAware"),
    "curriculum": ("curriculum", "CustomizedCurriculum"),
    "guided": ("curriculum", "GuidedPrompting"),
    "mix": ("mix", "Mix"),
    "prompted": ("prompted", "Prompted"),
    "query-reformulation": ("query_reformulation", "QueryReformulation"),
    "unanswerable": ("unanswerable", "UnanswerableMix"),
    "safety-mix": ("safety", "SafetyMix"),
}

_CLASSES = {name: module for module, name in NAMES.values()}
_CLASSES |= {"Data": "base", "Draws": "draws", "SyntheticUnanswerableMath": "unanswerable"}

__all__ = ["NAMES", *_CLASSES]


def __getattr__(name: str) -> Any:
    if name in _CLASSES:
        return getattr(import_module(f"dovetail.training.data.{_CLASSES[name]}"), name)
    raise AttributeError(f"module 'dovetail.training.data' has no attribute {name!r}")
