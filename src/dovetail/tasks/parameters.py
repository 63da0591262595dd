"""Parameters of a family of tasks, as the command line gives them: names checked, texts converted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from dovetail.core import InvalidValue, UnknownName


def converted(family: str, defaults: Any, given: Mapping[str, Any], fixed: str) -> dict[str, Any]:
    """``given`` with each value of the type that the field has in ``defaults``.

    Args:
        family: its name, for error messages.
        defaults: an instance of the dataclass whose fields are the parameters.
        fixed: the one field that the family's name stands for, which is no parameter.

    Raises:
        UnknownName: there is no such parameter.
        InvalidValue: a value that is not of the field's type.
    """
    known = {f.name for f in fields(defaults)} - {fixed}
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key not in known:
            raise UnknownName(f"parameter of {family}", key, known)
        kind = type(getattr(defaults, key))
        try:
            values[key] = _truth(value) if kind is bool else kind(value)
        except (TypeError, ValueError):
            raise InvalidValue(key, value, f"of type {kind.__name__}") from None
    return values


def named(family: str, parameters: Mapping[str, Any]) -> str:
    """The task's name in reports: ``family:key=value,...``."""
    shown = ",".join(f"{key}={value}" for key, value in parameters.items())
    return f"{family}:{shown}" if shown else family


def _truth(value: Any) -> bool:
    if str(value).lower() in ("true", "yes", "on", "1"):
        return True
    if str(value).lower() in ("false", "no", "off", "0"):
        return False
    raise ValueError(value)
