"""What was made once is read again; other settings and another source are made anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from dovetail.models.local import LocalModel
from dovetail.recipes import kept as module
from dovetail.recipes.kept import kept, kept_model


def test_an_arm_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def make() -> dict[str, tuple[int, ...]]:
        calls.append(1)
        return {"x": (1, len(calls))}

    assert kept(tmp_path, {"seed": 0}, make) == {"x": [1, 1]}
    assert kept(tmp_path, {"seed": 0}, make) == {"x": [1, 1]}
    assert kept(tmp_path, {"seed": 1}, make) == {"x": [1, 2]}
    monkeypatch.setattr(module, "_source", lambda: "other")
    assert kept(tmp_path, {"seed": 0}, make) == {"x": [1, 3]}


def test_a_failed_arm_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        kept(tmp_path, {}, lambda: 1 / 0)
    assert list(tmp_path.iterdir()) == []


def test_a_start_is_made_once(tmp_path: Path, tiny_network: Any, tiny_tokenizer: Any) -> None:
    like, other = (LocalModel(tiny_network("qwen3", seed=s), tiny_tokenizer, name=f"m{s}") for s in (0, 1))
    before = [p.clone() for p in like.network.parameters()]
    made = [kept_model(tmp_path, {"seed": 0}, like, lambda: other)]
    made.append(kept_model(tmp_path, {"seed": 0}, like, lambda: like))
    for one in made:
        assert one.template is like.template
        for a, b in zip(one.network.parameters(), other.network.parameters(), strict=True):
            assert torch.equal(a, b)
    assert all(torch.equal(a, b) for a, b in zip(before, like.network.parameters(), strict=True))
    fresh = kept_model(tmp_path, {"seed": 1}, like, lambda: like)
    assert torch.equal(next(fresh.network.parameters()), before[0])
