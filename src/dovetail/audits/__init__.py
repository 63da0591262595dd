"""Can scores, data and models be trusted? A file per audit, each with ``run(...) -> Report``; this is the
table of contents."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Name on the command line -> (module, class).
NAMES: dict[str, tuple[str, str]] = {
    "reward-hacking": ("reward_hacking", "RewardHackingAudit"),
}

_CLASSES = {name: module for module, name in NAMES.values()}

__all__ = ["NAMES", *_CLASSES, "audit"]


def audit(name: str) -> Any:
    """The audit's class of that name; ``UnknownName`` suggests the nearest ones."""
    from dovetail.core import UnknownName

    if name not in NAMES:
        raise UnknownName("audit", name, NAMES)
    module, cls = NAMES[name]
    return getattr(import_module(f"dovetail.audits.{module}"), cls)


def __getattr__(name: str) -> Any:
    if name in _CLASSES:
        return getattr(import_module(f"dovetail.audits.{_CLASSES[name]}"), name)
    raise AttributeError(f"module 'dovetail.audits' has no attribute {name!r}")
