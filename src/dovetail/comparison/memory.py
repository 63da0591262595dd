"""Peak memory while something runs, as the system counts it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MEANING = (
    "peak while the arm ran: on a GPU the largest memory that tensors held, weights included; on a CPU the "
    "largest resident memory of the whole process, libraries, weights and what earlier arms left with the "
    "allocator included. An upper bound: differences of a few percent between arms mean nothing"
)


class Peak:
    """The largest number of bytes held; valid when the `watch` that gave it has ended."""

    bytes: int = 0


@contextmanager
def watch() -> Iterator[Peak]:
    """Measures the block. Not for nested or concurrent use: the system's counter is one per process."""
    torch = sys.modules.get("torch")
    cuda = torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized()
    if cuda:
        torch.cuda.reset_peak_memory_stats()  # type: ignore[union-attr]
    else:
        _reset()
    peak = Peak()
    try:
        yield peak
    finally:
        peak.bytes = int(torch.cuda.max_memory_allocated()) if cuda else _resident()  # type: ignore[union-attr]


def _reset() -> None:
    """Linux lets a process start its high-water mark anew; elsewhere the mark is of the whole run so far."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _resident() -> int:
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # not on Windows
        return 0
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024
