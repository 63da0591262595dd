"""The command line: what it prints, how it ends, and what it does not import."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent / "comparison"))
from comparison_fakes import Broken, FakeEngine, FakeModel, sums

from dovetail import cli, models, recipes, tasks
from dovetail.core import InvalidValue

SOURCE = Path(cli.__file__).parents[1]


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    printed = capsys.readouterr()
    return int(end.value.code or 0), printed.out, printed.err


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(SOURCE)},
        check=True,
    )
    return done.stdout


HEAVY = ("torch", "numpy", "pandas", "transformers", "scipy", "pyarrow")


@pytest.mark.parametrize("words", [["--help"], ["methods"], ["show", "soft-thinking"], ["compare", "--help"]])
def test_looking_around_imports_nothing_heavy(words: list[str]) -> None:
    loaded = python(
        "import sys\nfrom dovetail.cli import main\n"
        f"try: main({words!r})\n"
        f"except SystemExit: print('LOADED', [m for m in {HEAVY!r} if m in sys.modules])"
    )
    assert loaded.rstrip().endswith("LOADED []")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version") == (0, "dovetail 0.1.0\n", "")


def test_methods_prints_sixty_entries(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "methods", "--json")
    entries = json.loads(out)
    assert code == 0
    assert len(entries) == 60
    for key in ("id", "title", "slot", "module", "names", "status", "result"):
        assert all(key in e for e in entries)
    assert {e["status"] for e in entries} <= {"works", "partial", "planned"}
    code, out, _ = run(capsys, "methods", "--slot", "audits")
    assert "coin" in out
    assert "web-shepherd" not in out


def test_show_tells_parameters_from_the_source(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "show", "soft-thinking")
    assert code == 0
    assert "max_topk: int = 10" in out
    assert "arxiv.org/abs/2505.15778" in out
    code, out, _ = run(capsys, "show", "greedy", "--json")
    assert "most probable token" in json.loads(out)["docs"]["dovetail.decoding.sampling.Greedy"]
    code, _, err = run(capsys, "show", "soft-thinkin")
    assert (code, "did you mean soft-thinking" in err) == (2, True)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeModel:
    """`fake` is a model's name, `sums` a task's; the current folder is empty."""
    model = FakeModel()
    monkeypatch.setattr(models, "load", lambda name, **options: model)
    monkeypatch.setattr(tasks, "task", lambda name, **parameters: sums(**parameters), raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")  # a narrow terminal's table has other headings
    return model


def compare(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    return run(capsys, "compare", "--model", "fake", "--task", "sums", "--quiet", *words)


def test_compare_prints_the_table_and_the_path(fake: FakeModel, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = compare(
        capsys,
        "--limit",
        "40",
        "--with",
        "n=30",
        "greedy",
        "warm=sampling:temperature=0.5",
        "--arm",
        "sampling",
    )
    assert (code, err) == (0, "")
    assert all(word in out for word in ("greedy", "warm", "sampling", "accuracy", "verdict"))
    path = Path(out.rstrip().splitlines()[-1].removeprefix("report: "))
    assert path.is_file()
    assert path.parts[0] == "runs"
    report = json.loads((path.parent / "report.json").read_text())
    assert [a["name"] for a in report["arms"]] == ["greedy", "warm", "sampling"]
    assert report["record"]["task"]["parameters"] == {"n": 30}


def test_compare_passes_everything_on(
    fake: FakeModel, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr(models, "load", lambda name, **options: seen.update(options) or fake)
    monkeypatch.setattr(tasks, "task", lambda name, **parameters: seen.update(parameters) or sums(20))
    code, _, _ = compare(
        capsys,
        *("greedy", "b=greedy", "--baseline", "b", "--limit", "0", "--seed", "5", "--max-new-tokens", "7"),
        *("--stop", "x", "--no-thinking", "--instruction", "Be brief.", "--batch", "3", "--out", "o"),
        *("--question", "q", "--answer", "a", "--scorer", "exact", "--device", "cpu", "--dtype", "float32"),
    )
    assert code == 0
    assert seen == {
        "question": "q",
        "answer": "a",
        "scorer": "exact",
        "device": "cpu",
        "dtype": "float32",
    }
    report = json.loads(Path("o/report.json").read_text())
    record = report["record"]
    assert report["baseline"] == "b"
    assert record["limit"] is None
    assert (record["seed"], record["batch"], record["thinking"]) == (5, 3, False)
    assert record["limits"] == {"max_new_tokens": 7, "stop": ["x"]}
    assert record["prompt"].startswith("Be brief. | ")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["gredy"], "unknown arm 'gredy': did you mean greedy?"),
        ([], "ARMS is '': must be at least one, such as greedy soft-thinking; known: adaptive-temperature, "),
        (["greedy", "--resume"], "--resume is True: must be given with --out"),
        (["greedy", "--with", "n"], "--with is 'n': must be KEY=VALUE"),
        (["greedy", "--workers", "dask"], "workers is 'dask': must be None or 'ray'"),
        (["greedy", "--out", "."], ""),
    ],
)
def test_mistakes_are_one_line_and_code_2(
    fake: FakeModel, capsys: pytest.CaptureFixture[str], words: list[str], expected: str
) -> None:
    Path("something").write_text("here")
    code, out, err = compare(capsys, *words)
    assert (code, out) == (2, "")
    assert err.startswith("dovetail: ")
    assert err.count("\n") == 1
    assert expected in err


def test_debug_gives_the_traceback(fake: FakeModel) -> None:
    with pytest.raises(InvalidValue):
        cli.main(["compare", "--debug"])


def test_an_arm_that_never_works_shows_in_the_exit_code(
    fake: FakeModel, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import dovetail.decoding as decoding

    monkeypatch.setitem(decoding.NAMES, "broken", ("sampling", "Broken"))
    monkeypatch.setattr("dovetail.decoding.sampling.Broken", Broken, raising=False)
    code, out, _ = compare(capsys, "--limit", "10", "greedy", "broken")
    assert code == 1
    assert "broken: 10 of 10 examples failed" in out.replace("\n", " ")


def test_ctrl_c_ends_with_130_a_partial_report_and_the_way_on(
    fake: FakeModel, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.engine = FakeEngine(interrupt_after=3)
    words = ("greedy", "sampling", "--limit", "40", "--batch", "10", "--out", "cut")
    code, out, err = compare(capsys, *words)
    assert code == 130
    assert "Partial" in out
    assert "--out cut --resume" in err
    assert json.loads(Path("cut/report.json").read_text())["complete"] is False
    fake.engine = FakeEngine()
    code, out, _ = compare(capsys, *words, "--resume")
    assert (code, len(fake.engine.calls)) == (0, 5)
    assert json.loads(Path("cut/report.json").read_text())["complete"] is True


def test_ctrl_c_before_the_run_says_so(
    fake: FakeModel, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dovetail.comparison.compare", stopped)
    assert compare(capsys, "greedy") == (130, "", "interrupted before anything was done\n")


def test_tasks_lists_names(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "tasks")
    assert code == 0
    assert {"chain-sum", "countdown", "atlas-multihop", "gsm8k"} <= set(out.split())


RESULT: dict[str, Any] = {
    "id": "x",
    "scale": "smoke",
    "date": "2026-01-01",
    "claims": [
        {
            "text": "it helps",
            "paper": "+2",
            "measured": 0.03,
            "interval": [0.01, 0.05],
            "verdict": "holds",
            "main": True,
        }
    ],
    "notes": ["a note"],
}


def test_reproduce_runs_recipes_and_prints_claims(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran: list[tuple[Any, ...]] = []

    def recipe(id: str, *rest: Any) -> dict[str, Any]:
        ran.append((id, *rest))
        if id == "bad":
            raise ZeroDivisionError("no")
        return {**RESULT, "id": id}

    monkeypatch.setattr(recipes, "run", recipe)
    monkeypatch.setattr(recipes, "available", lambda: ["a", "bad", "c"])
    code, out, _ = run(capsys, "reproduce", "a", "--scale", "smoke", "--seed", "3", "--out", str(tmp_path))
    assert (code, ran) == (0, [("a", "smoke", 3, tmp_path)])
    assert "it helps" in out
    assert "holds" in out
    assert "a note" in out
    ran.clear()
    code, out, err = run(capsys, "reproduce", "--all", "--scale", "smoke")
    assert code == 1
    assert [r[0] for r in ran] == ["a", "bad", "c"]
    assert "1 recipes did not end: bad" in err
    code, _, err = run(capsys, "reproduce")
    assert (code, "--all" in err) == (2, True)
    ran.clear()
    code, _, err = run(capsys, "reproduce", "a", "lazer")
    assert (code, ran) == (2, []), "a misspelt id is found before the others take their minutes"
    assert "did you mean laser?" in err
