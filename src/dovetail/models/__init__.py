"""Models: loaded by name, folder, hub id or URL. This is the table of contents."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from dovetail.models.load import embedded, load

# Public name -> module that holds it; imported when first used, so that torch is not needed to ask a server.
_HOMES = {
    "LocalModel": "local",
    "RemoteModel": "remote",
    "RequestsFailed": "remote",
    "Template": "template",
}

__all__ = ["embedded", "load", *_HOMES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"dovetail.models.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'dovetail.models' has no attribute {name!r}")
