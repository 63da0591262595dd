"""The decoding slot: how a model writes.

A decoding is a frozen dataclass whose fields are the paper's hyperparameters. Most are stepwise: they
override `adjust`, `choose` or `stop` and can be chained. The others (voting, search, speculation) write
through an ``inner`` stepwise decoding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from torch import Tensor

from dovetail.core import Completion, Limits, Prompt, Unsupported
from dovetail.engine import Choice, Rows, Stepwise
from dovetail.engine.forward import LayerHook


class Decoding(ABC):
    """Writes completions. Subclasses are frozen dataclasses.

    Attributes:
        needs: what the model must provide beyond text; checked before anything is generated.
    """

    needs: frozenset[str] = frozenset()

    @abstractmethod
    def generate(self, engine: Any, prompts: Sequence[Prompt], limits: Limits) -> list[Completion]:
        """One completion per prompt, in order.

        Raises:
            Unsupported: the model does not provide what this decoding needs.
        """

    def over(self, modifiers: Sequence[StepwiseDecoding]) -> Decoding:
        """This decoding with ``modifiers`` applied to every step it takes.

        Raises:
            Unsupported: the two do not fit; says why.
        """
        raise Unsupported(f"{_name(self)} does not take step modifiers such as {_name(modifiers[0])}")

    def check(self, engine: Any) -> None:
        """Raises Unsupported where ``engine`` cannot provide what this decoding needs."""
        missing = sorted(self.needs - engine.provides)
        if missing:
            way_out = getattr(
                engine, "way_out", "load the model locally (dovetail.load of a folder or hub id)"
            )
            raise Unsupported(
                f"{_name(self)} needs {', '.join(missing)}, which {engine.name} does not give: {way_out}"
            )


class StepwiseDecoding(Stepwise, Decoding):
    """A decoding that only decides single steps."""

    def generate(self, engine: Any, prompts: Sequence[Prompt], limits: Limits) -> list[Completion]:
        self.check(engine)
        return engine.generate(prompts, limits, self)

    def over(self, modifiers: Sequence[StepwiseDecoding]) -> Decoding:
        return chain([*modifiers, self])


@dataclass(frozen=True)
class Chain(StepwiseDecoding):
    """Stepwise decodings in sequence: logits pass through every `adjust`; one of them chooses.

    Build it with `chain`, which checks that the parts fit.
    """

    parts: tuple[StepwiseDecoding, ...]

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset().union(*(p.needs for p in self.parts))

    @property
    def chooses(self) -> bool:  # type: ignore[override]
        return any(p.chooses for p in self.parts)

    @property
    def _chooser(self) -> StepwiseDecoding:
        return next((p for p in self.parts if p.chooses), self.parts[-1])

    def begin(self, rows: Rows) -> None:
        for part in self.parts:
            part.begin(rows)

    def adjust(self, logits: Tensor, rows: Rows) -> Tensor:
        for part in self.parts:
            logits = part.adjust(logits, rows)
        return logits

    def choose(self, logits: Tensor, rows: Rows) -> Choice:
        return self._chooser.choose(logits, rows)

    def stop(self, choice: Choice, rows: Rows) -> Tensor | None:
        stopped = None
        for part in self.parts:
            one = part.stop(choice, rows)
            if one is not None:
                stopped = one if stopped is None else stopped | one
        return stopped

    def hook(self, rows: Rows, layers: int, valid: Tensor | None) -> LayerHook | None:
        """Every part's hook in turn: each sees what the one before it made of the layer's output."""
        hooks = [h for part in self.parts if (h := part.hook(rows, layers, valid)) is not None]
        if len(hooks) < 2:
            return hooks[0] if hooks else None

        def all_of_them(layer: int, before: Tensor, after: Tensor) -> Tensor:
            for hook in hooks:
                after = hook(layer, before, after)
            return after

        return all_of_them

    def columns(self, rows: Rows, index: int) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for part in self.parts:
            merged.update(part.columns(rows, index))
        return merged


def chain(parts: Sequence[Decoding]) -> Decoding:
    """Stacks decodings: modifiers first, at most one that chooses or searches, which comes last.

    Raises:
        Unsupported: two parts that both choose, or a part that cannot be stacked; names them.
    """
    if not parts:
        raise Unsupported("an empty stack of decodings")
    *modifiers, last = parts
    if not modifiers:
        return last
    for part in modifiers:
        if not isinstance(part, StepwiseDecoding):
            raise Unsupported(
                f"{_name(part)} decides more than single steps, so it must come last in a stack: "
                f"put it after {_name(last)}"
            )
    if not isinstance(last, StepwiseDecoding):
        return last.over([m for m in modifiers if isinstance(m, StepwiseDecoding)])
    flat: list[StepwiseDecoding] = []
    for part in parts:
        assert isinstance(part, StepwiseDecoding)
        flat.extend(part.parts if isinstance(part, Chain) else (part,))
    choosers = [p for p in flat if p.chooses]
    if len(choosers) > 1:
        names = " and ".join(_name(p) for p in choosers)
        raise Unsupported(f"{names} both choose the token, so they cannot be stacked: keep one of them")
    return Chain(tuple(flat))


def with_inner(decoding: Any, modifiers: Sequence[StepwiseDecoding]) -> Any:
    """``decoding`` with ``modifiers`` stacked under its field ``inner``: a searching decoding's `over`."""
    return replace(decoding, inner=chain([*modifiers, decoding.inner]))


def describe(method: Any) -> dict[str, Any]:
    """Class and parameters of a decoding or prompting method, for the record."""
    values: dict[str, Any] = {"class": _name(method)}
    for f in fields(method):
        value = getattr(method, f.name)
        if isinstance(value, Decoding):
            value = describe(value)
        elif isinstance(value, tuple) and any(isinstance(v, Decoding) for v in value):
            value = [describe(v) for v in value]
        values[f.name] = value
    return values


def _name(method: Any) -> str:
    return type(method).__name__
