"""TokenF1: overlap of words, for answers in free wording (Rajpurkar et al., "SQuAD", EMNLP 2016)."""

from __future__ import annotations

import re
import string
from collections import Counter
from dataclasses import dataclass

from dovetail.core import Example
from dovetail.tasks import extraction
from dovetail.tasks.scorers.answer import AnswerScorer, Judgement, references

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True)
class TokenF1(AnswerScorer):
    """Harmonic mean of word precision and recall, against the accepted answer that fits best.

    Words are taken as SQuAD's official script takes them: lower case, without punctuation and articles. The
    figure ``exact_match`` is 1 where the words are the same in the same order.
    """

    name = "f1"
    extraction = "last \\boxed{} after thinking; else #### / <answer> / 'answer is', else the last line"

    def judge(self, answer: str, example: Example) -> Judgement:
        given = words(answer)
        accepted = [words(r) for r in references(example)]
        best = max((f1(given, r) for r in accepted), default=0.0)
        return Judgement(best, {"exact_match": float(bool(answer) and given in accepted)})

    def vote(self, answer: str) -> str:
        return " ".join(words(answer))


def words(text: str) -> list[str]:
    """SQuAD's normalised words; those of the plain text where nothing would be left ("The", "!")."""
    text = extraction.plain(text)
    return _ARTICLES.sub(" ", text.translate(_PUNCTUATION)).split() or text.split()


def f1(given: list[str], reference: list[str]) -> float:
    """F1 of two bags of words; 1 if both are empty, 0 if one is."""
    if not given or not reference:
        return float(given == reference)
    common = sum((Counter(given) & Counter(reference)).values())
    return 2 * common / (len(given) + len(reference))
