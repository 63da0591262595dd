"""What training did to a model's refusals: the tax, and what lifting it costs.

Song et al., "The Hallucination Tax of Reinforcement Finetuning", arXiv 2505.13988: refusal on unanswerable
questions before minus after training; accuracy and false refusals on answerable ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dovetail.core import Example, InvalidValue
from dovetail.core.statistics import paired_difference, score
from dovetail.rewards.refusal import answerable, categorize


def refusal_report(
    before: Mapping[str, Sequence[str]],
    after: Mapping[str, Sequence[str]],
    sets: Mapping[str, Sequence[Example]],
) -> list[dict[str, Any]]:
    """What training did to refusal, a row per set of questions.

    Args:
        before, after: responses to each set, before and after training; of the same questions in order.
        sets: the questions; each set is answerable or unanswerable throughout.

    Returns:
        rows with ``set``, ``answerable``, ``refusal_before``, ``refusal_after`` and ``tax`` (the paired
        difference before - after), and for answerable sets ``accuracy_before``, ``accuracy_after`` and
        ``accuracy_change``: figures with 95% intervals.

    Raises:
        InvalidValue: a set mixes both kinds, or has another number of responses than of questions.
    """
    rows: list[dict[str, Any]] = []
    for name, examples in sets.items():
        kinds = {answerable(e) for e in examples}
        if len(kinds) != 1:
            raise InvalidValue(f"sets[{name!r}]", "both kinds", "answerable or unanswerable throughout")
        golds = [e if answerable(e) else None for e in examples]
        categories = []
        for texts in (before[name], after[name]):
            if len(texts) != len(examples):
                raise InvalidValue(f"responses to {name!r}", len(texts), f"{len(examples)} of them")
            categories.append([categorize(t, g) for t, g in zip(texts, golds, strict=True)])
        refusals = [[float(c == -1) for c in seen] for seen in categories]
        row: dict[str, Any] = {"set": name, "answerable": kinds.pop()}
        row |= {"refusal_before": score(refusals[0]), "refusal_after": score(refusals[1])}
        row["tax"] = paired_difference(refusals[0], refusals[1], scale=1.0)
        if row["answerable"]:
            right = [[float(c == 1) for c in seen] for seen in categories]
            row |= {"accuracy_before": score(right[0]), "accuracy_after": score(right[1])}
            row["accuracy_change"] = paired_difference(right[1], right[0], scale=1.0)
        rows.append(row)
    return rows
