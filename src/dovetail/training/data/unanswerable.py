"""Keeps a model able to refuse: a tenth of the training questions are made unanswerable.

Song et al., "The Hallucination Tax of Reinforcement Finetuning", arXiv 2505.13988 (EMNLP 2025 Findings).
Where only right answers are paid, any answer beats refusing, so training for correctness destroys refusal
(the tax). Replacing a share of the questions by variants that cannot be answered, telling every question how
to refuse, and paying a refusal exactly there (`rewards.refusal.CorrectOrRefused`) restores it.

The paper has a large model rewrite 40,007 mathematics questions (the data is on the hub as
``lime-nlp/Synthetic_Unanswerable_Math``). Here any callable rewrites, or the rules of `unanswerable_rules`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from dovetail.core import Example, InvalidValue, Message, Task
from dovetail.core.seeds import stream
from dovetail.rewards.refusal import REFUSAL, answerable, refused
from dovetail.training.data.base import Data
from dovetail.training.data.unanswerable_prompt import Declined, Rewritten, reply_of, rewriting_prompt
from dovetail.training.data.unanswerable_rules import CRITERIA, ablate_question
from dovetail.training.rollouts import Rollouts

INSTRUCTION = f"If you don't know the answer, reply with \\boxed{{{REFUSAL}}}"
# Columns about the original's answer, which would be judged by, learned or shown as a hint.
_TELL_THE_ANSWER = ("accepted_answers", "metadata", "solution", "completion", "hint", "hint_steps")


@dataclass(frozen=True)
class SyntheticUnanswerableMath:
    """Makes unanswerable variants of questions.

    Attributes:
        rewriter: ``rewriter(prompt) -> reply``, any language model; None for the rules, which need none.
        criteria: which of `CRITERIA` may be used; a rule is drawn among those that fit the question.
    """

    rewriter: Callable[[str], str] | None = None
    criteria: tuple[str, ...] = tuple(CRITERIA)

    def __post_init__(self) -> None:
        if not self.criteria or not set(self.criteria) <= set(CRITERIA):
            raise InvalidValue("criteria", self.criteria, f"some of {', '.join(CRITERIA)}")

    def rewrite(self, example: Example, seed: int = 0) -> Example:
        """The example with its last user message rewritten, no reference, and columns ``answerable`` (False),
        ``original_question`` and ``criterion`` ("" where a model chose).

        Raises:
            Declined: there is no usable variant; says why.
        """
        question = example.question
        if self.rewriter is not None:
            return _unanswerable(
                example, reply_of(question, self.rewriter(rewriting_prompt(question, self.criteria))), ""
            )
        rng = random.Random(stream(seed, "unanswerable", example.id))
        for criterion in rng.sample(self.criteria, len(self.criteria)):
            modified = ablate_question(question, criterion, rng)
            if modified is not None and modified != question:
                return _unanswerable(example, Rewritten(question, modified), criterion)
        raise Declined("no rule fits")

    def rewrite_all(self, examples: Sequence[Example], seed: int = 0) -> tuple[list[Example], Counter[str]]:
        """The variants of all examples that have one, and how many have none, by reason."""
        made, declined = [], Counter[str]()
        for example in examples:
            try:
                made.append(self.rewrite(example, seed))
            except Declined as reason:
                declined[str(reason)] += 1
        return made, declined


def _unanswerable(example: Example, rewritten: Rewritten, criterion: str) -> Example:
    last = max(i for i, m in enumerate(example.messages) if m.role == "user")
    messages = [*example.messages]
    messages[last] = Message("user", rewritten.modified_question)
    columns = {k: v for k, v in example.columns.items() if k not in _TELL_THE_ANSWER}
    columns |= {
        "answerable": False,
        "original_question": rewritten.original_question,
        "criterion": criterion,
    }
    return replace(
        example, id=f"{example.id}-unanswerable", messages=tuple(messages), reference=None, columns=columns
    )


def with_refusal_instruction(question: str, instruction: str = INSTRUCTION) -> str:
    """The question, told how to refuse; one that is told already stays as it is."""
    return question if not instruction or instruction in question else f"{question}\n{instruction}"


def instructed(messages: Sequence[Message], instruction: str = INSTRUCTION) -> tuple[Message, ...]:
    """Messages whose last question is told how to refuse."""
    last = max((i for i, m in enumerate(messages) if m.role == "user"), default=-1)
    return tuple(
        Message(m.role, with_refusal_instruction(m.content, instruction)) if i == last else m
        for i, m in enumerate(messages)
    )


def mix_unanswerable(
    examples: Sequence[Example], unanswerable: Sequence[Example], ratio: float = 0.10, seed: int = 0
) -> list[Example]:
    """As many examples as before, ``round(ratio * N)`` of them, drawn by ``seed``, replaced by unanswerable
    ones; all with the column ``answerable``. Ratio 0 changes nothing else.

    Raises:
        InvalidValue: an impossible ratio; fewer unanswerable examples than needed (both numbers); an
            answerable example without a reference, or an unanswerable one with one (its id).
    """
    count = _count(ratio, len(examples))
    if count > len(unanswerable):
        raise InvalidValue(
            "unanswerable", f"{len(unanswerable)} examples", f"at least {count}, for ratio {ratio}"
        )
    order = random.Random(stream(seed, "mix-unanswerable"))
    rows = order.sample(range(len(examples)), count)
    others = order.sample(list(unanswerable), count)
    return _replaced(examples, dict(zip(rows, others, strict=True)))


def _count(ratio: float, size: int) -> int:
    if not 0 <= ratio <= 1:
        raise InvalidValue("ratio", ratio, "in [0, 1]")
    return round(ratio * size)


def _replaced(examples: Sequence[Example], others: Mapping[int, Example]) -> list[Example]:
    mixed = []
    for row, example in enumerate(examples):
        if row in others:
            other = others[row]
            if answerable(replace(other, columns={**other.columns, "answerable": None})):
                raise InvalidValue(
                    f"example {other.id}: reference", other.reference, "None, as it is unanswerable"
                )
            columns = {**other.columns, "answerable": False}
            id = other.id if other.id.endswith("-unanswerable") else f"{other.id}-unanswerable"
            mixed.append(replace(other, id=id, reference=None, columns=columns))
            continue
        if not answerable(example):
            raise InvalidValue(
                f"example {example.id}: reference", example.reference, "an answer: it is mixed as answerable"
            )
        mixed.append(replace(example, columns={**example.columns, "answerable": True}))
    return mixed


@dataclass
class UnanswerableMix(Data):
    """Replaces a share of the questions by unanswerable ones, and tells every question how to refuse.

    Train with `rewards.CorrectOrRefused`, which reads the column ``answerable`` that this sets.

    Attributes:
        ratio: share of the questions that is replaced (paper: 0.10 of 0, 0.01, 0.10, 0.30, 0.50).
        source: makes variants of the questions themselves; or a task, its name, or unanswerable examples.
        instruction: is appended to every question; "" for none.
    """

    ratio: float = 0.10
    source: SyntheticUnanswerableMath | Task | str | Sequence[Example] = SyntheticUnanswerableMath()
    instruction: str = INSTRUCTION
    declined: dict[str, int] = field(default_factory=dict, init=False)
    _figures: dict[str, float] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        _count(self.ratio, 1)

    def examples(self, examples: Sequence[Example], seed: int) -> Sequence[Example]:
        """The mixed examples; `declined` then says how many questions had no variant, by reason."""
        if isinstance(self.source, SyntheticUnanswerableMath):
            return self._rewritten(examples, self.source, seed)
        count = _count(self.ratio, len(examples))
        return mix_unanswerable(examples, self._others(count, seed), self.ratio, seed)

    def _rewritten(
        self, examples: Sequence[Example], source: SyntheticUnanswerableMath, seed: int
    ) -> list[Example]:
        """Rewrites questions in an order that the seed decides, until enough are replaced: a larger ratio
        replaces the same questions and more."""
        count, declined = _count(self.ratio, len(examples)), Counter[str]()
        others: dict[int, Example] = {}
        order = list(range(len(examples)))
        random.Random(stream(seed, "mix-unanswerable")).shuffle(order)
        for row in order:
            if len(others) == count:
                break
            try:
                others[row] = source.rewrite(examples[row], seed)
            except Declined as reason:
                declined[str(reason)] += 1
        self.declined = dict(declined)
        if len(others) < count:
            raise InvalidValue(
                "unanswerable", f"{len(others)} examples", f"at least {count}, for ratio {self.ratio}"
            )
        return _replaced(examples, others)

    def _others(self, count: int, seed: int) -> Sequence[Example]:
        if isinstance(self.source, Sequence) and not isinstance(self.source, str):
            return self.source
        from dovetail.tasks import task

        return task(self.source).examples(max(count, 1), seed)[0]  # type: ignore[arg-type]

    def ask(self, example: Example, messages: Sequence[Message]) -> Sequence[Message]:
        return instructed(messages, self.instruction)

    def update(self, rollouts: Rollouts) -> None:
        """Counts refusals on either kind of question."""
        kinds: dict[str, list[bool]] = {}
        for example, prompt, text in zip(rollouts.examples, rollouts.prompts, rollouts.texts, strict=True):
            kind = "answerable" if example.columns.get("answerable", True) else "unanswerable"
            kinds.setdefault(kind, []).append(refused(text, prompt.assistant_prefix))
        self._figures = {f"refused/{kind}": sum(seen) / len(seen) for kind, seen in kinds.items()}

    def figures(self) -> Mapping[str, float]:
        return self._figures
