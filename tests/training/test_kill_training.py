"""kill -9 and resume: the script under perf/ in short, and resuming without a kill."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from training_tools import examples

from dovetail.core import BadData, Unsupported
from dovetail.models import load
from dovetail.models.local import LocalModel
from dovetail.tasks.scorers import scorer
from dovetail.training import Run, train
from dovetail.training.checkpoints import generators, restore_generators
from dovetail.training.objectives import PolicyGradient

SCRIPT = Path(__file__).parents[2] / "perf" / "kill_training.py"


def letters(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    return [sum(c.islower() for c in text) / max(1, len(text)) for text in completions]


def go(learner: LocalModel, out: Path, steps: int, **options: Any) -> Run:
    options = {"learning_rate": 3e-3, "warmup": 2, "save_every": 2, "resume": True} | options
    return train(
        learner,
        examples(),
        objective=PolicyGradient(group_size=4),
        rewards=[letters],
        out=out,
        steps=steps,
        batch=16,
        max_new_tokens=8,
        held_out=2,
        scorer=scorer("exact"),
        **options,
    )


@pytest.mark.slow
def test_killed_and_resumed_is_the_same(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--json", "--trials", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["identical_weights"] == found["identical_logs"] == 1
    assert found["kills"] >= 1


def test_a_resumed_run_is_an_undisturbed_one(learner: LocalModel, tmp_path: Path) -> None:
    straight = go(learner, tmp_path / "straight", 6)
    go(learner, tmp_path / "stopped", 3)
    resumed = go(learner, tmp_path / "stopped", 6)
    for a, b in zip(straight.model.network.parameters(), resumed.model.network.parameters(), strict=True):
        assert torch.equal(a, b)
    assert [f["reward"] for f in straight.history] == [f["reward"] for f in resumed.history]
    assert len(resumed.samples) >= len(straight.samples)
    lines = (tmp_path / "stopped" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(6))


def test_the_model_loads_by_its_folder(learner: LocalModel, tmp_path: Path) -> None:
    run = go(learner, tmp_path / "run", 2)
    found = load(tmp_path / "run" / "model")
    assert isinstance(found, LocalModel)
    for a, b in zip(run.model.network.parameters(), found.network.parameters(), strict=True):
        assert torch.equal(a, b)
    kept = {p.name for p in (tmp_path / "run").iterdir()}
    assert kept == {"checkpoint.pt", "evaluations.json", "log.jsonl", "model", "run.json", "training.html"}


def test_what_is_refused(learner: LocalModel, tmp_path: Path) -> None:
    go(learner, tmp_path, 2)
    with pytest.raises(Unsupported, match="holds a run"):
        go(learner, tmp_path, 2, resume=False)
    with pytest.raises(Unsupported, match=r"settings\.learning_rate was 0\.003, is 0\.1"):
        go(learner, tmp_path, 4, learning_rate=0.1)
    go(learner, tmp_path, 2, learning_rate=0.1, resume=False, overwrite=True)
    (tmp_path / "checkpoint.pt").write_bytes(b"PK half a file")
    with pytest.raises(BadData, match=r"checkpoint\.pt cannot be read"):
        go(learner, tmp_path, 2, learning_rate=0.1)


def test_random_generators_go_on_where_they_were() -> None:
    import random

    import numpy as np

    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.normal()), float(torch.rand(()))

    draw()
    held = generators()
    expected = draw()
    draw()
    restore_generators(held)
    assert draw() == expected
