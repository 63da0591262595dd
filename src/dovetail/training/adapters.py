"""Options of a run that change how the network computes, not what is learned: LoRA, checkpointing."""

from __future__ import annotations

import copy
from typing import Any

from dovetail.core import MissingExtra
from dovetail.models.local import LocalModel
from dovetail.training.settings import Settings


def adapt(model: LocalModel, settings: Settings) -> Any | None:
    """Prepares a model for training; gives PEFT's handle on it where only adapters are trained.

    LoRA (Hu et al., arXiv 2106.09685) on all linear layers but the head: these are replaced inside the
    network, which stays the same object, so the engine reads the adapted weights like any others.

    Raises:
        MissingExtra: LoRA without peft.
    """
    if settings.gradient_checkpointing:
        model.network.gradient_checkpointing_enable({"use_reentrant": False})
    if not settings.lora_rank:
        return None
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise MissingExtra("peft", "training") from error
    config = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha or 2 * settings.lora_rank,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    handle = get_peft_model(model.network, config)
    model.__dict__.pop("engine", None)  # one that was built before holds the layers that were replaced
    return handle


def merged(handle: Any) -> Any:
    """A plain network with the adapters added to its weights; the adapted one stays as it is."""
    return copy.deepcopy(handle).merge_and_unload()
