"""What is written stays; what is torn is done again; what differs is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dovetail.comparison.journal import FILE, Journal, prepare
from dovetail.core import BadData, Cost, InvalidValue, Outcome, Unsupported

SETTINGS: dict[str, Any] = {"model": {"name": "pico"}, "seed": 0, "arms": {"greedy": {}, "hot": {"t": 1.0}}}


def outcome(i: int, arm: str = "greedy") -> Outcome:
    return Outcome(
        arm=arm,
        example_id=f"e{i}",
        prompt="p",
        completion="ü\u2028\n" * i,
        reference=None,
        answer=str(i),
        value=1.0,
        strict=0.0,
        parsed=True,
        finish_reason="stop",
        cost=Cost(1, 2, 3.0, 0.1, 5),
        figures={"f": 0.25},
        columns={"votes": {"1": 2}, "pair": (1, 2)},
    )


def write(folder: Path, chunks: int = 2, size: int = 3) -> bytes:
    with Journal(folder, SETTINGS, {"started": "then"}) as journal:
        for c in range(chunks):
            journal.append("greedy", c, [outcome(c * size + i) for i in range(size)])
    return (folder / FILE).read_bytes()


def test_outcomes_come_back_as_they_were_returned(tmp_path: Path) -> None:
    with Journal(tmp_path, SETTINGS, {}) as journal:
        kept = journal.append("greedy", 0, [outcome(1), outcome(2)])
    assert kept[0].columns["pair"] == [1, 2]  # as JSON has it, in the first run too
    with Journal(tmp_path, SETTINGS, {}) as journal:
        assert journal.done == {("greedy", 0): kept}


def test_in_memory_gives_the_same_values(tmp_path: Path) -> None:
    with Journal(None, SETTINGS, {}) as memory, Journal(tmp_path, SETTINGS, {}) as disk:
        assert memory.append("greedy", 0, [outcome(1)]) == disk.append("greedy", 0, [outcome(1)])


def test_a_journal_cut_anywhere_keeps_whole_chunks_and_goes_on(tmp_path: Path) -> None:
    whole = write(tmp_path)
    lines = whole.splitlines(keepends=True)
    ends = [len(b"".join(lines[:n])) for n in (1, 4, 7)]
    for cut in range(0, len(whole) + 1, 7):
        (tmp_path / FILE).write_bytes(whole[:cut])
        with Journal(tmp_path, SETTINGS, {"started": "now"}) as journal:
            finished = sum(cut >= end for end in ends[1:])
            assert sorted(journal.done) == [("greedy", c) for c in range(finished)]
            assert journal.header["started"] == ("then" if cut >= ends[0] else "now")
            for c in range(finished, 2):
                journal.append("greedy", c, [outcome(c * 3 + i) for i in range(3)])
        assert (tmp_path / FILE).read_bytes().splitlines()[1:] == whole.splitlines()[1:]


def test_a_hole_in_the_middle_is_not_taken_for_a_torn_end(tmp_path: Path) -> None:
    lines = write(tmp_path).splitlines(keepends=True)
    lines[2] = lines[2][:20] + b"\n"
    (tmp_path / FILE).write_bytes(b"".join(lines))
    with pytest.raises(BadData, match=r"journal\.jsonl:3: not a journal line"):
        Journal(tmp_path, SETTINGS, {})


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    before = write(tmp_path)
    other = {**SETTINGS, "seed": 7, "arms": {"greedy": {}, "hot": {"t": 2.0}}, "batch": 4}
    with pytest.raises(Unsupported) as error:
        Journal(tmp_path, other, {})
    for words in ("seed: 0 before, 7 now", "arms.hot.t: 1.0 before, 2.0 now", "batch: null before, 4 now"):
        assert words in str(error.value)
    assert (tmp_path / FILE).read_bytes() == before


def test_another_format_is_refused(tmp_path: Path) -> None:
    header, *rest = write(tmp_path).splitlines()
    newer = json.dumps({**json.loads(header), "journal": 99}).encode()
    (tmp_path / FILE).write_bytes(b"\n".join([newer, *rest, b""]))
    with pytest.raises(Unsupported, match="journal format: 99 before"):
        Journal(tmp_path, SETTINGS, {})


def test_two_runs_cannot_write_one_journal(tmp_path: Path) -> None:
    with Journal(tmp_path, SETTINGS, {}), pytest.raises(Unsupported, match="another run"):
        Journal(tmp_path, SETTINGS, {})
    Journal(tmp_path, SETTINGS, {}).close()


def test_a_folder_with_something_in_it_needs_a_word(tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert prepare(out, resume=False, overwrite=False) == out
    assert prepare(out, resume=True, overwrite=False) == out  # nothing to resume yet: begins
    write(out)
    (out / "mine.txt").write_text("mine")
    with pytest.raises(Unsupported, match=r"--resume.*--overwrite.*--out"):
        prepare(out, resume=False, overwrite=False)
    assert prepare(out, resume=True, overwrite=False) == out
    assert prepare(out, resume=False, overwrite=True) == out
    assert [p.name for p in out.iterdir()] == ["mine.txt"]
    with pytest.raises(Unsupported, match=r"holds no journal\.jsonl"):
        prepare(out, resume=True, overwrite=False)


def test_words_that_contradict_each_other(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="overwrite"):
        prepare(tmp_path, resume=True, overwrite=True)
    with pytest.raises(InvalidValue, match="resume is True: must be given with out"):
        prepare(None, resume=True, overwrite=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidValue, match="a folder"):
        prepare(tmp_path / "file", resume=False, overwrite=False)
