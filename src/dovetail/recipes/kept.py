"""Keeps what a recipe's finished arms measured, so that a killed run goes on where it stopped.

An arm, or the model that all arms start from, is kept under its settings and under all of Dovetail's source:
after any change of the code nothing old is taken for a measurement of the new.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import dovetail
from dovetail.models.local import LocalModel
from dovetail.recipes.base import plain


def kept_model(
    folder: str | Path, settings: Any, like: LocalModel, make: Callable[[], LocalModel]
) -> LocalModel:
    """The model that ``make`` returns, its weights read from ``folder`` where the same was made before.

    Args:
        like: a model of the same architecture and tokenizer; it stays as it is.
    """
    from safetensors.torch import load_model, save_model

    target = Path(folder) / f"{_key({'weights': settings})}.safetensors"
    if not target.is_file():
        made = make()
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f".{target.name}.{os.getpid()}")
        save_model(made.network, str(aside), metadata={"name": made.name})
        aside.replace(target)
    model = LocalModel(deepcopy(like.network), like.tokenizer, name=like.name)
    load_model(model.network, str(target))
    model.template = like.template
    return model


def kept(folder: str | Path, settings: Any, make: Callable[[], Any]) -> Any:
    """What ``make`` returns, as JSON holds it; read from ``folder`` where the same was made before."""
    target = Path(folder) / f"{_key(settings)}.json"
    if target.is_file():
        return json.loads(target.read_text(encoding="utf-8"))
    made = plain(make())
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    aside.write_text(json.dumps(made), encoding="utf-8")
    aside.replace(target)
    return made


def _key(settings: Any) -> str:
    told = json.dumps(plain(settings), sort_keys=True)
    return hashlib.sha256(f"{_source()} {told}".encode()).hexdigest()[:24]


@cache
def _source() -> str:
    digest, folder = hashlib.sha256(), Path(dovetail.__file__).parent
    for file in sorted(folder.rglob("*.py")):
        digest.update(f"{file.relative_to(folder)}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()
