"""Mixes other examples among the task's own, at a fixed share of what is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dovetail.core import Example, InvalidValue
from dovetail.training.data.base import Data


@dataclass
class Mix(Data):
    """Replaces a share of the examples by examples of another source.

    Attributes:
        source: a `Task`, the name of one, or examples.
        ratio: share of the mixed examples among all, in [0, 1].
        mark: name of a column that is True for the mixed ones and False for the others, "" for none.
    """

    source: Any
    ratio: float = 0.1
    mark: str = "mixed"
    _added: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.ratio <= 1:
            raise InvalidValue("ratio", self.ratio, "in [0, 1]")

    def examples(self, examples: Sequence[Example], seed: int) -> Sequence[Example]:
        self._added = round(self.ratio * len(examples))
        kept = [self._marked(e, False) for e in examples[: len(examples) - self._added]]
        return [*kept, *(self._marked(e, True) for e in self._other(self._added, seed))]

    def _other(self, count: int, seed: int) -> list[Example]:
        if not count:
            return []
        if isinstance(self.source, Sequence) and not isinstance(self.source, str):
            found = list(self.source)[:count]
        else:
            from dovetail.tasks import task

            found = task(self.source).examples(count, seed)[0]
        if len(found) < count:
            raise InvalidValue(
                "source", f"{len(found)} examples", f"at least {count}, for ratio {self.ratio}"
            )
        return [replace(e, id=f"mixed-{e.id}") for e in found]

    def _marked(self, example: Example, mixed: bool) -> Example:
        if not self.mark:
            return example
        return replace(example, columns={**example.columns, self.mark: mixed})
