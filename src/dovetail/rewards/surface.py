"""What can be seen of a text without understanding it: the features that leaky rewards are fooled by.

Each feature takes texts and gives one number per text. `FEATURES` is what monitors and audits look at where
nothing else is given; any function of that kind can be added.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Feature = Callable[[Sequence[str]], Floats]

_WORD = re.compile(r"\w+|[^\w\s]")
_MARKUP = re.compile(r"\*\*|__|`|^#{1,6} |\|", re.MULTILINE)
_ITEM = re.compile(r"^\s{0,12}(?:[-*•]|\d{1,3}[.)])\s", re.MULTILINE)
_HEDGE = re.compile(
    r"\b(?:may|might|could|perhaps|possibly|probably|likely|seems?|appears?|generally|usually)\b",
    re.IGNORECASE,
)
_AGREEMENT = re.compile(
    r"\b(?:great|good|excellent|absolutely|exactly|you(?:'re| are) right|of course)\b|!", re.I
)
_ASSURANCE = re.compile(
    r"\b(?:yes|checked|check|verified|correct|certainly|definitely|clearly|confident|indeed)\b", re.IGNORECASE
)


def _counting(pattern: re.Pattern[str]) -> Feature:
    return lambda texts: np.array([float(len(pattern.findall(text))) for text in texts])


def repetition(texts: Sequence[str]) -> Floats:
    """One minus the share of distinct ones among a text's runs of three words; 0 where there are none."""
    found = []
    for text in texts:
        words = _WORD.findall(text)
        runs = list(zip(words, words[1:], words[2:], strict=False))
        found.append(1 - len(set(runs)) / len(runs) if runs else 0.0)
    return np.array(found)


#: Name -> feature. ``length`` is in words and marks.
FEATURES: Mapping[str, Feature] = {
    "length": _counting(_WORD),
    "markup": _counting(_MARKUP),
    "list items": _counting(_ITEM),
    "hedges": _counting(_HEDGE),
    "repetition": repetition,
    "agreement": _counting(_AGREEMENT),
    "assurance": _counting(_ASSURANCE),
}


def table(texts: Sequence[str], features: Mapping[str, Feature] = FEATURES) -> Floats:
    """[N, F] features of N texts, in the order of ``features``."""
    return (
        np.column_stack([feature(texts) for feature in features.values()])
        if texts
        else np.zeros((0, len(features)))
    )
