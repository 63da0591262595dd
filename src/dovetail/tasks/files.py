"""Questions from a file: JSON lines, JSON, CSV, TSV, Parquet."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from dovetail.core import BadRow, Example, InvalidValue, Scorer, Task
from dovetail.tasks import rows
from dovetail.tasks.columns import Columns
from dovetail.tasks.scorers import ChoiceLikelihood, Numeric
from dovetail.tasks.scorers import scorer as scorer_of

# The wording that open reasoning models were trained with, pico among them.
INSTRUCTION = "Please reason step by step, and put your final answer within \\boxed{}."
FORMATS = ("gsm8k", "plain")


def task(
    path: str | os.PathLike[str],
    *,
    question: str | None = None,
    answer: str | None = None,
    choices: str | None = None,
    id: str | None = None,
    format: str | None = None,
    scorer: str | Scorer | None = None,
    instruction: str | None = None,
    name: str | None = None,
) -> Task:
    """The questions in a file, as a task.

    The whole file is read and checked whatever the limit; the limit takes the first good rows.

    Args:
        path: a ``.jsonl``, ``.json``, ``.csv``, ``.tsv`` or ``.parquet`` file.
        question, answer, choices, id: the columns' names; found by name where left out (see `columns`).
        format: "gsm8k" where answers end with ``#### 18``, "plain" where they do not; found out where left
            out.
        scorer: a scorer or its name (see `scorers`); ``auto`` by default, ``numeric`` for gsm8k.
        instruction: system message; by default `INSTRUCTION`, "" for none.
        name: the task's name in reports; by default the file's.

    Raises:
        BadData: the file is missing, empty or a folder; on loading: it is no question set.
        Unsupported: the suffix is none that can be read.
        UnknownName: no such scorer; on loading: no such column.
        InvalidValue: no such format.
    """
    path = Path(path)
    rows.check(path)
    columns, judge, said = described(path.name, question, answer, choices, id, format, scorer, instruction)

    def load(limit: int | None, seed: int) -> tuple[Sequence[Example], Sequence[BadRow]]:
        return columns.examples(rows.read(path), str(path), path.stem, limit)

    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    given = {"question": question, "answer": answer, "choices": choices, "id": id, "format": format}
    parameters = {key: value for key, value in given.items() if value is not None}
    return Task(name or path.name, load, judge, said, f"sha256:{digest}", parameters)


def described(
    source: str,
    question: str | None,
    answer: str | None,
    choices: str | None,
    id: str | None,
    format: str | None,
    scorer: str | Scorer | None,
    instruction: str | None,
) -> tuple[Columns, Scorer, str]:
    """Columns, scorer and instruction for a source of that name; shared by files and hub datasets."""
    if format is not None and format not in FORMATS:
        raise InvalidValue("format", format, " or ".join(FORMATS))
    gsm8k = format == "gsm8k" or (format is None and "gsm8k" in source.lower() and not choices)
    judge = scorer_of(scorer) if scorer is not None else Numeric() if gsm8k else scorer_of("auto")
    by_likelihood = isinstance(judge, ChoiceLikelihood)
    said = instruction if instruction is not None else "" if by_likelihood else INSTRUCTION
    return Columns(question, answer, choices, id, format, not by_likelihood), judge, said
