"""Errors that name the offending thing and the way out."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class DovetailError(Exception):
    """Base of all errors that are the caller's to mend; the command line prints them in one line."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions are unpickled by calling their class with the message, which ours do not take.
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[DovetailError], args: tuple[Any, ...], state: dict[str, Any]) -> DovetailError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class InvalidValue(DovetailError, ValueError):
    """A parameter has an impossible value."""

    def __init__(self, name: str, value: object, expected: str) -> None:
        self.name, self.value, self.expected = name, value, expected
        super().__init__(f"{name} is {value!r}: must be {expected}")


class UnknownName(DovetailError, LookupError):
    """A name that is not known; suggests the nearest ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name = kind, name
        known = sorted(set(known))
        near = get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
        super().__init__(f"unknown {kind} {name!r}: {hint}")

    __str__ = Exception.__str__  # LookupError subclasses such as KeyError would quote the message


class Unsupported(DovetailError):
    """The pieces do not fit together; the message says which and why."""


class MissingExtra(DovetailError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed: pip install 'dovetail[{extra}]'")


class NotReachable(DovetailError, OSError):
    """A hub or server could not be reached."""


class BadData(DovetailError, ValueError):
    """A data source cannot be read at all (single bad rows are reported and counted instead)."""
