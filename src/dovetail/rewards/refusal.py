"""Pays an answer where there is one, and a refusal exactly where there is none.

Song et al., "The Hallucination Tax of Reinforcement Finetuning", arXiv 2505.13988 (EMNLP 2025 Findings): a
boxed answer falls into one of three categories, c(y) = 1 for the right answer, -1 for the refusal, 0 for
everything else; with k(x) = 1 for an answerable question and -1 for another, the reward is 1 if c(y) = k(x)
and 0 if not (formula rebuilt from its description). A wrong answer and an unjustified refusal cost the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dovetail.core import Completion, Example, InvalidValue, Scorer
from dovetail.rewards.base import Batch
from dovetail.rewards.correct import Correct
from dovetail.tasks import extraction
from dovetail.tasks.scorers import scorer as scorer_of

REFUSAL = "I don't know."
_PLAIN = extraction.plain(REFUSAL)

Category = Literal[1, 0, -1]


def is_refusal(answer: str | None) -> bool:
    """Whether an answer is the refusal: case, kind of apostrophe, a final full stop, spaces and LaTeX's text
    commands do not matter.

    >>> is_refusal(r"\\\\text{I don\u2019t know}"), is_refusal("I don't know, maybe 4")
    (True, False)
    """
    # Nothing longer can be one, however it is wrapped; texts of a model may be of any length.
    return answer is not None and len(answer) <= 200 and extraction.plain(answer) == _PLAIN


def categorize(
    response: str, gold: str | Example | None, scorer: str | Scorer = "auto", opened: str = ""
) -> Category:
    """1: the box after the thinking holds the right answer; -1: it holds the refusal; 0: anything else.

    The refusal is looked for first, since a parser of mathematics may take its letters for symbols.

    Args:
        response: what was written.
        gold: the accepted answer, or an example that a scorer can judge by; None if there is none.
        scorer: judges whether the answer is right.
        opened: a thinking mark that the prompt ended with.
    """
    if refused(response, opened):
        return -1
    if gold is None:
        return 0
    example = gold if isinstance(gold, Example) else Example.ask("", "", gold)
    written = Completion(response, columns={"assistant_prefix": opened} if opened else {})
    return 1 if scorer_of(scorer)(example, written).strict >= 1 else 0


def refused(response: str, opened: str = "") -> bool:
    """Whether the box after the thinking holds the refusal."""
    text = extraction.after_thinking(opened + response)
    return text is not None and is_refusal(extraction.boxed(text))


def sum_reward(response: str, gold: str | None) -> float:
    """The reward of one response; ``gold`` is None where the question has no answer."""
    return float(categorize(response, gold) == (-1 if gold is None else 1))


def answerable(example: Example) -> bool:
    """Whether a question has an answer: its column ``answerable``, else whether an answer is given.

    A reference that is itself the refusal, as some data sets have it, is none.

    Raises:
        InvalidValue: the column says no, but there is an answer; names the example.
    """
    has = bool(example.columns.get("accepted_answers")) or (
        example.reference is not None and not is_refusal(example.reference)
    )
    said = example.columns.get("answerable")
    if said is None:
        return has
    if not said and has:
        raise InvalidValue(
            f"example {example.id}: reference", example.reference, "None where answerable is False"
        )
    return bool(said)


@dataclass(frozen=True)
class CorrectOrRefused(Correct):
    """1 for the right answer to an answerable question and for the refusal of any other, else 0.

    Questions without an answer have no reference (see `answerable`). Only answers in the box count.

    Attributes:
        scorer, column: of `Correct`.
    """

    strict: bool = True

    name = "correct-or-refused"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.strict:
            raise InvalidValue("strict", self.strict, "True: a refusal is one only in its box")

    def pay(self, batch: Batch) -> Sequence[float | None]:
        """Raises:
        InvalidValue: an answerable question has no accepted answer, or another has one; names it.
        """
        known: dict[int, bool] = {}
        paid: list[float | None] = []
        right = self.scores(batch)
        for row, example in enumerate(self.examples(batch)):
            if id(example) not in known:
                known[id(example)] = answerable(example)
            refuses = refused(batch.texts[row], batch.opened[row])
            if not known[id(example)]:
                paid.append(float(refuses))
                continue
            score = right[row]
            if score is None:
                raise InvalidValue(
                    f"example {example.id}: reference", None, "the answer, as it is answerable"
                )
            paid.append(float(score.strict >= 1 and not refuses))
        return paid
