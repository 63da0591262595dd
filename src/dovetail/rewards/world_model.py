"""RLVR-World: a world model is paid by the metric of the next state that it predicts.

"RLVR-World: Training World Models with Reinforcement Learning", arXiv 2505.13934 (NeurIPS 2025), eq. 3: every
sampled prediction is decoded and compared with the true next state; no reward model, and the metric needs no
gradient. Here for text: states of text games (official binary and task-specific rewards) and changes of web
pages; `rewards.frames` holds the metrics of predicted frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dovetail.core import InvalidValue
from dovetail.rewards.base import Batch, Reward
from dovetail.rewards.item_changes import item_change_f1
from dovetail.rewards.world_notation import NOTATIONS
from dovetail.rewards.world_state import State, apply_state_diff, changed_share, compare_states, parse_state
from dovetail.tasks import extraction

Kind = Literal["binary", "task-specific", "items"]
KINDS: tuple[Kind, ...] = ("binary", "task-specific", "items")


@dataclass(frozen=True)
class TransitionMetric(Reward):
    """Pays a predicted difference by the state that it leads to; what cannot be read is paid 0.

    Attributes:
        kind: "binary": 1 where the next state is right in every entry; "task-specific": 0.09 of the entries
            that are right, 0.01 of the score's, 0.2 if all are, and the share of the changed entries that
            are right (at most 1.3, or 0.3 where nothing changes); "items": F1 over the lines of a web page's
            changes, which needs no current state.
        notation: of the predicted difference: "json", as in the paper, or "lines" (`world_notation`).
        state, next_state: columns that hold the current and the true next state: JSON, as text or as lists;
            for "items" the next state is the true text of the changes.
    """

    kind: Kind = "task-specific"
    notation: Literal["json", "lines"] = "json"
    state: str = "state"
    next_state: str = "next_state"

    name = "transition-metric"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InvalidValue("kind", self.kind, f"one of {', '.join(KINDS)}")
        if self.notation not in NOTATIONS:
            raise InvalidValue("notation", self.notation, f"one of {', '.join(NOTATIONS)}")

    def pay(self, batch: Batch) -> Sequence[float]:
        answers = [
            extraction.after_thinking(text if closed else opened + text)
            for opened, closed, text in zip(batch.opened, batch.closed, batch.texts, strict=True)
        ]
        gold = batch.column(self.next_state)
        if self.kind == "items":
            return [item_change_f1(a or "", str(g))["f1"] for a, g in zip(answers, gold, strict=True)]
        states = [_Parsed(name, batch.column(name)) for name in (self.state, self.next_state)]
        return [
            0.0
            if answer is None
            else text_state_reward(answer, states[1][row], states[0][row], self.kind, self.notation)
            for row, answer in enumerate(answers)
        ]


def predicted_state(response: str, state: State, notation: str = "json") -> State | None:
    """The next state that a response (without its thinking) predicts; None where it cannot be read."""
    read, _ = NOTATIONS[notation]
    try:
        return apply_state_diff(state, read(response))
    except Exception:  # whatever a model writes is a wrong answer, never an error
        return None


def text_state_reward(
    response: str, gold: Any, state: Any, kind: str = "binary", notation: str = "json"
) -> float:
    """What a response is paid, given the true next and the current state (`State`, or what `parse_state`
    takes).

    Raises:
        InvalidValue: a state cannot be read, or there is no such kind.
    """
    if kind not in ("binary", "task-specific"):
        raise InvalidValue("kind", kind, "'binary' or 'task-specific'")
    after = gold if isinstance(gold, State) else parse_state(gold, "gold")
    before = state if isinstance(state, State) else parse_state(state, "state")
    predicted = predicted_state(response, before, notation)
    if predicted is None:
        return 0.0
    try:
        compared = compare_states(predicted, after)
        share = changed_share(predicted, before, after)
    except Exception:  # contents that cannot be compared, nesting without end
        return 0.0
    if kind == "binary":
        return float(compared.exact)
    return 0.09 * compared.item + 0.01 * compared.score + 0.2 * compared.exact + (share or 0.0)


class _Parsed:
    """A column's states, each parsed once: groups share theirs."""

    def __init__(self, name: str, values: Sequence[Any]) -> None:
        self.name, self.values = name, values
        self.known: dict[str, State] = {}

    def __getitem__(self, row: int) -> State:
        value = self.values[row]
        if not isinstance(value, str):
            return parse_state(value, f"column {self.name!r}, row {row}")
        if value not in self.known:
            self.known[value] = parse_state(value, f"column {self.name!r}, row {row}")
        return self.known[value]
