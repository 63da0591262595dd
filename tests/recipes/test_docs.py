"""Generated parts of README.md and docs/ are current, and hand-written parts are left alone."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from dovetail import catalog, recipes
from dovetail.catalog import SYSTEMS
from dovetail.core import BadData
from dovetail.recipes import docs

ROOT = Path(__file__).parents[2]


def test_every_generated_block_is_current() -> None:
    assert [str(page.relative_to(ROOT)) for page in docs.stale(ROOT)] == [], "run: make docs"


def test_the_table_lists_every_system_once() -> None:
    rows = docs.methods_table("docs/methods").splitlines()[2:]
    assert len(rows) == len(SYSTEMS)
    for system, row in zip(SYSTEMS, rows, strict=True):
        assert f"`{system.id}`" in row
        assert row.endswith(f"| {system.status} |")
        assert (f"(docs/methods/{system.id}.md)" in row) == (system.status != "planned")


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "methods").glob("*.md")), ids=lambda p: p.stem)
def test_pages_have_no_gaps(page: Path) -> None:
    assert "TODO" not in page.read_text(encoding="utf-8")


def test_relative_links_lead_somewhere() -> None:
    broken = []
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "results").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in link and not (page.parent / link).exists():
                broken.append(f"{page.relative_to(ROOT)}: {link}")
    assert broken == []


def test_fill_changes_blocks_only() -> None:
    text = "a\n<!-- begin:x -->\nold\n<!-- end:x -->\nb \\1\n"
    assert docs.fill(text, {"x": "new \\1\n"}) == "a\n<!-- begin:x -->\nnew \\1\n<!-- end:x -->\nb \\1\n"
    with pytest.raises(BadData, match="'y' must stand once"):
        docs.fill(text, {"y": ""})
    with pytest.raises(BadData, match="'x' must stand once"):
        docs.fill(text + text, {"x": ""})


def test_a_new_page_comes_from_the_template_and_keeps_what_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A system that works gets a page; its tables follow the result file, its prose stays."""
    own = (f"docs/{id}.md" for id in recipes.OWN)
    for name in ("README.md", "docs/methods/index.md", "src/dovetail/decoding/soft_thinking.py", *own):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "results").mkdir()
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr(catalog, "_ROOT", tmp_path)
    system = replace(catalog.system("soft-thinking"), status="works")
    monkeypatch.setattr(docs, "SYSTEMS", (system,))
    page = tmp_path / system.page
    assert page in docs.stale(tmp_path)
    text = docs.pages(tmp_path)[page]
    assert "TODO" in text
    assert "max_topk: int = 10" in text  # fields with their defaults
    assert "def choose" not in text  # but no method
    assert "Nothing has been measured yet." in text

    page.write_text(text.replace("TODO: one line of Python and one of shell.", "By hand."))
    claim = {
        "text": "no worse | than sampling",
        "paper": "+2.5 points",
        "baseline": 0.5,
        "measured": 0.0123456,
        "interval": [-0.01, 0.03],
        "verdict": "inconclusive",
        "main": True,
    }
    figures = {
        "accuracy": {"value": 0.51, "interval": [0.4, 0.6]},
        "parameters": {"value": 850000, "interval": None},
    }
    content = {
        "scale": "pico",
        "date": "2026-01-02",
        "seconds": 300.0,
        "machine": {"cpu": "A CPU", "cores": 2, "gpu": []},
        "versions": {"torch": "2.13.0"},
        "seeds": [0, 1],
        "arms": [
            {"name": "soft", "figures": figures},
            {"name": "greedy", "figures": {"accuracy": figures["accuracy"]}},
            {"name": "cost", "figures": {"seconds": figures["parameters"]}},
        ],
        "claims": [claim],
        "notes": ["too small a vocabulary"],
    }
    (tmp_path / "results" / "soft-thinking.json").write_text(json.dumps(content))
    text = docs.pages(tmp_path)[page]
    assert "By hand." in text
    assert "| arm | accuracy | parameters |\n|---|---|---|\n| soft | 0.51 [0.4, 0.6] | 8.5e+05 |\n" in text
    assert "| greedy | 0.51 [0.4, 0.6] |  |\n\n| arm | seconds |\n|---|---|\n| cost |" in text
    assert (
        "| **no worse \\| than sampling** | +2.5 points | 0.5 | 0.01235 [-0.01, 0.03] | inconclusive |"
        in text
    )
    assert "Scale pico, 2026-01-02, 5 min on A CPU, 2 cores; torch 2.13.0; seeds 0, 1." in text
    assert "- too small a vocabulary" in text
