"""A recipe file: everything resolved and typed, every mistake named by its key."""

from __future__ import annotations

from pathlib import Path

import pytest

from dovetail.core import BadData, InvalidValue, UnknownName
from dovetail.decoding import Sampling
from dovetail.training import plan
from dovetail.training.monitors import Floor
from dovetail.training.objectives import PolicyGradient, Supervised

RECIPE = """
model = "pico"
task = "chain-sum:min_terms=3"
held_out = 20
[objective]
name = "policy-gradient"
kl = 1
[[rewards]]
name = "score"
weight = 2
[[monitors]]
name = "floor"
bound = 0.5
[decoding]
name = "sampling"
temperature = 0.8
[settings]
steps = 7
betas = [0.8, 0.9]
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


def test_everything_is_resolved(recipe: Path) -> None:
    found = plan.read(recipe)
    assert found.objective == PolicyGradient(kl=1.0)
    assert isinstance(found.objective.kl, float)
    assert list(found.weights) == [2.0]
    assert list(found.monitors) == [Floor(bound=0.5)]
    assert list(found.decoding) == [Sampling(0.8)]
    assert found.settings.betas == (0.8, 0.9)
    described = found.describe()
    assert described["settings"]["batch"] == 128
    assert described["objective"]["class"] == "PolicyGradient"
    assert described["task"]["name"].startswith("chain")


def test_overrides(recipe: Path) -> None:
    words = [
        "steps=3",
        "objective.kl=0",
        "rewards.0.weight=0.5",
        "decoding=greedy",
        "settings.optimiser=muon",
    ]
    found = plan.read(recipe, words)
    assert (found.settings.steps, found.settings.optimiser) == (3, "muon")
    assert found.objective.kl == 0.0
    assert list(found.weights) == [0.5]
    assert type(found.decoding[0]).__name__ == "Greedy"
    assert (
        plan.plan({"model": "pico", "task": "chain-sum", "objective": "supervised"}).objective == Supervised()
    )


@pytest.mark.parametrize(
    ("override", "error", "words"),
    [
        ("settings.steps=many", InvalidValue, "settings.steps is 'many': must be a whole number"),
        ("settings.stepps=3", UnknownName, "settings 'stepps'"),
        ("steps=0", InvalidValue, "settings.steps is 0: must be a whole number >= 1"),
        ("objective.kl=-1", InvalidValue, "objective.kl is -1.0: must be >= 0"),
        ("objective.average=mean", InvalidValue, "objective.average is 'mean': must be 'token' or"),
        ("objective.name=grpo", UnknownName, "objective.name 'grpo'"),
        ("rewards.0.name=corect", UnknownName, "rewards.0.name 'corect'"),
        ("rewards.4.weight=1", InvalidValue, "a place from 0 to 0"),
        ("rewards.0.weight=heavy", InvalidValue, "rewards.0.weight is 'heavy': must be a number"),
        ("monitors.0.steps=0", InvalidValue, "monitors.0.steps"),
        ("modell=pico", UnknownName, "key of a training recipe 'modell'"),
        ("task=chain-summ", UnknownName, "chain-summ"),
        ("held_out=1.5", InvalidValue, "held_out is 1.5"),
        ("steps", InvalidValue, "KEY=VALUE"),
    ],
)
def test_mistakes_are_named(recipe: Path, override: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        plan.read(recipe, [override])
    assert words in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="cannot be read"):
        plan.read(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("model = pico")
    with pytest.raises(BadData, match=r"is no TOML.*line 1"):
        plan.read(tmp_path / "bad.toml")
    with pytest.raises(InvalidValue, match="model is None"):
        plan.plan({"task": "chain-sum"})


def test_the_examples_are_plans() -> None:
    for file in (Path(__file__).parents[2] / "examples").glob("*.toml"):
        assert plan.read(file).model
