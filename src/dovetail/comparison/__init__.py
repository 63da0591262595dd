"""The main job: do these methods help, with this model, on this task, by how much, at what cost?

`compare` lets every arm answer the same examples from the same random streams and measures what it costs.
Its parts: ``arms`` (what is compared), ``work`` (one arm, one chunk of examples), ``crew`` (who does it),
``journal`` (what is done, on disk), ``notes`` (what a reader must know), ``progress`` and ``memory``.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from dovetail.comparison import journal, memory, notes
from dovetail.comparison.arms import ArmSpec, known, parse, resolve
from dovetail.comparison.progress import Silent, choose
from dovetail.core import (
    BadData,
    BadRow,
    Example,
    InvalidValue,
    Limits,
    Model,
    Report,
    Task,
    UnknownName,
    environment,
)

if TYPE_CHECKING:
    from dovetail.comparison.crew import Crew
    from dovetail.decoding.base import Decoding

__all__ = ["ArmSpec", "Interrupted", "compare", "known", "parse"]


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a comparison. ``report`` stands on what was finished (None if nothing was)."""

    def __init__(self, report: Report | None) -> None:
        super().__init__("interrupted")
        self.report = report


def compare(
    model: str | os.PathLike[str] | Model,
    task: str | os.PathLike[str] | Task,
    arms: Sequence[str | Decoding | ArmSpec] | Mapping[str, str | Decoding | Sequence[Any] | ArmSpec],
    *,
    limit: int | None = 200,
    seed: int = 0,
    baseline: str | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    max_new_tokens: int = 512,
    stop: Sequence[str] = (),
    batch: int = 32,
    workers: Literal["ray"] | None = None,
    n_workers: int = 2,
    thinking: bool = True,
    instruction: str | None = None,
    model_options: Mapping[str, Any] | None = None,
    progress: bool | Silent | None = None,
) -> Report:
    """Lets every arm answer the same examples and reports accuracy, differences and costs.

    Arms take turns, chunk by chunk, so that an interrupted run compares like with like and a machine
    that slows down slows all arms. Chunks are fixed by the order of the examples: a run that was killed
    and resumed takes the same batches as an undisturbed one and ends in the same report, but for
    seconds, peak memory and dates.

    Args:
        model: a loaded model, or a name for `dovetail.load`.
        task: a task, or a name or path for `dovetail.task`.
        arms: specs (``"sampling:temperature=0.6"``; grammar in `dovetail.comparison.arms`) or decodings;
            or a dict from label to one of these, or to a list of parts to stack.
        limit: examples at most; None for all that the task has.
        seed: draws procedural examples and every random stream.
        baseline: label of the arm that the others are compared with; the first one if None.
        out: folder for ``journal.jsonl``, ``report.html``, ``report.json`` and ``examples.parquet``;
            None keeps everything in memory.
        resume: go on with the run in ``out`` (or begin it, where there is none yet).
        overwrite: forget the run in ``out`` and begin anew.
        max_new_tokens, stop: where a completion ends (`Limits`).
        batch: examples that an arm is given at once; also what a kill can cost.
        workers: "ray" shares the chunks among ``n_workers`` Ray workers, each loading the model by name.
        thinking: the template's thinking mode, for arms that do not say.
        instruction: system message before every example, in place of the task's own.
        model_options: keyword arguments for `dovetail.load` where ``model`` is a name (device, dtype).
        progress: bars; None shows them where stderr is a terminal.

    Returns:
        the report; saved in ``out`` if given.

    Raises:
        UnknownName: a model, task, method, parameter or baseline that is not known.
        InvalidValue: an impossible parameter; nothing was generated.
        Unsupported: an arm that does not fit the model (all such arms are named, nothing was generated);
            an ``out`` that is not empty; a journal begun with other settings.
        BadData: the task has no readable example.
        NotReachable: a remote model went away; the run in ``out`` can be resumed.
        Interrupted: Ctrl-C; carries the partial report, which is saved in ``out``.
    """
    specs = {arm.label: arm for arm in resolve(arms)}
    baseline = next(iter(specs)) if baseline is None else baseline
    if baseline not in specs:
        raise UnknownName("baseline arm", baseline, specs)
    if batch < 1:
        raise InvalidValue("batch", batch, "at least 1")
    if limit is not None and limit < 1:
        raise InvalidValue("limit", limit, "at least 1, or None for all examples")
    if workers not in (None, "ray"):
        raise InvalidValue("workers", workers, "None or 'ray'")
    limits = Limits(max_new_tokens, (stop,) if isinstance(stop, str) else tuple(stop))
    model = model if isinstance(model, Model) else os.fspath(model)
    folder = journal.prepare(out, resume, overwrite)

    task = _task(task, instruction)
    examples, bad = task.examples(limit, seed)
    if not examples:
        raise BadData(f"{task.name} has no readable example" + "".join(f"; {row}" for row in bad[:5]))
    chunks = [examples[i : i + batch] for i in range(0, len(examples), batch)]

    crew = _crew(model, task, limits, seed, thinking, model_options or {}, workers, n_workers)
    try:
        crew.check(list(specs.values()), examples[0])
        settings = {
            "model": crew.describe(),
            "task": _describe_task(task, examples),
            "arms": {label: arm.settings() for label, arm in specs.items()},
            "seed": seed,
            "limit": limit,
            "limits": {"max_new_tokens": limits.max_new_tokens, "stop": list(limits.stop)},
            "thinking": thinking,
            "batch": batch,
        }
        about = {"started": _now(), "versions": environment.versions(), "commit": environment.commit()}
        with journal.Journal(folder, settings, about) as book, choose(progress) as display:
            stopped = _run(crew, specs, chunks, book, display)
            report = _report(
                task, specs, baseline, chunks, bad, book, crew, limits, limit, workers, n_workers
            )
    finally:
        crew.close()
    if report is not None and folder is not None:
        report.save(str(folder))
    if report is None or stopped:
        raise Interrupted(report)
    return report


def _run(
    crew: Crew,
    arms: Mapping[str, ArmSpec],
    chunks: Sequence[Sequence[Example]],
    book: journal.Journal,
    display: Silent,
) -> bool:
    """Does what the journal does not have yet; True if Ctrl-C ended it early."""
    units = [(label, i) for i in range(len(chunks)) for label in arms if (label, i) not in book.done]
    total = sum(len(c) for c in chunks)
    done = {label: sum(len(chunks[i]) for (arm, i) in book.done if arm == label) for label in arms}
    display.begin(done, total)
    failing: set[str] = set()
    try:
        for (label, i), outcomes, seconds in crew.run(units, arms, chunks):
            kept = book.append(label, i, outcomes)
            display.advance(label, len(kept), seconds)
            failed = [o for o in kept if o.error]
            if failed and label not in failing:
                failing.add(label)
                display.say(
                    f"{label}: {failed[0].example_id} failed: {failed[0].error} (more such in the report)"
                )
    except KeyboardInterrupt:
        display.say("interrupted: writing the report on what is finished")
        return True
    return False


def _report(
    task: Task,
    arms: Mapping[str, ArmSpec],
    baseline: str,
    chunks: Sequence[Sequence[Example]],
    bad: Sequence[BadRow],
    book: journal.Journal,
    crew: Crew,
    limits: Limits,
    limit: int | None,
    workers: str | None,
    n_workers: int,
) -> Report | None:
    """The report on the chunks that every arm has finished; None where there is none."""
    from dovetail.core.statistics import summarise

    finished = [i for i in range(len(chunks)) if all((label, i) in book.done for label in arms)]
    if not finished:
        return None
    by_arm = {label: [o for i in finished for o in book.done[label, i]] for label in arms}
    outcomes = [o for rows in by_arm.values() for o in rows]
    examples = sum(len(c) for c in chunks)
    done = sum(len(chunks[i]) for i in finished)
    settings = book.header["settings"]
    seed = settings["seed"]
    rows = summarise(outcomes, baseline, arms={n: a.description for n, a in arms.items()}, seed=seed)
    ranked = hasattr(task.scorer, "continuations")
    said = notes.write(rows, baseline, by_arm, bad, limits, limit, examples, done, ranked)
    said += crew.notes
    versions = environment.versions()
    if versions != book.header["versions"]:
        changed = journal.differences(book.header["versions"], versions)
        said.append(f"resumed under other package versions: {'; '.join(changed)}")
    record = {
        **settings,
        "arms": {
            label: {
                **settings["arms"][label],
                "prompt": by_arm[label][0].prompt,
                "description": arm.description,
            }
            for label, arm in arms.items()
        },
        "baseline": baseline,
        "examples": examples,
        "prompt": by_arm[baseline][0].prompt,
        "streams": "an example's stream is core.seeds.stream(seed, example id), the same under every arm",
        "bad_rows": [asdict(row) for row in bad],
        "peak_memory": memory.MEANING,
        "workers": f"{n_workers} Ray workers" if workers == "ray" else "one process",
        "versions": versions,
        "commit": book.header["commit"],
        "machine": environment.machine(),
        "started": book.header["started"],
        "finished": _now(),
    }
    model = str(settings["model"].get("name", "model"))
    return Report(
        title=f"{model} on {task.name}",
        model=model,
        task=task.name,
        baseline=baseline,
        arms=rows,
        outcomes=outcomes,
        record=record,
        notes=said,
        complete=len(finished) == len(chunks),
    )


def _task(task: str | os.PathLike[str] | Task, instruction: str | None) -> Task:
    if not isinstance(task, Task):
        from dovetail.benchmarks import task as named

        task = named(os.fspath(task))
    return task if instruction is None else replace(task, instruction=instruction)


def _crew(
    model: str | Model,
    task: Task,
    limits: Limits,
    seed: int,
    thinking: bool,
    options: Mapping[str, Any],
    workers: str | None,
    n_workers: int,
) -> Crew:
    from dovetail.comparison.crew import Alone, RayWorkers

    if isinstance(model, Model) and options:
        raise InvalidValue("model_options", dict(options), "left out where the model is loaded already")
    if workers == "ray":
        return RayWorkers(model, task.scorer, limits, seed, thinking, options, n_workers)
    return Alone(model, task.scorer, limits, seed, thinking, options)


def _describe_task(task: Task, examples: Sequence[Example]) -> dict[str, Any]:
    digest = hashlib.sha256()
    for e in examples:
        line = [e.id, [m.as_dict() for m in e.messages], e.reference, dict(e.columns)]
        digest.update(json.dumps(line, default=lambda v: type(v).__name__).encode())
    return {
        "name": task.name,
        "parameters": dict(task.parameters),
        "version": task.version,
        "instruction": task.instruction,
        "scorer": task.scorer.name,
        "extraction": task.scorer.extraction,
        "examples": len(examples),
        "digest": digest.hexdigest()[:16],
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
