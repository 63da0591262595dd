"""The nouns: Example, Completion, Task, Model, Report, Claim; errors, seeds and statistics."""

from dovetail.core.claim import Claim
from dovetail.core.completion import Completion, Cost, Limits, Prompt
from dovetail.core.errors import (
    BadData,
    DovetailError,
    InvalidValue,
    MissingExtra,
    NotReachable,
    UnknownName,
    Unsupported,
)
from dovetail.core.example import Example, Message
from dovetail.core.model import Model
from dovetail.core.report import Arm, Difference, Figure, Outcome, Report
from dovetail.core.task import BadRow, Score, Scorer, Task

__all__ = [
    "Arm",
    "BadData",
    "BadRow",
    "Claim",
    "Completion",
    "Cost",
    "Difference",
    "DovetailError",
    "Example",
    "Figure",
    "InvalidValue",
    "Limits",
    "Message",
    "MissingExtra",
    "Model",
    "NotReachable",
    "Outcome",
    "Prompt",
    "Report",
    "Score",
    "Scorer",
    "Task",
    "UnknownName",
    "Unsupported",
]
