"""Turns rows into examples: finds the columns by name, and names every row that holds no question or no
answer.

| meaning | names it is found by |
|---|---|
| question | question, problem, prompt, query, messages, conversation(s), instruction (+ input), input |
| answer | answer, final_answer, answers, ground_truth, target, reference, gold, label, solution, ... |
| choices | choices, options, endings |
| id | id, question_id, unique_id, ... |

Upper case, spaces and dashes in a column's name do not matter. The first name of the list that at least half
of the rows have wins.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from dovetail.core import BadData, BadRow, Example, Message, UnknownName
from dovetail.core.example import Role
from dovetail.tasks import extraction
from dovetail.tasks.rows import Row

QUESTION = (
    "question", "problem", "prompt", "query", "messages", "conversation", "conversations", "instruction",
    "input", "question_text", "problem_statement",
)  # fmt: skip
ANSWER = (
    "answer", "final_answer", "answers", "answer_key", "answerkey", "correct_answer", "expected_answer",
    "gold_answer", "ground_truth", "target", "targets", "reference", "references", "gold", "expected",
    "label",
    "solution", "output", "response", "completion",
)  # fmt: skip
CHOICES = ("choices", "options", "endings")
ID = ("id", "_id", "question_id", "problem_id", "example_id", "unique_id", "uid", "qid")
_WORKED = (
    "solution",
    "output",
    "response",
    "completion",
)  # columns that hold whole solutions: their box counts
MAX_QUESTION = 1_000_000  # characters; a longer one is damage, not a question
_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant"}  # ShareGPT's names


@dataclass(frozen=True)
class Columns:
    """Which columns mean what, as the user gave them; None is found by name, "" means there is none.

    Parameters
    ----------
    question, answer, choices, id: a column's name. ``choices`` may name several, separated by commas, one per
        choice.
    format: "gsm8k" for answers that end with ``#### 18`` (or a last line ``A: 18``); "plain"; None for gsm8k
        where the source's name says so or its first answer ends that way.
    list_choices: whether the choices are written under the question.
    """

    question: str | None = None
    answer: str | None = None
    choices: str | None = None
    id: str | None = None
    format: str | None = None
    list_choices: bool = True

    def examples(
        self, rows: Iterable[Row | BadRow], source: str, name: str, limit: int | None = None
    ) -> tuple[list[Example], list[BadRow]]:
        """The first ``limit`` examples, and every bad row among all ``rows``.

        Args:
            rows: read rows and bad ones.
            source: what bad rows are reported under.
            name: what examples without an id of their own are called by, with their line.

        Raises:
            BadData: there are no rows, no question or answer column, or no row can be used.
            UnknownName: a column that was named does not exist.
        """
        rows = list(rows)
        good = [row for row in rows if isinstance(row, Row)]
        bad = [row for row in rows if isinstance(row, BadRow)]
        if not good:
            raise BadData(f"{source} holds no row that can be read" + _first(bad))
        reader = _Reader(self, good, source, name)
        examples: list[Example] = []
        for row in good:
            if reader.is_header(row, good):
                continue
            try:
                example = reader.example(row)
            except _Damage as damage:
                bad.append(BadRow(source, row.line, str(damage)))
                continue
            if limit is None or len(examples) < limit:
                examples.append(example)
        bad.sort(key=lambda b: b.line)
        if not examples and limit != 0:
            raise BadData(f"{source} holds no row that can be used" + _first(bad))
        return examples, bad


def _first(bad: Sequence[BadRow]) -> str:
    more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
    return f": line {bad[0].line}: {bad[0].reason}{more}" if bad else ""


class _Damage(Exception):
    """Why a row cannot be used."""


class _Reader:
    """`Columns` resolved for one source."""

    def __init__(self, columns: Columns, rows: Sequence[Row], source: str, name: str) -> None:
        self.columns, self.source, self.name = columns, source, name
        self.counts = Counter(key for row in rows for key in row.values)
        self.rows = len(rows)
        question = self._find("question", columns.question, QUESTION)
        if question is None:
            raise BadData(f"{source} holds no question: none of {self._names()} is called {_some(QUESTION)}; "
                          "name its column, question=COLUMN")  # fmt: skip
        self.question = question
        self.choices = self._find_choices()
        self.answer = self._find("answer", columns.answer, ANSWER)
        self.id = self._find("id", columns.id, ID)
        if self.answer is None and not any(_ends_with_answer(row.values.get(question)) for row in rows):
            raise BadData(f"{source} holds no answer: none of {self._names()} is called {_some(ANSWER)}; "
                          "name its column, answer=COLUMN")  # fmt: skip
        self.gsm8k = self._is_gsm8k(rows)
        self.seen: dict[object, int] = {}  # id, or question and answer where there is none -> line

    def _names(self) -> str:
        names = list(self.counts)
        return f"its columns ({', '.join(names[:12])}{', ...' if len(names) > 12 else ''})"

    def _find(self, meaning: str, given: str | None, known: Sequence[str]) -> str | None:
        if given is not None:
            if given and given not in self.counts:
                raise UnknownName(f"{meaning} column of {self.source}", given, self.counts)
            return given or None
        plain = {re.sub(r"[\s-]+", "_", key.strip().lower()): key for key in reversed(list(self.counts))}
        present = [plain[name] for name in known if name in plain]
        common = [key for key in present if self.counts[key] * 2 >= self.rows]
        return next(iter(common or present), None)

    def _find_choices(self) -> tuple[str, ...]:
        given = self.columns.choices
        if given and "," in given and given not in self.counts:
            names = tuple(name.strip() for name in given.split(","))
            return tuple(cast(str, self._find("choices", name, ())) for name in names)
        found = self._find("choices", given, CHOICES)
        if found is not None:
            return (found,)
        letters = ("A", "B", "C", "D")
        return letters if given is None and all(self.counts[l] * 2 >= self.rows for l in letters) else ()

    def _is_gsm8k(self, rows: Sequence[Row]) -> bool:
        if self.columns.format is not None:
            return self.columns.format == "gsm8k"
        if self.choices or self.answer is None:
            return False
        if "gsm8k" in self.name.lower():
            return True
        answers = [row.values.get(self.answer) for row in rows[:5]]
        return all(isinstance(a, str) and _gsm8k_number(a) is not None and "\n####" in a for a in answers)

    def is_header(self, row: Row, rows: Sequence[Row]) -> bool:
        """Whether the first row describes the file: it shares no column with the second."""
        return row is rows[0] and len(rows) > 1 and not set(row.values) & set(rows[1].values) and (
            self.question in rows[1].values
        )  # fmt: skip

    def example(self, row: Row) -> Example:
        values = row.values
        messages = self._messages(values)
        reference: str | None
        if self.answer is None:
            last = messages[-1]
            if last.role != "assistant":
                raise _Damage("the conversation does not end with the assistant's answer")
            messages, accepted = messages[:-1], [self._solution_answer(last.content)]
        else:
            if messages[-1].role == "assistant":
                messages = messages[:-1]
            accepted = []
        if not any(m.role == "user" for m in messages):
            raise _Damage("question is missing: no message of the user")
        columns = {key: value for key, value in values.items() if key not in (self.question, self.id)}
        for reserved in ("accepted_answers", "choices"):
            columns.pop(reserved, None)
        if self.choices:
            labels, texts = self._choices(values)
            accepted = [_chosen(a, labels, texts) for a in self._accepted(values, choices=True)]
            columns["choices"] = tuple(texts)
            if self.columns.list_choices:
                listed = "\n".join(f"{chr(ord('A') + i)}. {text}" for i, text in enumerate(texts))
                question = f"{messages[-1].content}\n{listed}\nAnswer with the letter of the right choice."
                messages = (*messages[:-1], Message(messages[-1].role, question))
        elif self.answer is not None:
            accepted = self._accepted(values, choices=False)
        reference = accepted[0]
        if len(accepted) > 1:
            columns["accepted_answers"] = tuple(accepted)
        id = self._id(values, row.line, (messages, tuple(accepted)))
        return Example(id, messages, reference, columns=columns)

    # The question

    def _messages(self, values: Mapping[str, Any]) -> tuple[Message, ...]:
        value = values.get(self.question)
        if isinstance(value, (list, tuple)) and value and isinstance(value[0], Mapping):
            return tuple(_message(part, i) for i, part in enumerate(value, 1))
        question = _text(value, self.question)
        extra = values.get("input")
        if self.question.lower() == "instruction" and isinstance(extra, str) and extra.strip():
            question = f"{question}\n{extra}"  # Alpaca's instruction and its input
        return (Message("user", question),)

    # The answer

    def _accepted(self, values: Mapping[str, Any], choices: bool) -> list[Any]:
        """All accepted answers as text; labels of choices may stay numbers."""
        assert self.answer is not None
        name, value = self.answer, values.get(self.answer)
        if isinstance(value, Mapping):
            value = _answers_of(value, name)
        if isinstance(value, (list, tuple)):
            if not value:
                raise _Damage(f"{name} is an empty list")
            if self.gsm8k:
                raise _Damage(f"{name} is a list, not text")
            several = [_answer(part, name) for part in value]
            return list(dict.fromkeys(several))
        if choices and isinstance(value, int) and not isinstance(value, bool):
            return [value]
        if self.gsm8k:
            text = _text(value, name)
            if "####" not in text and not _LAST_LINE.search(text):
                raise _Damage(f"{name} has no '####' before the final number")
            number = _gsm8k_number(text)
            if number is None:
                stated = text.rpartition("####")[2].strip()[:40]
                raise _Damage(f"what follows '####' in {name} is not a number: {stated!r}")
            return [number]
        text = _answer(value, name)
        return [self._solution_answer(text) if name.lower() in _WORKED else text]

    def _solution_answer(self, text: str) -> str:
        """The boxed answer of a worked solution; the whole text where there is none."""
        written = extraction.after_thinking(text)
        return extraction.boxed(written if written is not None else text) or text.strip()

    def _choices(self, values: Mapping[str, Any]) -> tuple[list[str], list[str]]:
        """Labels and texts of the choices."""
        if len(self.choices) > 1:
            found: Any = [values.get(name) for name in self.choices]
        else:
            found = values.get(self.choices[0])
        name = self.choices[0]
        labels: Any = None
        if isinstance(found, Mapping) and "text" in found:  # ARC: {"text": [...], "label": [...]}
            labels, found = found.get("label"), found["text"]
        elif isinstance(found, Mapping):  # {"A": ..., "B": ...}
            labels, found = list(found), list(found.values())
        if isinstance(found, str) and found.strip().startswith("["):
            raise _Damage(f"{name} is text that looks like a list: save it as a list")
        if not isinstance(found, (list, tuple)) or len(found) < 2:
            raise _Damage(f"{name} is not a list of at least two choices")
        if len(found) > 26:
            raise _Damage(f"{name} holds {len(found)} choices: at most 26 can be lettered")
        texts = [_answer(part, name) for part in found]
        if not isinstance(labels, (list, tuple)) or len(labels) != len(texts):
            labels = [chr(ord("A") + i) for i in range(len(texts))]
        return [str(label).strip() for label in labels], texts

    # The id

    def _id(self, values: Mapping[str, Any], line: int, content: object) -> str:
        value = values.get(self.id) if self.id is not None else None
        if value is None or value == "":
            first = self.seen.setdefault(content, line)
            if first != line and self.id is None:
                raise _Damage(f"the same question and answer as on line {first}")
            return f"{self.name}-{line}"
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            raise _Damage(f"{self.id} is neither text nor a whole number")
        id = str(value)
        first = self.seen.setdefault(("id", id), line)
        if first != line:
            raise _Damage(f"the same {self.id} {id!r} as on line {first}")
        return id


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + ", ..."


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a truth value"
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "infinite"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, (list, tuple)):
        return "a list"
    return "a nested object" if isinstance(value, Mapping) else f"a {type(value).__name__}"


def _text(value: object, name: str) -> str:
    """Text that is there and can be asked."""
    if value is None:
        raise _Damage(f"{name} is missing")
    if not isinstance(value, str):
        raise _Damage(f"{name} is {_kind(value)}, not text")
    if not extraction.clean(value).strip():
        raise _Damage(f"{name} is {'blank' if value else 'empty'}")
    if "\x00" in value:
        raise _Damage(f"{name} holds a NUL character")
    if len(value) > MAX_QUESTION:
        raise _Damage(f"{name} has {len(value):,} characters (at most {MAX_QUESTION:,})")
    return value


def _answer(value: object, name: str) -> str:
    """One accepted answer as text; numbers and truth values are written out."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _Damage(f"{name} is {_kind(value)}")
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, int):
        return str(value)
    if value is not None and not isinstance(value, (str, list, tuple, Mapping)):
        value = str(value)  # dates and decimals of Parquet
    text = _text(value, name).strip()
    if text in ("NaN", "nan"):
        raise _Damage(f"{name} is NaN")
    return text


def _answers_of(value: Mapping[str, Any], name: str) -> list[Any]:
    """The answers in a nested one: SQuAD's ``text`` list, TriviaQA's ``value`` and ``aliases``."""
    if isinstance(value.get("text"), (list, tuple)):
        return list(value["text"])
    if isinstance(value.get("value"), str):
        return [value["value"], *(value.get("aliases") or ())]
    raise _Damage(f"{name} is a nested object of {', '.join(list(value)[:5]) or 'nothing'}")


def _message(part: object, position: int) -> Message:
    if not isinstance(part, Mapping):
        raise _Damage(f"message {position} is {_kind(part)}, not an object with role and content")
    role = part.get("role", part.get("from"))
    role = _ROLES.get(str(role), role)
    if role not in ("system", "user", "assistant", "tool"):
        raise _Damage(f"message {position} has the role {role!r}: must be system, user, assistant or tool")
    return Message(cast(Role, role), _text(part.get("content", part.get("value")), f"message {position}"))


def _ends_with_answer(value: object) -> bool:
    if not isinstance(value, (list, tuple)) or not value or not isinstance(value[-1], Mapping):
        return False
    return value[-1].get("role", value[-1].get("from")) in ("assistant", "gpt", "bot", "model")


def _chosen(answer: object, labels: Sequence[str], texts: Sequence[str]) -> str:
    """The letter (A for the first) of the choice that an answer names: by label, position or text."""
    position: int | None = None
    if isinstance(answer, int):
        position = answer if str(answer) not in labels else labels.index(str(answer))
    else:
        text = str(answer).strip()
        if text in labels:
            position = labels.index(text)
        elif texts.count(text) == 1:
            position = texts.index(text)
        elif text.upper() in labels:
            position = labels.index(text.upper())
        elif text.isdecimal():
            position = int(text)
    if position is None or not 0 <= position < len(texts):
        raise _Damage(f"answer {str(answer)[:40]!r} is none of the {len(texts)} choices")
    return chr(ord("A") + position)


_LAST_LINE = re.compile(r"\nA:[ \t]*([^\n]+)\s*$")  # OpenAI's model solutions write "A: 18"


def _gsm8k_number(text: str) -> str | None:
    """The final number of a GSM8K answer, without separators; None if there is none."""
    _, mark, stated = text.rpartition("####")
    if not mark:
        found = _LAST_LINE.search(text)
        if found is None:
            return None
        stated = found[1]
    stated = stated.strip().removeprefix("$").replace(",", "")
    return stated if re.fullmatch(r"[-+]?\d+(?:\.\d+)?(?:/\d+)?%?", stated) else None
