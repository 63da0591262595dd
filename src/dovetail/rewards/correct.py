"""Correct: one for a right answer, nothing for a wrong one, as the task's scorers judge it.

The scorers read only what stands after the thinking, and judge mathematics in a process of its own within a
time limit, so a completion can neither stop nor harm a run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dovetail.core import Completion, Example, InvalidValue, Message, Score, Scorer
from dovetail.rewards.base import Batch, Reward
from dovetail.tasks import extraction
from dovetail.tasks.scorers import scorer as scorer_of

#: Columns that are taken for the accepted answer where none is named, the first that is there.
REFERENCES = ("reference", "answer", "solution", "ground_truth", "target", "references", "answers")


@dataclass(frozen=True)
class Correct(Reward):
    """The score of the answer: 1 or 0, or what lies between where a scorer gives parts.

    Attributes:
        scorer: a scorer or its name ("auto", "numeric", "math", "exact", ...; `dovetail.tasks.scorers`).
        column: holds the accepted answer, or a list of accepted ones; "" takes the examples of
            ``dovetail.train``, or the first of `REFERENCES`. Of a worked solution its box, or what follows
            ``####``, counts.
        strict: pay only answers in the asked-for format, a box after the thinking.
    """

    scorer: str | Scorer = "auto"
    column: str = ""
    strict: bool = False

    name = "correct"

    def __post_init__(self) -> None:
        scorer_of(self.scorer)

    def pay(self, batch: Batch) -> Sequence[float | None]:
        scores = self.scores(batch)
        return [None if s is None else s.strict if self.strict else s.value for s in scores]

    def scores(self, batch: Batch) -> list[Score | None]:
        """Each completion's score; None where a named scorer has no accepted answer to judge by.

        Raises:
            InvalidValue: there is no column with accepted answers; names those there are.
        """
        scorer, named = scorer_of(self.scorer), isinstance(self.scorer, str)
        seen: dict[tuple[Any, ...], Score] = {}
        found: list[Score | None] = []
        for row, example in enumerate(self.examples(batch)):
            if named and example.reference is None and not example.columns.get("accepted_answers"):
                found.append(None)
                continue
            text, opened = batch.texts[row], batch.opened[row]
            # Groups share their example, and short answers come often: each is judged once.
            key = (id(example), text, opened)
            if key not in seen:
                written = Completion(text, columns={"assistant_prefix": opened} if opened else {})
                seen[key] = scorer(example, written)
            found.append(seen[key])
        return found

    def examples(self, batch: Batch) -> list[Example]:
        """What each completion answers."""
        if not self.column and batch.has("example"):
            return batch.column("example")
        column = self.column or next((name for name in REFERENCES if batch.has(name)), "")
        if not column:
            given = ", ".join(sorted(batch.columns)) or "none"
            raise InvalidValue(
                "columns", given, f"one of {', '.join(REFERENCES)}, or named: Correct(column=...)"
            )
        known: dict[tuple[str, str], Example] = {}
        others = _others(batch)
        examples = []
        for row, accepted in enumerate(batch.column(column)):
            extra = {name: values[row] for name, values in others.items()}
            key = (batch.prompts[row], repr((accepted, extra)))
            if key not in known:
                known[key] = _example(f"row {row}", batch.prompts[row], accepted, extra)
            examples.append(known[key])
        return examples


def _example(id: str, prompt: str, accepted: Any, columns: Mapping[str, Any]) -> Example:
    if hasattr(accepted, "tolist"):
        accepted = accepted.tolist()
    several = isinstance(accepted, list | tuple)
    answers = tuple(_stated(a) for a in (accepted if several else [accepted]) if a is not None)
    if len(answers) > 1:
        columns = {**columns, "accepted_answers": answers}
    return Example(id, (Message("user", prompt),), answers[0] if answers else None, columns=columns)


def _others(batch: Batch) -> dict[str, list[Any]]:
    """Columns that scorers may ask for: choices of multiple choice, metadata of procedural tasks."""
    return {name: batch.column(name) for name in ("choices", "metadata") if batch.has(name)}


def _stated(answer: Any) -> str:
    """The final answer of a reference: in its box, after ``####``, or all of it."""
    text = str(answer)
    if "boxed" in text and (box := extraction.boxed(text)):
        return box
    if "####" in text and (said := extraction.announced(text)):
        return said
    return text
