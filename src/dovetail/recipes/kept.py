"""Keeps what a recipe's finished arms measured, so that a killed run goes on where it stopped.

An arm is kept under its settings and under all of Dovetail's source: after any change of the code nothing
old is taken for a measurement of the new.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import dovetail
from dovetail.recipes.base import plain


def kept(folder: str | Path, settings: Any, make: Callable[[], Any]) -> Any:
    """What ``make`` returns, as JSON holds it; read from ``folder`` where the same was made before."""
    told = json.dumps(plain(settings), sort_keys=True)
    name = hashlib.sha256(f"{_source()} {told}".encode()).hexdigest()[:24]
    target = Path(folder) / f"{name}.json"
    if target.is_file():
        return json.loads(target.read_text(encoding="utf-8"))
    made = plain(make())
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    aside.write_text(json.dumps(made), encoding="utf-8")
    aside.replace(target)
    return made


@cache
def _source() -> str:
    digest, folder = hashlib.sha256(), Path(dovetail.__file__).parent
    for file in sorted(folder.rglob("*.py")):
        digest.update(f"{file.relative_to(folder)}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()
