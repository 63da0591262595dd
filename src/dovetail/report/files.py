"""Reports on disk: report.html, report.json and examples.parquet in one folder (docs/report.md)."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dovetail.core import Arm, BadData, BadRow, Cost, Difference, Figure, Outcome, Report

FORMAT = "dovetail.report/1"
HTML, JSON, PARQUET = "report.html", "report.json", "examples.parquet"

_COSTS = ("tokens_read", "tokens_written", "forward_passes", "seconds", "peak_memory")
_FIGURE = "figures."  # prefix of the Parquet columns that hold the task's own figures


def save(report: Report, folder: str | os.PathLike[str]) -> Path:
    """Writes the three files into ``folder`` (made if missing) and returns the HTML file's path.

    Each is written aside and renamed, so that a reader or a killed process never leaves half a file.
    """
    from dovetail.report.html import html

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / PARQUET, lambda path: _write_outcomes(report, path))
    text = json.dumps(as_dict(report), ensure_ascii=False, indent=1, allow_nan=False)
    _replace(folder / JSON, lambda path: path.write_text(encodable(text) + "\n", encoding="utf-8"))
    page = html(report)
    _replace(folder / HTML, lambda path: path.write_text(encodable(page), encoding="utf-8"))
    return folder / HTML


def load(folder: str | os.PathLike[str]) -> Report:
    """The report that ``save`` wrote into ``folder``.

    Raises:
        BadData: if a file is missing, broken, or of another format version.
    """
    folder = Path(folder)
    for name in (JSON, PARQUET):
        if not (folder / name).is_file():
            raise BadData(f"{folder} holds no {name}: give the folder that a comparison wrote with --out")
    try:
        data = json.loads((folder / JSON).read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadData(f"{folder / JSON} is not JSON: {error}") from error
    found = data.get("format") if isinstance(data, dict) else None
    if found != FORMAT:
        raise BadData(f"{folder / JSON} has format {found!r}: this version reads {FORMAT!r}")
    try:
        return from_dict(data, _read_outcomes(folder / PARQUET))
    except (KeyError, TypeError) as error:
        raise BadData(f"{folder / JSON} lacks or misuses {error}: write the report again") from error


def as_dict(report: Report) -> dict[str, Any]:
    """The report without its outcomes, as report.json holds it; numbers that are not finite become null."""
    record = dict(report.record)
    bad_rows = [_bad_row(row) for row in record.pop("bad_rows", ())]
    return {
        "format": FORMAT,
        "title": report.title,
        "model": report.model,
        "task": report.task,
        "baseline": report.baseline,
        "complete": report.complete,
        "arms": [_arm(a) for a in report.arms],
        "notes": list(report.notes),
        "bad_rows": bad_rows,
        "record": plain(record),
    }


def from_dict(data: Mapping[str, Any], outcomes: list[Outcome]) -> Report:
    """The inverse of ``as_dict``, given the outcomes."""
    record = dict(data["record"])
    if data["bad_rows"]:
        record["bad_rows"] = data["bad_rows"]
    return Report(
        title=data["title"],
        model=data["model"],
        task=data["task"],
        baseline=data["baseline"],
        arms=tuple(_read_arm(a) for a in data["arms"]),
        outcomes=tuple(outcomes),
        record=record,
        notes=tuple(data["notes"]),
        complete=data["complete"],
    )


def plain(value: Any) -> Any:
    """``value`` with nothing but JSON types in it; anything else becomes its text, NaN and infinity null."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in (sorted(value, key=str) if isinstance(value, set | frozenset) else value)]
    if hasattr(value, "item") and getattr(value, "size", 0) == 1:  # a numpy or torch scalar
        return plain(value.item())
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return str(value)


def _arm(arm: Arm) -> dict[str, Any]:
    d = arm.difference
    return {
        "name": arm.name,
        "description": arm.description,
        "examples": arm.examples,
        "figures": {name: _figure(f) for name, f in arm.figures.items()},
        "costs": {
            "total": {name: getattr(arm.cost, name) for name in _COSTS},
            "mean": {name: _figure(f) for name, f in arm.mean_cost.items()},
        },
        "difference": d
        and {
            "value": plain(d.value),
            "interval": plain(d.interval),
            "p_value": d.p_value,
            "p_adjusted": d.p_adjusted,
            "verdict": d.verdict,
            "pairs": d.pairs,
        },
    }


def _read_arm(data: Mapping[str, Any]) -> Arm:
    d = data["difference"]
    return Arm(
        name=data["name"],
        description=data["description"],
        examples=data["examples"],
        figures={name: _read_figure(f) for name, f in data["figures"].items()},
        cost=Cost(**data["costs"]["total"]),
        mean_cost={name: _read_figure(f) for name, f in data["costs"]["mean"].items()},
        difference=d
        and Difference(
            **{**d, "value": _number(d["value"]), "interval": tuple(_number(x) for x in d["interval"])}
        ),
    )


def _figure(figure: Figure) -> dict[str, Any]:
    return {"value": plain(float(figure.value)), "interval": [plain(float(x)) for x in figure.interval]}


def _read_figure(data: Mapping[str, Any]) -> Figure:
    low, high = data["interval"]
    return Figure(_number(data["value"]), (_number(low), _number(high)))


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _bad_row(row: BadRow | Mapping[str, Any] | str) -> dict[str, Any]:
    if isinstance(row, BadRow):
        return {"source": row.source, "line": row.line, "reason": row.reason}
    if isinstance(row, str):
        found = re.fullmatch(r"(.*?):(\d+): (.*)", row, re.DOTALL)  # as str(BadRow) writes it
        source, line, reason = found.groups() if found else ("", "0", row)
        return {"source": source, "line": int(line), "reason": reason}
    return {"source": row["source"], "line": row["line"], "reason": row["reason"]}


def _write_outcomes(report: Report, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, number, count = pa.string(), pa.float64(), pa.int64()
    fields: dict[str, tuple[pa.DataType, Callable[[Outcome], Any]]] = {
        "arm": (text, lambda o: o.arm),
        "example_id": (text, lambda o: o.example_id),
        "prompt": (text, lambda o: encodable(o.prompt)),
        "completion": (text, lambda o: encodable(o.completion)),
        "reference": (text, lambda o: None if o.reference is None else encodable(o.reference)),
        "answer": (text, lambda o: encodable(o.answer)),
        "value": (number, lambda o: float(o.value)),
        "strict": (number, lambda o: float(o.strict)),
        "parsed": (pa.bool_(), lambda o: bool(o.parsed)),
        "finish_reason": (text, lambda o: o.finish_reason),
        "tokens_read": (count, lambda o: o.cost.tokens_read),
        "tokens_written": (count, lambda o: o.cost.tokens_written),
        "forward_passes": (number, lambda o: float(o.cost.forward_passes)),
        "seconds": (number, lambda o: float(o.cost.seconds)),
        "peak_memory": (count, lambda o: o.cost.peak_memory),
        "error": (text, lambda o: encodable(o.error)),
        "columns": (text, lambda o: encodable(json.dumps(plain(o.columns), ensure_ascii=False))),
    }
    for name in dict.fromkeys(name for o in report.outcomes for name in o.figures):
        fields[_FIGURE + name] = (number, lambda o, name=name: o.figures.get(name))  # type: ignore[misc]
    table = pa.table(
        {
            name: pa.array([get(o) for o in report.outcomes], type=type_)
            for name, (type_, get) in fields.items()
        },
        metadata={"format": FORMAT},
    )
    pq.write_table(table, path, compression="zstd")


def _read_outcomes(path: Path) -> list[Outcome]:
    import pyarrow.parquet as pq

    outcomes = []
    # ParquetFile rather than read_table: the latter reads folder names such as "arm=x" as columns.
    for row in pq.ParquetFile(path).read().to_pylist():
        cost = Cost(**{name: row.pop(name) for name in _COSTS})
        figures = {
            name.removeprefix(_FIGURE): row.pop(name) for name in list(row) if name.startswith(_FIGURE)
        }
        figures = {name: value for name, value in figures.items() if value is not None}
        columns = json.loads(row.pop("columns"))
        outcomes.append(Outcome(**row, cost=cost, figures=figures, columns=columns))
    return outcomes


def encodable(text: str) -> str:
    """Lone surrogates, which a model's broken bytes can decode to, have no UTF-8: they become U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _replace(path: Path, write: Callable[[Path], Any]) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
