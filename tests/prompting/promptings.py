"""Every registered prompting method with small parameters: the contract tests run over this list."""

from __future__ import annotations

import numpy as np

from dovetail.prompting import (
    ChainOfThought,
    DirectAnswer,
    InLanguage,
    LanguageKnowledgeRouter,
    PriorPrompt,
    StructureOfThought,
)


def lengths(texts):
    """[N, 2]: two directions, by the first word's length."""
    return np.array([[1.0, 0.1] if len(t.split()[0]) > 3 else [0.1, 1.0] for t in texts])


ROUTER = LanguageKnowledgeRouter(n_clusters=2, embed=lengths).fit(
    ["What is 1?", "Where is 2?", "Where is 3?", "Who is 4?"],
    [[0, 1], [1, 0], [1, 0], [0, 1]],
    ["English", "Other"],
)

PROMPTINGS = {
    "chain-of-thought": ChainOfThought(),
    "direct": DirectAnswer(),
    "language": InLanguage("Other"),
    "language-knowledge": ROUTER,
    "prior-prompt": PriorPrompt(),
    "prior-prompt:style=none": PriorPrompt("none"),
    "structure-of-thought": StructureOfThought(),
    "structure-of-thought:notation=arrows": StructureOfThought(notation="arrows"),
}
