"""The reward slot: what a completion is paid, in the signature of TRL's ``reward_funcs``.

A reward is a frozen dataclass whose fields are the paper's hyperparameters. It is called with prompts,
completions and further columns, as TRL's trainers and ``dovetail.train`` both do, and reads them through a
`Batch`, which is the only place that knows the callers' conventions:

| caller | prompts, completions | groups |
|---|---|---|
| dovetail.train | texts | column ``group`` |
| TRL, standard | texts | equal prompts |
| TRL, conversational | lists of messages | equal prompts |
| anyone | either | columns ``group`` or ``num_generations``, or equal prompts |

In TRL a process sees its own completions only. Rewards that look at whole groups need every group in one
process: make ``per_device_train_batch_size`` a multiple of ``num_generations``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dovetail.core import InvalidValue
from dovetail.tasks.extraction import THINKING_MARKS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Reward(ABC):
    """Pays completions. Subclasses are frozen dataclasses that override `pay`.

    A reward with state has ``state_dict()`` and ``load_state_dict(state)``, so that a checkpoint can hold it.

    Attributes:
        name: what it is called in logs.
    """

    name: ClassVar[str]

    @property
    def __name__(self) -> str:  # TRL's log asks for it
        return self.name

    def __call__(self, prompts: Any, completions: Any, **columns: Any) -> list[float | None]:
        """One value per completion, in order; None where the reward does not apply.

        Args:
            prompts, completions: N texts, or N lists of messages.
            columns: N values each (lists, numpy arrays, tensors), and what trainers add.

        Raises:
            InvalidValue: a column is missing or cannot be read; names it.
        """
        batch = Batch.of(prompts, completions, columns)
        paid = [None if v is None else float(v) for v in self.pay(batch)]
        log = columns.get("log_metric")
        if callable(log):
            for figure, value in self.figures().items():
                log(figure, value)
        return paid

    @abstractmethod
    def pay(self, batch: Batch) -> Sequence[float | None] | Floats:
        """One value per completion of the batch, in order."""

    def figures(self) -> Mapping[str, float]:
        """Figures of the reward's own state, for the log."""
        return {}


@dataclass(frozen=True)
class Batch:
    """N completions as rewards read them.

    Attributes:
        prompts: N texts; of a conversation, its messages one after the other.
        texts: N; what was written, thinking included.
        opened: N; the thinking mark that the prompt ends with ("" for none): the text then begins inside.
        closed: N; likewise a mark that ends the thinking: the text then begins with the answer.
        columns: whatever else the caller gave.
    """

    prompts: tuple[str, ...]
    texts: tuple[str, ...]
    opened: tuple[str, ...]
    closed: tuple[str, ...]
    columns: Mapping[str, Any]

    @classmethod
    def of(cls, prompts: Any, completions: Any, columns: Mapping[str, Any]) -> Batch:
        """The batch of one call.

        Raises:
            InvalidValue: no completion, unequal lengths, or an entry that is neither text nor messages.
        """
        asked, written = _listed("prompts", prompts), _listed("completions", completions)
        if not written:
            raise InvalidValue("completions", written, "at least one completion")
        if len(asked) != len(written):
            raise InvalidValue(
                "prompts", f"{len(asked)} of them", f"as many as the {len(written)} completions"
            )
        told = tuple(_text(f"prompts[{i}]", p, whole=True) for i, p in enumerate(asked))
        texts = tuple(_text(f"completions[{i}]", c, whole=False) for i, c in enumerate(written))
        marks = tuple(zip(*THINKING_MARKS, strict=True))
        opened, closed = (tuple(_ending(prompt, some) for prompt in told) for some in marks)
        return cls(told, texts, opened, closed, columns)

    def __len__(self) -> int:
        return len(self.texts)

    def has(self, name: str) -> bool:
        return self.columns.get(name) is not None

    def column(self, name: str) -> list[Any]:
        """The N values of a column.

        Raises:
            InvalidValue: it is missing, no list, or of another length; names it and those there are.
        """
        if not self.has(name):
            known = ", ".join(sorted(k for k, v in self.columns.items() if v is not None)) or "none"
            raise InvalidValue(f"column {name!r}", None, f"given, one value per completion (given: {known})")
        values = _listed(f"column {name!r}", self.columns[name])
        if len(values) != len(self):
            raise InvalidValue(
                f"column {name!r}", f"{len(values)} values", f"one value for each of {len(self)} completions"
            )
        return values

    def numbers(self, name: str) -> Floats:
        """[N] a column of finite numbers."""
        values = self.column(name)
        for row, value in enumerate(values):
            try:
                good = bool(np.isfinite(float(value)))
            except (TypeError, ValueError, OverflowError):
                good = False
            if not good:
                raise InvalidValue(f"column {name!r}, row {row}", value, "a finite number")
        return np.asarray([float(v) for v in values])

    @cached_property
    def lengths(self) -> Ints:
        """[N] tokens written: of the column ``completion_ids``, or the column ``length`` where that is given
        in its place."""
        if not self.has("completion_ids") and self.has("length"):
            return whole("column 'length'", self.numbers("length"))
        ids = self.column("completion_ids")
        try:
            return np.asarray([len(row) for row in ids], dtype=np.int64)
        except TypeError:
            raise InvalidValue(
                "column 'completion_ids'", ids[0], "a list of token ids per completion"
            ) from None

    @cached_property
    def groups(self) -> Ints:
        """[N] numbers from 0 in order of appearance, equal for completions of the same question."""
        if self.has("group"):
            keys = [_key(v) for v in self.column("group")]
        elif self.has("num_generations"):
            size = self.columns["num_generations"]
            if isinstance(size, bool) or not isinstance(size, int) or size < 1 or len(self) % size:
                raise InvalidValue("num_generations", size, f"a divisor of the {len(self)} completions")
            keys = [row // size for row in range(len(self))]
        else:
            keys = list(self.prompts)
        return numbered(keys)

    @property
    def step(self) -> int | None:
        """The training step, from 0: of the column ``step``, or of TRL's trainer state; None if unknown."""
        if self.has("step"):
            steps = self.columns["step"]
            return int(_listed("column 'step'", steps)[0] if np.ndim(steps) else steps)
        return getattr(self.columns.get("trainer_state"), "global_step", None)


def numbered(keys: Sequence[Any]) -> Ints:
    """[N] hashable keys -> [N] numbers from 0 in order of appearance."""
    seen: dict[Any, int] = {}
    return np.asarray([seen.setdefault(key, len(seen)) for key in keys], dtype=np.int64)


def whole(name: str, values: Any) -> Ints:
    """[N] lengths as whole numbers.

    Raises:
        InvalidValue: one is negative, no whole number, or not finite; names its row.
    """
    found = np.asarray(_listed(name, values), dtype=np.float64)
    bad = np.flatnonzero(~(np.isfinite(found) & (found >= 0) & (found == np.floor(found))))
    if len(bad):
        raise InvalidValue(f"{name}, row {bad[0]}", float(found[bad[0]]), "a whole number >= 0")
    return found.astype(np.int64)


def _listed(name: str, values: Any) -> list[Any]:
    """Values one by one, whether they come as a list, a numpy array or a tensor."""
    if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__len__"):
        raise InvalidValue(name, _short(values), "a list with one value per completion")
    if hasattr(values, "tolist"):
        try:
            values = values.tolist()
        except (RuntimeError, NotImplementedError) as error:  # a tensor without data, or out of reach
            raise InvalidValue(name, _short(values), f"readable here ({error})") from error
    if not isinstance(values, list):
        try:
            values = list(values)
        except TypeError:
            raise InvalidValue(name, _short(values), "a list with one value per completion") from None
    return values


def _text(name: str, entry: Any, whole: bool) -> str:
    """A text as it is; of messages all contents (``whole``), or what the last assistant turn wrote."""
    if isinstance(entry, str):
        return entry
    if isinstance(entry, Mapping):
        entry = [entry]
    if not isinstance(entry, list | tuple) or not all(isinstance(m, Mapping) for m in entry):
        raise InvalidValue(name, _short(entry), "a text or a list of messages")
    if whole:
        return "\n".join(f"{m.get('role', '')}: {_content(name, m)}" for m in entry)
    turns = [m for m in entry if m.get("role", "assistant") == "assistant"]
    return _content(name, turns[-1]) if turns else ""


def _content(name: str, message: Mapping[str, Any]) -> str:
    """A message's text; thinking that the template's parser took out is put back in front."""
    content = message.get("content")
    if isinstance(content, list | tuple):
        content = "".join(str(part.get("text") or "") for part in content if isinstance(part, Mapping))
    if content is not None and not isinstance(content, str):
        raise InvalidValue(name, _short(message), "messages whose content is text")
    thinking = message.get("reasoning_content") or message.get("thinking")
    return f"<think>\n{thinking}\n</think>\n\n{content or ''}" if thinking else content or ""


def _ending(prompt: str, marks: Sequence[str]) -> str:
    """Which of the marks a prompt ends with; "" for none."""
    tail = prompt[-40:].rstrip()
    return next((mark for mark in marks if tail.endswith(mark)), "")


def _key(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
