"""The only place where tokens are produced."""

from dovetail.engine.engine import Batch, Engine
from dovetail.engine.fallback import TransformersForward
from dovetail.engine.forward import Cache, Forward, Output
from dovetail.engine.lean import LeanForward
from dovetail.engine.stepwise import Choice, Rows, Stepwise

__all__ = [
    "Batch",
    "Cache",
    "Choice",
    "Engine",
    "Forward",
    "LeanForward",
    "Output",
    "Rows",
    "Stepwise",
    "TransformersForward",
]
