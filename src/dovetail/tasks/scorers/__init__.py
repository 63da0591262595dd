"""How answers are judged. Every scorer reports strict and lenient scores side by side; none raises on model
output.

| name | class | judges |
|---|---|---|
| auto | Auto | choices by letter, numbers by value, the rest as mathematics or words: for files |
| math | Math | equal as mathematics (math-verify, in the sandbox) or as words |
| numeric | Numeric | equal numbers within a tolerance |
| exact | Exact | equal text, after light normalisation |
| f1 | TokenF1 | word overlap (SQuAD) |
| choice | MultipleChoice | the letter of a choice, written by the model |
| likelihood | ChoiceLikelihood | the choice that the model finds most likely |
"""

from __future__ import annotations

from dovetail.core import InvalidValue, Scorer, UnknownName
from dovetail.tasks.scorers.answer import AnswerScorer, Judgement, references
from dovetail.tasks.scorers.auto import Auto
from dovetail.tasks.scorers.choice_likelihood import ChoiceLikelihood
from dovetail.tasks.scorers.exact import Exact
from dovetail.tasks.scorers.math import Math
from dovetail.tasks.scorers.multiple_choice import MultipleChoice
from dovetail.tasks.scorers.numeric import Numeric
from dovetail.tasks.scorers.token_f1 import TokenF1

_SCORERS: dict[str, type] = {
    "auto": Auto,
    "math": Math,
    "numeric": Numeric,
    "exact": Exact,
    "f1": TokenF1,
    "choice": MultipleChoice,
    "likelihood": ChoiceLikelihood,
}

__all__ = [
    "AnswerScorer",
    "Auto",
    "ChoiceLikelihood",
    "Exact",
    "Judgement",
    "Math",
    "MultipleChoice",
    "Numeric",
    "TokenF1",
    "references",
    "scorer",
]


def scorer(which: str | Scorer) -> Scorer:
    """The scorer of that short name with its defaults; a scorer object is returned as it is.

    Raises:
        UnknownName: no scorer has that name.
        InvalidValue: ``which`` is neither a name nor a scorer.
    """
    if isinstance(which, str):
        if which not in _SCORERS:
            raise UnknownName("scorer", which, _SCORERS)
        made: Scorer = _SCORERS[which]()
        return made
    if callable(which) and hasattr(which, "extract"):
        return which
    raise InvalidValue("scorer", which, f"a scorer or one of {', '.join(_SCORERS)}")
