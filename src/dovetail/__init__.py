"""Dovetail: published methods for language models as parts that fit together, compared on your task."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Public name -> module that holds it. Imported when first used: `import dovetail` loads nothing heavy.
_HOMES = {
    "compare": "dovetail.comparison",
    "load": "dovetail.models",
    "task": "dovetail.benchmarks",
    "train": "dovetail.training",
    "Claim": "dovetail.core",
    "Completion": "dovetail.core",
    "Example": "dovetail.core",
    "Limits": "dovetail.core",
    "Message": "dovetail.core",
    "Model": "dovetail.core",
    "Report": "dovetail.core",
    "Task": "dovetail.core",
}
_MODULES = (
    "audits",
    "benchmarks",
    "catalog",
    "comparison",
    "core",
    "decoding",
    "engine",
    "models",
    "prompting",
    "recipes",
    "report",
    "tasks",
    "training",
)

__all__ = [*_HOMES, *_MODULES, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _MODULES:
        return import_module(f"dovetail.{name}")
    raise AttributeError(f"module 'dovetail' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
