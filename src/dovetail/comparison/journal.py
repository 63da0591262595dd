"""The journal of a comparison: every outcome on disk as it comes, so that a kill loses nothing finished.

``journal.jsonl`` begins with a line that holds the settings; then follows one line per outcome. The lines of
a chunk (the examples that an arm writes together) are written and flushed to disk at once, and a chunk counts
when all of it is there: whatever a kill tears off is at the end of the file, is cut off and done again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dovetail.core import BadData, Cost, InvalidValue, Outcome, Unsupported

VERSION = 1
FILE = "journal.jsonl"
_OURS = (FILE, "report.html", "report.json", "examples.parquet")

Unit = tuple[str, int]  # arm, chunk


class Journal:
    """Outcomes by (arm, chunk); kept in a file where there is a folder for it, else in memory only.

    Attributes:
        done: the outcomes of every finished chunk of every arm.
        header: the first line as it stands in the file (the earlier run's own, where resumed).
    """

    def __init__(self, folder: Path | None, settings: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        """Opens the journal in ``folder``, carrying on with what is there.

        Args:
            folder: where `prepare` said that it may be written.
            settings: what decides the outcomes; must equal those of a journal that is there already.
            about: what does not (time, machine, versions); kept for the reader.

        Raises:
            Unsupported: the journal there was written under other settings, or another process writes it.
            BadData: a line in the middle of the journal cannot be read.
        """
        self.done: dict[Unit, list[Outcome]] = {}
        self.header: dict[str, Any] = _json({"journal": VERSION, "settings": settings, **about})
        self._file: int | None = None
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / FILE
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            _lock(self._file, path)
            self._carry_on(path)
        except BaseException:
            self.close()
            raise

    def append(self, arm: str, chunk: int, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Keeps a finished chunk; returns it as the file will give it back, so that an interrupted run
        and an undisturbed one report from equal values."""
        entries = [_json({"arm": arm, "chunk": chunk, "of": len(outcomes), **asdict(o)}) for o in outcomes]
        self._write(entries)
        self.done[arm, chunk] = [_outcome(e) for e in entries]
        return self.done[arm, chunk]

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, entries: Sequence[Mapping[str, Any]]) -> None:
        if self._file is None:
            return
        left = memoryview("".join(json.dumps(e, ensure_ascii=False) + "\n" for e in entries).encode())
        while left:
            left = left[os.write(self._file, left) :]
        os.fsync(self._file)

    def _carry_on(self, path: Path) -> None:
        lines = _readable_lines(path)
        if not lines:
            os.ftruncate(self._file, 0)  # type: ignore[arg-type]
            self._write([self.header])
            return
        before, _ = lines[0]
        differing = differences(before.get("settings", {}), self.header["settings"])
        if before.get("journal") != VERSION:
            differing = [f"journal format: {before.get('journal')} before, {VERSION} now"]
        if differing:
            raise Unsupported(
                f"{path} was begun with other settings, so it cannot be resumed: {'; '.join(differing)}. "
                "Give the earlier settings, another folder, or start anew with --overwrite"
            )
        self.header = before
        keep = lines[0][1]
        unit: Unit = ("", -1)
        entries: list[dict[str, Any]] = []
        for entry, end in lines[1:]:
            if (entry["arm"], entry["chunk"]) != unit:
                unit, entries = (entry["arm"], entry["chunk"]), []
            entries.append(entry)
            if len(entries) == entry["of"]:
                self.done[unit] = [_outcome(e) for e in entries]
                keep = end
        os.ftruncate(self._file, keep)  # type: ignore[arg-type]


def prepare(out: str | os.PathLike[str] | None, resume: bool, overwrite: bool) -> Path | None:
    """The folder to write into, made sure of before anything is loaded.

    Raises:
        InvalidValue: ``resume`` without a folder, or with ``overwrite``.
        Unsupported: the folder is not empty and neither ``resume`` nor ``overwrite`` was asked for,
            or there is something in it but no journal to resume.
    """
    if resume and overwrite:
        raise InvalidValue(
            "overwrite", True, "left out with resume: one keeps what is there, the other does not"
        )
    if out is None:
        if resume:
            raise InvalidValue("resume", True, "given with out, the folder of the run to resume")
        return None
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise InvalidValue("out", str(folder), "a folder")
    if overwrite:
        for name in _OURS:
            (folder / name).unlink(missing_ok=True)
    elif folder.is_dir() and any(folder.iterdir()):
        if not resume:
            raise Unsupported(
                f"{folder} is not empty: go on with the run in it (--resume), start anew (--overwrite), "
                "or name another folder (--out)"
            )
        if not (folder / FILE).exists():
            raise Unsupported(f"{folder} holds no {FILE} to resume: name the folder of the interrupted run")
    return folder


def _readable_lines(path: Path) -> list[tuple[dict[str, Any], int]]:
    """Entries with the offset at which each ends, up to the torn tail."""
    found: list[tuple[dict[str, Any], int]] = []
    end, torn = 0, None
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        end += len(line)
        try:
            entry = json.loads(line) if line.endswith(b"\n") else None
        except ValueError:
            entry = None
        if not isinstance(entry, dict):
            torn = torn or number
        elif torn is not None:
            raise BadData(
                f"{path}:{torn}: not a journal line, but later lines are: the file was changed by hand"
            )
        else:
            found.append((entry, end))
    return found


def differences(before: Any, now: Any, name: str = "") -> list[str]:
    """The leaves in which two JSON values differ, in words."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [*before, *(k for k in now if k not in before)]
        return [
            d
            for key in keys
            for d in differences(before.get(key), now.get(key), f"{name}.{key}" if name else str(key))
        ]
    return [] if before == now else [f"{name}: {_short(before)} before, {_short(now)} now"]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."


def _outcome(entry: Mapping[str, Any]) -> Outcome:
    values = {k: v for k, v in entry.items() if k not in ("chunk", "of")}
    return Outcome(**{**values, "cost": Cost(**values["cost"])})


def _json(value: Any) -> Any:
    """``value`` as JSON gives it back: tuples as lists, array scalars as numbers."""
    return json.loads(json.dumps(value, default=lambda v: v.item() if hasattr(v, "item") else str(v)))


def _lock(file: int, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # not on Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise Unsupported(
            f"{path} is being written by another run: wait for it, or name another folder"
        ) from None
