"""The procedural families of reasoning-gym by name, with their own parameters and scorers.

Questions are made, and answers outside plain arithmetic are judged, in the sandbox: several families iterate
over sets, so that only a fixed hash seed gives the same questions in every run, and several scorers evaluate
the answer as an expression.

Source: Stojanovski et al., "Reasoning Gym: Reasoning Environments for Reinforcement Learning with Verifiable
Rewards", 2025, https://github.com/open-thought/reasoning-gym (Apache-2.0). Importing it takes about a second
and a half, so it is imported when a family is asked for.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any

from dovetail.core import BadData, BadRow, Example, InvalidValue, Scorer, Task, UnknownName
from dovetail.core.seeds import stream
from dovetail.tasks import extraction, sandbox
from dovetail.tasks.scorers import AnswerScorer, Judgement
from dovetail.tasks.scorers import scorer as scorer_of

SIZE = 200  # examples where no limit is given
# What a family is asked with where the user says nothing else: chosen so that pico has headroom.
DEFAULTS: dict[str, dict[str, Any]] = {
    "chain_sum": {"min_terms": 3, "max_terms": 6, "min_digits": 1, "max_digits": 2},
    "countdown": {
        "min_numbers": 3,
        "max_numbers": 3,
        "min_value": 1,
        "max_value": 10,
        "min_target": 1,
        "max_target": 100,
    },
}
_NEEDS_MORE = ("composite",)  # mixes other families; has no questions of its own
_ENTRIES = "dovetail.tasks.reasoning_gym_entries"
_GENERATION_LIMIT = 300.0  # seconds


def task(
    family: str,
    *,
    instruction: str | None = None,
    scorer: str | Scorer | None = None,
    name: str | None = None,
    **parameters: Any,
) -> Task:
    """A reasoning-gym family as a task.

    Args:
        family: its name, with dashes or underscores (``chain-sum``).
        instruction: system message; by default none, as pico was trained on the bare question.
        scorer: by default the family's own (`FamilyScorer`).
        name: the task's name in reports; by default family and parameters.
        parameters: fields of the family's configuration, on top of its `DEFAULTS`; numbers and lists may be
            given as text. ``size`` is the number of examples where no limit is given.

    Raises:
        UnknownName: there is no such family, or the family has no such parameter.
        InvalidValue: a parameter has an impossible value.
    """
    known_name = _family(family)
    given = {key: _converted(known_name, key, value) for key, value in parameters.items()}
    settings = DEFAULTS.get(known_name, {}) | given
    size = settings.pop("size", SIZE)
    _check(known_name, settings | {"size": size}, given)
    own = FamilyScorer(known_name, tuple(settings.items())) if scorer is None else scorer_of(scorer)

    def load(limit: int | None, seed: int) -> tuple[Sequence[Example], Sequence[BadRow]]:
        return _load(known_name, settings, size if limit is None else limit, seed)

    shown = ",".join(f"{key}={value}" for key, value in given.items())
    dashed = known_name.replace("_", "-")
    return Task(
        name or (f"{dashed}:{shown}" if shown else dashed),
        load,
        own,
        instruction or "",
        f"reasoning-gym {metadata.version('reasoning-gym')}",
        settings | {"size": size},
    )


def known() -> list[str]:
    """The families' names, with dashes, sorted. Imports reasoning-gym."""
    return sorted(name.replace("_", "-") for name in _registry() if name not in _NEEDS_MORE)


@dataclass(frozen=True)
class FamilyScorer(AnswerScorer):
    """The family's own scorer; an answer is right where it gives full marks.

    ``value`` is 1 for full marks and else 0, so that accuracy is the share of solved problems; the family's
    own mark with its partial credit (0.05 for a well-formed wrong expression, say) is the figure ``mark``. An
    answer that is not judged within ``seconds`` counts as wrong, and in the figure ``undecided``.

    Parameters
    ----------
    family: its name with underscores.
    settings: the family's configuration as pairs.
    seconds: limit of one judgement in processor time (five times that in wall-clock time).
    """

    family: str
    settings: tuple[tuple[str, Any], ...] = ()
    seconds: float = 2.0

    name = "reasoning-gym"
    extraction = (
        "last \\boxed{} after thinking; else #### / <answer> / 'answer is', else what follows '=' in "
        "the last line (grids: the last block of lines)"
    )

    def judge(self, answer: str, example: Example) -> Judgement:
        if not answer.strip():
            return Judgement(0.0, {"mark": 0.0, "undecided": 0.0})
        entry = {**example.columns, "question": example.question, "answer": example.reference}
        # As written and without what surrounds an answer: a final full stop may belong to a sentence.
        marks = []
        for spelling in dict.fromkeys((answer, _answer_text(answer))):
            marks.append(self._mark(spelling, entry))
            if marks[-1] is not None and marks[-1] > _FULL:
                break
        mark = max((m for m in marks if m is not None), default=0.0)
        return Judgement(
            float(mark > _FULL), {"mark": mark, "undecided": float(mark <= _FULL and None in marks)}
        )

    def fallback(self, text: str, example: Example | None) -> str:
        said = extraction.announced(text)
        if said:
            return said
        if example is not None and "\n" in (example.reference or "").strip():
            return text.strip().rpartition("\n\n")[2][: extraction.TAIL]  # a grid: the last block of lines
        line = extraction.last_line(text)
        return extraction.tidy(line.rpartition("=")[2]) if "=" in line else line

    def vote(self, answer: str) -> str:
        answer = _answer_text(answer)
        return extraction.canonical(answer) if extraction.number(answer) is not None else answer

    def _mark(self, answer: str, entry: dict[str, Any]) -> float | None:
        if self.family in _COMPARED:
            return float(extraction.plain(answer) == extraction.plain(str(entry["answer"])))
        if _HARMLESS.fullmatch(answer) and "**" not in answer:
            from dovetail.tasks import reasoning_gym_entries

            return reasoning_gym_entries.mark(self.family, self.settings, answer, entry)
        if "__" in answer:  # no honest answer needs it, and most ways out of an expression do
            return 0.0
        try:
            return float(
                sandbox.call(
                    f"{_ENTRIES}:mark", self.family, self.settings, answer, entry, seconds=self.seconds
                )
            )
        except sandbox.TimeRanOut:
            return None
        except sandbox.SandboxFailure:
            return 0.0


_FULL = 0.999  # marks above are full marks

# Whose own scorer gives full marks to any text: game_of_life_halting compares bool(answer) with
# bool("False").
_COMPARED = ("game_of_life_halting",)

# Digits and arithmetic only, with no power: evaluating it can neither run code nor take long.
_HARMLESS = re.compile(r"[\d\s+\-*/().,]{1,200}")


def _answer_text(answer: str) -> str:
    """The answer as the family's scorers expect it: words without LaTeX commands."""
    answer = re.sub(r"\\text\s?\{([^{}]*)\}", r"\1", answer)
    for latex, plain in (
        ("\\times", "*"),
        ("\\cdot", "*"),
        ("\\div", "/"),
        ("\\left", ""),
        ("\\right", ""),
        ("\\{", "{"),
        ("\\}", "}"),
    ):
        answer = answer.replace(latex, plain)
    return extraction.tidy(answer)


def _load(
    family: str, settings: Mapping[str, Any], count: int, seed: int
) -> tuple[list[Example], list[BadRow]]:
    rows = sandbox.call(
        f"{_ENTRIES}:generate",
        family,
        tuple(settings.items()),
        max(count, SIZE),
        count,
        # A family's example i is drawn from its seed + i: neighbouring seeds would share all but one.
        stream(seed, "reasoning-gym", family) % 2**31,
        seconds=_GENERATION_LIMIT,
        confined=False,
    )
    source = family.replace("_", "-")
    examples, bad = [], []
    for index, row in enumerate(rows):
        if isinstance(row, str):
            bad.append(BadRow(source, index + 1, row))
        else:
            question, answer = row.pop("question"), row.pop("answer")
            examples.append(Example.ask(f"{source}-s{seed}-{index}", question, answer, **row))
    if bad and not examples:
        raise BadData(f"{source} makes no question with {dict(settings)}: {bad[0].reason}")
    return examples, bad


# Names and parameters.


@cache
def _registry() -> dict[str, tuple[type, type]]:
    from dovetail.tasks.reasoning_gym_entries import DATASETS

    registry: dict[str, tuple[type, type]] = DATASETS
    return registry


def _family(name: str) -> str:
    family = name.replace("-", "_")
    if family in _NEEDS_MORE:
        raise InvalidValue("task", name, "a single family: composite mixes others")
    if family not in _registry():
        raise UnknownName("task", name, known())
    return family


def _converted(family: str, key: str, value: Any) -> Any:
    """A parameter's value, converted from text to the type of the configuration's field."""
    fields = {f.name: f for f in dataclasses.fields(_registry()[family][1])}
    if key == "seed":
        raise InvalidValue("seed", value, "left to the run's own seed, which every method shares")
    if key not in fields:
        raise UnknownName(f"parameter of {family.replace('_', '-')}", key, [f for f in fields if f != "seed"])
    default: Any = fields[key].default
    factory: Any = fields[key].default_factory
    if default is dataclasses.MISSING and factory is not dataclasses.MISSING:
        default = factory()
    if isinstance(value, str) and not isinstance(default, str):
        value = _parsed(value, isinstance(default, (list, tuple)))
    if isinstance(default, bool) and not isinstance(value, bool):
        raise InvalidValue(key, value, "true or false")
    if isinstance(default, int) and not isinstance(default, bool):
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise InvalidValue(key, value, "a whole number")
    if isinstance(default, float) and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise InvalidValue(key, value, "a number")
    if isinstance(default, tuple) and isinstance(value, list):
        return tuple(value)
    return value


def _parsed(text: str, several: bool) -> Any:
    try:
        value = json.loads(text.lower() if text in ("True", "False", "None") else text)
    except ValueError:
        value = [_parsed(part, False) for part in text.split(",")] if several else text
    return [value] if several and not isinstance(value, list) else value


def _check(family: str, settings: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """The family's own validation, as an error that names the parameter."""
    config_class = _registry()[family][1]
    try:
        config = config_class(**settings)
        if hasattr(config, "validate"):
            config.validate()
    except (AssertionError, ValueError, TypeError, KeyError) as error:
        reason = str(error) or "within the family's bounds"
        named = (
            [k for k in (*given, *settings) if re.search(rf"\b{re.escape(k)}\b", reason)]
            or list(given)
            or [family]
        )
        own = reason.startswith(f"{named[0]} must be ")
        expected = reason.removeprefix(f"{named[0]} must be ") if own else f"such that {reason}"
        raise InvalidValue(
            f"{named[0]} of {family.replace('_', '-')}", settings.get(named[0]), expected
        ) from error
