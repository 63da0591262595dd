"""Where questions come from, and how answers are judged.

| source | example | file |
|---|---|---|
| reasoning-gym family | ``chain-sum``, ``chain-sum:min_terms=3,max_terms=6`` | reasoning_gym.py |
| atlas, the built-in world | ``atlas-multihop``, ``atlas-facts``, ``atlas-unknown`` | atlas.py |
| a file | ``questions.jsonl`` (.json, .csv, .tsv, .parquet) | files.py, rows.py, columns.py |
| the Hugging Face hub | ``hf:openai/gsm8k:main:test``, ``gsm8k`` for short | hub.py |

Answers are found by ``extraction.py`` and judged by the scorers in ``scorers/``; what evaluates model-written
text runs in ``sandbox.py``.
"""

from __future__ import annotations

import os
import re
from importlib import import_module
from pathlib import Path
from typing import Any

from dovetail.core import InvalidValue, Task, UnknownName
from dovetail.tasks.atlas import FAMILIES

# Named hub datasets.
HUB = {"gsm8k": "openai/gsm8k:main:test"}
_PARAMETERS = re.compile(r"(?P<name>.+?):(?P<parameters>[A-Za-z_]\w*=.*)", re.DOTALL)

__all__ = ["HUB", "known", "split", "task"]


def task(name_or_path: str | os.PathLike[str] | Task, **parameters: Any) -> Task:
    """The task of that name, file or hub dataset; a `Task` is returned as it is.

    Args:
        name_or_path: a name of `known`, a file's path, or ``hf:NAME[:CONFIG][:SPLIT]``. Parameters may follow
            after
            a colon: ``chain-sum:min_terms=3,max_terms=6``, ``questions.csv:answer=Solution``.
        parameters: the same by keyword. Every source takes ``instruction`` (system message), ``scorer`` and
            ``name``; files and hub datasets take ``question``, ``answer``, ``choices``, ``id``, ``format``;
            procedural tasks take ``size`` and the fields of their family.

    Raises:
        UnknownName: no task, scorer or parameter has that name; the message suggests the nearest.
        BadData: the file or dataset cannot be read.
        InvalidValue, Unsupported, MissingExtra, NotReachable: as their messages say.

    Examples
    --------
    >>> task("atlas-facts", size=3).examples()[0][0].id
    'atlas-facts-s0-0'
    """
    if isinstance(name_or_path, Task):
        if parameters:
            raise InvalidValue("parameters", parameters, "left out where the task is made already")
        return name_or_path
    name = os.fspath(name_or_path)
    if not name.strip():
        raise UnknownName("task", name, known())
    name, given = split(name)
    parameters = given | parameters
    if isinstance(parameters.get("scorer"), str):
        from dovetail.tasks.scorers import scorer

        parameters["scorer"] = scorer(parameters["scorer"])
    module, source = _home(name)
    try:
        made: Task = import_module(f"dovetail.tasks.{module}").task(source, **parameters)
    except UnknownName as error:
        if error.kind != "task":
            raise
        raise UnknownName("task", name, known()) from None
    except TypeError as error:
        unexpected = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if unexpected is None:
            raise
        raise UnknownName(f"parameter of {name}", unexpected[1], _accepted(module)) from error
    return made


def split(name: str) -> tuple[str, dict[str, Any]]:
    """``chain-sum:min_terms=3`` -> ("chain-sum", {"min_terms": "3"}); an existing file's name stays whole."""
    if not Path(name).exists() and (match := _PARAMETERS.fullmatch(name)):
        return match["name"], _split(match["parameters"])
    return name, {}


def known() -> list[str]:
    """All names that need no path: atlas, named hub datasets, reasoning-gym's families. Imports
    reasoning-gym."""
    return [*FAMILIES, *HUB, *import_module("dovetail.tasks.reasoning_gym").known()]


def _home(name: str) -> tuple[str, str]:
    """The module that makes the task, and what it is asked for."""
    if name.startswith("hf:"):
        return "hub", name.removeprefix("hf:")
    if name.replace("_", "-") in FAMILIES:
        return "atlas", name.replace("_", "-")
    if _is_path(name):
        return "files", name
    if name in HUB:
        return "hub", HUB[name]
    return "reasoning_gym", name


def _is_path(name: str) -> bool:
    """Whether a name is meant as a file: it exists as one, has a folder, or ends as data files do."""
    from dovetail.tasks.rows import SUFFIXES

    path = Path(name)
    if path.is_dir() and os.sep not in name:
        return False  # a folder that happens to be called like a family
    return (
        path.exists() or os.sep in name or path.suffix.lower() in (*SUFFIXES, ".txt", ".xlsx", ".gz", ".zip")
    )


def _split(text: str) -> dict[str, Any]:
    """``a=1,b=2,3`` -> {"a": "1", "b": "2,3"}: a comma ends a value only where another name follows."""
    pairs: dict[str, Any] = {}
    for part in re.split(r",(?=[A-Za-z_]\w*=)", text):
        key, _, value = part.partition("=")
        if key in pairs:
            raise InvalidValue(key, value, "given once")
        pairs[key] = value
    return pairs


def _accepted(module: str) -> list[str]:
    import inspect

    function = import_module(f"dovetail.tasks.{module}").task
    return [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
