"""BLEUBERI: sentence BLEU against reference answers as the reward for open-ended instructions.

Chang et al., "BLEUBERI: BLEU is a surprisingly effective reward for instruction following", arXiv
2505.11080 (NeurIPS 2025). The score is that of Hugging Face ``evaluate`` with ``smooth=True``: every
precision, of single words too, is (matches + 1) / (n-grams + 1) (Lin and Och 2004), and the brevity penalty
looks at the shortest reference. Neither is so in sacrebleu, whose numbers are other ones; the tokens are its
"13a". Costs microseconds per completion, and no second model.

Also here: which prompts to train on (`select`: the hardest), and how often a score agrees with people
(`agreement`).
"""

from __future__ import annotations

import math
import random
import re
import warnings
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeVar, get_args

from dovetail.core import InvalidValue
from dovetail.rewards.base import Batch, Reward

Mode = Literal["hard", "medium", "easy", "random"]
Id = TypeVar("Id", bound=Hashable)


@dataclass(frozen=True)
class Bleu(Reward):
    """BLEU of a completion against all its references, in [0, 1].

    Attributes:
        column: holds a list of reference texts per completion; "" takes ``references``, or ``reference``
            with a single text each.
        order: the longest n-grams.
        smooth: add one to matches and counts.
        answer: score what stands between ``<answer>`` and ``</answer>`` (or the end), where that is there.
    """

    column: str = ""
    order: int = 4
    smooth: bool = True
    answer: bool = True

    name = "bleu"

    def __post_init__(self) -> None:
        if not self.order >= 1:
            raise InvalidValue("order", self.order, "at least 1")

    def pay(self, batch: Batch) -> Sequence[float]:
        pairs = zip(batch.texts, references(batch, self.column), strict=True)
        return [
            bleu(answered(t) if self.answer else t.strip(), r, order=self.order, smooth=self.smooth)
            for t, r in pairs
        ]


def references(batch: Batch, column: str = "") -> list[tuple[str, ...]]:
    """The reference texts of each completion; "" takes ``references``, or ``reference`` with a text each.

    Raises:
        InvalidValue: the column is missing, or a row of it holds no text; names both.
    """
    column = column or ("references" if batch.has("references") else "reference")
    single = column == "reference"
    found = []
    for row, texts in enumerate(batch.column(column)):
        if hasattr(texts, "tolist"):
            texts = texts.tolist()
        if single and isinstance(texts, str | int | float):
            texts = [str(texts)]
        found.append(checked(texts, f"column {column!r}, row {row}"))
    return found


def checked(texts: Any, name: str) -> tuple[str, ...]:
    """A completion's references; a bare text, which would be read letter by letter, is refused.

    Raises:
        InvalidValue: they are no list of texts, or all blank; ``name`` says where.
    """
    if not isinstance(texts, list | tuple) or not all(isinstance(t, str) for t in texts):
        raise InvalidValue(name, _short(texts), "references as a list of strings per completion")
    if not any(t.strip() for t in texts):
        raise InvalidValue(name, _short(texts), "at least one reference that is not blank")
    return tuple(texts)


def answered(text: str) -> str:
    """What stands between ``<answer>`` and ``</answer>``, or to the end; the whole text without a mark."""
    _, mark, rest = text.partition("<answer>")
    return (rest.partition("</answer>")[0] if mark else text).strip()


def bleu(
    prediction: str,
    references: Sequence[str],
    *,
    order: int = 4,
    smooth: bool = True,
    brief: bool = True,
) -> float:
    """BLEU of one text against its references, in [0, 1]; ``brief=False`` leaves the brevity penalty out.

    The geometric mean of the n-gram precisions, clipped per n-gram to its largest count in any reference,
    times exp(1 - r / length) for texts no longer than r tokens, the length of the shortest reference.

    >>> bleu("a b c d", ["a b c d"]), round(bleu("a b", ["a b c d"]), 3)
    (1.0, 0.368)
    """
    words = tokens_13a(prediction)
    if not words:
        return 0.0
    others = [_counted(text, order) for text in references]
    shortest = min(length for length, _ in others)  # not the closest, as sacrebleu has it
    counts = ngrams(words, order)
    matches, possible = [0] * order, [max(len(words) - n, 0) for n in range(order)]
    for gram, count in counts.items():
        most = max(known.get(gram, 0) for _, known in others)
        matches[len(gram) - 1] += min(count, most)
    if smooth:
        precisions = [(m + 1) / (p + 1) for m, p in zip(matches, possible, strict=True)]
    else:
        precisions = [m / p if p else 0.0 for m, p in zip(matches, possible, strict=True)]
    if min(precisions) == 0:
        return 0.0
    return math.exp(sum(map(math.log, precisions)) / order) * (brevity(len(words), shortest) if brief else 1)


def brevity(length: int, shortest: int) -> float:
    """BLEU's penalty for ``length`` tokens where the shortest reference has ``shortest``; in [0, 1]."""
    return 1.0 if length > shortest else math.exp(1 - shortest / length) if length else 0.0


_13A = (
    (re.compile(r"([\{-\~\[-\` -\&\(-\+\:-\@\/])"), r" \1 "),  # punctuation
    (re.compile(r"([^0-9])([\.,])"), r"\1 \2 "),  # full stops and commas, unless a digit stands before
    (re.compile(r"([\.,])([^0-9])"), r" \1 \2"),  # or after them
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),  # a dash after a digit
)
_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))


def tokens_13a(text: str) -> list[str]:
    """The tokens of NIST's mteval-v13a, which sacrebleu calls "13a"; case is kept."""
    text = text.replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    if "&" in text:
        for entity, character in _ENTITIES:
            text = text.replace(entity, character)
    text = f" {text} "
    for pattern, spaced in _13A:
        text = pattern.sub(spaced, text)
    return text.split()


def ngrams(words: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    """Counts of all n-grams up to ``order``."""
    counts: Counter[tuple[str, ...]] = Counter()
    for n in range(1, order + 1):
        counts.update(zip(*(words[i:] for i in range(n)), strict=False))
    return counts


@lru_cache(maxsize=4096)
def _counted(text: str, order: int) -> tuple[int, Counter[tuple[str, ...]]]:
    words = tokens_13a(text)
    return len(words), ngrams(words, order)


def select(scores: Mapping[Id, float], n: int, mode: Mode = "hard", seed: int = 0) -> list[Id]:
    """The ids of ``n`` examples by the untrained model's scores, from the highest score to the lowest.

    Args:
        scores: id -> score of the untrained model's answer.
        n: how many; if there are fewer, all of them, with a warning.
        mode: the lowest scores ("hard", the paper's choice), the highest ("easy"), those around the middle
            ("medium"), or any ("random").
        seed: of "random".
    """
    if mode not in get_args(Mode):
        raise InvalidValue("mode", mode, " or ".join(map(repr, get_args(Mode))))
    if n < 1 or not scores:
        raise InvalidValue("n" if n < 1 else "scores", n if n < 1 else {}, "at least one example")
    bad = next((i for i, s in scores.items() if not math.isfinite(s)), None)
    if bad is not None:
        raise InvalidValue(f"scores[{bad!r}]", scores[bad], "a finite number")
    if n > len(scores):
        warnings.warn(f"{n} examples were asked for and there are {len(scores)}: all are taken", stacklevel=2)
        n = len(scores)
    rising = sorted(scores, key=lambda i: (scores[i], str(i)))
    start = {"hard": 0, "easy": len(rising) - n, "medium": (len(rising) - n) // 2, "random": 0}[mode]
    if mode == "random":
        rising = random.Random(f"select-{seed}").sample(rising, n)
    chosen = rising[start : start + n]
    return sorted(chosen, key=lambda i: (-scores[i], str(i)))


def agreement(scores_a: Sequence[float], scores_b: Sequence[float], human: Sequence[str]) -> float:
    """How often the answer with the higher score is the one that people preferred.

    Args:
        scores_a, scores_b: of the two answers of each pair; equal scores call a tie.
        human: "a", "b" or "tie" for each pair.
    """
    if not len(scores_a) == len(scores_b) == len(human) or not len(human):
        sizes = (len(scores_a), len(scores_b), len(human))
        raise InvalidValue("scores_a, scores_b, human", sizes, "of one size, at least 1")
    unknown = next((label for label in human if label not in ("a", "b", "tie")), None)
    if unknown is not None:
        raise InvalidValue("human", unknown, "'a', 'b' or 'tie'")
    called = ["a" if x > y else "b" if y > x else "tie" for x, y in zip(scores_a, scores_b, strict=True)]
    return sum(c == h for c, h in zip(called, human, strict=True)) / len(human)


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
