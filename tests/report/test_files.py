import json
import math
from dataclasses import replace

import pandas as pd
import pytest

from dovetail import report as reports
from dovetail.core import BadData, BadRow, Cost
from dovetail.core.statistics import summarise

from .conftest import NASTY, outcomes, report_of


def test_round_trip(report, tmp_path):
    page = reports.save(report, tmp_path / "new" / "folder")
    assert page == tmp_path / "new" / "folder" / "report.html"
    assert sorted(p.name for p in page.parent.iterdir()) == [
        "examples.parquet",
        "report.html",
        "report.json",
    ]
    assert reports.load(page.parent) == report


def test_report_saves_itself(report, tmp_path):
    assert report.save(str(tmp_path)).is_file()


def test_json_is_as_documented(report, tmp_path):
    reports.save(report, tmp_path)
    data = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert data["format"] == "dovetail.report/1"
    greedy, sampling = data["arms"]
    assert greedy["difference"] is None
    assert set(sampling["difference"]) == {"value", "interval", "p_value", "p_adjusted", "verdict", "pairs"}
    low, high = sampling["figures"]["accuracy"]["interval"]
    assert low < sampling["figures"]["accuracy"]["value"] < high
    assert set(sampling["costs"]["mean"]) == {"tokens_read", "tokens_written", "forward_passes", "seconds"}
    assert sampling["costs"]["total"]["peak_memory"] == 10**8


def test_parquet_has_a_row_per_outcome(report, tmp_path):
    reports.save(report, tmp_path)
    table = pd.read_parquet(tmp_path / "examples.parquet")
    assert len(table) == len(report.outcomes) == 80
    assert table.groupby("arm").value.mean()["greedy"] == report.arm("greedy").figures["accuracy"].value
    assert table["figures.f1"].isna().sum() == 40
    assert json.loads(table["columns"][1]) == {"votes": {"a": 2}, "share": 0.5}


def test_text_survives_whatever_it_is(tmp_path):
    rows = outcomes(["a"], 3, {"a": 1.0})
    rows[0] = replace(rows[0], completion=NASTY, prompt="\x00\x1f\r\n\t", answer="\ud800 half")
    made = report_of(("a",), 3, outcomes=tuple(rows), record={"prompt": NASTY + "\udfff"})
    reports.save(made, tmp_path)
    loaded = reports.load(tmp_path)
    assert loaded.outcomes[0].completion == NASTY
    assert loaded.outcomes[0].prompt == "\x00\x1f\r\n\t"
    assert loaded.outcomes[0].answer == "\ufffd half"  # has no UTF-8
    assert loaded.record["prompt"] == NASTY + "\ufffd"


def test_bad_rows_are_a_list_in_the_json(tmp_path):
    rows = [BadRow("x.jsonl", 3, "no answer: null"), str(BadRow("C:/x.jsonl", 4, "not JSON")), "odd"]
    reports.save(report_of(record={"bad_rows": rows, "seed": 1}), tmp_path)
    data = json.loads((tmp_path / "report.json").read_text())
    assert data["bad_rows"] == [
        {"source": "x.jsonl", "line": 3, "reason": "no answer: null"},
        {"source": "C:/x.jsonl", "line": 4, "reason": "not JSON"},
        {"source": "", "line": 0, "reason": "odd"},
    ]
    assert data["record"] == {"seed": 1}
    assert reports.load(tmp_path).record["bad_rows"] == data["bad_rows"]


def test_an_arm_that_never_ran_is_kept(tmp_path):
    rows = outcomes(["a"], 10, {"a": 0.5})
    arms = summarise(rows, "a", arms=["a", "b"], resamples=200)
    made = replace(report_of(("a",), 10), arms=arms, outcomes=tuple(rows), complete=False)
    reports.save(made, tmp_path)
    text = (tmp_path / "report.json").read_text()
    assert "NaN" not in text
    loaded = reports.load(tmp_path)
    assert not loaded.complete
    assert math.isnan(loaded.arm("b").figures["accuracy"].value)
    assert loaded.arm("b").difference is not None


def test_records_may_hold_anything(tmp_path):
    import numpy as np

    record = {
        "number": np.float32(0.5),
        "array": np.arange(3),
        "set": {"b", "a"},
        "path": tmp_path,
        "nan": math.nan,
        3: Cost(),
    }
    reports.save(report_of(record=record), tmp_path)
    loaded = reports.load(tmp_path).record
    assert loaded["number"] == 0.5
    assert loaded["array"] == [0, 1, 2]
    assert loaded["set"] == ["a", "b"]
    assert loaded["path"] == str(tmp_path)
    assert loaded["nan"] is None
    assert "tokens_read" in loaded["3"]


def test_a_failed_write_leaves_the_old_file(report, tmp_path, monkeypatch):
    reports.save(report, tmp_path)
    before = (tmp_path / "report.json").read_bytes()
    from dovetail.report import files

    monkeypatch.setattr(files.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        reports.save(report_of(title="another"), tmp_path)
    assert (tmp_path / "report.json").read_bytes() == before
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_load_names_what_is_wrong(report, tmp_path):
    with pytest.raises(BadData, match=r"holds no report\.json"):
        reports.load(tmp_path)
    reports.save(report, tmp_path)
    path = tmp_path / "report.json"
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "format": "dovetail.report/9"}))
    with pytest.raises(BadData, match=r"this version reads 'dovetail\.report/1'"):
        reports.load(tmp_path)
    del data["arms"][0]["figures"]
    path.write_text(json.dumps(data))
    with pytest.raises(BadData, match="'figures'"):
        reports.load(tmp_path)
    path.write_text("{")
    with pytest.raises(BadData, match="is not JSON"):
        reports.load(tmp_path)
