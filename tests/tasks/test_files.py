"""Files of questions: whatever is wrong with a row, the others are read, and the row is named."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dovetail.core import BadData, UnknownName, Unsupported
from dovetail.tasks.files import task

Row = dict[str, Any]


def rows(n: int) -> list[Row]:
    return [
        {"question": f"What is {i} + {i}?", "answer": f"{i} + {i} = {2 * i}\n#### {2 * i}"} for i in range(n)
    ]


def dump(row: Any) -> bytes:
    return json.dumps(row).encode()


DAMAGE = [
    (lambda r: dump(r)[:30], "cut off"),
    (lambda r: b"", "blank line"),
    (lambda r: b"null", "not a null"),
    (lambda r: b"[1, 2]", "not a list"),
    (lambda r: b'"text"', "not a text"),
    (lambda r: dump({"answer": r["answer"]}), "question is missing"),
    (lambda r: dump({"question": r["question"]}), "answer is missing"),
    (lambda r: dump({**r, "question": " "}), "question is blank"),
    (lambda r: dump({**r, "answer": ""}), "answer is empty"),
    (lambda r: dump({**r, "question": None}), "question is missing"),
    (lambda r: dump({**r, "answer": None}), "answer is missing"),
    (lambda r: dump({**r, "question": {"text": "?"}}), "question is a nested object"),
    (lambda r: dump({**r, "answer": "12"}), "no '####'"),
    (lambda r: dump({**r, "answer": "so #### "}), "not a number: ''"),
    (lambda r: dump({**r, "answer": "so #### many"}), "not a number: 'many'"),
    (lambda r: dump(r).replace(b'"', b"'"), "double quotes"),
    (lambda r: dump(r) + b",", "a comma behind the row"),
    (lambda r: dump(r).replace(b"What", b"Wh\xe4t"), "not valid UTF-8: byte 0xe4"),
    (lambda r: dump(r) + dump(r), "more than one JSON value"),
    (lambda r: b"<<<<<<< HEAD", "broken JSON"),
]


def test_twenty_rows_damaged_in_twenty_ways_are_named_and_nothing_else_is_lost(tmp_path: Path) -> None:
    whole = rows(100)
    lines = [dump(row) for row in whole]
    damaged = {4 * i + 3: damage for i, damage in enumerate(DAMAGE)}
    for at, (damage, _) in damaged.items():
        lines[at] = damage(whole[at])
    path = tmp_path / "gsm8k.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    examples, bad = task(path).examples(None, 0)
    assert [(b.line, b.source) for b in bad] == [(at + 1, str(path)) for at in damaged]
    for row, (_, reason) in zip(bad, DAMAGE, strict=True):
        assert reason in row.reason
    assert [(e.question, e.reference) for e in examples] == [
        (row["question"], str(2 * i)) for i, row in enumerate(whole) if i not in damaged
    ]
    # Ids stand for lines, so an example is the same with or without its neighbours' damage.
    path.write_bytes(b"\n".join(map(dump, whole)))
    undamaged, _ = task(path).examples(None, 0)
    assert [e.id for e in examples] == [e.id for i, e in enumerate(undamaged) if i not in damaged]
    assert len(task(path).examples(7, 0)[0]) == 7


def written(path: Path, found: list[Row]) -> Path:
    if path.suffix == ".jsonl":
        path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(map(dump, found)) + b"\r\n\r\n")
    elif path.suffix == ".json":
        path.write_text(json.dumps({"version": 1, "rows": found}))
    elif path.suffix == ".parquet":
        pd.DataFrame(found).to_parquet(path)
    else:
        with path.open("w", newline="", encoding="utf-16" if path.suffix == ".tsv" else "utf-8") as file:
            writer = csv.DictWriter(file, list(found[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(found)
    return path


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "tsv", "parquet"])
def test_formats_are_read_alike(tmp_path: Path, suffix: str) -> None:
    """Byte order marks, Windows line ends, blank lines at the end, UTF-16 and quoted line breaks included."""
    whole = rows(9)
    examples, bad = task(written(tmp_path / f"gsm8k.{suffix}", whole)).examples(None, 0)
    assert not bad
    assert [(e.question, e.reference) for e in examples] == [
        (r["question"], str(2 * i)) for i, r in enumerate(whole)
    ]


def test_columns_are_found_by_name_or_given(tmp_path: Path) -> None:
    found = [
        {"Problem": f"p{i}", "Final answer": str(i), "other": f"o{i}", "gold": f"g{i}"} for i in range(3)
    ]
    path = written(tmp_path / "own.csv", found)
    examples, _ = task(path).examples(None, 0)
    assert [(e.question, e.reference) for e in examples] == [(f"p{i}", str(i)) for i in range(3)]
    examples, _ = task(path, question="other", answer="gold").examples(None, 0)
    assert [(e.question, e.reference) for e in examples] == [(f"o{i}", f"g{i}") for i in range(3)]
    with pytest.raises(UnknownName, match=r"'Answer': did you mean Final answer"):
        task(path, answer="Answer").examples(None, 0)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "near.jsonl").write_text("{}")
    (tmp_path / "notes.md").write_text("x")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(BadData, match=r"missing.jsonl does not exist; .* holds empty.jsonl, near.jsonl"):
        task(tmp_path / "missing.jsonl")
    with pytest.raises(BadData, match="is a folder"):
        task(tmp_path)
    with pytest.raises(Unsupported, match="convert it"):
        task(tmp_path / "notes.md")
    with pytest.raises(BadData, match="is empty"):
        task(tmp_path / "empty.jsonl")
    with pytest.raises(BadData):
        task(written(tmp_path / "none.csv", [{"colour": "red"}])).examples(None, 0)
