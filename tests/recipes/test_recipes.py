"""Running a recipe writes what it measured, in the documented format, where no measurement is lost."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dovetail import catalog, recipes
from dovetail.core import Arm, Claim, Cost, Difference, Figure, InvalidValue, UnknownName
from dovetail.recipes import RecipeArm, RecipeResult

SOURCE = """
import numpy as np
from dovetail.core import Claim, Figure
from dovetail.recipes.base import RecipeArm, RecipeResult

def run(scale, seed):
    if seed == 666:
        raise RuntimeError("killed half-way")
    arms = [
        RecipeArm("greedy", {"accuracy": Figure(0.5, (0.4, 0.6)), "parameters": 850_000}, "Greedy()"),
        RecipeArm("laser", {"accuracy": Figure(float("nan"), (0.0, float("inf")))}),
    ]
    claim = Claim("shorter by 10%", "63% shorter", 0.4, (0.3, 0.5), baseline=100.0, at_least=0.1, main=True)
    series = {"lengths": {"x": np.arange(2), "y": (np.float32(0.5), float("nan"))}}
    return RecipeResult(arms, [claim], [seed, seed + 1], ["stand-in data"], {"scale": scale}, series)
"""


@pytest.fixture
def laser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A recipe for ``laser``, and a checkout of its own to write results to."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "laser.py").write_text(SOURCE)
    (tmp_path / "results").mkdir()
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr(recipes, "__path__", [str(package), *recipes.__path__])
    monkeypatch.setattr(catalog, "_ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    sys.modules.pop("dovetail.recipes.laser", None)
    yield tmp_path
    sys.modules.pop("dovetail.recipes.laser", None)
    recipes.__dict__.pop("laser", None)


def test_the_result_file_has_the_documented_fields(laser: Path) -> None:
    content = recipes.run("laser", seed=3)
    stored = json.loads((laser / "results" / "laser.json").read_text())
    assert stored == content
    assert recipes.read("laser") == content
    documented = (Path(__file__).parents[2] / "results" / "README.md").read_text()
    assert all(f"`{field}`" in documented for field in [*content, *content["claims"][0], *content["arms"][0]])
    assert (stored["format"], stored["id"], stored["scale"]) == (recipes.FORMAT, "laser", "pico")
    assert stored["seeds"] == [3, 4]
    assert stored["claims"][0]["verdict"] == "holds"
    assert stored["claims"][0]["main"] is True
    assert stored["versions"]["python"]
    assert stored["machine"]["cores"] >= 1


def test_figures_are_json_numbers(laser: Path) -> None:
    first, second = recipes.run("laser")["arms"]
    assert first["figures"]["accuracy"] == {"value": 0.5, "interval": [0.4, 0.6]}
    assert first["figures"]["parameters"] == {"value": 850_000.0, "interval": None}
    # JSON has neither NaN nor infinity
    assert second["figures"]["accuracy"] == {"value": None, "interval": [0.0, None]}
    assert recipes.read("laser")["series"] == {"lengths": {"x": [0, 1], "y": [0.5, None]}}


def test_a_smoke_run_never_replaces_a_measurement(laser: Path) -> None:
    recipes.run("laser", "pico")
    measured = (laser / "results" / "laser.json").read_bytes()
    recipes.run("laser", "smoke", seed=9)
    assert (laser / "results" / "laser.json").read_bytes() == measured
    assert json.loads((laser / "runs/recipes/smoke/laser.json").read_text())["scale"] == "smoke"


def test_a_failed_run_leaves_the_former_result(laser: Path) -> None:
    recipes.run("laser")
    before = (laser / "results" / "laser.json").read_bytes()
    with pytest.raises(RuntimeError, match="half-way"):
        recipes.run("laser", seed=666)
    assert (laser / "results" / "laser.json").read_bytes() == before
    assert [p.name for p in (laser / "results").iterdir()] == ["laser.json"]


def test_an_installed_package_writes_to_the_working_directory(
    laser: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "_ROOT", laser / "elsewhere")
    assert recipes.path("laser") == Path("results/laser.json")
    assert catalog.results_folder().name == "_results"


def test_mistakes_are_named(laser: Path) -> None:
    assert "laser" in recipes.available()
    with pytest.raises(UnknownName, match="unknown method 'lazer': did you mean laser"):
        recipes.run("lazer")
    with pytest.raises(UnknownName, match="unknown recipe 'webnovelbench'"):
        recipes.run("webnovelbench")
    with pytest.raises(InvalidValue, match="scale is 'huge'"):
        recipes.run("laser", "huge")  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match="unknown result 'laser'"):
        recipes.read("laser")


def test_an_arm_of_a_report_keeps_its_figures() -> None:
    accuracy, tokens = Figure(0.5, (0.4, 0.6)), Figure(80.0, (70.0, 90.0))
    difference = Difference(0.1, (0.02, 0.18), 0.01, 0.02, "better")
    arm = Arm(
        "soft", "SoftThinking()", 20, {"accuracy": accuracy}, Cost(), {"tokens_written": tokens}, difference
    )
    made = RecipeArm.of(arm).as_dict()
    assert made["name"] == "soft"
    assert made["description"] == "SoftThinking()"
    assert made["figures"]["accuracy"]["value"] == 0.5
    assert made["figures"]["tokens_written"]["interval"] == [70.0, 90.0]
    assert made["figures"]["difference"] == {"value": 0.1, "interval": [0.02, 0.18]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"arms": [RecipeArm("a", {}), RecipeArm("a", {})]}, "different names"), ({"seeds": []}, "seeds")],
)
def test_impossible_results_are_rejected(changes: dict[str, Any], message: str) -> None:
    claim = Claim("x", "y", 0.0, (0.0, 0.0), at_least=0.0)
    with pytest.raises(InvalidValue, match=message):
        RecipeResult(**{"arms": [RecipeArm("a", {})], "claims": [claim], "seeds": [0], **changes})
