"""A task: examples, how they are asked, and how answers are judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from dovetail.core.completion import Completion
from dovetail.core.example import Example, Message


@dataclass(frozen=True, slots=True)
class Score:
    """A judged completion.

    Attributes:
        value: the score in [0, 1] under the lenient extraction (the task's main figure).
        strict: the score when only the asked-for answer format counts.
        answer: what was extracted ("" if nothing could be); majority votes are taken over it.
        parsed: whether the asked-for format was found.
        figures: further figures by name, averaged in the report.
    """

    value: float
    strict: float
    answer: str = ""
    parsed: bool = True
    figures: Mapping[str, float] = field(default_factory=dict)


class Scorer(Protocol):
    """Judges one completion; deterministic, safe on hostile text, never raises on model output."""

    name: str
    extraction: str  # how the answer is found, in words; part of the record

    def __call__(self, example: Example, completion: Completion) -> Score: ...

    def extract(self, text: str) -> str:
        """The answer in a completion's text ("" if none): what self-consistency votes over."""
        ...


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that could not be read: reported and counted, never silently dropped."""

    source: str
    line: int  # 1-based line (text formats) or row (Parquet, hub)
    reason: str

    def __str__(self) -> str:
        return f"{self.source}:{self.line}: {self.reason}"


@dataclass(frozen=True)
class Task:
    """Examples + prompt + scorer.

    Attributes:
        name: as given by the user, with parameters (``chain-sum``, ``gsm8k_test.jsonl``).
        load: ``load(limit, seed) -> (examples, bad_rows)``; called once, when examples are needed.
            ``limit`` None means all (procedural tasks: their default size).
        scorer: judges completions.
        instruction: text put as system message before every example, "" for none; in the record.
        version: of the source (package version, file digest, dataset revision); in the record.
    """

    name: str
    load: Callable[[int | None, int], tuple[Sequence[Example], Sequence[BadRow]]]
    scorer: Scorer
    instruction: str = ""
    version: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def examples(self, limit: int | None = None, seed: int = 0) -> tuple[list[Example], list[BadRow]]:
        """The first ``limit`` examples under ``seed``, with the instruction in front."""
        examples, bad = self.load(limit, seed)
        return [self._instructed(e) for e in examples], list(bad)

    def __iter__(self) -> Iterator[Example]:
        return iter(self.examples()[0])

    def _instructed(self, example: Example) -> Example:
        if not self.instruction:
            return example
        messages = (Message("system", self.instruction), *example.messages)
        return Example(
            example.id,
            messages,
            example.reference,
            example.images,
            example.audio,
            example.video,
            example.columns,
        )
