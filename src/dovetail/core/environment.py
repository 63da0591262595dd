"""Where a result came about: machine, package versions, commit. Every record and result file holds them."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

# What can change a measured figure. Absent ones (extras) are left out of the record.
_PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "numpy",
    "scipy",
    "statsmodels",
    "pandas",
    "pyarrow",
    "reasoning-gym",
    "math-verify",
    "datasets",
    "openai",
    "ray",
    "accelerate",
    "trl",
    "peft",
)


def machine() -> dict[str, Any]:
    """The machine: ``cpu`` (model name), ``cores`` (usable by this process), ``memory`` (bytes), ``gpu``
    (names, [] if none), ``system`` (operating system and architecture). Imports nothing heavy."""
    return {
        "cpu": _cpu(),
        "cores": _cores(),
        "memory": _memory(),
        "gpu": _gpus(),
        "system": f"{platform.system()} {platform.machine()}",
    }


@cache
def _installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def versions() -> dict[str, str]:
    """Versions by name: ``python`` and every installed package that can change a measured figure."""
    from dovetail import __version__  # an editable install's metadata may be older than the source

    found = {"python": platform.python_version(), "dovetail": __version__}
    for package in _PACKAGES:
        version = _installed(package)
        if version is not None:
            found[package] = version
    return found


def commit() -> str | None:
    """Dovetail's own git commit, "-dirty" added where tracked files differ from it; None for an installed
    package, or without git."""
    root = Path(__file__).resolve().parents[3]
    # An installed package may lie inside somebody else's repository, whose commit says nothing of it.
    if not ((root / ".git").exists() and (root / "src" / "dovetail" / "core").is_dir()):
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # no sysconf on Windows
        return 0


def _gpus() -> list[str]:
    torch = sys.modules.get("torch")
    if torch is not None:
        return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    # Without torch loaded, ask the driver's own files rather than load it for a name.
    names = []
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        for line in path.read_text().splitlines():
            if line.startswith("Model:"):
                names.append(line.partition(":")[2].strip())
    return names
