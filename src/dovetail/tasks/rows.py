"""Reads the rows of a file: JSON lines, JSON, CSV, TSV, Parquet. A row that cannot be read is named, and the
rest goes on.

Harmless, and read as they are meant: Windows line ends, a byte order mark, UTF-16, blank lines at the end,
quoted line breaks in CSV, JSON lines in a file called ``.json``, a JSON object around the list of rows.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dovetail.core import BadData, BadRow, Unsupported

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
_MAX_LINES = 1000  # lines that a quoted CSV field may run over


@dataclass(frozen=True, slots=True)
class Row:
    """One row: where it stands (1-based line, or row in Parquet) and its values by column."""

    line: int
    values: dict[str, Any]


def check(path: Path) -> None:
    """Whether ``path`` is a file that `read` can try.

    Raises:
        BadData: it is missing, empty or a folder.
        Unsupported: its suffix is none of `SUFFIXES`.
    """
    if path.is_dir():
        raise BadData(f"{path} is a folder: name a file in it, or hf:{path} for a dataset saved by datasets")
    if not path.exists():
        near = (
            sorted(p.name for p in path.parent.glob("*") if p.suffix in SUFFIXES)
            if path.parent.is_dir()
            else []
        )
        here = f"; {path.parent} holds {', '.join(near[:8])}" if near else ""
        raise BadData(f"{path} does not exist{here}")
    if path.suffix.lower() not in SUFFIXES:
        raise Unsupported(f"{path} is none of {', '.join(SUFFIXES)}: convert it, or rename it")
    if path.stat().st_size == 0:
        raise BadData(f"{path} is empty")


def read(path: Path) -> Iterator[Row | BadRow]:
    """The rows of a file in order, and in their place the rows that cannot be read.

    Raises:
        BadData: the file as a whole is not what its suffix says.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        yield from _parquet(path)
        return
    text = _text(path)
    if suffix in (".csv", ".tsv"):
        yield from _csv(text, path)
    elif suffix == ".json" and not _is_json_lines(text):
        yield from _json(text, path)
    else:
        yield from _json_lines(text, path)


def _text(path: Path) -> str:
    """The file's text; bytes that are not UTF-8 become lone surrogates, which `_flaw` finds in their row."""
    raw = path.read_bytes()
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return raw.decode("utf-16")
        except UnicodeDecodeError as error:
            raise BadData(
                f"{path} begins like UTF-16 but is not: {error.reason} at byte {error.start}"
            ) from error
    return raw.removeprefix(b"\xef\xbb\xbf").decode("utf-8", errors="surrogateescape")


def _lines(text: str) -> list[str]:
    """Lines as files have them; str.splitlines would also cut at U+2028, which rows may contain."""
    if "\n" not in text and "\r" in text:
        return text.split("\r")
    return [line.removesuffix("\r") for line in text.split("\n")]


def _blank(line: str) -> bool:
    return not line.strip(" \t")


# JSON


def _json_lines(text: str, path: Path) -> Iterator[Row | BadRow]:
    lines = _lines(text)
    while lines and _blank(lines[-1]):
        lines.pop()
    for number, line in enumerate(lines, 1):
        if _blank(line):
            yield BadRow(str(path), number, "blank line")
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield BadRow(str(path), number, _json_flaw(error, line))
            continue
        yield _checked(value, number, path)


def _is_json_lines(text: str) -> bool:
    """Whether a .json file holds one object per line."""
    first, _, rest = text.lstrip().partition("\n")
    if not first.startswith("{") or not rest.strip():
        return False
    try:
        return isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


def _json(text: str, path: Path) -> Iterator[Row | BadRow]:
    """The elements of the file's one list, decoded one by one: a broken one leaves the others readable."""
    start = re.match(r"\s*\[", text)
    if start is None:
        start = _inner_list(text, path)
    decoder = json.JSONDecoder()
    position, line, counted = start.end(), 1, 0
    while True:
        position = _skip(text, position)
        line, counted = line + text.count("\n", counted, position), position
        if position >= len(text):
            yield BadRow(str(path), line, "the list is not closed: the file is cut off")
            return
        if text[position] == "]":
            return
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            yield BadRow(str(path), line, _json_flaw(error, text[position : position + 10_000]))
            following = _NEXT_OBJECT.search(text, position + 1)
            if following is None:
                return
            position = following.end()
            continue
        yield _checked(value, line, path)


_SEPARATOR = re.compile(r"[\s,]*")
_NEXT_OBJECT = re.compile(r"\}\s*,\s*(?=\{)")


def _skip(text: str, position: int) -> int:
    found = _SEPARATOR.match(text, position)
    return found.end() if found else position


def _inner_list(text: str, path: Path) -> re.Match[str]:
    """Where the list of rows begins in an object that holds one."""
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadData(f"{path} is not JSON: {_json_flaw(error, text)}") from error
    lists = [k for k, v in whole.items() if isinstance(v, list)] if isinstance(whole, dict) else []
    lists = [k for k in lists if whole[k] and isinstance(whole[k][0], dict)]
    if len(lists) != 1:
        kind = (
            f"an object of {', '.join(list(whole)[:5])}, ..." if isinstance(whole, dict) else "a single value"
        )
        raise BadData(f"{path} is no list of rows but {kind}: save the questions as a list of objects")
    found = re.search(re.escape(json.dumps(lists[0])) + r"\s*:\s*\[", text)
    if found is None:
        raise BadData(f"{path}: the list {lists[0]!r} was not found again: save it as a file of its own")
    return found


def _json_flaw(error: Exception, text: str) -> str:
    if isinstance(error, RecursionError):
        return "broken JSON: nested too deeply"
    if not isinstance(error, json.JSONDecodeError):
        return f"broken JSON: {error}"
    if error.msg.startswith("Extra data") and text[error.pos :].strip() == ",":
        return "a comma behind the row: one line holds one object and nothing else"
    if error.msg.startswith("Extra data"):
        return f"more than one JSON value on the line (the second begins at column {error.pos + 1})"
    if "\x00" in text:
        return f"NUL byte at column {text.index(chr(0)) + 1}"
    if error.msg.startswith("Unterminated string") or error.pos >= len(text.rstrip()):
        return "broken JSON: the line is cut off"
    return f"broken JSON: {error.msg} at column {error.colno}"


def _checked(value: Any, line: int, path: Path) -> Row | BadRow:
    if not isinstance(value, dict):
        return BadRow(str(path), line, f"a row must be an object with named columns, not a {_kind(value)}")
    flaw = _flaw(value)
    return BadRow(str(path), line, flaw) if flaw else Row(line, value)


def _flaw(values: dict[str, Any]) -> str | None:
    """Text that could not be written out again: bytes that are not UTF-8, lone surrogates."""
    try:
        json.dumps(values, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError as error:
        code = ord(error.object[error.start])
        if 0xDC80 <= code <= 0xDCFF:
            return f"not valid UTF-8: byte 0x{code - 0xDC00:02x}"
        return f"a lone surrogate (U+{code:04X}) is no character"
    except (RecursionError, ValueError):
        return "nested too deeply"
    return None


def _kind(value: Any) -> str:
    names = {
        list: "list",
        str: "text",
        int: "number",
        float: "number",
        bool: "truth value",
        type(None): "null",
    }
    return names.get(type(value), type(value).__name__)


# CSV


def _csv(text: str, path: Path) -> Iterator[Row | BadRow]:
    lines = _lines(text)
    while lines and _blank(lines[-1]):
        lines.pop()
    first = next((i for i, line in enumerate(lines) if not _blank(line)), None)
    if first is None:
        raise BadData(f"{path} holds no rows")
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    if delimiter not in lines[first]:
        delimiter = next(
            (d for d in (";", "\t", ",") if d in lines[first]), delimiter
        )  # spreadsheets' habits
    header, index, flaw = _record(lines, first, delimiter)
    if flaw:
        raise BadData(f"{path}: the header cannot be read: {flaw}")
    header = [name.strip() for name in header]
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise BadData(f"{path}: the header names {twice!r} twice")
    while index < len(lines):
        start = index
        if _blank(lines[start]):
            yield BadRow(str(path), start + 1, "blank line")
            index += 1
            continue
        fields, index, flaw = _record(lines, start, delimiter)
        while len(fields) > len(header) and not fields[-1].strip():
            fields.pop()  # spreadsheets pad rows with empty fields
        if not flaw and len(fields) != len(header):
            flaw = f"{len(fields)} fields where the header names {len(header)}"
        if flaw:
            yield BadRow(str(path), start + 1, flaw)
            # A stray quote swallows the lines after it: they are read again on their own.
            index = start + 1
            continue
        yield _checked(dict(zip(header, fields, strict=True)), start + 1, path)


def _record(lines: list[str], start: int, delimiter: str) -> tuple[list[str], int, str]:
    """The record that begins at line ``start``: its fields, the index of the next line, and what is wrong
    ("")."""
    end, quotes = start + 1, lines[start].count('"')
    while quotes % 2 and end < min(len(lines), start + _MAX_LINES):
        quotes += lines[end].count('"')
        end += 1
    if quotes % 2:
        return [], start + 1, "a quote is opened and never closed"
    allowed = csv.field_size_limit(1 << 30)
    try:
        return next(csv.reader(["\n".join(lines[start:end])], delimiter=delimiter, strict=True)), end, ""
    except (csv.Error, StopIteration) as error:
        return [], start + 1, f"broken CSV: {error}"
    finally:
        csv.field_size_limit(allowed)


# Parquet


def _parquet(path: Path) -> Iterator[Row | BadRow]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            line = 0
            for batch in file.iter_batches():
                for values in batch.to_pylist():
                    line += 1
                    yield _checked(values, line, path)
    except (pyarrow.ArrowException, OSError) as error:
        raise BadData(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}") from error
