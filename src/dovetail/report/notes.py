"""What a reader must know before believing a table, computed from its figures and put in plain words."""

from __future__ import annotations

from collections.abc import Sequence

from dovetail.core import Arm, Report

FEW_EXAMPLES = 100  # below this, differences of ten points are mostly missed
HARDLY = 0.05  # accuracy under which differences say little
NEARLY_ALL = 0.97


def headline(report: Report) -> str:
    """The report's answer in a sentence or two: which arms are better, which worse."""
    others = [a for a in report.arms if a.difference is not None]
    if not others:
        return _alone(report.arms)
    best = max((a.figures["accuracy"].value for a in report.arms if a.examples), default=1.0)
    if best < HARDLY:
        return f"{report.model} can hardly do this task: no arm gets more than {best:.1%} right."
    sentences = []
    for verdict in ("better", "worse"):
        told = [(a.name, a.difference) for a in others if a.difference and a.difference.verdict == verdict]
        told.sort(key=lambda pair: -abs(pair[1].value))
        if told:
            parts = [f"{name} by {100 * abs(d.value):.1f} points" for name, d in told]
            sentences.append(f"{verdict.capitalize()} than {report.baseline}: {_list(parts)}.")
    unclear = [a.name for a in others if a.difference and a.difference.verdict == "cannot tell"]
    if len(unclear) == len(others):
        return f"No arm is distinguishable from the baseline, {report.baseline}."
    if len(unclear) > 3:
        sentences.append(f"Cannot tell for the other {len(unclear)}.")
    elif unclear:
        sentences.append(f"Cannot tell: {_list(unclear)}.")
    return " ".join(sentences)


def notes(arms: Sequence[Arm], baseline: str) -> tuple[str, ...]:
    """What the figures themselves call for; whoever ran the arms adds what happened on the way.

    Args:
        arms: as ``core.statistics.summarise`` makes them.
        baseline: name of the baseline arm.
    """
    return (
        *_hardly(arms),
        *_nothing_told_apart(arms),
        *_few(arms),
        *_corrected_away(arms),
        *_pairs(arms, baseline),
    )


def _alone(arms: Sequence[Arm]) -> str:
    """Of a report on one arm, or on none that is compared."""
    said = "There is one arm, so nothing is compared."
    if len(arms) != 1 or not arms[0].examples:
        return said
    accuracy = arms[0].figures["accuracy"]
    low, high = accuracy.interval
    return f"{arms[0].name} gets {accuracy.value:.1%} right ({low:.1%} to {high:.1%}). {said}"


def further(arms: Sequence[Arm]) -> list[str]:
    """The task's own figures that say anything: not 0 under every arm, nor everywhere the accuracy again."""
    names = dict.fromkeys(n for a in arms for n in a.figures if n not in ("accuracy", "strict", "parsed"))
    return [n for n in names if any(_tells(a, n) for a in arms)]


def _tells(arm: Arm, name: str) -> bool:
    figure = arm.figures.get(name)
    if figure is None or figure.value != figure.value:
        return False
    return figure.value != 0 and abs(figure.value - arm.figures["accuracy"].value) > 1e-9


def _hardly(arms: Sequence[Arm]) -> list[str]:
    values = [a.figures["accuracy"].value for a in arms if a.examples]
    if values and max(values) < HARDLY:
        if len(arms) == 1:
            return [f"Accuracy is below {HARDLY:.0%}: this model can hardly do this task."]
        return [
            f"Accuracy of every arm is below {HARDLY:.0%}: this model can hardly do this task, "
            "and differences between arms say little."
        ]
    if values and min(values) > NEARLY_ALL:
        return [
            f"Accuracy of every arm is above {NEARLY_ALL:.0%}: this task leaves hardly any room for one "
            "arm to be better."
        ]
    return []


def _nothing_told_apart(arms: Sequence[Arm]) -> list[str]:
    compared = [a.difference for a in arms if a.difference is not None and a.difference.pairs]
    if not compared or any(d.verdict != "cannot tell" for d in compared):
        return []
    farthest = max(abs(bound) for d in compared for bound in d.interval)
    return [
        f"“Cannot tell” does not mean “equal”: differences of up to {100 * farthest:.0f} points would still "
        "fit these examples."
    ]


def _few(arms: Sequence[Arm]) -> list[str]:
    most = max((a.examples for a in arms), default=0)
    if 0 < most < FEW_EXAMPLES:
        return [
            f"Fewer than {FEW_EXAMPLES} examples ({most}): intervals are wide, and only large differences "
            "can be found."
        ]
    return []


def _corrected_away(arms: Sequence[Arm]) -> list[str]:
    compared = [a for a in arms if a.difference is not None]
    lone = [
        a.name
        for a in compared
        if a.difference is not None
        and a.difference.verdict == "cannot tell"
        and (a.difference.interval[0] > 0 or a.difference.interval[1] < 0)
        and a.difference.p_value < 0.05 <= a.difference.p_adjusted
    ]
    if not lone:
        return []
    return [
        f"{_list(lone)}: the interval excludes zero, yet the verdict is “cannot tell”, since with "
        f"{len(compared)} arms compared, chance alone brings this about too easily (Holm's correction)."
    ]


def _pairs(arms: Sequence[Arm], baseline: str) -> list[str]:
    base = next((a.examples for a in arms if a.name == baseline), 0)
    partial = [
        f"{a.name} over {a.difference.pairs}"
        for a in arms
        if a.difference is not None and a.difference.pairs < max(a.examples, base)
    ]
    if not partial:
        return []
    return [
        f"Differences to {baseline} are over the examples that both arms have: {_list(partial)} of "
        f"{max(base, max(a.examples for a in arms))}."
    ]


def _list(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
