"""The frame of the house: a light door, names that lead somewhere, one version, a complete wheel."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import import_module
from pathlib import Path

import pytest

import dovetail

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_import_is_light() -> None:
    loaded = json.loads(python("import dovetail, json, sys; print(json.dumps(list(sys.modules)))"))
    heavy = {"torch", "numpy", "pandas", "scipy", "transformers", "pyarrow", "typer", "rich", "openai"}
    assert heavy & set(loaded) == set()


def test_import_takes_less_than_a_third_of_a_second() -> None:
    code = "import time; begin = time.perf_counter(); import dovetail; print(time.perf_counter() - begin)"
    assert min(float(python(code)) for _ in range(3)) < 0.3


@pytest.mark.parametrize("name", dovetail.__all__)
def test_public_names_lead_somewhere(name: str) -> None:
    assert getattr(dovetail, name) is not None


def test_verbs_are_functions_not_modules() -> None:
    """A folder of the same name as a verb would shadow it once imported."""
    import_module("dovetail.comparison")
    import_module("dovetail.models")
    import_module("dovetail.tasks")
    assert all(callable(getattr(dovetail, verb)) for verb in ("compare", "load", "task"))


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'comparee'"):
        dovetail.comparee  # noqa: B018
    assert set(dovetail.__all__) <= set(dir(dovetail))


def test_one_version() -> None:
    assert "version" not in PROJECT
    assert "version" in PROJECT["dynamic"]
    assert f"## [{dovetail.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_every_layer_has_its_floor() -> None:
    """The import contract is exhaustive: what it does not name, it would not check."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = next(c for c in settings["contracts"] if c["type"] == "layers")
    named = {re.sub(r"[() ]", "", name) for layer in layers["layers"] for name in layer.split("|")}
    named |= set(layers["exhaustive_ignores"])
    package = ROOT / "src" / "dovetail"
    found = {p.stem for p in package.iterdir() if p.suffix == ".py" or any(p.glob("*.py"))} - {"__init__"}
    assert found <= named


def test_constraints_pin_every_dependency_without_local_builds() -> None:
    lines = (ROOT / "constraints.txt").read_text().split()
    pins = dict(line.split("==") for line in lines)
    assert len(pins) == len(lines)
    assert not [line for line in lines if "+" in line or "/" in line]
    pinned = {_normal(name) for name in pins}
    extras = PROJECT["optional-dependencies"]
    of_dev = ("dev", "remote", "data", "ray", "training", "retrieval")
    installed = [*PROJECT["dependencies"], *(one for extra in of_dev for one in extras[extra])]
    needed = {_normal(re.split(r"[\[<>=!~ ]", one)[0]) for one in installed} - {"dovetail"}
    assert needed - pinned == set()
    assert {"torchvision", "torchaudio"} & pinned == set()


def test_no_path_of_a_machine_in_tracked_files() -> None:
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    pattern = re.compile(rb"(?<![\w.:/~-])/(?:root|home|work|Users)/\w")
    found = []
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.is_file() and path.suffix not in {".safetensors", ".png", ".parquet"}:
            found += [f"{name}: {hit.decode()}" for hit in pattern.findall(path.read_bytes())]
    assert found == []


def test_no_two_test_files_have_one_name() -> None:
    """pytest imports them by name alone, except those in packages, and leaves the second one out."""
    files = [path for path in ROOT.glob("tests/**/test_*.py") if not (path.parent / "__init__.py").is_file()]
    names = [path.name for path in files]
    assert sorted(set(names)) == sorted(names), {n for n in names if names.count(n) > 1}


def test_the_wheel_is_complete(tmp_path: Path) -> None:
    """Embedded models, report assets, results and the type marker are in what users install."""
    pytest.importorskip("hatchling", reason="the dev extra brings it")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.startswith(f"dovetail-{dovetail.__version__}-py3")
    names = set(zipfile.ZipFile(wheel).namelist())
    package = ROOT / "src" / "dovetail"
    data = [p for p in package.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    expected = {f"dovetail/{p.relative_to(package).as_posix()}" for p in data if not p.name.startswith(".")}
    expected |= {f"dovetail/_results/{p.name}" for p in (ROOT / "results").iterdir()}
    assert expected - names == set()
    assert {"dovetail/py.typed", "dovetail/catalog.py"} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
