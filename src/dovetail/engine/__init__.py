"""The only place where tokens are produced."""

from dovetail.engine.diffusion import Canvas, DiffusionEngine, Moment, Unmasking
from dovetail.engine.engine import Batch, Engine
from dovetail.engine.fallback import TransformersForward
from dovetail.engine.forward import Cache, Forward, Output
from dovetail.engine.lean import LeanForward
from dovetail.engine.stepwise import Choice, Rows, Stepwise

__all__ = [
    "Batch",
    "Cache",
    "Canvas",
    "Choice",
    "DiffusionEngine",
    "Engine",
    "Forward",
    "LeanForward",
    "Moment",
    "Output",
    "Rows",
    "Stepwise",
    "TransformersForward",
    "Unmasking",
]
