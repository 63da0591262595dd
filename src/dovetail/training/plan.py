"""A training run as a file: TOML -> typed parts, each checked, every error naming its key.

    model = "pico"
    task = "chain-sum:min_terms=3,max_terms=5"
    held_out = 200                 # questions kept apart, or another task's name

    [settings]                     # fields of training.Settings
    steps = 40
    learning_rate = 1e-4

    [objective]                    # a name of training.objectives (this one, if left out), and its parameters
    name = "policy-gradient"
    group_size = 8

    [[rewards]]                    # names of dovetail.rewards; "score" is the task's own scorer
    name = "score"
    weight = 1.0

    [decoding]                     # a name of dovetail.decoding
    name = "sampling"

``[[data]]`` and ``[[monitors]]`` are lists like ``[[rewards]]``. A part without parameters may be a plain
string: ``rewards = ["score"]``. Overrides are dotted keys: ``settings.steps=10``, ``rewards.0.weight=0.5``;
fields of the settings may go without ``settings.`` in front.
"""

from __future__ import annotations

import os
import tomllib
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from dovetail.core import BadData, InvalidValue, Scorer, Task, UnknownName
from dovetail.training.describing import part as described
from dovetail.training.judging import ByScorer
from dovetail.training.run import Run
from dovetail.training.settings import Settings

SLOTS = {
    "objective": "dovetail.training.objectives",
    "rewards": "dovetail.rewards",
    "data": "dovetail.training.data",
    "monitors": "dovetail.training.monitors",
    "decoding": "dovetail.decoding",
}
_SCORE = "score"
_KEYS = ("model", "task", "held_out", "out", "device", "dtype", "settings", *SLOTS)


@dataclass(frozen=True)
class Plan:
    """A run that can begin: everything resolved, nothing loaded but the task's definition.

    Attributes:
        model, device, dtype: what `dovetail.load` is given.
        task, held_out: as `train` takes them.
        out: the run's folder, None if the file does not say.
        objective, rewards, weights, data, monitors, decoding: what fills the slots.
        settings: all of them.
    """

    model: str
    task: Task
    settings: Settings
    objective: Any
    held_out: str | int | None = None
    out: str | None = None
    device: str | None = None
    dtype: str | None = None
    rewards: Sequence[Any] = ()
    weights: Sequence[float] = ()
    data: Sequence[Any] = ()
    monitors: Sequence[Any] = ()
    decoding: Sequence[Any] = field(default_factory=tuple)

    def describe(self) -> dict[str, Any]:
        """The resolved run in JSON values."""
        from dataclasses import asdict

        return {
            "model": self.model,
            "device": self.device,
            "dtype": self.dtype,
            "task": {"name": self.task.name, "parameters": dict(self.task.parameters)},
            "held_out": self.held_out,
            "out": self.out,
            "objective": described(self.objective),
            "rewards": [
                {**described(r), "weight": w} for r, w in zip(self.rewards, self.weights, strict=True)
            ],
            "data": [described(d) for d in self.data],
            "monitors": [described(m) for m in self.monitors],
            "decoding": [described(d) for d in self.decoding],
            "settings": asdict(self.settings),
        }

    def run(self, **options: Any) -> Run:
        """Loads the model and trains it; ``options`` go to `train` (out, resume, progress, ...)."""
        from dovetail.models import load
        from dovetail.models.local import LocalModel
        from dovetail.training.processes import Processes
        from dovetail.training.verb import train

        model = load(self.model, device=self.device or Processes.joined().device, dtype=self.dtype)
        return train(
            model if isinstance(model, LocalModel) else self.model,
            self.task,
            objective=self.objective,
            rewards=self.rewards,
            weights=self.weights,
            data=self.data,
            monitors=self.monitors,
            decoding=list(self.decoding) or None,
            held_out=self.held_out,
            settings=self.settings,
            in_place=True,
            **{"out": self.out, **options},
        )


def read(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Plan:
    """The plan in a TOML file, with ``key=value`` overrides.

    Raises:
        BadData: no such file, or no TOML; gives the line.
        InvalidValue, UnknownName: a key or value that is not known; names it.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise BadData(f"{path} cannot be read: {error.strerror}") from error
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadData(f"{path} is no TOML: {error}") from error
    for override in overrides:
        _override(given, override)
    return plan(given)


def plan(given: Mapping[str, Any]) -> Plan:
    """The plan that a table holds; see the module's text."""
    for key in given:
        if key not in _KEYS:
            raise UnknownName("key of a training recipe", key, _KEYS)
    for key in ("model", "task"):
        if not isinstance(given.get(key), str) or not given[key]:
            raise InvalidValue(key, given.get(key), f"a text, such as {key} = {_example(key)!r}")
    for key in ("out", "device", "dtype"):
        _checked(key, given.get(key), str | None)
    held_out = _checked("held_out", given.get("held_out"), str | int | None)
    from dovetail.tasks import task as named

    task = named(given["task"])
    settings = build(Settings, given.get("settings", {}), "settings")
    learned = given.get("objective", {})
    learned = {"name": "policy-gradient", **learned} if isinstance(learned, Mapping) else learned
    objective = _part("objective", learned, "objective", task.scorer)
    rewards, weights = [], []
    for place, table in enumerate(
        _list("rewards", given.get("rewards", [_SCORE] if objective.writes else []))
    ):
        table = dict(table) if isinstance(table, Mapping) else table
        where = f"rewards.{place}"
        weight = table.pop("weight", 1.0) if isinstance(table, dict) else 1.0
        weights.append(float(_checked(f"{where}.weight", weight, float)))
        rewards.append(_part("rewards", table, where, task.scorer))
    lists = {
        slot: [
            _part(slot, table, f"{slot}.{place}", task.scorer)
            for place, table in enumerate(_list(slot, given.get(slot, [])))
        ]
        for slot in ("data", "monitors", "decoding")
    }
    return Plan(
        given["model"],
        task,
        settings,
        objective,
        held_out,
        given.get("out"),
        given.get("device"),
        given.get("dtype"),
        rewards,
        weights,
        **lists,
    )


def known(slot: str) -> dict[str, tuple[str, str]]:
    """Names that may fill a slot -> (module, class)."""
    if find_spec(SLOTS[slot]) is None:
        return {}
    names: dict[str, tuple[str, str]] = import_module(SLOTS[slot]).NAMES
    return {name: (f"{SLOTS[slot]}.{module}", cls) for name, (module, cls) in names.items()}


def build(cls: Callable[..., Any], table: Any, where: str) -> Any:
    """A dataclass from a table of its fields.

    Raises:
        UnknownName: a key that is no field.
        InvalidValue: a value of another type, or one that the class refuses; names the dotted key.
    """
    if not isinstance(table, Mapping):
        raise InvalidValue(where, table, "a table of parameters")
    if not is_dataclass(cls):
        if table:
            raise InvalidValue(where, dict(table), "without parameters: it takes none")
        return cls()
    accepted = [f.name for f in fields(cls) if f.init and not f.name.startswith("_")]
    hints = get_type_hints(cls)
    values = {}
    for key, value in table.items():
        if key not in accepted:
            raise UnknownName(f"parameter {where}", key, accepted)
        values[key] = _checked(f"{where}.{key}", value, hints[key])
    try:
        return cls(**values)
    except InvalidValue as error:
        raise InvalidValue(
            f"{where}.{error.name}", error.value, str(error).partition(": must be ")[2]
        ) from error
    except TypeError as error:
        raise InvalidValue(where, dict(table), f"complete: {error}") from error


def _part(slot: str, table: Any, where: str, scorer: Scorer) -> Any:
    table = {"name": table} if isinstance(table, str) else table
    if not isinstance(table, Mapping) or not isinstance(table.get("name"), str):
        raise InvalidValue(where, table, "a name, or a table with a name")
    name, rest = table["name"], {k: v for k, v in table.items() if k != "name"}
    if slot == "rewards" and name == _SCORE:
        if rest:
            raise InvalidValue(where, rest, "without parameters: the task's scorer has none here")
        return ByScorer(scorer)
    names = known(slot)
    if name not in names:
        raise UnknownName(f"{where}.name", name, [*names, *([_SCORE] if slot == "rewards" else [])])
    module, cls = names[name]
    return build(getattr(import_module(module), cls), rest, where)


def _list(key: str, value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _checked(key: str, value: Any, hint: Any) -> Any:
    """``value`` as its field takes it (whole numbers for float, tuples for lists)."""
    found = _converted(value, hint)
    if found is None and value is not None:
        raise InvalidValue(key, value, _words(hint))
    if value is None and not _takes_none(hint):
        raise InvalidValue(key, value, _words(hint))
    return value if found is None else found[0]


def _converted(value: Any, hint: Any) -> tuple[Any] | None:
    """The value in a tuple, None where it does not fit. Hints that TOML cannot tell apart let all through."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return next((c for one in arguments if (c := _converted(value, one)) is not None), None)
    if origin is Literal:
        return (value,) if value in arguments else None
    if origin is tuple and isinstance(value, list | tuple):
        kinds = [arguments[0]] * len(value) if arguments[1:] == (...,) else list(arguments)
        parts = [_converted(v, k) for v, k in zip(value, kinds, strict=False)]
        if len(kinds) != len(value) or None in parts:
            return None
        return (tuple(p[0] for p in parts if p is not None),)
    if hint is bool:
        return (value,) if isinstance(value, bool) else None
    if hint is int:
        return (value,) if isinstance(value, int) and not isinstance(value, bool) else None
    if hint is float:
        return (float(value),) if isinstance(value, int | float) and not isinstance(value, bool) else None
    if hint is str:
        return (value,) if isinstance(value, str) else None
    if hint is type(None):
        return (value,) if value is None else None
    return (value,)


def _takes_none(hint: Any) -> bool:
    return hint is Any or type(None) in get_args(hint) or hint is type(None)


def _words(hint: Any) -> str:
    plain = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "a text",
        type(None): "left out",
    }
    if hint in plain:
        return plain[hint]
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_words(one) for one in get_args(hint))
    if get_origin(hint) is tuple:
        return "a list of " + ", ".join(_words(one) for one in get_args(hint) if one is not ...)
    return str(hint)


def _override(given: dict[str, Any], text: str) -> None:
    """Puts one ``dotted.key=value`` into the table; the value is read as TOML where it is one."""
    key, equals, value = text.partition("=")
    keys = key.strip().split(".")
    if not equals or not all(keys):
        raise InvalidValue("override", text, "KEY=VALUE, such as settings.steps=10")
    if keys[0] not in _KEYS and keys[0] in {f.name for f in fields(Settings)}:
        keys = ["settings", *keys]
    try:
        read_value = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        read_value = value
    table: Any = given
    for at, name in enumerate(keys[:-1]):
        if isinstance(table, list):
            table = _item(table, name, text)
            continue
        if isinstance(table.get(name), str) and name in SLOTS:
            table[name] = {"name": table[name]}
        table = table.setdefault(name, {})
        if not isinstance(table, dict | list):
            raise InvalidValue("override", text, f"a key below a table: {'.'.join(keys[: at + 1])} is none")
    if isinstance(table, list):
        place = int(keys[-1]) if keys[-1].isdigit() else len(table)
        _item(table, keys[-1], text)
        table[place] = read_value
    else:
        table[keys[-1]] = read_value


def _item(table: list[Any], name: str, text: str) -> Any:
    if not name.isdigit() or int(name) >= len(table):
        raise InvalidValue("override", text, f"a place from 0 to {len(table) - 1} of the list")
    place = int(name)
    if isinstance(table[place], str):
        table[place] = {"name": table[place]}
    return table[place]


def _example(key: str) -> str:
    return {"model": "pico", "task": "chain-sum"}[key]
