"""The tax by hand."""

from __future__ import annotations

import pytest

from dovetail.core import Example, InvalidValue
from dovetail.training.refusal_report import refusal_report

NO, FOUR = "\\boxed{I don't know.}", "\\boxed{4}"
SETS = {
    "sums": [Example.ask(str(i), "?", "4") for i in range(8)],
    "traps": [Example.ask(str(i), "?") for i in range(8)],
}


def test_refusals_and_accuracy_by_hand() -> None:
    before = {"sums": [NO] * 4 + [FOUR] * 4, "traps": [NO] * 6 + [FOUR] * 2}
    after = {"sums": [FOUR] * 7 + ["\\boxed{5}"], "traps": [NO] + [FOUR] * 7}
    sums, traps = refusal_report(before, after, SETS)
    assert (sums["answerable"], traps["answerable"]) == (True, False)
    assert (sums["refusal_before"].value, sums["refusal_after"].value) == (0.5, 0.0)
    assert (sums["accuracy_before"].value, sums["accuracy_after"].value) == (0.5, 0.875)
    assert sums["accuracy_change"].value == 0.375
    assert traps["tax"].value == pytest.approx(5 / 8)
    assert traps["tax"].verdict == "better"
    assert "accuracy_before" not in traps


def test_bad_sets_are_named() -> None:
    mixed = {"all": [*SETS["sums"], *SETS["traps"]]}
    with pytest.raises(InvalidValue, match="all"):
        refusal_report({"all": [NO] * 16}, {"all": [NO] * 16}, mixed)
    with pytest.raises(InvalidValue, match="traps"):
        refusal_report({"traps": [NO]}, {"traps": [NO]}, {"traps": SETS["traps"]})
