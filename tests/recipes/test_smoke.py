"""Every recipe that there is ends at smoke scale, in seconds, with claims whose verdicts are computed."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from dovetail import recipes

SECONDS = 40  # of processor time; four to twelve are usual, and all recipes together must stay below 300


@pytest.mark.parametrize("id", recipes.available())
def test_every_recipe_ends_at_smoke_scale(id: str, tmp_path: Path) -> None:
    begin = time.process_time()
    content = recipes.run(id, "smoke", folder=tmp_path)
    assert time.process_time() - begin < SECONDS
    assert json.loads((tmp_path / f"{id}.json").read_text()) == content
    assert content["scale"] == "smoke"
    assert content["arms"]
    assert any(claim["main"] for claim in content["claims"])
    for claim in content["claims"]:
        assert claim["verdict"] in ("holds", "fails", "inconclusive")
        low, high = claim["interval"]
        assert claim["measured"] is None or low is None or high is None or low <= claim["measured"] <= high
