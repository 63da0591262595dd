"""Every registered reward with small parameters: the contract tests run over this list."""

from __future__ import annotations

from typing import Any

from dovetail.rewards import Correct, CorrectOrRefused, Format, Overlong

# Made anew for every test: some rewards have state.
REWARDS: dict[str, Any] = {
    "correct": lambda: Correct(),
    "correct:math": lambda: Correct("math", strict=True),
    "correct:exact": lambda: Correct("exact", column="reference"),
    "correct-or-refused": lambda: CorrectOrRefused(),
    "format": lambda: Format(),
    "format:thinking=false": lambda: Format(thinking=False),
    "overlong": lambda: Overlong(max_length=40, cache=20),
}

TEXTS = (
    "<think>\n2+2=4\n</think>\n\n\\boxed{4}",
    "<think>\n2+2=5\n</think>\n\n\\boxed{5}",
    "<think>\n2+2=4\nLet me check: 2+2=4. Yes.\n</think>\n\n\\boxed{4}",
    "\\boxed{4}",
    "the answer is 4",
    "<think>\n2+2=4",
    "",
    "<think></think>\\boxed{4} \\boxed{5}",
)
REFERENCES = ("4", "5", "4", "7")


def batch(groups: int = 4, size: int = 8) -> dict[str, Any]:
    """A call's arguments: ``groups`` questions side by side, ``size`` completions each."""
    rows = [(g, i) for g in range(groups) for i in range(size)]
    texts = [TEXTS[(g + i) % len(TEXTS)] if (g * i) % 5 != 4 else TEXTS[0] for g, i in rows]
    return {
        "prompts": [f"Question {g}: what is 2 + 2?" for g, _ in rows],
        "completions": texts,
        "reference": [REFERENCES[g % len(REFERENCES)] for g, _ in rows],
        "completion_ids": [list(range(3 + (7 * i + 5 * g) % 45)) for g, i in rows],
    }
