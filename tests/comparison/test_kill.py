"""kill -9 at five random moments, then resume: the same report as an undisturbed run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import dovetail

HERE = Path(__file__).parent


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("named", [(), ("pico", "chain-sum")], ids=["fake", "pico"])
def test_a_run_killed_five_times_ends_like_an_undisturbed_one(tmp_path: Path, named: tuple[str, ...]) -> None:
    path = os.pathsep.join([str(Path(dovetail.__file__).parents[1]), str(HERE)])
    done = subprocess.run(
        [sys.executable, str(HERE / "kill_and_resume.py"), str(tmp_path), *named],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert all(kill["by_signal"] for kill in found["killed"])  # none had ended by itself
    lines = [kill["lines"] for kill in found["killed"]]
    assert lines == sorted(lines)  # nothing finished was lost
    assert 1 < lines[-1] < found["outcomes"]  # and the kills fell into the work
    assert found["journaled"] == found["journaled_once"] == found["outcomes"] == 3 * 48
    assert found["report_differs_in"] == []
    assert found["outcomes_differ"] == 0
