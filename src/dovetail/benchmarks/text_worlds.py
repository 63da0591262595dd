"""Text worlds: what does an action change? A state and an action are given, the difference is asked for.

The task of RLVR-World's text games, arXiv 2505.13934 (there on ByteSized32: 76,369 transitions of 31 games):
the answer is the difference to the next state, and is right where the state that it leads to is. Built in is
a procedural household of devices, boxes, vessels and things, whose actions change none to two objects; rows
of a file or a hub dataset bring other worlds. Cases in which nothing changes are reported apart, as the paper
does: there an action fails, and a model that always changes something is wrong.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from dovetail.core import BadRow, Completion, Example, InvalidValue, Limits, Message, Score, Scorer, Task
from dovetail.core.seeds import stream
from dovetail.decoding.base import Decoding
from dovetail.decoding.sampling import Greedy
from dovetail.models.local import LocalModel
from dovetail.rewards.world_model import predicted_state
from dovetail.rewards.world_notation import NOTATIONS, difference, write_object
from dovetail.rewards.world_state import (
    State,
    changed_share,
    changes,
    compare_states,
    parse_state,
)
from dovetail.tasks import extraction
from dovetail.tasks.parameters import converted, named

BUILT_IN = "household"
Notation = Literal["lines", "json"]
ASK_JSON = (
    'What does the action change? Answer in JSON: {"modified": [changed objects, whole], "removed": [uuids]}.'
)

# --- the household -----------------------------------------------------------------------------------------

# Kind -> names, and what holds of its objects; boxes also contain things.
KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "device": (("lamp", "fan", "radio", "heater"), ("on",)),
    "box": (("box", "bag", "chest", "drawer"), ("open", "locked")),
    "vessel": (("cup", "jug", "pot", "bowl"), ("full",)),
    "ware": (("vase", "plate", "mirror", "glass"), ("broken",)),
    "food": (("egg", "apple", "fish", "bread"), ("clean",)),
}
_KIND_OF = {name: kind for kind, (names, _) in KINDS.items() for name in names}
World = dict[str, dict[str, Any]]  # uuid -> object
Act = tuple[str, ...]  # verb and what it is done to


def household(rng: random.Random, objects: int) -> World:
    """A world of that many objects: a box and a thing at least."""
    kinds = ["box", rng.choice(("ware", "food"))]
    kinds += rng.choices(tuple(KINDS), (2, 2, 3, 2, 2), k=objects - 2)
    names = dict.fromkeys(rng.choice(KINDS[kind][0]) for kind in kinds)
    while len(names) < objects:
        names[rng.choice(KINDS[rng.choice(tuple(KINDS))][0])] = None
    world: World = {}
    for name in rng.sample(tuple(names), objects):
        row: dict[str, Any] = {
            "uuid": name,
            "properties": {key: rng.random() < 0.5 for key in KINDS[_KIND_OF[name]][1]},
        }
        if _KIND_OF[name] == "box":
            row["properties"]["locked"] = not row["properties"]["open"] and rng.random() < 0.5
            row["contains"] = []
        world[name] = row
    boxes = _of(world, "box")
    for name in _of(world, "ware", "food"):
        if rng.random() < 0.6:
            world[rng.choice(boxes)]["contains"].append(name)
    return world


def acts(world: World) -> list[Act]:
    """All that can be tried, whether or not it works."""
    things, boxes, vessels = _of(world, "ware", "food"), _of(world, "box"), _of(world, "vessel")
    made: list[Act] = [(f"turn {way}", d) for d in _of(world, "device") for way in ("on", "off")]
    made += [(verb, b) for b in boxes for verb in ("open", "close", "lock", "unlock")]
    made += [(verb, v) for v in vessels for verb in ("fill", "empty")]
    made += [("pour", a, b) for a in vessels for b in vessels if a != b]
    made += [("drop", w) for w in _of(world, "ware")]
    made += [("wash", f) for f in _of(world, "food")]
    return made + [(verb, t, b) for t in things for b in boxes for verb in ("put", "take")]


def told(act: Act) -> str:
    """An action in words."""
    verb, *names = act
    between = {"pour": " into ", "put": " in ", "take": " from "}.get(verb, "")
    return f"{verb} {between.join(names)}"


def after(world: World, act: Act) -> World:
    """The world after an action; equal to ``world`` where it fails."""
    made: World = json.loads(json.dumps(world))
    verb, first, *rest = act
    row = made[first]["properties"]
    holder = next((b for b in _of(made, "box") if first in made[b]["contains"]), None)
    reachable = holder is None or made[holder]["properties"]["open"]
    if verb in ("turn on", "turn off"):
        row["on"] = verb == "turn on"
    elif verb == "open":
        row["open"] = row["open"] or not row["locked"]
    elif verb == "close":
        row["open"] = False
    elif verb in ("lock", "unlock"):
        row["locked"] = verb == "lock" and not row["open"]
    elif verb in ("fill", "empty"):
        row["full"] = verb == "fill"
    elif verb == "pour":
        other = made[rest[0]]["properties"]
        if row["full"] and not other["full"]:
            row["full"], other["full"] = False, True
    elif verb == "drop":
        row["broken"] = row["broken"] or holder is None
    elif verb == "wash":
        row["clean"] = row["clean"] or reachable
    elif verb == "put" and reachable and holder != rest[0] and made[rest[0]]["properties"]["open"]:
        _leave(made, holder, first)
        made[rest[0]]["contains"].append(first)
    elif verb == "take" and holder == rest[0] and reachable:
        _leave(made, holder, first)
    return made


def _of(world: World, *kinds: str) -> list[str]:
    return [name for name in world if _KIND_OF[name] in kinds]


def _leave(world: World, holder: str | None, name: str) -> None:
    if holder is not None:
        world[holder]["contains"].remove(name)


@dataclass(frozen=True)
class Transition:
    """A state, an action in words, and the state that it leads to (lists of objects)."""

    state: list[dict[str, Any]]
    action: str
    next_state: list[dict[str, Any]]

    @property
    def changed(self) -> bool:
        return self.state != self.next_state

    @classmethod
    def drawn(cls, rng: random.Random, objects: int, changed: bool) -> Transition:
        """One that changes something, or one that does not."""
        while True:
            world = household(rng, objects)
            act = rng.choice(acts(world))
            then = after(world, act)
            if (then != world) == changed:
                return cls(list(world.values()), told(act), list(then.values()))


# --- the task ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TextWorlds:
    """Transitions of text worlds.

    Parameters
    ----------
    source: "household" (built in), a file, or a hub dataset (``hf:NAME``) with columns ``state``,
        ``next_state`` (JSON, see `dovetail.rewards.world_state`), ``action``, and perhaps ``context``.
    notation: how states and differences are written: "lines" (short; uuids without spaces), or "json", as in
        the paper.
    objects: of a household, 3 to 10.
    changed: share of the household's transitions that change something.
    size: transitions where no limit is given.
    """

    source: str = BUILT_IN
    notation: Notation = "lines"
    objects: int = 5
    changed: float = 0.5
    size: int = 200

    def __post_init__(self) -> None:
        if self.notation not in NOTATIONS:
            raise InvalidValue("notation", self.notation, f"one of {', '.join(NOTATIONS)}")
        if not 3 <= self.objects <= 10:
            raise InvalidValue("objects", self.objects, "between 3 and 10")
        if not 0 <= self.changed <= 1:
            raise InvalidValue("changed", self.changed, "a share in [0, 1]")
        if self.size < 1:
            raise InvalidValue("size", self.size, "at least 1")

    def load(self, limit: int | None, seed: int) -> tuple[list[Example], list[BadRow]]:
        """What `dovetail.core.Task` asks for."""
        if self.source != BUILT_IN:
            return self._read(limit)
        rng = random.Random(stream(seed, "text-worlds", self.objects))
        found: list[Example] = []
        for i in range(self.size if limit is None else limit):
            one = Transition.drawn(rng, self.objects, rng.random() < self.changed)
            found.append(self.example(f"household-s{seed}-{i}", one.state, one.action, one.next_state))
        return found, []

    def example(self, id: str, state: Any, action: str, next_state: Any, context: str = "") -> Example:
        """A transition as it is asked; columns ``state``, ``action``, ``next_state`` (JSON), ``changed``.

        The reference is the true difference, which is what likelihood training imitates.

        Raises:
            InvalidValue: a state cannot be read; names it.
        """
        before, then = parse_state(state, f"state of {id}"), parse_state(next_state, f"next_state of {id}")
        if self.notation == "lines":
            shown = "\n".join(write_object(row) for row in before.objects.values())
            question = f"{shown}\nAction: {action}"
        else:
            score = [] if before.score is None else [before.score]
            shown = json.dumps([*before.objects.values(), *score])
            question = f"State: {shown}\nAction: {action}\n{ASK_JSON}"
        return Example.ask(
            id,
            f"{context}\n{question}" if context else question,
            NOTATIONS[self.notation][1](difference(before, then)),
            state=state if isinstance(state, str) else json.dumps(state),
            action=action,
            next_state=next_state if isinstance(next_state, str) else json.dumps(next_state),
            changed=changes(before, then),
        )

    def task(self, name: str = "text-worlds", instruction: str = "", scorer: Scorer | None = None) -> Task:
        """As `dovetail.compare` takes it."""
        settings = {f.name: getattr(self, f.name) for f in fields(self)}
        judge = scorer or TransitionScorer(self.notation)
        return Task(name, self.load, judge, instruction, "text-worlds 1", settings)

    def _read(self, limit: int | None) -> tuple[list[Example], list[BadRow]]:
        examples: list[Example] = []
        bad: list[BadRow] = []
        for row in _rows(self.source):
            if isinstance(row, BadRow):
                bad.append(row)
                continue
            if limit is not None and len(examples) >= limit:
                break
            try:
                given = [row.values.get(key) for key in ("state", "action", "next_state")]
                for key, value in zip(("state", "action", "next_state"), given, strict=True):
                    if not value:
                        raise InvalidValue(key, value, "given")
                context = str(row.values.get("context") or "")
                examples.append(self.example(f"row-{row.line}", given[0], str(given[1]), given[2], context))
            except InvalidValue as error:
                bad.append(BadRow(self.source, row.line, str(error)))
        return examples, bad


def _rows(source: str) -> Iterator[Any]:
    if source.startswith("hf:"):
        from dovetail.tasks import hub

        return iter(hub.read(source.removeprefix("hf:")))
    from dovetail.tasks import rows

    rows.check(Path(source))
    return iter(rows.read(Path(source)))


@dataclass(frozen=True)
class TransitionScorer:
    """1 where the answer leads to the true next state, in every entry and the score.

    By the official rules: an object that should be gone and is still there costs nothing.

    Figures: ``changed`` or ``unchanged``, the same value for the cases of that kind; ``entries``, the share
    of the entries that are right; ``share``, of the changed entries, where there are any.
    """

    notation: Notation = "lines"

    name = "transition"
    extraction = "the difference after thinking, behind a cue phrase or in a fenced block if there is one"

    def __call__(self, example: Example, completion: Completion) -> Score:
        before = parse_state(example.columns.get("state"), f"state of {example.id}")
        gold = parse_state(example.columns.get("next_state"), f"next_state of {example.id}")
        answer = extraction.written(completion) or ""
        predicted = predicted_state(answer, before, self.notation)
        kind = "changed" if changes(before, gold) else "unchanged"
        if predicted is None:
            missed = {"share": 0.0} if kind == "changed" else {}
            return Score(0.0, 0.0, "", False, {kind: 0.0, "entries": 0.0, **missed})
        compared = compare_states(predicted, gold)
        value = float(compared.exact)
        share = changed_share(predicted, before, gold)
        figures = {kind: value, "entries": compared.item} | ({} if share is None else {"share": share})
        return Score(value, value, answer.strip()[:1000], True, figures)

    def extract(self, text: str) -> str:
        return (extraction.after_thinking(text) or "").strip()[:1000]


@dataclass
class WorldModel:
    """A language model as a world to step through: ``predict(state, action) -> next state``.

    What cannot be read leaves the state as it is, and is counted in ``unread``.
    """

    model: LocalModel
    notation: Notation = "lines"
    decoding: Decoding | None = None
    max_new_tokens: int = 256
    thinking: bool = False
    unread: int = 0

    def predict(self, state: Any, action: str, seed: int = 0) -> State:
        """The state after an action; ``state`` is a `State`, or what `parse_state` takes."""
        before = state if isinstance(state, State) else parse_state(state)
        rows = [*before.objects.values(), *([] if before.score is None else [before.score])]
        asked = TextWorlds(notation=self.notation).example("asked", rows, action, rows)
        messages: Sequence[Message] = asked.messages
        prompt = self.model.prompt(messages, thinking=self.thinking, seed=seed)
        decoding = self.decoding or Greedy()
        [written] = decoding.generate(self.model.engine, [prompt], Limits(self.max_new_tokens))
        predicted = predicted_state(extraction.written(written) or "", before, self.notation)
        if predicted is None:
            self.unread += 1
        return before if predicted is None else predicted


def task(
    family: str,
    *,
    instruction: str | None = None,
    scorer: Scorer | None = None,
    name: str | None = None,
    **parameters: Any,
) -> Task:
    """``text-worlds``; ``parameters`` are the fields of `TextWorlds`; numbers may be given as text.

    Raises:
        UnknownName: there is no such parameter.
        InvalidValue: a parameter has an impossible value.
    """
    parameters = converted(family, TextWorlds(), parameters, fixed="")
    made = TextWorlds(**parameters)
    return made.task(name or named(family, parameters), instruction or "", scorer)
