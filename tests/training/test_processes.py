"""Two processes give what one gives with the batch of both, also where each keeps half of the states."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from dovetail.core import Unsupported
from dovetail.training.processes import Processes
from dovetail.training.sharding import dealt

SCRIPT = Path(__file__).with_name("launched.py")


FSDP = Path(__file__).parents[2] / "examples" / "fsdp.yaml"
FIGURES = ("loss", "kl", "reward", "gradient", "weights")


def launched(folder: Path, count: int, steps: int = 2, sharded: bool = False) -> dict[str, Any]:
    command = [sys.executable]
    if sharded:
        command += ["-m", "accelerate.commands.launch", "--config_file", str(FSDP)]
        command += ["--num_processes", str(count), "--main_process_port", "0"]
    elif count > 1:
        command += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count)]
    command += [str(SCRIPT), str(folder), str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, Any] = json.loads((folder / "told.json").read_text())
    return told


@pytest.mark.slow
def test_two_processes_are_one_with_both_batches(tmp_path: Path) -> None:
    """In float64 the two agree to 1e-9: what remains is the order in which numbers are added up."""
    one, two = launched(tmp_path / "one", 1), launched(tmp_path / "two", 2)
    assert one["texts"] == two["texts"]
    for name in FIGURES:
        assert one[name] == pytest.approx(two[name], rel=1e-9, abs=1e-9), name
    assert two["held"] == [*one["held"], *one["held"]]
    names = {p.name for p in (tmp_path / "two").iterdir()}
    assert {"model", "checkpoint.pt", "log.jsonl", "training.html"} <= names


@pytest.mark.slow
def test_sharded_states_change_nothing_and_any_number_of_processes_takes_them_up(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    one, two = launched(tmp_path / "one", 1, steps=4), launched(tmp_path / "two", 2, sharded=True)
    assert sum(two["held"]) == one["held"][0]
    assert max(two["held"]) < 0.6 * one["held"][0]
    two = launched(tmp_path / "two", 1, steps=3)  # goes on alone
    two = launched(tmp_path / "two", 2, steps=4, sharded=True)
    for name in FIGURES:
        assert one[name] == pytest.approx(two[name], rel=1e-9, abs=1e-9), name


def test_shares() -> None:
    things = list(range(11))
    for count in (1, 2, 3):
        processes = [Processes(rank, count) for rank in range(count)]
        assert [t for p in processes for t in p.share(things)] == things
        dealt = [p.dealt(things) for p in processes]
        assert sorted(t for part in dealt for t in part) == things
        assert max(map(len, dealt)) - min(map(len, dealt)) <= 1
    assert Processes(1, 2).dealt([8, 7, 6, 5]) == [7, 6]


def test_parts_are_of_about_equal_size() -> None:
    parameters = [torch.empty(n) for n in (8, 1, 5, 3, 2)]
    parts = dealt(parameters, 2)
    assert sorted(p.numel() for part in parts for p in part) == [1, 2, 3, 5, 8]
    assert [sum(p.numel() for p in part) for part in parts] == [10, 9]


@pytest.mark.parametrize(
    ("told", "remedy"),
    [
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "DeepSpeed .* launch without it"),
        ({"ACCELERATE_USE_FSDP": "true"}, "fsdp_sharding_strategy: SHARD_GRAD_OP"),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_SHARDING_STRATEGY": "FULL_SHARD"}, "SHARD_GRAD_OP"),
        (
            {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_RESHARD_AFTER_FORWARD": "true"},
            "fsdp_reshard_after_forward: false",
        ),
    ],
)
def test_sharded_weights_are_refused(told: dict[str, str], remedy: str, monkeypatch: Any) -> None:
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Unsupported, match=remedy):
        Processes.joined()
