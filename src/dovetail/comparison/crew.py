"""Who does the work: this process, or several Ray workers. Only the caller keeps the journal."""

from __future__ import annotations

import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

from dovetail.comparison.arms import ArmSpec
from dovetail.comparison.journal import Unit
from dovetail.comparison.work import Work
from dovetail.core import Example, InvalidValue, Limits, MissingExtra, Model, NotReachable, Outcome, Scorer

Done = tuple[Unit, list[Outcome], float]  # which arm and chunk, its outcomes, seconds


class Crew(ABC):
    """Has the model loaded and writes chunks.

    Attributes:
        notes: what a reader of the figures must know about how they were measured.
    """

    notes: tuple[str, ...] = ()

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """The model's own description."""

    @abstractmethod
    def check(self, arms: Sequence[ArmSpec], example: Example) -> None:
        """Raises Unsupported where an arm does not fit the model."""

    @abstractmethod
    def run(
        self, units: Sequence[Unit], arms: Mapping[str, ArmSpec], chunks: Sequence[Sequence[Example]]
    ) -> Iterator[Done]:
        """Yields every unit once, as it is done, in any order."""

    @abstractmethod
    def close(self) -> None:
        """Gives back what was taken."""


class Alone(Crew):
    """This process.

    Args:
        model: loaded, or a name for ``models.load(name, **options)``.
    """

    def __init__(
        self,
        model: Model | str,
        scorer: Scorer,
        limits: Limits,
        seed: int,
        thinking: bool,
        options: Mapping[str, Any],
    ) -> None:
        if not isinstance(model, Model):
            from dovetail.models import load

            model = load(model, **options)
        self.work = Work(model, scorer, limits, seed, thinking)

    def describe(self) -> dict[str, Any]:
        return self.work.model.describe()

    def check(self, arms: Sequence[ArmSpec], example: Example) -> None:
        self.work.check(arms, example)

    def run(
        self, units: Sequence[Unit], arms: Mapping[str, ArmSpec], chunks: Sequence[Sequence[Example]]
    ) -> Iterator[Done]:
        for arm, chunk in units:
            clock = time.perf_counter()
            outcomes = self.work.outcomes(arms[arm], chunks[chunk])
            yield (arm, chunk), outcomes, time.perf_counter() - clock

    def close(self) -> None:
        """Nothing was taken: the model may be the caller's."""


class RayWorkers(Crew):
    """``n`` Ray actors, each with a model of its own, loaded by name; on this machine, or on the cluster
    that ``RAY_ADDRESS`` names.

    Raises:
        MissingExtra: ray is not installed.
        InvalidValue: the model is not given by name, or there is not at least one worker.
    """

    def __init__(
        self,
        model: Model | str,
        scorer: Scorer,
        limits: Limits,
        seed: int,
        thinking: bool,
        options: Mapping[str, Any],
        n: int,
    ) -> None:
        if not isinstance(model, str):
            raise InvalidValue(
                "model", model.name, "given by name with workers='ray': each worker loads its own"
            )
        if n < 1:
            raise InvalidValue("n_workers", n, "at least 1")
        try:
            ray: Any = import_module("ray")
        except ModuleNotFoundError:
            raise MissingExtra("ray", "ray") from None
        self._ray = ray
        self._mine = not ray.is_initialized()
        if self._mine:
            _start(ray, n)
        resources = ray.cluster_resources()
        threads = max(1, int(resources.get("CPU", n)) // n)
        share = min(1.0, resources.get("GPU", 0.0) / n)
        actor = ray.remote(_Worker).options(num_cpus=1, num_gpus=share)
        self._workers = [
            actor.remote(model, scorer, limits, seed, thinking, dict(options), threads) for _ in range(n)
        ]
        try:
            for loaded in [worker.load.remote() for worker in self._workers]:
                self._get(loaded)
        except BaseException:
            self.close()
            raise
        self.notes = (
            f"{n} Ray workers shared the machine: seconds are what each worker measured, so they compare "
            "arms of this report, not this report with one made without workers",
        )

    def describe(self) -> dict[str, Any]:
        description: dict[str, Any] = self._get(self._workers[0].describe.remote())
        return description

    def check(self, arms: Sequence[ArmSpec], example: Example) -> None:
        # All of them, since a rehearsal is also what warms a worker up.
        for checked in [w.check.remote(list(arms), example) for w in self._workers]:
            self._get(checked)

    def run(
        self, units: Sequence[Unit], arms: Mapping[str, ArmSpec], chunks: Sequence[Sequence[Example]]
    ) -> Iterator[Done]:
        waiting = list(units)[::-1]
        running: dict[Any, tuple[Unit, Any]] = {}
        idle = list(self._workers)
        while waiting or running:
            while waiting and idle:
                arm, chunk = waiting.pop()
                worker = idle.pop()
                running[worker.outcomes.remote(arms[arm], list(chunks[chunk]))] = ((arm, chunk), worker)
            # A wait without a time limit does not let Ctrl-C through.
            ready, _ = self._ray.wait(list(running), num_returns=1, timeout=1.0)
            for reference in ready:
                unit, worker = running.pop(reference)
                outcomes, seconds = self._get(reference)
                idle.append(worker)
                yield unit, outcomes, seconds

    def close(self) -> None:
        for worker in self._workers:
            self._ray.kill(worker)
        if self._mine:
            self._ray.shutdown()

    def _get(self, reference: Any) -> Any:
        """A worker's result; its own error rather than Ray's wrapping of it."""
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from error


def _start(ray: Any, n: int) -> None:
    """Ray on this machine, or a connection to the cluster that RAY_ADDRESS names.

    Raises:
        NotReachable: Ray does not start.
    """
    usual = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    if os.environ.get("RAY_ADDRESS"):
        ray.init(**usual)
        return
    # Workers import what this process can import: a scorer, say, from the script's own folder.
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
    try:
        ray.init(num_cpus=max(n, os.cpu_count() or 1), **usual)
    except Exception as error:  # Ray raises a bare Exception where the machine is too busy
        raise NotReachable(f"Ray does not start here: {error}") from error
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before


class _Worker:
    """What runs in a Ray actor. A call loads the model: Ray passes on a call's errors whole."""

    def __init__(self, *settings: Any) -> None:
        *self.settings, self.threads = settings

    def load(self) -> None:
        import torch

        torch.set_num_threads(self.threads)
        self.alone = Alone(*self.settings)

    def describe(self) -> dict[str, Any]:
        return self.alone.describe()

    def check(self, arms: Sequence[ArmSpec], example: Example) -> None:
        self.alone.check(arms, example)

    def outcomes(self, arm: ArmSpec, examples: Sequence[Example]) -> tuple[list[Outcome], float]:
        clock = time.perf_counter()
        return self.alone.work.outcomes(arm, examples), time.perf_counter() - clock
