"""How a model writes. A file per system; this is the table of contents."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Name on the command line -> (module, class).
NAMES: dict[str, tuple[str, str]] = {
    "adaptive-temperature": ("entropy_minimization", "AdaptiveTemperature"),
    "adaptive-vg-search": ("verification_granularity", "AdaptiveVGSearch"),
    "banditspec": ("bandit_speculation", "BanditSpeculation"),
    "best-of-n": ("verified_search", "BestOfN"),
    "cosine-skipping": ("layer_skipping_baselines", "CosineSkipping"),
    "dvts": ("verified_search", "DVTS"),
    "diffusion": ("diffusion", "Diffusion"),
    "dkv-cache": ("delayed_kv_cache", "DelayedKVCache"),
    "em": ("entropy_minimization", "EntropyMinimization"),
    "greedy": ("sampling", "Greedy"),
    "mixture-of-inputs": ("mixture_of_inputs", "MixtureOfInputs"),
    "random-skipping": ("layer_skipping_baselines", "RandomSkipping"),
    "reasoning-transfer": ("reasoning_transfer", "ReasoningTransfer"),
    "sampling": ("sampling", "Sampling"),
    "self-consistency": ("self_consistency", "SelfConsistency"),
    "soft-thinking": ("soft_thinking", "SoftThinking"),
    "vg-search": ("verification_granularity", "VGSearch"),
    "videoauto-r1": ("answer_twice", "ThinkOnceAnswerTwice"),
    "void-lac": ("layer_skipping", "L2AdaptiveComputation"),
}

_CLASSES = {name: module for module, name in NAMES.values()}
_CLASSES |= dict.fromkeys(("Chain", "Decoding", "StepwiseDecoding", "chain", "describe"), "base")
_CLASSES |= dict.fromkeys(("HiddenStateVerifier", "TextVerifier", "TokenConfidence", "Verifier"), "verifiers")

__all__ = ["NAMES", *_CLASSES]


def __getattr__(name: str) -> Any:
    if name in _CLASSES:
        return getattr(import_module(f"dovetail.decoding.{_CLASSES[name]}"), name)
    raise AttributeError(f"module 'dovetail.decoding' has no attribute {name!r}")
