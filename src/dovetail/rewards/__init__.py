"""What a completion is paid. A file per system; this is the table of contents.

Every reward has the signature that TRL's ``reward_funcs`` takes, ``reward(prompts, completions, **columns) ->
list[float | None]``, so it drops into TRL's trainers and runs in ``dovetail.train``. See `base`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Name in a recipe and in logs -> (module, class).
NAMES: dict[str, tuple[str, str]] = {
    "agreement": ("agreement", "Agreement"),
    "asrr": ("self_recovery", "AdaptiveSelfRecovery"),
    "barrel": ("boundary", "BoundaryReward"),
    "bleu": ("bleu", "Bleu"),
    "box-format": ("grounding", "BoxFormat"),
    "box-iou": ("grounding", "BoxIoU"),
    "bleu-rouge": ("rouge", "BleuRouge"),
    "correct": ("correct", "Correct"),
    "correct-or-refused": ("refusal", "CorrectOrRefused"),
    "dual-answer": ("dual_answer", "DualAnswer"),
    "efficient": ("length_baselines", "Efficient"),
    "format": ("format", "Format"),
    "kimi": ("length_baselines", "Kimi"),
    "l1-exact": ("length_baselines", "L1Exact"),
    "l1-max": ("length_baselines", "L1Max"),
    "laser": ("length", "Laser"),
    "laser-d": ("length", "LaserD"),
    "laser-de": ("length", "LaserDE"),
    "overlong": ("overlong", "Overlong"),
    "rank-incentive": ("rank_incentive", "RankIncentive"),
    "rouge-l": ("rouge", "RougeL"),
    "sequence-entropy": ("entropy", "SequenceEntropy"),
    "tagged-format": ("tagged_format", "TaggedFormat"),
    "thinkprune": ("length_baselines", "ThinkPrune"),
    "token-entropy": ("entropy", "TokenEntropy"),
    "transition-metric": ("world_model", "TransitionMetric"),
    "truncation": ("length_baselines", "Truncation"),
    "verifier": ("verification", "VerifierReward"),
}

_CLASSES = {name: module for module, name in NAMES.values()}
_CLASSES |= dict.fromkeys(("Batch", "Reward"), "base")
# Made from other rewards, so they have no name of their own on the command line.
_CLASSES |= {
    "ClippedReward": "clipped",
    "EnsembleReward": "ensemble",
    "LengthCalibratedReward": "calibrated",
    "RefreshingEvaluator": "refreshing",
    "SigmoidReward": "clipped",
    "StandardisedReward": "standardised",
}

__all__ = ["NAMES", *_CLASSES]


def __getattr__(name: str) -> Any:
    if name in _CLASSES:
        return getattr(import_module(f"dovetail.rewards.{_CLASSES[name]}"), name)
    raise AttributeError(f"module 'dovetail.rewards' has no attribute {name!r}")
