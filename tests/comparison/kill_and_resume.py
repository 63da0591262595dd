"""Kills a comparison five times with SIGKILL at random moments, resumes it, compares with an undisturbed run.

A script, because the killed process must be a real one: ``python kill_and_resume.py FOLDER [MODEL TASK]``.
Each run is forked from a process that has imported everything, so that moments fall into the run rather
than into imports. Prints one JSON line: what was killed when, and in what the two reports differ.
"""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

from comparison_fakes import FakeEngine, FakeModel, sums

import dovetail
import dovetail.report
from dovetail.comparison import compare
from dovetail.comparison.journal import FILE
from dovetail.core import Model, Task

ARMS = ["greedy", "sampling:temperature=0.6", "self-consistency:n=2"]
UNSTEADY = ("seconds", "peak_memory", "started", "finished", "machine")


def forked(out: Path, model: Model, task: Task) -> int:
    """Starts the comparison in a process of its own; returns its id."""
    process = os.fork()
    if process == 0:
        compare(
            model,
            task,
            ARMS,
            batch=4,
            limit=48,
            max_new_tokens=64,
            out=out,
            resume=True,
            progress=False,
        )
        os._exit(0)
    return process


def steady(value: Any) -> Any:
    """JSON without what differs from run to run."""
    if isinstance(value, dict):
        return {k: steady(v) for k, v in value.items() if k not in UNSTEADY}
    return [steady(v) for v in value] if isinstance(value, list) else value


def content(folder: Path) -> tuple[Any, list[Any]]:
    report = dovetail.report.load(folder)
    outcomes = [
        (o.arm, o.example_id, o.prompt, o.completion, o.value, o.finish_reason, dict(o.columns), o.error)
        for o in report.outcomes
    ]
    return steady(json.loads((folder / "report.json").read_text())), outcomes


def main(folder: Path, model: Model, task: Task) -> None:
    compare(model, task, ARMS, limit=2, max_new_tokens=4, out=folder / "imports", progress=False)
    gc.freeze()
    clock = time.time()
    process = forked(folder / "undisturbed", model, task)
    os.waitpid(process, 0)
    working = (folder / "undisturbed" / FILE).stat().st_mtime - clock  # without the time the report takes
    moments = random.Random(0)
    killed = []
    journal = folder / "killed" / FILE

    def written() -> int:
        return journal.read_bytes().count(b"\n") if journal.exists() else 0

    for number in range(5):
        before = max(1, written())  # the first line is a head
        process = forked(folder / "killed", model, task)
        time.sleep(moments.uniform(0.05, 0.3) * working)
        # Outcomes may come in few bursts: the last two kills wait for one, so that they fall into the work.
        give_up = time.time() + 60
        while number > 2 and written() <= before and time.time() < give_up:
            time.sleep(0.002)
        os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        lines = written()
        killed.append({"by_signal": os.WIFSIGNALED(status), "lines": lines})
    process = forked(folder / "killed", model, task)
    os.waitpid(process, 0)

    (report, outcomes), (other, others) = content(folder / "undisturbed"), content(folder / "killed")
    entries = [json.loads(line) for line in (folder / "killed" / FILE).read_text().splitlines()[1:]]
    print(
        json.dumps(
            {
                "killed": killed,
                "seconds": working,
                "outcomes": len(outcomes),
                "journaled": len(entries),
                "journaled_once": len({(e["arm"], e["example_id"]) for e in entries}),
                "report_differs_in": [k for k in report if report[k] != other.get(k)],
                "outcomes_differ": sum(a != b for a, b in zip(outcomes, others, strict=True)),
            }
        )
    )


if __name__ == "__main__":
    if sys.argv[2:]:
        main(Path(sys.argv[1]), dovetail.load(sys.argv[2]), dovetail.task(sys.argv[3]))
    else:
        main(Path(sys.argv[1]), FakeModel(engine=FakeEngine(delay=0.008)), sums(48))
