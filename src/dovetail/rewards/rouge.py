"""ROUGE-L, and its harmonic mean with BLEU: BLEUBERI's other rewards made of references alone.

Lin, "ROUGE: A Package for Automatic Evaluation of Summaries" (2004), eq. 2 to 4 with beta = 1: the longest
common subsequence over the lengths of the two texts. Words are those of the package rouge-score: runs of
letters a to z and digits of the text in lower case, unstemmed. Of several references the best counts.
Costs length times length steps per reference.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from dovetail.core import InvalidValue, UnknownName
from dovetail.rewards.base import Batch, Reward
from dovetail.rewards.bleu import answered, bleu, checked, references

Id = TypeVar("Id", bound=Hashable)
_WORD = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True)
class RougeL(Reward):
    """ROUGE-L's F of a completion, the best over its references, in [0, 1].

    Attributes:
        column: as `Bleu` has it.
        answer: score what stands between ``<answer>`` and ``</answer>``, where that is there.
        longest: words of a text that are read: the time grows with their square.
    """

    column: str = ""
    answer: bool = True
    longest: int = 2000

    name = "rouge-l"

    def __post_init__(self) -> None:
        if not self.longest >= 1:
            raise InvalidValue("longest", self.longest, "at least 1")

    def pay(self, batch: Batch) -> Sequence[float]:
        pairs = zip(batch.texts, references(batch, self.column), strict=True)
        return [self.score(answered(t) if self.answer else t.strip(), r) for t, r in pairs]

    def score(self, text: str, against: Sequence[str]) -> float:
        return rouge_l(text, against, longest=self.longest)


@dataclass(frozen=True)
class BleuRouge(RougeL):
    """The harmonic mean of BLEU and ROUGE-L; 0 where both are."""

    name = "bleu-rouge"

    def score(self, text: str, against: Sequence[str]) -> float:
        return bleu_rouge(text, against, longest=self.longest)


def rouge_l(prediction: str, references: Sequence[str], *, longest: int = 2000) -> float:
    """2PR / (P + R) for the longest common subsequence; the best over the references.

    >>> round(rouge_l("the cat sat", ["the dog and the cat"]), 3)
    0.5
    """
    words = _WORD.findall(prediction.lower())[:longest]
    best = 0.0
    for text in references:
        others = _WORD.findall(text.lower())[:longest]
        if words and others:
            best = max(best, 2 * common(words, others) / (len(words) + len(others)))
    return best


def common(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common subsequence.

    Bit-parallel (Hyyrö 2004): the row of the usual table is one number, so a text of n words costs n steps.
    """
    places: dict[str, int] = {}
    for i, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << i
    row = full = (1 << len(one)) - 1
    for word in other:
        matched = row & places.get(word, 0)
        row = (row + matched | row - matched) & full
    return len(one) - row.bit_count()


def bleu_rouge(prediction: str, references: Sequence[str], *, longest: int = 2000) -> float:
    """2 BLEU ROUGE / (BLEU + ROUGE); 0 where both are."""
    both = bleu(prediction, references), rouge_l(prediction, references, longest=longest)
    return 2 * both[0] * both[1] / sum(both) if sum(both) else 0.0


#: Name -> score of a text against its references.
METRICS: Mapping[str, Callable[[str, Sequence[str]], float]] = {
    "bleu": bleu,
    "rouge-l": rouge_l,
    "bleu-rouge": bleu_rouge,
}


def score_outputs(
    outputs: Mapping[Id, str | None], references: Mapping[Id, Sequence[str]], metric: str = "bleu"
) -> dict[Id, float]:
    """id -> score of an untrained model's answer: what `bleu.select` chooses by. No answer (None) has 0.

    Raises:
        UnknownName: there is no such metric.
        InvalidValue: an answer without references, or references that are no list of texts; names the id.
    """
    if metric not in METRICS:
        raise UnknownName("metric", metric, METRICS)
    found = {}
    for id, text in outputs.items():
        against = checked(references.get(id), f"references[{id!r}]")
        found[id] = METRICS[metric](answered(text), against) if isinstance(text, str) else 0.0
    return found
