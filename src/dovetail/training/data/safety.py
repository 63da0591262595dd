"""Safety fine-tuning data for reasoning models: all math rows, then a sample of safety rows.

"How Should We Enhance the Safety of Large Reasoning Models: An Empirical Study", arXiv 2505.15404 (ACL 2026),
sect. 3 and 5; mixing as in the official code (thu-coai/LRM-Safety-Study). How the teacher is asked for the
rows is in `safety_styles`, what their reasoning must not hold in `safety_audit`. Rows hold the user's prompt
and the response, nothing of the teacher's instruction.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from dovetail.core import BadData, Example, InvalidValue
from dovetail.training.data.base import Data
from dovetail.training.data.safety_styles import STYLES

DataType = Literal["safety", "benign", "math"]
_OPEN, _CLOSE = "<think>", "</think>"


@dataclass(frozen=True)
class SafetyRow:
    """One prompt and the response to learn.

    Attributes:
        prompt: what the user says.
        response: with its thoughts in one closed ``<think>`` block; style "nocot" has none.
        data_type: "safety", "benign" (harmless, against over-refusal) or "math".
        style: of `safety_styles.STYLES`, "" for math.
    """

    prompt: str
    response: str
    data_type: DataType = "safety"
    style: str = ""

    def __post_init__(self) -> None:
        for part in fields(self):
            if not isinstance(getattr(self, part.name), str):
                raise InvalidValue(part.name, getattr(self, part.name), "a text")
        if not self.prompt.strip():
            raise InvalidValue("prompt", self.prompt, "not empty")
        if self.data_type not in ("safety", "benign", "math"):
            raise InvalidValue("data_type", self.data_type, "'safety', 'benign' or 'math'")
        if self.style not in ("", *STYLES):
            raise InvalidValue("style", self.style, f"one of {', '.join(STYLES)}, or '' for none")
        thoughts, _ = split_think(self.response)
        if self.style == "nocot" and thoughts is not None:
            raise InvalidValue("response", self.response[:80], "without thoughts in style 'nocot'")
        if self.style not in ("", "nocot") and thoughts is None:
            raise InvalidValue("response", self.response[:80], "with thoughts in <think>...</think>")


def split_think(response: str) -> tuple[str | None, str]:
    """(thoughts, answer) of a response; thoughts are None where there is no ``<think>`` block.

    Raises:
        InvalidValue: more than one block, a block that is not closed or not opened, or no answer behind it.
    """
    opened, closed = response.count(_OPEN), response.count(_CLOSE)
    if opened != closed or opened > 1 or response.find(_CLOSE) < response.find(_OPEN):
        expected = "one closed <think>...</think> block, or none"
        raise InvalidValue("response", response[:80], f"{expected} (it has {opened} opened, {closed} closed)")
    before, _, rest = response.partition(_OPEN)
    thoughts, _, answer = rest.partition(_CLOSE) if opened else ("", "", before)
    if opened and before.strip():
        raise InvalidValue("response", response[:80], "without text before its thoughts")
    if not answer.strip():
        raise InvalidValue("response", response[-80:], "with an answer after its thoughts")
    return (thoughts.strip() if opened else None), answer.strip()


def rows_of(entries: Sequence[Mapping[str, Any]]) -> list[SafetyRow]:
    """Rows from plain dicts (a JSONL file, say); other keys are ignored.

    Raises:
        BadData: an entry lacks a field, or has one that is impossible; names the row.
    """
    names = [f.name for f in fields(SafetyRow)]
    made = []
    for i, entry in enumerate(entries):
        try:
            made.append(SafetyRow(**{n: entry[n] for n in names if n in entry}))
        except (InvalidValue, TypeError) as error:
            raise BadData(f"row {i}: {error}") from error
    return made


def to_chat(row: SafetyRow) -> dict[str, Any]:
    """The row as TRL and other trainers take it: ``{"messages": [user, assistant]}``."""
    turns = (("user", row.prompt), ("assistant", row.response))
    return {"messages": [{"role": role, "content": text} for role, text in turns]}


def mix(
    safety: Sequence[SafetyRow], math: Sequence[SafetyRow], n_safety: int, seed: int = 42
) -> list[dict[str, Any]]:
    """Chat rows: all math rows, then ``n_safety`` of the safety rows, sampled without replacement.

    Raises:
        InvalidValue: more safety rows asked for than there are.
    """
    return [to_chat(row) for row in (*math, *sample(safety, n_safety, seed))]


def sample(safety: Sequence[SafetyRow], n_safety: int, seed: int = 42) -> list[SafetyRow]:
    """``n_safety`` rows as the official code draws them: ``random.seed(seed); random.sample(safety, n)``."""
    if not 0 <= n_safety <= len(safety):
        raise InvalidValue("n_safety", n_safety, f"from 0 to {len(safety)}, the safety rows there are")
    return random.Random(seed).sample(list(safety), n_safety)


def leaks(rows: Sequence[SafetyRow], prompts: Sequence[str]) -> list[int]:
    """Rows (by position) whose prompt is one of ``prompts``, whatever the case, spaces and punctuation."""
    known = {_normal(p) for p in prompts}
    return [i for i, row in enumerate(rows) if _normal(row.prompt) in known]


def _normal(prompt: str) -> str:
    return " ".join(re.findall(r"\w+", prompt.casefold()))


@dataclass
class SafetyMix(Data):
    """Adds a sample of safety rows behind the examples that are trained on, which are the math rows.

    Learned with `Supervised`, which reads the column ``completion``. Without math, pass no examples.

    Attributes:
        safety: rows to draw from, checked (see `rows_of`).
        n_safety: how many are drawn (paper: 400 or 1,000, beside 4,000 math rows).
        seed: of the draw (the official code's 42); it does not depend on the run's seed.
        held_out: prompts of the evaluation: a row that asks one of them is refused as a leak.
    """

    safety: Sequence[SafetyRow]
    n_safety: int = 1000
    seed: int = 42
    held_out: Sequence[str] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.n_safety <= len(self.safety):
            raise InvalidValue("n_safety", self.n_safety, f"from 1 to {len(self.safety)}, the rows there are")
        found = leaks(self.safety, self.held_out)
        if found:
            first = self.safety[found[0]].prompt
            raise BadData(
                f"{len(found)} safety rows ask what is evaluated, the first is row {found[0]} ({first!r}): "
                "leave them out of one of the two"
            )

    def examples(self, examples: Sequence[Example], seed: int) -> Sequence[Example]:
        rows = sample(self.safety, self.n_safety, self.seed)
        return [*examples, *(_example(row, f"safety-{i}") for i, row in enumerate(rows))]


def _example(row: SafetyRow, id: str) -> Example:
    columns: dict[str, Any] = {"completion": row.response, "data_type": row.data_type, "style": row.style}
    return Example.ask(id, row.prompt, None, thinking=True, **columns)
