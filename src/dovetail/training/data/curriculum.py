"""Easy problems first, by this model's own success rate, and hints for those that it never solves.

Wu et al., "Progressive Mastery: Customized Curriculum Learning with Guided Prompting for Mathematical
Reasoning", arXiv 2506.04065. Difficulty labels of a data set do not agree with what a given model finds hard:
so accuracy is measured over samples of the model itself, the problems are cut into stages from easy to hard,
and a problem beyond its reach is asked with the first steps of its solution, as few as make it solvable.

Measuring costs ``samples`` completions per problem, once before training, and as many again per hint tried
(`training.difficulty`). What it finds is kept in columns of the examples, so a resumed run measures nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal

from dovetail.core import Example, InvalidValue, Message
from dovetail.tasks.extraction import boxed
from dovetail.training.data.base import Data

TEMPLATE = "{question}\nThe solution begins:\n{hint}"
_BREAKS = (re.compile(r"\n[ \t]*\n\s*"), re.compile(r"\n\s*"), re.compile(r"(?<=[.!?;])\s+(?=\S)"))


def build_curriculum(
    accuracies: Sequence[float],
    stages: int = 3,
    mode: Literal["quantile", "threshold"] = "quantile",
    thresholds: Sequence[float] | None = None,
) -> list[list[int]]:
    """Positions of the problems, stage by stage, easy first; every position once.

    Args:
        accuracies: of each problem, in [0, 1].
        stages: the paper's p.
        mode: stages of equal size (the first are one larger where it does not divide), ties in the order of
            the data; or stages between thresholds, which may be empty.
        thresholds: ``stages - 1`` of them, falling; a problem of at least the first is in the first stage.
            None cuts [0, 1] evenly.

    Raises:
        InvalidValue: an accuracy that is NaN or outside of [0, 1]; more stages than problems, or none.
    """
    for position, accuracy in enumerate(accuracies):
        if not 0 <= accuracy <= 1:
            raise InvalidValue(f"accuracies[{position}]", accuracy, "in [0, 1]")
    if not 1 <= stages <= len(accuracies):
        raise InvalidValue("stages", stages, f"from 1 to the number of problems, {len(accuracies)}")
    order = sorted(range(len(accuracies)), key=lambda i: -accuracies[i])
    if mode == "quantile":
        size, larger = divmod(len(order), stages)
        ends = [k * size + min(k, larger) for k in range(stages + 1)]
        return [order[a:b] for a, b in pairwise(ends)]
    if mode != "threshold":
        raise InvalidValue("mode", mode, "'quantile' or 'threshold'")
    bounds = [1 - k / stages for k in range(1, stages)] if thresholds is None else list(thresholds)
    if len(bounds) != stages - 1 or bounds != sorted(bounds, reverse=True):
        raise InvalidValue("thresholds", thresholds, f"{stages - 1} falling numbers")
    made: list[list[int]] = [[] for _ in range(stages)]
    for i in order:
        made[sum(accuracies[i] < bound for bound in bounds)].append(i)
    return made


@dataclass
class CustomizedCurriculum(Data):
    """Draws from the easy problems first, then from harder ones, stage by stage.

    Attributes:
        stages: the paper's p.
        stage_steps: training steps of each stage; the last lasts to the end.
        mode, thresholds: see `build_curriculum`.
        difficulty: the column with each example's accuracy under the model, or accuracies by example id.
            Another column makes another order (a data set's own labels, as accuracies).
        order: "easy first", or "hard first" as an ablation.
        drop_solved: leave out problems that were always solved, which teach a group-relative objective
            nothing.
    """

    stages: int = 3
    stage_steps: int = 50
    mode: Literal["quantile", "threshold"] = "quantile"
    thresholds: tuple[float, ...] | None = None
    difficulty: str | Mapping[str, float] = "accuracy"
    order: Literal["easy first", "hard first"] = "easy first"
    drop_solved: bool = False
    _stage_of: dict[str, int] = field(default_factory=dict, init=False, repr=False)
    _now: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("stages", "stage_steps"):
            if getattr(self, name) < 1:
                raise InvalidValue(name, getattr(self, name), "at least 1")
        if self.order not in ("easy first", "hard first"):
            raise InvalidValue("order", self.order, "'easy first' or 'hard first'")

    def examples(self, examples: Sequence[Example], seed: int) -> Sequence[Example]:
        kept = [e for e in examples if not (self.drop_solved and self._accuracy(e) == 1)]
        accuracies = [self._accuracy(e) for e in kept]
        stages = build_curriculum(accuracies, self.stages, self.mode, self.thresholds)
        filled = [stage for stage in stages if stage]
        if self.order == "hard first":
            filled.reverse()
        self._stage_of = {kept[i].id: k for k, stage in enumerate(filled) for i in stage}
        return kept

    def draw(self, step: int, pool: Sequence[Example]) -> Sequence[Example]:
        self._now = min(step // self.stage_steps, max(self._stage_of.values(), default=0))
        return [e for e in pool if self._stage_of.get(e.id, self._now) == self._now]

    def figures(self) -> Mapping[str, float]:
        return {"stage": float(self._now)}

    def report(self, examples: Sequence[Example]) -> list[dict[str, float]]:
        """A row per stage: its ``size``, mean ``accuracy``, the share of ``guided`` problems, and the mean
        ``hint_share`` of these problems' steps that is given away."""
        rows = []
        for stage in range(max(self._stage_of.values(), default=-1) + 1):
            members = [e for e in examples if self._stage_of.get(e.id) == stage]
            hints = [float(e.columns["hint_share"]) for e in members if e.columns.get("hint")]
            n = max(1, len(members))
            rows.append(
                {
                    "size": float(len(members)),
                    "accuracy": sum(self._accuracy(e) for e in members) / n,
                    "guided": len(hints) / n,
                    "hint_share": sum(hints) / max(1, len(hints)),
                }
            )
        return rows

    def _accuracy(self, example: Example) -> float:
        if isinstance(self.difficulty, str):
            found = example.columns.get(self.difficulty)
        else:
            found = self.difficulty.get(example.id)
        if not isinstance(found, int | float):
            raise InvalidValue(
                f"accuracy of example {example.id}", found, "measured (training.difficulty.measured)"
            )
        return float(found)


# --- hints ---------------------------------------------------------------------------------------------


def split_steps(solution: str) -> list[str]:
    """A solution's steps: its paragraphs, else its lines, else its sentences. Nothing is lost: joined, they
    are the solution.

    >>> split_steps("Add: 2+3=5. Double: 10.")
    ['Add: 2+3=5. ', 'Double: 10.']
    """
    for breaks in _BREAKS:
        ends = [m.end() for m in breaks.finditer(solution) if solution[m.end() :].strip()]
        if ends:
            return [solution[a:b] for a, b in zip([0, *ends], [*ends, len(solution)], strict=True)]
    return [solution] if solution else []


def guided_prompt(question: str, steps: Sequence[str], shown: int, template: str = TEMPLATE) -> str:
    """The question with the first ``shown`` steps; with none, the question itself.

    Raises:
        InvalidValue: the hint would hold the last step or the boxed answer.
    """
    if shown == 0:
        return question
    _check(steps, shown)
    return template.format(question=question, hint="".join(steps[:shown]).rstrip())


def _check(steps: Sequence[str], shown: int) -> None:
    if not 0 <= shown < len(steps):
        raise InvalidValue("shown", shown, f"from 0 to {len(steps) - 1}, so that a step is left to do")
    if boxed("".join(steps[:shown])) is not None:
        raise InvalidValue("shown", shown, "fewer: the hint holds the boxed answer")


def hint_lengths(steps: int, fractions: Sequence[float] = (0.25, 0.5, 0.75)) -> list[int]:
    """How many steps to show, one after the other: ``ceil(f * steps)``, never all of them."""
    for fraction in fractions:
        if not 0 < fraction < 1:
            raise InvalidValue("fractions", fraction, "in (0, 1)")
    # Rounded first: 0.1 * 30 is 3.0000000000000004, whose ceiling is 4.
    found = (min(math.ceil(round(f * steps, 9)), steps - 1) for f in fractions)
    return sorted({n for n in found if n > 0})


@dataclass
class GuidedPrompting(Data):
    """Asks a problem with the first steps of its solution, where the column ``hint_steps`` says how many.

    What stands in the prompt is not learned. Where answers are given (supervised learning), the rest of the
    solution becomes the answer, in the column ``completion``.

    Attributes:
        hints: the column with the number of steps to show, or numbers by example id; absent means 0.
        solution: the column with the reference solution.
        template: with ``{hint}``. With ``{question}`` too it is what is asked; without, what the model's turn
            begins with, so that it goes on as if it had done the first steps itself: ``"<think>\n{hint}"``
            for a model that opens its thought with ``<think>``, ``"{hint}"`` for one whose chat template
            opens it.
        answer: with ``{steps}`` and ``{answer}`` (the reference): what is learned where answers are given;
            "" leaves the column ``completion`` as it is.
        unsolved: what is done with problems that no hint made solvable: whose column ``hint_accuracy`` is at
            most ``target``.
        target: as it was when hints were measured.
        strict: refuse a problem that needs a hint and has no solution of two steps; else it is asked as it
            is, and counted in `unguided`.
    """

    hints: str | Mapping[str, int] = "hint_steps"
    solution: str = "solution"
    template: str = TEMPLATE
    answer: str = ""
    unsolved: Literal["drop", "keep"] = "drop"
    target: float = 0.0
    strict: bool = False
    dropped: int = field(default=0, init=False)
    unguided: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if "{hint}" not in self.template:
            raise InvalidValue("template", self.template, "a text with {hint}, with {question} or without")
        if self.answer and "{steps}" not in self.answer:
            raise InvalidValue("answer", self.answer, "a text with {steps}, or empty")
        if self.unsolved not in ("drop", "keep"):
            raise InvalidValue("unsolved", self.unsolved, "'drop' or 'keep'")

    def examples(self, examples: Sequence[Example], seed: int) -> Sequence[Example]:
        """Guided examples get the columns ``hint`` (its text), ``hint_share``, and ``begun`` where the hint
        begins the answer."""
        self.dropped = self.unguided = 0
        kept = []
        for example in examples:
            if self.unsolved == "drop" and example.columns.get("hint_accuracy", math.inf) <= self.target:
                self.dropped += 1
                continue
            kept.append(self._guided(example))
        return kept

    def _guided(self, example: Example) -> Example:
        shown = self._shown(example)
        if not shown:
            return example
        steps = split_steps(str(example.columns.get(self.solution) or ""))
        if len(steps) < 2:
            if self.strict:
                raise InvalidValue(
                    f"example {example.id}: {self.solution}", "".join(steps), "at least two steps, for a hint"
                )
            self.unguided += 1
            return example
        _check(steps, shown)
        columns: dict[str, Any] = {
            **example.columns,
            "hint": "".join(steps[:shown]),
            "hint_share": shown / len(steps),
        }
        if _begins(self.template):
            columns["begun"] = begun(columns["hint"], self.template)
        if self.answer:
            rest = "".join(steps[shown:])
            columns["completion"] = self.answer.replace("{answer}", example.reference or "").replace(
                "{steps}", rest
            )
        return replace(example, columns=columns)

    def _shown(self, example: Example) -> int:
        if isinstance(self.hints, str):
            return int(example.columns.get(self.hints) or 0)
        return int(self.hints.get(example.id, 0))

    def ask(self, example: Example, messages: Sequence[Message]) -> Sequence[Message]:
        hint = example.columns.get("hint")
        return with_hint(messages, hint, self.template) if hint and not _begins(self.template) else messages


def hinted(example: Example, hint: str, template: str = TEMPLATE) -> Example:
    """The example as it is asked with a hint: in its last question, or as the beginning of the answer."""
    if _begins(template):
        return replace(example, columns={**example.columns, "begun": begun(hint, template)})
    return replace(example, messages=with_hint(example.messages, hint, template))


def begun(hint: str, template: str) -> str:
    """What the model's turn begins with, by a template without ``{question}``. The hint's line ends where it
    did in the solution, as the next step follows at once."""
    return template.replace("{hint}", hint)


def _begins(template: str) -> bool:
    return "{question}" not in template


def with_hint(messages: Sequence[Message], hint: str, template: str = TEMPLATE) -> tuple[Message, ...]:
    """Messages whose last question is followed by a hint."""
    last = max(i for i, m in enumerate(messages) if m.role == "user")
    return tuple(
        Message(m.role, template.format(question=m.content, hint=hint.rstrip())) if i == last else m
        for i, m in enumerate(messages)
    )
