"""What a run shows: the bar's line, TensorBoard, the page; and the command line from recipe to model."""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from training_tools import examples

from dovetail.core import MissingExtra
from dovetail.models.local import LocalModel
from dovetail.report import curves
from dovetail.report.training import headline, html
from dovetail.tasks.scorers import scorer
from dovetail.training import Run, train
from dovetail.training.monitors import Floor
from dovetail.training.objectives import PolicyGradient
from dovetail.training.progress import Lines, Pace, summary

NASTY = "<script>alert(1)</script>\u202e</pre>"


def nasty(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    return [sum(c.islower() for c in t) / max(1, len(t)) for t in completions]


@pytest.fixture
def run(learner: LocalModel, tmp_path: Path) -> Run:
    lines = Lines(every=0.0)
    made = train(
        learner,
        examples(),
        objective=PolicyGradient(group_size=4, kl=0.01),
        rewards=[nasty],
        monitors=[Floor("reward", 2.0, steps=1)],
        held_out=examples(3),
        scorer=scorer("exact"),
        out=tmp_path,
        progress=lines,
        steps=4,
        batch=16,
        max_new_tokens=8,
        evaluate_every=2,
        samples_every=1,
    )
    return made


class Page(HTMLParser):
    """Fails on tags that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        if tag not in {"meta", "link"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page(run: Run, tmp_path: Path, capfd: Any) -> None:
    page = (tmp_path / "training.html").read_text(encoding="utf-8")
    parsed = Page(page)
    assert "script" not in parsed.tags
    assert not re.search(r"https?://|@import|url\(", page)
    for title in ("Held-out accuracy", "Reward", "KL to the reference", "Completions over time", "Floor"):
        assert title in page
    assert page.count("<svg") >= 6
    # On a phone the head of the table is gone, and every cell tells what it is.
    assert page.count("<td") == page.count('data-k="') == 4 * len(run.evaluations)
    assert len(json.loads((tmp_path / "evaluations.json").read_text())) == 3
    assert "3 held-out questions" in headline(run)


def test_what_a_model_wrote_cannot_run(run: Run) -> None:
    sample = run.samples[0]
    run.samples[:] = [type(sample)(0, "e", NASTY, NASTY, 1.0, {NASTY: 1.0})]
    assert "script" not in Page(html(run)).tags


def test_a_run_without_anything_has_a_page(learner: LocalModel) -> None:
    text = html(Run(learner))
    Page(text)
    assert f"<title>Training: {learner.name}</title>" in text


def test_lines_tell_the_figures(run: Run, capfd: Any) -> None:
    figures = run.history[-1]
    told = summary(figures)
    for word in ("reward", "length", "KL", "/s", "held-out"):
        assert word in told
    pace = Pace()
    pace.begin(2, 12)
    pace.advance({"seconds": 10.0})
    assert pace.left == "1m30s left"


def test_curves() -> None:
    assert curves.ticks(0.0, 1.0) == [0.0, 0.5, 1.0] or len(curves.ticks(0.0, 1.0)) <= 6
    assert curves.running_mean([1.0, 3.0, 5.0], 2) == [1.0, 2.0, 4.0]
    assert curves.plot("none", curves.Curve([], [])) == ""
    for values in ([1.0], [2.0, 2.0], [0.0, float("nan"), 1e9]):
        assert "NaN" not in curves.plot("x", curves.Curve(range(len(values)), values))
        assert "nan" not in curves.plot("x", curves.Curve(range(len(values)), values))


def test_tensorboard(learner: LocalModel, tmp_path: Path, monkeypatch: Any) -> None:
    options: dict[str, Any] = {
        "objective": PolicyGradient(group_size=4),
        "rewards": [nasty],
        "steps": 2,
        "batch": 8,
        "max_new_tokens": 4,
        "tensorboard": True,
        "progress": False,
    }
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "torch.utils.tensorboard", None)
        with pytest.raises(MissingExtra, match=r"dovetail\[training\]"):
            train(learner, examples(), out=tmp_path / "a", **options)
    pytest.importorskip("tensorboard")
    train(learner, examples(), out=tmp_path / "b", **options)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(tmp_path / "b" / "tensorboard"))
    found.Reload()
    assert [e.step for e in found.Scalars("reward")] == [0, 1]


def test_the_command(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    from dovetail import cli

    recipe = tmp_path / "tiny.toml"
    recipe.write_text('model = "pico-draft"\ntask = "chain-sum"\nheld_out = 2\n')
    small = ["steps=1", "batch=4", "objective.group_size=2", "examples=8", "max_new_tokens=4"]

    def call(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            cli.main(["train", str(recipe), *small, *words])
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    code, out, _ = call("--dry-run")
    assert code == 0
    assert json.loads(out)["settings"]["steps"] == 1
    assert not (tmp_path / "run").exists()
    code, out, err = call("--out", str(tmp_path / "run"), "--quiet")
    assert code == 0, err
    assert "held-out questions" in out
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()
    code, _, err = call("--out", str(tmp_path / "run"), "--quiet")
    assert (code, "holds a run" in err) == (2, True)
    code, out, _ = call("--out", str(tmp_path / "run"), "--quiet", "--resume")
    assert code == 0
    code, _, err = call("objective.kll=1")
    assert code == 2
    assert "did you mean kl" in err
