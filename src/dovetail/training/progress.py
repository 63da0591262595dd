"""What a running training shows: a bar with reward, length, KL, completions per second and time left; plain
lines without a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any


class Silent:
    """Shows nothing; the interface of the others. Used as a context manager around the run."""

    def __enter__(self) -> Silent:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def begin(self, done: int, steps: int) -> None:
        """``done`` of ``steps`` are there already."""

    def advance(self, figures: Mapping[str, float]) -> None:
        """One more step, with its figures."""

    def say(self, text: str) -> None:
        """One line for the user."""


class Lines(Silent):
    """A line on stderr every few seconds, and for every evaluation: for logs."""

    def __init__(self, every: float = 10.0) -> None:
        self.every, self._last = every, 0.0
        self._pace = Pace()
        self._steps = 0

    def begin(self, done: int, steps: int) -> None:
        self._steps = steps
        self._pace.begin(done, steps)

    def advance(self, figures: Mapping[str, float]) -> None:
        self._pace.advance(figures)
        now = time.monotonic()
        last = int(figures["step"]) + 1 == self._steps
        if now - self._last >= self.every or last or "held_out/accuracy" in figures:
            self._last = now
            self.say(f"step {int(figures['step']) + 1}/{self._steps}  {summary(figures)}  {self._pace.left}")

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


class Bar(Silent):
    """A bar on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._bars = Progress(
            TextColumn("training"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[told]}"),
            TextColumn("{task.fields[left]}"),
            console=Console(stderr=True),
        )
        self._pace = Pace()
        self._task: Any = None

    def __enter__(self) -> Bar:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def begin(self, done: int, steps: int) -> None:
        self._pace.begin(done, steps)
        self._task = self._bars.add_task("training", completed=done, total=steps, told="", left="")

    def advance(self, figures: Mapping[str, float]) -> None:
        self._pace.advance(figures)
        self._bars.update(self._task, advance=1, told=summary(figures), left=self._pace.left)

    def say(self, text: str) -> None:
        self._bars.console.print(text, markup=False, highlight=False)


class Pace:
    """Time left, from the mean of the last steps."""

    def begin(self, done: int, steps: int) -> None:
        self.done, self.steps = done, steps
        self.seconds: list[float] = []

    def advance(self, figures: Mapping[str, float]) -> None:
        self.done += 1
        self.seconds = [*self.seconds[-9:], figures["seconds"]]

    @property
    def left(self) -> str:
        if not self.seconds or self.done >= self.steps:
            return ""
        rest = round((self.steps - self.done) * sum(self.seconds) / len(self.seconds))
        minutes, seconds = divmod(rest, 60)
        return f"{minutes}m{seconds:02d}s left" if minutes else f"{seconds}s left"


def summary(figures: Mapping[str, float]) -> str:
    """The figures that are looked at while a run goes on, in one line."""
    shown = {
        "reward": "reward {:.3f}",
        "loss": "loss {:.3g}",
        "length": "length {:.0f}",
        "kl": "KL {:.3g}",
        "completions_per_second": "{:.1f}/s",
        "held_out/accuracy": "held-out {:.1%}",
    }
    # A policy gradient's loss says nothing of how well it goes.
    hidden = "loss" if "reward" in figures else ""
    return "  ".join(text.format(figures[n]) for n, text in shown.items() if n in figures and n != hidden)


def choose(progress: bool | Silent | None) -> Silent:
    """The display asked for: True or False, one's own, or (None) a bar where stderr is a terminal."""
    if isinstance(progress, Silent):
        return progress
    terminal = sys.stderr.isatty()
    if progress is None:
        progress = terminal
    if not progress:
        return Silent()
    return Bar() if terminal else Lines()
