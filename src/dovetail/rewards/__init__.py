"""What a completion is paid. A file per system; this is the table of contents.

Every reward has the signature that TRL's ``reward_funcs`` takes, ``reward(prompts, completions, **columns) ->
list[float | None]``, so it drops into TRL's trainers and runs in ``dovetail.train``. See `base`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Name in a recipe and in logs -> (module, class).
NAMES: dict[str, tuple[str, str]] = {
    "correct": ("correct", "Correct"),
    "format": ("format", "Format"),
    "correct-or-refused": ("refusal", "CorrectOrRefused"),
    "overlong": ("overlong", "Overlong"),
}

_CLASSES = {name: module for module, name in NAMES.values()}
_CLASSES |= dict.fromkeys(("Batch", "Reward"), "base")

__all__ = ["NAMES", *_CLASSES]


def __getattr__(name: str) -> Any:
    if name in _CLASSES:
        return getattr(import_module(f"dovetail.rewards.{_CLASSES[name]}"), name)
    raise AttributeError(f"module 'dovetail.rewards' has no attribute {name!r}")
