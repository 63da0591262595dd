"""How a question is put. A file per system; this is the table of contents."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Name on the command line -> (module, class).
NAMES: dict[str, tuple[str, str]] = {
    "chain-of-thought": ("structure_of_thought", "ChainOfThought"),
    "direct": ("structure_of_thought", "DirectAnswer"),
    "language": ("language_knowledge", "InLanguage"),
    "language-knowledge": ("language_knowledge", "LanguageKnowledgeRouter"),
    "prior-prompt": ("prior_prompts", "PriorPrompt"),
    "structure-of-thought": ("structure_of_thought", "StructureOfThought"),
}

_CLASSES = {name: module for module, name in NAMES.values()}
_CLASSES |= {"Prompting": "base", "asked": "base", "PRIOR_PROMPTS": "prior_prompts"}

__all__ = ["NAMES", *_CLASSES]


def __getattr__(name: str) -> Any:
    if name in _CLASSES:
        return getattr(import_module(f"dovetail.prompting.{_CLASSES[name]}"), name)
    raise AttributeError(f"module 'dovetail.prompting' has no attribute {name!r}")
