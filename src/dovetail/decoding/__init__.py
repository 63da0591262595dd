"""How a model writes. A file per system; this is the table of contents."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Name on the command line -> (module, class).
NAMES: dict[str, tuple[str, str]] = {
    "adaptive-temperature": ("entropy_minimization", "AdaptiveTemperature"),
    "cosine-skipping": ("layer_skipping_baselines", "CosineSkipping"),
    "em": ("entropy_minimization", "EntropyMinimization"),
    "greedy": ("sampling", "Greedy"),
    "mixture-of-inputs": ("mixture_of_inputs", "MixtureOfInputs"),
    "random-skipping": ("layer_skipping_baselines", "RandomSkipping"),
    "sampling": ("sampling", "Sampling"),
    "self-consistency": ("self_consistency", "SelfConsistency"),
    "soft-thinking": ("soft_thinking", "SoftThinking"),
    "void-lac": ("layer_skipping", "L2AdaptiveComputation"),
}

_CLASSES = {name: module for module, name in NAMES.values()}
_CLASSES |= dict.fromkeys(("Chain", "Decoding", "StepwiseDecoding", "chain", "describe"), "base")

__all__ = ["NAMES", *_CLASSES]


def __getattr__(name: str) -> Any:
    if name in _CLASSES:
        return getattr(import_module(f"dovetail.decoding.{_CLASSES[name]}"), name)
    raise AttributeError(f"module 'dovetail.decoding' has no attribute {name!r}")
