"""A run in JSON values: what decides its outcome, for the record and to tell two runs apart."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from dovetail.core import Example, Task

if TYPE_CHECKING:
    from dovetail.training.trainer import Trainer

_LONG = 200  # characters of a value's repr


def describe(trainer: Trainer, task: Any) -> dict[str, Any]:
    """Model, task, parts with their parameters, and settings."""
    settings = asdict(trainer.settings)
    return {
        "model": trainer.model.describe(),
        "task": _task(task),
        "examples": len(trainer.pool),
        "held_out": len(trainer.held_out),
        "objective": part(trainer.objective),
        "rewards": {
            name: {"weight": float(weight), **part(reward)}
            for name, weight, reward in zip(trainer.names, trainer.weights, trainer.rewards, strict=True)
        },
        "data": [part(one) for one in trainer.data],
        "monitors": [part(one) for one in trainer.monitors],
        "decoding": part(trainer.writer.decoding),
        "settings": settings,
    }


def part(method: Any) -> dict[str, Any]:
    """Class and parameters of what fills a slot; a plain function by its name."""
    if not is_dataclass(method) or isinstance(method, type):
        return {"class": getattr(method, "__qualname__", type(method).__qualname__)}
    shown = [f for f in fields(method) if f.init and not f.name.startswith("_")]
    return {"class": type(method).__name__, **{f.name: _value(getattr(method, f.name)) for f in shown}}


def _value(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Task):
        return _task(value)
    if isinstance(value, Example):
        return value.id
    if is_dataclass(value):
        return part(value)
    if isinstance(value, dict):
        return {str(k): _value(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_value(v) for v in value] if len(value) <= 20 else f"{len(value)} values"
    if callable(value):
        return getattr(value, "__qualname__", type(value).__qualname__)
    # An address in a repr would differ from process to process.
    text = repr(value)
    return type(value).__qualname__ if " at 0x" in text else text[:_LONG]


def _task(task: Any) -> Any:
    if isinstance(task, Task):
        return {"name": task.name, "version": task.version, "parameters": _value(dict(task.parameters))}
    if isinstance(task, str | os.PathLike):
        return os.fspath(task)
    return f"{len(task)} examples" if isinstance(task, Sequence) else type(task).__qualname__
