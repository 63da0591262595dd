import math
from dataclasses import replace

import pytest

from dovetail.core import Arm, Cost, Difference, Figure, Report
from dovetail.report import headline, notes
from dovetail.report.notes import further


def arm(name, accuracy, difference=None, examples=200):
    figure = Figure(accuracy, (accuracy, accuracy))
    return Arm(name, "", examples, {"accuracy": figure}, Cost(), {}, difference)


def difference(value, low, high, verdict, p=0.01, adjusted=None, pairs=200):
    return Difference(value, (low, high), p, p if adjusted is None else adjusted, verdict, pairs)


BETTER = difference(0.1, 0.05, 0.15, "better")
WORSE = difference(-0.2, -0.3, -0.1, "worse")
UNCLEAR = difference(0.01, -0.08, 0.1, "cannot tell", p=0.8)


def headline_of(*differences):
    arms = [arm("base", 0.5), *(arm(f"arm{i}", 0.5, d) for i, d in enumerate(differences))]
    return headline(Report("t", "m", "k", "base", arms, ()))


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ((), "base gets 50.0% right (50.0% to 50.0%). There is one arm, so nothing is compared."),
        ((UNCLEAR,), "No arm is distinguishable from the baseline, base."),
        ((BETTER, UNCLEAR), "Better than base: arm0 by 10.0 points. Cannot tell: arm1."),
        ((WORSE, BETTER), "Better than base: arm1 by 10.0 points. Worse than base: arm0 by 20.0 points."),
        ((BETTER, *[UNCLEAR] * 4), "Better than base: arm0 by 10.0 points. Cannot tell for the other 4."),
    ],
)
def test_headline(differences, expected):
    assert headline_of(*differences) == expected


def test_headline_says_that_a_model_cannot_do_the_task():
    arms = [arm("base", 0.01), arm("a", 0.0, UNCLEAR)]
    assert headline(Report("t", "m", "k", "base", arms, ())) == (
        "m can hardly do this task: no arm gets more than 1.0% right."
    )
    told = [arm("base", 0.01), arm("a", 0.4, BETTER)]
    assert headline(Report("t", "m", "k", "base", told, ())).startswith("Better than base")


def test_further_figures_are_those_that_say_something():
    def with_figures(name, accuracy, **figures):
        made = arm(name, accuracy)
        more = {k: Figure(v, (v, v)) for k, v in figures.items()}
        return replace(made, figures={**made.figures, "strict": made.figures["accuracy"], **more})

    arms = [
        with_figures("a", 0.5, mark=0.5, none=0.0, seen=0.2, lost=math.nan),
        with_figures("b", 0.4, mark=0.41, none=0.0, same=0.4),
    ]
    assert further(arms) == ["mark", "seen"]


def test_headline_names_the_largest_difference_first():
    larger = difference(0.3, 0.2, 0.4, "better")
    assert "arm1 by 30.0 points and arm0 by 10.0 points" in headline_of(BETTER, larger)


def test_a_clear_report_needs_no_notes():
    assert notes([arm("base", 0.5), arm("a", 0.6, BETTER)], "base") == ()


def test_hopeless_accuracy_is_said():
    (first, *_) = notes([arm("base", 0.01), arm("a", 0.03, UNCLEAR)], "base")
    assert first == (
        "Accuracy of every arm is below 5%: this model can hardly do this task, and differences between arms "
        "say little."
    )
    assert not any("hardly do" in n for n in notes([arm("base", 0.01), arm("a", 0.4, BETTER)], "base"))


def test_no_room_at_the_top_is_said():
    assert "hardly any room" in notes([arm("base", 0.98), arm("a", 0.99, UNCLEAR)], "base")[0]


def test_cannot_tell_is_not_equal():
    (note,) = notes([arm("base", 0.5), arm("a", 0.5, UNCLEAR)], "base")
    assert "differences of up to 10 points would still fit" in note
    assert notes([arm("base", 0.5), arm("a", 0.5, UNCLEAR), arm("b", 0.6, BETTER)], "base") == ()


def test_few_examples_are_said():
    few = difference(0.5, 0.3, 0.7, "better", pairs=40)
    (note,) = notes([arm("base", 0.2, examples=40), arm("a", 0.7, few, examples=40)], "base")
    assert note.startswith("Fewer than 100 examples (40)")


def test_an_interval_without_zero_and_no_verdict_is_explained():
    lone = difference(0.05, 0.005, 0.09, "cannot tell", p=0.03, adjusted=0.09)
    found = notes([arm("base", 0.5), arm("a", 0.55, lone), arm("b", 0.6, BETTER)], "base")
    assert len(found) == 1
    assert found[0].startswith(
        "a: the interval excludes zero, yet the verdict is “cannot tell”, since with 2 arms"
    )


def test_differences_over_part_of_the_examples_are_said():
    part = difference(0.1, 0.05, 0.15, "better", pairs=150)
    (note,) = notes([arm("base", 0.5), arm("a", 0.6, part, examples=150)], "base")
    assert note == "Differences to base are over the examples that both arms have: a over 150 of 200."


def test_an_arm_that_never_ran_does_not_break_the_notes():
    nan = math.nan
    empty = difference(nan, nan, nan, "cannot tell", p=1.0, pairs=0)
    found = notes([arm("base", 0.5), arm("a", nan, empty, examples=0)], "base")
    assert not any("nan" in note for note in found)
    assert any("a over 0 of 200" in note for note in found)
