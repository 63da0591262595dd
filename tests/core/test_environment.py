"""The record of where a result came about."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import dovetail
from dovetail.core import environment


def test_machine_describes_this_one() -> None:
    machine = environment.machine()
    assert machine["cpu"]
    assert 1 <= machine["cores"] <= (os.cpu_count() or 1)
    assert machine["memory"] > 2**28
    assert isinstance(machine["gpu"], list)
    assert platform.machine() in machine["system"]
    assert json.loads(json.dumps(machine)) == machine


def test_versions_are_those_installed() -> None:
    versions = environment.versions()
    assert versions["python"] == platform.python_version()
    assert versions["dovetail"] == dovetail.__version__
    assert versions["torch"] == metadata.version("torch")
    assert versions["transformers"] == metadata.version("transformers")


def test_an_absent_package_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_PACKAGES", ("no-such-package-at-all",))
    assert set(environment.versions()) == {"python", "dovetail"}


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys; from dovetail.core.environment import machine, versions, commit; "
        "machine(); versions(); commit(); print({'torch', 'numpy', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_commit_is_the_checkouts_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    core = tmp_path / "src" / "dovetail" / "core"
    core.mkdir(parents=True)
    file = core / "environment.py"
    file.write_text("")
    monkeypatch.setattr(environment, "__file__", str(file))
    assert environment.commit() is None  # not a repository: an installed package

    def git(*arguments: str) -> str:
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        done = subprocess.run(
            ["git", "-C", str(tmp_path), *who, *arguments], check=True, text=True, capture_output=True
        )
        return done.stdout.strip()

    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    assert environment.commit() == git("rev-parse", "HEAD")
    file.write_text("changed")
    assert environment.commit() == git("rev-parse", "HEAD") + "-dirty"
