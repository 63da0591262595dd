"""Two processes give what one gives with the batch of both; sharded weights are refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dovetail.core import Unsupported
from dovetail.training.processes import Processes

SCRIPT = Path(__file__).with_name("launched.py")


def launched(folder: Path, count: int) -> dict[str, Any]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count)]
    command = [sys.executable, *(launcher if count > 1 else []), str(SCRIPT), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, Any] = json.loads((folder / "told.json").read_text())
    return told


@pytest.mark.slow
def test_two_processes_are_one_with_both_batches(tmp_path: Path) -> None:
    """In float64 the two agree to 1e-9: what remains is the order in which numbers are added up."""
    one, two = launched(tmp_path / "one", 1), launched(tmp_path / "two", 2)
    assert one["texts"] == two["texts"]
    for name in ("loss", "kl", "reward", "gradient", "weights"):
        assert one[name] == pytest.approx(two[name], rel=1e-9, abs=1e-9), name
    names = {p.name for p in (tmp_path / "two").iterdir()}
    assert {"model", "checkpoint.pt", "log.jsonl", "training.html"} <= names


def test_shares() -> None:
    things = list(range(11))
    for count in (1, 2, 3):
        processes = [Processes(rank, count) for rank in range(count)]
        assert [t for p in processes for t in p.share(things)] == things
        dealt = [p.dealt(things) for p in processes]
        assert sorted(t for part in dealt for t in part) == things
        assert max(map(len, dealt)) - min(map(len, dealt)) <= 1
    assert Processes(1, 2).dealt([8, 7, 6, 5]) == [7, 6]


@pytest.mark.parametrize("variable", ["ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"])
def test_sharded_weights_are_refused(variable: str, monkeypatch: Any) -> None:
    monkeypatch.setenv(variable, "true")
    with pytest.raises(Unsupported, match="shards the weights"):
        Processes.joined()
