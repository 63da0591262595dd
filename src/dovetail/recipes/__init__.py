"""One runnable experiment per system: the system beside its baseline, and the paper's claims checked.

``run("soft-thinking")`` calls ``run(scale, seed)`` of ``recipes/soft_thinking.py`` and writes what that
measured to ``results/soft-thinking.json``. The format is documented in ``results/README.md``.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from dovetail import catalog
from dovetail.core import InvalidValue, UnknownName
from dovetail.core.environment import commit, machine, versions
from dovetail.recipes.base import SCALES, Recipe, RecipeArm, RecipeResult, Scale, plain

__all__ = [
    "FORMAT",
    "OWN",
    "Recipe",
    "RecipeArm",
    "RecipeResult",
    "Scale",
    "available",
    "check",
    "path",
    "read",
    "run",
]

FORMAT = 1
"""Version of the result file's format; raised when a field changes its meaning or goes away."""

#: Experiments about the house's own parts, that are no published system; their pages are ``docs/<id>.md``.
OWN = ("pico", "stack")


def available() -> list[str]:
    """The ids that have a recipe, in the catalog's order."""
    ids = [*OWN, *(system.id for system in catalog.SYSTEMS)]
    return [id for id in ids if find_spec(_module(id)) is not None]


def check(id: str) -> None:
    """Raises UnknownName where there is no such system, or no recipe for it yet."""
    if id not in available():
        if id not in OWN:
            catalog.system(id)  # a misspelt id is a different mistake from a missing recipe
        raise UnknownName("recipe", id, available())


def run(id: str, scale: Scale = "pico", seed: int = 0, folder: str | Path | None = None) -> dict[str, Any]:
    """Runs a system's recipe, writes the result file and returns its content.

    Args:
        id: of the catalog.
        scale: "smoke" (seconds), "pico" (minutes on two cores), "full" (the paper's model and data, GPU).
        seed: the one that all of the recipe's seeds derive from.
        folder: where to write; by default ``path(id, scale)`` decides.

    Raises:
        UnknownName: no such system, or it has no recipe yet.
        InvalidValue: no such scale.
    """
    if scale not in SCALES:
        raise InvalidValue("scale", scale, f"one of {', '.join(SCALES)}")
    check(id)
    recipe = cast(Recipe, import_module(_module(id)).run)
    begin = datetime.now(UTC)
    result = recipe(scale, seed)
    seconds = (datetime.now(UTC) - begin).total_seconds()
    content: dict[str, Any] = {
        "format": FORMAT,
        "id": id,
        "scale": scale,
        "date": begin.date().isoformat(),
        "seconds": round(seconds, 1),
        "machine": machine(),
        "versions": versions(),
        "commit": commit(),
        "seeds": list(result.seeds),
        "settings": dict(result.settings),
        "arms": [arm.as_dict() for arm in result.arms],
        "claims": [claim.as_dict() for claim in result.claims],
        "notes": list(result.notes),
        "series": dict(result.series),
    }
    content = plain(content)
    target = Path(folder) / f"{id}.json" if folder is not None else path(id, scale)
    _write(target, content)
    return content


def path(id: str, scale: Scale = "pico") -> Path:
    """Where a result is written: ``results/<id>.json`` at scale pico, else ``runs/recipes/<scale>/<id>.json``
    so that a smoke run never replaces a measurement. An installed package, whose own copy of the results is
    not to be written to, uses ``results/`` of the working directory."""
    if scale != "pico":
        return Path("runs", "recipes", scale, f"{id}.json")
    shipped = catalog.result_path(id)
    return shipped if shipped.parent.name == "results" else Path("results", f"{id}.json")


def read(id: str) -> dict[str, Any]:
    """The shipped result of a system at scale pico; ``UnknownName`` where none was measured yet."""
    source = catalog.result_path(id)
    if not source.is_file():
        raise UnknownName("result", id, [p.stem for p in source.parent.glob("*.json")])
    content: dict[str, Any] = json.loads(source.read_text(encoding="utf-8"))
    return content


def _module(id: str) -> str:
    return f"{__name__}.{catalog.module_name(id)}"


def _write(target: Path, content: dict[str, Any]) -> None:
    """Written aside and renamed: a killed run leaves the former result, never half a file."""
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        aside.write_text(text, encoding="utf-8")
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
