"""Two Ray workers on this machine: the same result as one process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from comparison_fakes import sums

from dovetail.comparison import compare
from dovetail.core import MissingExtra, UnknownName

ARMS = ["greedy", "sampling:temperature=0.8"]


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_two_ray_workers_write_what_one_process_writes(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="pip install 'dovetail[ray]'")
    one = compare("pico", sums(16), ARMS, batch=4, max_new_tokens=32)
    two = compare(
        "pico", sums(16), ARMS, batch=4, max_new_tokens=32, workers="ray", n_workers=2, out=tmp_path
    )

    def told(report: object) -> list[tuple[object, ...]]:
        return [
            (o.arm, o.example_id, o.prompt, o.completion, o.value, o.finish_reason, o.cost.tokens_written)
            for o in report.outcomes  # type: ignore[attr-defined]
        ]

    assert told(two) == told(one)
    assert [a.difference for a in two.arms] == [a.difference for a in one.arms]
    assert len((tmp_path / "journal.jsonl").read_text().splitlines()) == 1 + 2 * 16
    assert two.record["workers"] == "2 Ray workers"
    assert any("Ray workers shared the machine" in note for note in two.notes)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_workers_own_error_is_the_one_that_is_raised() -> None:
    pytest.importorskip("ray", reason="pip install 'dovetail[ray]'")
    with pytest.raises(UnknownName, match="did you mean pico"):
        compare("picoo", sums(4), ARMS, workers="ray", n_workers=1)


def test_without_ray_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"pip install 'dovetail\[ray\]'"):
        compare("pico", sums(4), ARMS, workers="ray")
