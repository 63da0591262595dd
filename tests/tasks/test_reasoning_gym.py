"""reasoning-gym's families as tasks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dovetail.core import InvalidValue, UnknownName
from dovetail.tasks.reasoning_gym import task


def test_its_first_import_is_silent(tmp_path: Path) -> None:
    """A dependency's source makes Python warn whenever it is compiled: on every fresh machine."""
    package = tmp_path / "reasoning_gym"
    package.mkdir()
    (package / "__init__.py").write_text("assert 1 is 1\n")
    (package / "factory.py").write_text("DATASETS = {'x': 1 is 1}\n")
    code = "from dovetail.tasks import reasoning_gym as r; assert r._registry() == {'x': True}"
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    loud = [sys.executable, "-c", "import reasoning_gym"]
    assert "SyntaxWarning" in subprocess.run(loud, capture_output=True, text=True, env=environment).stderr


def test_a_family_with_parameters() -> None:
    sums = task("chain-sum", min_terms="2", max_terms=2, min_digits=1, max_digits=1)
    examples, bad = sums.examples(4, seed=1)
    assert not bad
    assert sums.name == "chain-sum:min_terms=2,max_terms=2,min_digits=1,max_digits=1"
    assert [e.id for e in examples] == [f"chain-sum-s1-{i}" for i in range(4)]
    assert all(e.question.count("+") + e.question.count("-") == 1 for e in examples)
    again, _ = task("chain_sum", min_terms=2, max_terms=2, min_digits=1, max_digits=1).examples(4, seed=1)
    assert [(e.question, e.reference) for e in again] == [(e.question, e.reference) for e in examples]
    other, _ = sums.examples(4, seed=2)
    assert [e.question for e in other] != [e.question for e in examples]


@pytest.mark.parametrize(
    ("family", "parameters", "error", "words"),
    [
        ("chainsum", {}, UnknownName, "did you mean chain-sum"),
        ("composite", {}, InvalidValue, "a single family"),
        (
            "chain-sum",
            {"min_term": 3},
            UnknownName,
            "parameter of chain-sum 'min_term': did you mean min_terms",
        ),
        ("chain-sum", {"min_terms": "few"}, InvalidValue, "min_terms is 'few': must be a whole number"),
        ("chain-sum", {"min_terms": 9, "max_terms": 2}, InvalidValue, "terms"),
        ("chain-sum", {"seed": 3}, InvalidValue, "the run's own seed"),
    ],
)
def test_mistakes_are_named(
    family: str, parameters: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        task(family, **parameters)
