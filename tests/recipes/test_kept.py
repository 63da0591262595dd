"""What was made once is read again; other settings and another source are made anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from dovetail.recipes import kept as module
from dovetail.recipes.kept import kept


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
