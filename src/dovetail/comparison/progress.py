"""What a running comparison shows: a bar per arm with rate and time left; plain lines without a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn


class Silent:
    """Shows nothing; the interface of the others.

    Used as a context manager around the run. ``begin`` is called once, ``advance`` after each chunk,
    ``say`` for what the user should know at once. Never called per token, so it costs nothing.
    """

    def __enter__(self) -> Silent:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def begin(self, done: Mapping[str, int], total: int) -> None:
        """Arms in order with the examples they have already; ``total`` examples per arm."""

    def advance(self, arm: str, examples: int, seconds: float) -> None:
        """``arm`` wrote ``examples`` more in ``seconds``."""

    def say(self, text: str) -> None:
        """One line for the user."""


class Lines(Silent):
    """A line on stderr every few seconds: for logs."""

    def __init__(self, every: float = 10.0) -> None:
        self.every, self._last = every, time.monotonic()
        self._done: dict[str, int] = {}
        self._total = 0
        self._wrote, self._seconds = 0, 0.0

    def begin(self, done: Mapping[str, int], total: int) -> None:
        self._done, self._total = dict(done), total

    def advance(self, arm: str, examples: int, seconds: float) -> None:
        self._done[arm] += examples
        self._wrote += examples
        self._seconds += seconds
        left = self._total * len(self._done) - sum(self._done.values())
        if left and time.monotonic() - self._last >= self.every:
            self._last = time.monotonic()
            rate = self._wrote / self._seconds if self._seconds else 0.0
            counts = ", ".join(f"{name} {done}/{self._total}" for name, done in self._done.items())
            eta = f", {_duration(left / rate)} left" if rate else ""
            self.say(f"{counts} ({rate:.1f}/s{eta})")

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


class Bars(Silent):
    """A bar per arm on a terminal.

    Arms take turns, so a bar's rate is over the seconds that its own arm wrote, and its time left is
    what that arm still needs; the last line adds these up.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:>10}"),
            TextColumn("{task.fields[left]:>12}"),
            console=console or Console(stderr=True),
            transient=False,
        )
        self._tasks: dict[str, Any] = {}
        self._spent: dict[str, tuple[int, float]] = {}
        self._all: Any = None

    def __enter__(self) -> Bars:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def begin(self, done: Mapping[str, int], total: int) -> None:
        for arm, finished in done.items():
            self._tasks[arm] = self._add(arm, finished, total)
        if len(done) > 1:
            self._all = self._add("all arms", sum(done.values()), total * len(done))

    def advance(self, arm: str, examples: int, seconds: float) -> None:
        wrote, spent = self._spent.get(arm, (0, 0.0))
        self._spent[arm] = (wrote + examples, spent + seconds)
        self._bars.advance(self._tasks[arm], examples)
        left = {name: self._left(name) for name in self._tasks}
        rate = self._spent[arm][0] / max(self._spent[arm][1], 1e-9)
        self._bars.update(self._tasks[arm], rate=f"{rate:.1f}/s", left=_left_text(left[arm]))
        if self._all is not None:
            total_left = None if None in left.values() else sum(v for v in left.values() if v is not None)
            self._bars.advance(self._all, examples)
            self._bars.update(self._all, left=_left_text(total_left))

    def say(self, text: str) -> None:
        self._bars.console.print(text, markup=False, highlight=False)

    def _add(self, name: str, done: int, total: int) -> Any:
        from rich.markup import escape

        return self._bars.add_task(escape(name), completed=done, total=total, rate="", left="")

    def _left(self, arm: str) -> float | None:
        """Seconds that ``arm`` still needs; None before its first chunk."""
        task = self._bars.tasks[self._tasks[arm]]
        remaining = (task.total or 0) - task.completed
        if not remaining:
            return 0.0
        wrote, spent = self._spent.get(arm, (0, 0.0))
        return remaining * spent / wrote if wrote else None


def choose(progress: bool | Silent | None) -> Silent:
    """The display asked for: True or False, one's own, or (None) bars where stderr is a terminal."""
    if isinstance(progress, Silent):
        return progress
    if progress is None:
        progress = sys.stderr.isatty()
    if not progress:
        return Silent()
    return Bars() if sys.stderr.isatty() else Lines()


def _left_text(seconds: float | None) -> str:
    return "" if seconds is None else "done" if seconds == 0 else f"{_duration(seconds)} left"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
