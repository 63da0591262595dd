"""A run's folder: a checkpoint that is whole or absent, a log to look at meanwhile, the trained model.

| file | holds |
|---|---|
| ``run.json`` | the resolved run: settings, parts, versions |
| ``checkpoint.pt`` | weights, optimizers, data position, every part's state, random generators, all figures |
| ``log.jsonl`` | a line of figures per step, as they come |
| ``model/`` | the trained model as `transformers` and vLLM load it, once the run has ended |

Everything is written aside and renamed, so a process killed at any moment leaves the previous state.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dovetail.core import BadData, Unsupported
from dovetail.models.local import LocalModel
from dovetail.training.adapters import merged
from dovetail.training.evaluation import Evaluation
from dovetail.training.monitors.base import Alarm
from dovetail.training.run import Run, Sample

FORMAT = 1
# A setting that says how much is done, not how: a run may be resumed with more of it.
_MAY_GROW = ("steps",)


class Folder:
    """Where a run is kept.

    Args:
        path: made if need be.
        resume: go on with the run that is there, if there is one.
        overwrite: forget it.

    Raises:
        Unsupported: the folder holds a run, and neither is asked for.
    """

    def __init__(self, path: str | os.PathLike[str], resume: bool = False, overwrite: bool = False) -> None:
        self.path = Path(path)
        if resume and overwrite:
            raise Unsupported("resume and overwrite exclude each other: give one of them")
        if not (resume or overwrite) and (self.record.exists() or self.checkpoint.exists()):
            raise Unsupported(f"{self.path} holds a run: resume it, overwrite it, or give another folder")
        if overwrite:
            for file in (self.record, self.checkpoint, self.log):
                file.unlink(missing_ok=True)
            shutil.rmtree(self.model, ignore_errors=True)
        self.path.mkdir(parents=True, exist_ok=True)

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint.pt"

    @property
    def record(self) -> Path:
        return self.path / "run.json"

    @property
    def log(self) -> Path:
        return self.path / "log.jsonl"

    @property
    def model(self) -> Path:
        return self.path / "model"

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Writes the resolved run, or holds it against the one that is resumed.

        Raises:
            Unsupported: the run there was begun with other settings; names them.
        """
        settings = json.loads(json.dumps(settings, default=str))
        if self.record.exists():
            differing = differences(json.loads(self.record.read_text())["run"], settings)
            differing = {k: v for k, v in differing.items() if not _harmless(k, settings)}
            if differing and self.checkpoint.exists():
                told = "; ".join(f"{key} was {old!r}, is {new!r}" for key, (old, new) in differing.items())
                raise Unsupported(f"{self.path} was begun with other settings: {told}")
        from dovetail.core import environment

        about = {"format": FORMAT, "run": settings, "versions": environment.versions()}
        write_aside(self.record, (json.dumps(about, indent=1) + "\n").encode())

    def save(self, state: Mapping[str, Any]) -> None:
        """Replaces the checkpoint."""
        aside = self.checkpoint.with_name(self.checkpoint.name + ".new")
        with aside.open("wb") as file:
            torch.save({"format": FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, self.checkpoint)

    def load(self) -> dict[str, Any] | None:
        """The checkpoint, None where there is none yet."""
        if not self.checkpoint.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        except Exception as error:
            raise BadData(f"{self.checkpoint} cannot be read ({error}): delete it to begin anew") from error
        if state.get("format") != FORMAT:
            raise Unsupported(f"{self.checkpoint} has format {state.get('format')}, this version {FORMAT}")
        return state

    def note(self, figures: Mapping[str, float]) -> None:
        """One more line of the log."""
        with self.log.open("a") as file:
            file.write(json.dumps(figures) + "\n")

    def rewrite(self, history: list[dict[str, float]]) -> None:
        """The log as the checkpoint knows it: steps after it are done again."""
        write_aside(self.log, "".join(json.dumps(f) + "\n" for f in history).encode())

    def export(self, model: LocalModel, adapter: Any | None = None) -> Path:
        """Writes the model as a Hugging Face folder; a reader sees the old one or the new one, whole.

        Adapters (PEFT's handle on them) are merged into its weights, and saved alone as ``adapter/``.
        """
        aside, old = (self.path / f"model.{part}" for part in ("new", "old"))
        shutil.rmtree(aside, ignore_errors=True)
        save_model(model, aside, adapter)
        if adapter is not None:
            adapter.save_pretrained(self.path / "adapter")
        shutil.rmtree(old, ignore_errors=True)
        if self.model.exists():
            self.model.rename(old)
        aside.rename(self.model)
        shutil.rmtree(old, ignore_errors=True)
        return self.model


def save_model(model: LocalModel, folder: Path, adapter: Any | None = None) -> None:
    """Weights (safetensors), config, generation config, tokenizer and chat template."""
    network = model.network if adapter is None else merged(adapter)
    network.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)


def write_aside(path: Path, content: bytes) -> None:
    """A file that appears whole or not at all."""
    aside = path.with_name(path.name + ".new")
    aside.write_bytes(content)
    os.replace(aside, path)


def generators() -> dict[str, Any]:
    """The states of all global random generators, as values that `torch.load` takes without pickle."""
    name, keys, *rest = np.random.get_state()
    numbers = torch.from_numpy(np.asarray(keys).astype(np.int64))
    states: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": [str(name), numbers, *rest],
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def restore_generators(states: Mapping[str, Any]) -> None:
    """Takes up `generators`'."""
    torch.set_rng_state(states["torch"])
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])


def run_state(run: Run) -> dict[str, Any]:
    """What has been recorded of a run so far, as plain values."""
    return {
        "history": run.history,
        "evaluations": [asdict(e) for e in run.evaluations],
        "alarms": [asdict(a) for a in run.alarms],
        "samples": [asdict(s) for s in run.samples],
        "skipped": dict(run.skipped),
        "stopped": run.stopped,
    }


def restore_run(run: Run, state: Mapping[str, Any]) -> None:
    """Takes up `run_state`'s, in the lists that the run holds already."""
    run.history[:] = state["history"]
    run.evaluations[:] = [Evaluation(**e) for e in state["evaluations"]]
    run.alarms[:] = [Alarm(**a) for a in state["alarms"]]
    run.samples[:] = [Sample(**s) for s in state["samples"]]
    run.skipped.clear()
    run.skipped.update(state["skipped"])
    run.stopped = state["stopped"]


def differences(old: Any, new: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    """Where two JSON values differ: dotted key -> (old, new)."""
    if isinstance(old, dict) and isinstance(new, dict):
        found: dict[str, tuple[Any, Any]] = {}
        for key in dict.fromkeys((*old, *new)):
            found |= differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
        return found
    return {} if old == new else {path: (old, new)}


def _harmless(key: str, settings: Mapping[str, Any]) -> bool:
    inner = settings.get("settings", {})
    return key.rpartition(".")[2] in _MAY_GROW and not inner.get("decay")
