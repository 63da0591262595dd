"""What a model is asked: published benchmarks as task families with their own scorers and summaries.

This is also the door to every task by name: benchmark families stand above ``dovetail.tasks``, which may not
import them, so `task` here looks among both.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from dovetail import tasks
from dovetail.core import Task, UnknownName

# Name on the command line -> module, whose ``task(name, **parameters)`` makes it.
FAMILIES: dict[str, str] = {
    "refusal-benign": "refusal",
    "refusal-forbidden": "refusal",
    "t2s-links": "text_to_structure",
    "t2s-mr": "text_to_structure",
    "t2s-nodes": "text_to_structure",
    "text-worlds": "text_worlds",
}

__all__ = ["FAMILIES", "known", "task"]


def task(name_or_path: str | os.PathLike[str] | Task, **parameters: Any) -> Task:
    """The task of that name, file or hub dataset: `FAMILIES`, or what `dovetail.tasks.task` takes.

    Args:
        name_or_path: a name of `known`, a file's path, or ``hf:NAME[:CONFIG][:SPLIT]``; parameters may follow
            after a colon: ``chain-sum:min_terms=3,max_terms=6``, ``t2s-mr:max_hops=2``.
        parameters: the same by keyword.

    Raises:
        UnknownName: no task, scorer or parameter has that name; the message suggests the nearest.
        BadData, InvalidValue, Unsupported, MissingExtra, NotReachable: see `dovetail.tasks.task`.

    Examples
    --------
    >>> task("t2s-mr", size=3).examples()[0][0].id
    't2s-mr-s0-0'
    """
    if isinstance(name_or_path, str):
        name, given = tasks.split(name_or_path)
        if name in FAMILIES:
            made: Task = import_module(f"dovetail.benchmarks.{FAMILIES[name]}").task(
                name, **given | parameters
            )
            return made
    try:
        return tasks.task(name_or_path, **parameters)
    except UnknownName as error:
        if error.kind != "task":
            raise
        raise UnknownName("task", error.name, known()) from None


def known() -> list[str]:
    """All names that need no path. Imports reasoning-gym."""
    return [*FAMILIES, *tasks.known()]
