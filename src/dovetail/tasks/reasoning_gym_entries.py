"""The part of `reasoning_gym` that runs in the sandbox: makes entries, marks answers."""

from __future__ import annotations

import random
import warnings
from functools import lru_cache
from typing import Any

import numpy as np

with warnings.catch_warnings():
    warnings.simplefilter("ignore", SyntaxWarning)  # of a dependency, whenever Python compiles it
    import reasoning_gym  # importing the package registers its families
    from reasoning_gym.factory import DATASETS

assert reasoning_gym

Settings = tuple[tuple[str, Any], ...]  # a family's configuration as pairs


def generate(family: str, settings: Settings, size: int, count: int, seed: int) -> list[dict[str, Any] | str]:
    """The first ``count`` of ``size`` entries of a family; where one could not be made, the reason."""
    random.seed(seed)  # a few families draw from the global generators
    np.random.seed(seed)
    dataset = _dataset(family, _hashable(settings), size, seed)
    rows: list[dict[str, Any] | str] = []
    for index in range(count):
        try:
            entry = _plain(dataset[index])
        except Exception as error:
            rows.append(f"could not be generated: {error}")
        else:
            rows.append(entry)
    return rows


def mark(family: str, settings: Settings, answer: str, entry: dict[str, Any]) -> float:
    """The family's own mark for an answer, in [0, 1]."""
    try:
        return float(_dataset(family, _hashable(settings), 1, 0).score_answer(answer, entry))
    except Exception:  # the families' scorers raise on answers of the wrong form
        return 0.0


def prepare_mark(family: str, settings: Settings, answer: str, entry: dict[str, Any]) -> None:
    """Makes the family's dataset object where later calls find it: some read megabytes for that."""
    _dataset(family, _hashable(settings), 1, 0)


@lru_cache(maxsize=64)
def _dataset(family: str, settings: Settings, size: int, seed: int) -> Any:
    dataset_class, config_class = DATASETS[family]
    arguments = {key: list(value) if isinstance(value, _List) else value for key, value in settings}
    return dataset_class(config_class(**arguments, size=size, seed=seed))


class _List(tuple[Any, ...]):
    """A list as a dictionary key."""


def _hashable(settings: Settings) -> Settings:
    return tuple((key, _List(value) if isinstance(value, list) else value) for key, value in settings)


def _plain(value: Any) -> Any:
    """Python literals only: NumPy scalars become numbers, other objects (fractions, sets) text."""
    if isinstance(value, dict):
        return {_plain(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        plain = [_plain(v) for v in value]
        return tuple(plain) if type(value) is tuple else plain
    if value is None or type(value) in (bool, int, str):
        return value
    if isinstance(value, float) and value - value == 0:
        return float(value)
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    return str(value)
