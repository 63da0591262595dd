"""The catalog says what is there, and nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dovetail import catalog
from dovetail.catalog import SYSTEMS, Part, System
from dovetail.core import UnknownName

SLOTS = {
    "decoding",
    "prompting",
    "reduction",
    "rewards",
    "training",
    "models",
    "benchmarks",
    "audits",
    "agents",
}


def test_sixty_systems_each_with_its_own_id_paper_and_names() -> None:
    assert len(SYSTEMS) == 60
    for values in (
        [s.id for s in SYSTEMS],
        [s.title for s in SYSTEMS],
        [s.paper for s in SYSTEMS],
        [s.arxiv for s in SYSTEMS],
        [part.module for s in SYSTEMS for part in s.parts],
        [f"{part.module}.{name}" for s in SYSTEMS for part in s.parts for name in part.names],
    ):
        assert sorted(set(values)) == sorted(values)


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda s: s.id)
def test_entry_is_well_formed(system: System) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", system.id)
    assert re.fullmatch(r"2[56]\d\d\.\d{5}", system.arxiv)
    assert system.slot in SLOTS
    assert len(system.summary) <= 110
    assert not system.summary.endswith(".")
    for part in system.parts:
        assert part.names
        assert all(name.isidentifier() for name in part.names)
        assert all(piece.isidentifier() for piece in part.module.split("."))
    assert system.recipe.rpartition(".")[2].isidentifier()


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda s: s.id)
def test_status_is_true(system: System) -> None:
    lacks = catalog.missing(system)
    if system.status == "works":
        assert lacks == []
    elif system.status == "partial":
        home = {f"module {system.module}", *(f"name {system.module}.{n}" for n in system.parts[0].names)}
        assert not home & set(lacks)
        assert lacks, f"{system.id} lacks nothing: its status is 'works'"
    else:
        assert lacks, f"{system.id} lacks nothing: its status is 'works'"


def test_extras_are_declared(pytestconfig: pytest.Config) -> None:
    import tomllib

    project = tomllib.loads((pytestconfig.rootpath / "pyproject.toml").read_text())["project"]
    declared = set(project["optional-dependencies"])
    assert {extra for s in SYSTEMS for extra in s.extras} <= declared


def test_lookup_and_filters() -> None:
    assert catalog.system("laser").names == ("Laser", "LaserD", "LaserDE")
    with pytest.raises(UnknownName, match="did you mean soft-thinking"):
        catalog.system("soft-thinkin")
    training = {s.id for s in catalog.systems(slot="training")}
    assert {"em", "ccl", "rl-tango"} <= training  # em lives in decoding and has a part here
    assert "laser" not in training
    assert catalog.systems() == list(SYSTEMS)
    statuses = ("works", "partial", "planned")
    assert sum(len(catalog.systems(status=status)) for status in statuses) == 60
    with pytest.raises(UnknownName, match="unknown slot 'decodng': did you mean decoding"):
        catalog.systems(slot="decodng")
    with pytest.raises(UnknownName, match="unknown status 'working'"):
        catalog.systems(status="working")  # type: ignore[arg-type]


def test_rows_are_json_with_the_documented_fields() -> None:
    for entry in SYSTEMS:
        row = json.loads(json.dumps(entry.as_dict()))
        assert {"id", "title", "slot", "module", "names", "status", "result"} <= set(row)
        assert row["module"] == f"dovetail.{entry.parts[0].module}"
        assert row["result"] in (None, f"results/{entry.id}.json")


def test_missing_names_each_lack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "src" / "dovetail"
    (package / "decoding").mkdir(parents=True)
    (package / "recipes").mkdir()
    (tmp_path / "docs" / "methods").mkdir(parents=True)
    (tmp_path / "results").mkdir()
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr(catalog, "_PACKAGE", package)
    monkeypatch.setattr(catalog, "_ROOT", tmp_path)
    parts = (Part("decoding.trial_method", ("TrialMethod", "TrialTwo")),)
    trial = System("3-trial", "Trial", "a trial", "A Trial", "2501.00001", "", parts)

    def lacks() -> list[str]:
        catalog._public_names.cache_clear()
        return catalog.missing(trial)

    assert lacks() == [
        "module dovetail.decoding.trial_method",
        "recipe dovetail.recipes._3_trial",
        "result results/3-trial.json",
        "page docs/methods/3-trial.md",
    ]
    (package / "decoding" / "trial_method.py").write_text("class TrialMethod: ...\n")
    (package / "recipes" / "_3_trial.py").touch()
    (tmp_path / "docs" / "methods" / "3-trial.md").touch()
    result = tmp_path / "results" / "3-trial.json"
    result.write_text(json.dumps({"claims": [{"main": False}]}))
    assert lacks() == [
        "name dovetail.decoding.trial_method.TrialTwo",
        "a main claim in results/3-trial.json",
    ]
    (package / "decoding" / "trial_method.py").write_text("class TrialMethod: ...\nTrialTwo = TrialMethod\n")
    result.write_text(json.dumps({"claims": [{"main": True}]}))
    assert lacks() == []
    catalog._public_names.cache_clear()


def test_importing_the_catalog_loads_nothing_heavy() -> None:
    code = (
        "import sys, dovetail.catalog as c; [(c.missing(s), s.as_dict()) for s in c.SYSTEMS]; "
        "print({'torch', 'numpy', 'pandas', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
