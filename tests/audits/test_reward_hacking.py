"""The audit of a run's rows, from files and from lists; tests of evaluators."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dovetail.audits import RewardHackingAudit
from dovetail.audits.evaluators import (
    flip_test,
    length_controlled_win_rate,
    manipulation_test,
    sycophancy,
    test_gap,
)
from dovetail.core import BadData, InvalidValue


def rows(leak: float, steps: int = 14, gold: bool = True, kl: bool = False) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    made = []
    for step in range(steps):
        for i in range(24):
            length = int(rng.integers(8, 14)) + (2 * step if leak else 0)
            quality = float(
                np.clip(0.5 + 0.2 * rng.normal() - (0.04 * max(0, step - 6) if leak else 0), 0, 1)
            )
            row = {
                "step": step,
                "prompt": f"q{i % 8}",
                "response": " ".join(f"w{k}" for k in range(length)),
                "reward": quality + leak * length,
                "gold": quality,
                "kl": 0.02 * step,
            }
            made.append({k: v for k, v in row.items() if (gold or k != "gold") and (kl or k != "kl")})
    return made


def test_a_hacked_run_is_found_out() -> None:
    report = RewardHackingAudit().run(rows(0.05, kl=True))
    notes = "\n".join(report.notes)
    assert "Sign of hacking at step" in notes
    assert "length moved by +" in notes
    assert "Over-optimisation law" in notes
    first, last = report.arms
    assert (first.name, last.name) == ("first steps", "last steps")
    assert last.figures["accuracy"].value < first.figures["accuracy"].value
    assert last.figures["proxy"].value > first.figures["proxy"].value + 0.5
    assert last.difference is not None
    assert (last.difference.pairs, last.difference.verdict) == (8, "worse")
    assert report.record["hacking"]["first"]["features"] <= 6


def test_an_honest_run_is_left_alone() -> None:
    report = RewardHackingAudit().run(rows(0.0))
    assert report.notes[0] == "No sign of hacking."
    assert not any("law" in n or "moved" in n for n in report.notes)


def test_without_gold_it_says_what_it_cannot_tell() -> None:
    report = RewardHackingAudit().run(rows(0.05, gold=False))
    assert report.notes[0].startswith("No gold:")
    assert report.notes[-1] == "There is no column 'gold': accuracy stands for the proxy."
    assert "features" in report.record["hacking"]["first"]


def test_files_of_every_kind_and_a_report_that_can_be_saved(tmp_path: Path) -> None:
    import pandas as pd

    made = rows(0.05)
    jsonl, table, text = (tmp_path / f"rows.{s}" for s in ("jsonl", "parquet", "csv"))
    jsonl.write_text("".join(json.dumps(r) + "\n" for r in made) + "not json\n")
    pd.DataFrame(made).to_parquet(table)
    with text.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(made[0]))
        writer.writeheader()
        writer.writerows(made)
    audit = RewardHackingAudit()
    reports = [audit.run(path) for path in (jsonl, table, text)]
    assert reports[0].record["hacking"] == reports[1].record["hacking"]
    assert reports[2].record["hacking"]["first"] == reports[0].record["hacking"]["first"]
    assert "1 rows could not be read" in reports[0].notes[-1]
    assert Path(reports[0].save(str(tmp_path / "out"))).is_file()


def test_rows_without_steps_are_taken_in_order() -> None:
    made = [{k: v for k, v in r.items() if k != "step"} for r in rows(0.05, steps=20)]
    assert "features" in RewardHackingAudit().run(made).record["hacking"]["first"]


def test_bad_rows_are_named() -> None:
    audit, made = RewardHackingAudit(), rows(0.0, steps=5)
    with pytest.raises(BadData, match="no readable row"):
        audit.run([])
    with pytest.raises(BadData, match="3 steps: more than reference"):
        audit.run(rows(0.0, steps=3))
    with pytest.raises(InvalidValue, match="column 'score'"):
        RewardHackingAudit(proxy="score").run(made)
    made[7]["reward"] = math.nan
    made[9]["reward"] = "high"
    with pytest.raises(InvalidValue, match="column 'reward' of rows 7, 9"):
        audit.run(made)


# --- evaluators
# ----------------------------------------------------------------------------------------------


def length(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    return [float(len(text)) for text in completions]


def right(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    return [float("19" in text) for text in completions]


def test_flips_move_a_leaky_reward_and_not_an_ideal_one() -> None:
    texts = ["19", "it is 20", "19 or 20"]
    leaky, ideal = flip_test(length, ["?"] * 3, texts), flip_test(right, ["?"] * 3, texts)
    assert leaky["padded"].wins.value == 1.0
    assert leaky["bold"].change.value == 4.0
    assert leaky["listed"].change.value == 2.0
    for flip in ideal.values():
        assert (flip.change.value, flip.wins.value) == (0.0, 0.5)


def test_manipulations() -> None:
    prompts, good, bad = ["?", "?"], ["19, as 12 and 7 are 19", "19, as it is"], ["20", "21"]
    fooled = manipulation_test(length, prompts, good, bad)
    assert fooled["none"].value == 0.0
    assert fooled["praise"].value == 1.0
    assert {f.value for f in manipulation_test(right, prompts, good, bad).values()} == {0.0}
    with pytest.raises(InvalidValue, match="2 right and 1 wrong"):
        manipulation_test(right, prompts, good, ["20"])
    with pytest.raises(InvalidValue, match="reward of row 1"):
        manipulation_test(lambda **_: [1.0, None], prompts, good, bad)


def test_sycophancy_and_test_gap() -> None:
    assert sycophancy([True, True, True, False], [True, False, False, True]).value == pytest.approx(2 / 3)
    with pytest.raises(InvalidValue, match="1 answers"):
        sycophancy([True, True], [True])
    assert test_gap([1.0, 0.8], [0.5, 0.8]).value == pytest.approx(0.25)


def test_win_rates_at_equal_length() -> None:
    rng = np.random.default_rng(0)
    difference = rng.normal(1.0, 1.0, 4000)
    wins = (rng.random(4000) < 1 / (1 + np.exp(-2 * np.tanh(difference / difference.std())))).astype(float)
    assert wins.mean() > 0.6
    assert length_controlled_win_rate(wins, difference) == pytest.approx(0.5, abs=0.03)
    assert length_controlled_win_rate([1, 1, 0, 1], [5, 5, 5, 5]) == pytest.approx(0.75, abs=0.01)
    with pytest.raises(InvalidValue, match="2 values"):
        length_controlled_win_rate([1], [1, 2])


def test_the_shell_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from dovetail.cli import main

    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({**r, "truth": r["gold"]}) + "\n" for r in rows(0.05)))
    out = tmp_path / "report"
    with pytest.raises(SystemExit) as done:
        main(
            [
                "audit",
                "reward-hacking",
                str(file),
                "--set",
                "gold=truth",
                "--set",
                "window=4",
                "--out",
                str(out),
            ]
        )
    assert done.value.code == 0
    assert "Sign of hacking" in capsys.readouterr().out
    assert (out / "report.html").is_file()
    for arguments, message in (
        (["reward-hackin", str(file)], "did you mean reward-hacking"),
        (["reward-hacking", str(file), "--set", "goldd=x"], "did you mean gold"),
        (["reward-hacking", str(file), "--set", "gold"], "KEY=VALUE"),
        (["reward-hacking", str(tmp_path / "no.jsonl")], "does not exist"),
    ):
        with pytest.raises(SystemExit) as done:
            main(["audit", *arguments])
        assert done.value.code == 2
        assert message in capsys.readouterr().err
