"""The main job against a model that needs no weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from comparison_fakes import BoxedScorer, Broken, FakeEngine, FakeModel, NeedsMore, sums

import dovetail as dt
from dovetail.comparison import Interrupted, compare
from dovetail.comparison.progress import Silent
from dovetail.core import (
    BadData,
    BadRow,
    Completion,
    InvalidValue,
    NotReachable,
    Report,
    Task,
    UnknownName,
    Unsupported,
)
from dovetail.decoding import Greedy, Sampling

ARMS = ["greedy", "sampling:temperature=0.6", "self-consistency:n=3"]


def steady(report: Report) -> tuple[Any, ...]:
    """A report without what a clock or the system's memory says."""

    def cost(c: Any) -> Any:
        return replace(c, seconds=0.0, peak_memory=0)

    arms = [replace(a, cost=cost(a.cost), mean_cost={**a.mean_cost, "seconds": None}) for a in report.arms]
    outcomes = [replace(o, cost=cost(o.cost)) for o in report.outcomes]
    record = {k: v for k, v in report.record.items() if k not in ("started", "finished", "machine")}
    return arms, outcomes, record, list(report.notes), report.complete, report.title, report.baseline


def test_the_package_offers_it() -> None:
    assert dt.compare is compare


def test_every_arm_answers_every_example_from_the_same_streams() -> None:
    model = FakeModel()
    report = compare(model, sums(70), ARMS, batch=16)
    assert [a.name for a in report.arms] == ARMS
    assert report.baseline == "greedy"
    assert report.complete
    ids = [f"sum-{i}" for i in range(70)]
    for arm in ARMS:
        rows = [o for o in report.outcomes if o.arm == arm]
        assert [o.example_id for o in rows] == ids
        assert report.arm(arm).figures["accuracy"].value == pytest.approx(sum(o.value for o in rows) / 70)
    # Greedy of the fake is right on 70% of the streams, sampling on fewer.
    assert 0.55 < report.arm("greedy").figures["accuracy"].value < 0.85
    assert report.arm(ARMS[1]).difference is not None
    # Arms take turns by chunks, so that a partial report compares like with like.
    assert [len(c) for c in model.engine.calls[:3]] == [16, 16, 48]
    assert [len(c) for c in model.engine.calls[-3:]] == [6, 6, 18]


def test_the_same_seed_gives_the_same_report_and_another_one_does_not() -> None:
    once, again = (compare(FakeModel(), sums(), ARMS) for _ in range(2))
    assert steady(once) == steady(again)
    other = compare(FakeModel(), sums(), ARMS, seed=1)
    assert steady(other)[1] != steady(once)[1]


def test_batches_do_not_show_in_the_outcomes() -> None:
    one, many = (compare(FakeModel(), sums(40), ARMS, batch=b) for b in (1, 64))
    assert steady(one)[1] == steady(many)[1]


def test_self_consistency_votes_by_the_tasks_extraction() -> None:
    class Parity(BoxedScorer):
        def extract(self, text: str) -> str:
            return "odd" if int(super().extract(text)) % 2 else "even"

    task = replace(sums(30), scorer=Parity())
    report = compare(FakeModel(), task, ["self-consistency:n=5"])
    for outcome in report.outcomes:
        assert set(outcome.columns["votes"]) <= {"odd", "even"}
        assert sum(outcome.columns["votes"].values()) == 5


def test_costs_are_those_of_the_completions_and_memory_is_measured() -> None:
    report = compare(FakeModel(), sums(10), ARMS)
    greedy, _, voted = report.arms
    rows = [o for o in report.outcomes if o.arm == "greedy"]
    assert greedy.cost.tokens_written == sum(o.cost.tokens_written for o in rows) > 0
    assert voted.cost.tokens_written == 3 * greedy.cost.tokens_written
    assert greedy.cost.peak_memory > 10 * 2**20
    assert "upper bound" in report.record["peak_memory"]


def test_thinking_and_instruction_reach_the_prompt() -> None:
    report = compare(
        FakeModel(), sums(4), ["greedy", "off=greedy:thinking=false"], instruction="Be brief.", thinking=True
    )
    assert report.outcomes[0].prompt == "Be brief. | 0+0"
    assert report.outcomes[4].prompt == "Be brief. | 0+0 (no thinking)"
    assert report.record["arms"]["off"]["prompt"] == "Be brief. | 0+0 (no thinking)"
    assert report.record["task"]["instruction"] == "Be brief."


def test_a_prompting_method_puts_the_question() -> None:
    @dataclass(frozen=True)
    class Polite:
        word: str = "please"

        def messages(self, example: Any) -> Any:
            return [replace(m, content=f"{self.word} {m.content}") for m in example.messages]

    class Fake(FakeEngine):
        def _one(self, prompt: Any, limits: Any, step: Any) -> Completion:
            return Completion("\\boxed{1}")

    report = compare(FakeModel(engine=Fake()), sums(3), {"plain": "greedy", "polite": [Polite(), Greedy()]})
    assert next(o.prompt for o in report.outcomes if o.arm == "polite") == "please 0+0"
    assert "Polite" in report.arm("polite").description


def test_the_record_says_how_it_came_about() -> None:
    record = compare(FakeModel(), sums(5), ARMS, seed=3, stop=["\n"], max_new_tokens=64).record
    assert record["prompt"] == "3+0"
    assert record["task"]["extraction"] == BoxedScorer.extraction
    assert record["task"]["version"] == "1"
    assert record["limits"] == {"max_new_tokens": 64, "stop": ["\n"]}
    assert record["arms"][ARMS[1]]["decoding"]["temperature"] == 0.6
    assert record["seed"] == 3
    assert {"python", "torch", "dovetail"} <= set(record["versions"])
    assert {"commit", "machine", "model", "started", "finished"} <= set(record)
    json.dumps(record)


def test_an_example_that_fails_is_reported_and_counted_and_the_rest_goes_on() -> None:
    report = compare(FakeModel(), sums(20, {7: "boom"}), ["greedy", "sampling"])
    for arm in ("greedy", "sampling"):
        failed = [o for o in report.outcomes if o.arm == arm and o.error]
        assert [(o.example_id, o.value, o.finish_reason) for o in failed] == [("sum-7", 0.0, "error")]
        assert "must be harmless" in failed[0].error
    clean = compare(FakeModel(), sums(20), ["greedy", "sampling"])
    others = [o for o in steady(report)[1] if o.example_id != "sum-7"]
    assert others == [o for o in steady(clean)[1] if o.example_id != "sum-7"]
    assert any("every arm: 1 of 20 examples failed" in note and "sum-7" in note for note in report.notes)


class Ears(Silent):
    """Keeps what the user is told."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def say(self, text: str) -> None:
        self.heard.append(text)


def test_an_arm_that_always_fails_does_not_take_the_others_along() -> None:
    ears = Ears()
    report = compare(FakeModel(), sums(10), {"ok": "greedy", "bad": Broken()}, batch=4, progress=ears)
    assert report.arm("bad").figures["accuracy"].value == 0.0
    assert report.arm("ok").figures["accuracy"].value > 0.3
    assert any("bad: 10 of 10 examples failed" in note and "by design" in note for note in report.notes)
    assert len(ears.heard) == 1
    assert "ZeroDivisionError" in ears.heard[0]


def test_a_scorer_that_raises_costs_one_example() -> None:
    class Picky(BoxedScorer):
        def __call__(self, example: Any, completion: Any) -> Any:
            if example.id == "sum-2":
                raise RuntimeError("cannot judge")
            return super().__call__(example, completion)

    report = compare(FakeModel(), replace(sums(5), scorer=Picky()), ["greedy"])
    assert [o.example_id for o in report.outcomes if o.error] == ["sum-2"]


def test_arms_that_do_not_fit_are_all_named_before_anything_is_generated(tmp_path: Path) -> None:
    model = FakeModel()
    arms = {"fine": "greedy", "deep": NeedsMore(depth=1), "deeper": NeedsMore(depth=2)}
    with pytest.raises(Unsupported, match=r"deep: NeedsMore needs cache, hidden.*deeper: NeedsMore"):
        compare(model, sums(), arms, out=tmp_path / "run")
    assert model.engine.calls == []
    assert not (tmp_path / "run").exists()


def test_what_only_a_rehearsal_shows_is_still_found_in_time() -> None:
    class Shy(FakeEngine):
        def generate(self, prompts: Any, limits: Any, step: Any = None) -> list[Completion]:
            if isinstance(step, Sampling):
                raise Unsupported("no dice here")
            return super().generate(prompts, limits, step)

    model = FakeModel(engine=Shy())
    with pytest.raises(Unsupported, match="sampling: no dice here"):
        compare(model, sums(), ["greedy", "sampling"])
    assert model.engine.calls == []


def test_a_method_within_a_method_is_checked_too() -> None:
    with pytest.raises(Unsupported, match="voted: NeedsMore needs"):
        compare(FakeModel(), sums(), {"voted": dt.decoding.SelfConsistency(2, inner=NeedsMore())})


def test_bad_rows_are_named_and_kept_in_the_record() -> None:
    bad = [BadRow("file.jsonl", 3, "not JSON"), BadRow("file.jsonl", 9, "no answer")]
    report = compare(FakeModel(), sums(5, bad=bad), ["greedy"])
    assert report.record["bad_rows"] == [
        {"source": "file.jsonl", "line": 3, "reason": "not JSON"},
        {"source": "file.jsonl", "line": 9, "reason": "no answer"},
    ]
    for row in bad:
        assert any(str(row) in note for note in report.notes)


def test_notes_tell_what_was_cut_off_or_missing() -> None:
    report = compare(FakeModel(), sums(30), ["greedy"], max_new_tokens=5, limit=50)
    cut = sum(o.finish_reason == "length" for o in report.outcomes)
    assert 0 < cut < 30
    assert any(f"{cut} of 30 completions were cut off, at max_new_tokens=5" in n for n in report.notes)
    assert "50 examples were asked for; the task has 30" in report.notes


def test_a_task_beyond_the_model_is_called_that() -> None:
    task = replace(sums(30), scorer=type("Never", (BoxedScorer,), {"extract": lambda s, t: ""})())
    report = compare(FakeModel(), task, ["greedy"])
    assert any("can hardly do this task" in note for note in report.notes)
    assert any("30 of 30 completions do not answer in the form asked for" in note for note in report.notes)


class ByLikelihood:
    name, extraction = "likelihood", "the likeliest"

    def continuations(self, example: Any) -> tuple[str, ...]:
        return ("right", "wrong")

    def choose(self, example: Any, found: Sequence[float], cost: Any) -> Completion:
        text = self.continuations(example)[found.index(max(found))]
        return Completion(text, cost=cost, columns={"loglikelihoods": list(found)})

    def __call__(self, example: Any, completion: Completion) -> Any:
        value = float(completion.text == "right")
        return dt.core.Score(value, value, completion.text)

    def extract(self, text: str) -> str:
        return text


def test_choices_are_ranked_by_likelihood_where_the_scorer_asks_for_it() -> None:
    class Ranking(FakeEngine):
        def loglikelihood(self, prompts: Sequence[Any], continuations: Sequence[str]) -> list[float]:
            first = int(prompts[0].text.split("+")[0])
            return [-1.0 if (c == "right") == (first % 2 == 0) else -2.0 for c in continuations]

    model = FakeModel(engine=Ranking())
    report = compare(model, replace(sums(20), scorer=ByLikelihood()), ["greedy"])
    assert report.arm("greedy").figures["accuracy"].value == 0.5
    assert model.engine.calls == []
    assert report.outcomes[0].cost.tokens_read == 2 * len("0+0")
    assert any("decodings play no part" in note for note in report.notes)


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"baseline": "gredy"}, UnknownName, "baseline arm 'gredy'.*did you mean greedy"),
        ({"batch": 0}, InvalidValue, "batch"),
        ({"limit": 0}, InvalidValue, "limit"),
        ({"workers": "dask"}, InvalidValue, "workers"),
        ({"max_new_tokens": 0}, InvalidValue, "max_new_tokens"),
        ({"resume": True}, InvalidValue, "resume"),
        ({"model_options": {"device": "cpu"}}, InvalidValue, "model_options"),
        ({"workers": "ray"}, InvalidValue, "by name"),
    ],
)
def test_impossible_parameters_stop_before_anything_is_done(
    wrong: dict[str, Any], error: type[Exception], words: str
) -> None:
    model = FakeModel()
    with pytest.raises(error, match=words):
        compare(model, sums(), ["greedy"], **wrong)
    assert model.engine.calls == []


def test_a_task_without_examples_is_no_task() -> None:
    empty = Task("empty", lambda limit, seed: ([], [BadRow("f", 1, "broken")]), BoxedScorer())
    with pytest.raises(BadData, match="empty has no readable example; f:1: broken"):
        compare(FakeModel(), empty, ["greedy"])


# --- interrupted and resumed -------------------------------------------------------------------------


def test_out_holds_journal_and_report_and_is_not_overwritten_unasked(tmp_path: Path) -> None:
    report = compare(FakeModel(), sums(40), ARMS, out=tmp_path)
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {"journal.jsonl", "report.html", "report.json", "examples.parquet"}
    assert len((tmp_path / "journal.jsonl").read_text().splitlines()) == 1 + 3 * 40
    with pytest.raises(Unsupported, match="not empty"):
        compare(FakeModel(), sums(40), ARMS, out=tmp_path)
    again = FakeModel()
    assert steady(compare(again, sums(40), ARMS, out=tmp_path, resume=True)) == steady(report)
    assert again.engine.calls == []
    anew = FakeModel()
    compare(anew, sums(40), ARMS, out=tmp_path, overwrite=True)
    assert len(anew.engine.calls) == 6


@pytest.mark.parametrize("after", [0, 1, 5, 7])
def test_ctrl_c_leaves_a_partial_report_and_a_resumable_run(tmp_path: Path, after: int) -> None:
    whole = compare(FakeModel(), sums(40), ARMS, batch=10, out=tmp_path / "whole")
    out = tmp_path / "cut"
    model = FakeModel(engine=FakeEngine(interrupt_after=after))
    ears = Ears()
    with pytest.raises(Interrupted) as stopped:
        compare(model, sums(40), ARMS, batch=10, out=out, progress=ears)
    assert ears.heard == ["interrupted: writing the report on what is finished"]
    partial = stopped.value.report
    if after < 3:
        assert partial is None
    else:
        assert partial is not None
        assert not partial.complete
        assert {o.example_id for o in partial.outcomes} == {f"sum-{i}" for i in range(10 * (after // 3))}
        assert any(f"first {10 * (after // 3)} of 40 examples" in note for note in partial.notes)
        assert json.loads((out / "report.json").read_text())["complete"] is False
    model = FakeModel()
    resumed = compare(model, sums(40), ARMS, batch=10, out=out, resume=True)
    assert len(model.engine.calls) == 12 - after  # nothing finished is done again
    assert steady(resumed) == steady(whole)


def test_a_server_that_goes_away_stops_the_run_and_spoils_nothing(tmp_path: Path) -> None:
    with pytest.raises(NotReachable, match="went away"):
        compare(FakeModel(), sums(40, {25: "unplugged"}), ARMS, batch=10, out=tmp_path)
    # 2 whole chunks of 3 arms: what was answered is kept, and the failing question is not called wrong.
    assert len((tmp_path / "journal.jsonl").read_text().splitlines()) == 1 + 2 * 3 * 10


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 1}, "seed: 0 before, 1 now"),
        ({"limit": 30}, "limit: 200 before, 30 now"),
        ({"max_new_tokens": 99}, "limits.max_new_tokens: 512 before, 99 now"),
        ({"batch": 7}, "batch: 32 before, 7 now"),
        ({"thinking": False}, "thinking"),
        ({"instruction": "other"}, "task.instruction"),
        ({"arms": ["greedy"]}, "arms.sampling"),
        ({"model": FakeModel("other")}, "model.name"),
        ({"task": sums(41)}, "task.digest"),
        ({"task": sums(40, {3: "boom"})}, "task.digest"),
    ],
)
def test_a_run_is_resumed_only_under_its_own_settings(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    usual: dict[str, Any] = {"model": FakeModel(), "task": sums(40), "arms": ARMS}
    compare(**usual, out=tmp_path)
    with pytest.raises(Unsupported, match="other settings") as error:
        compare(**{**usual, **change}, out=tmp_path, resume=True)
    assert words in str(error.value)


def test_other_package_versions_are_noted(tmp_path: Path) -> None:
    compare(FakeModel(), sums(4), ["greedy"], out=tmp_path)
    journal = tmp_path / "journal.jsonl"
    header, rest = journal.read_text().split("\n", 1)
    before = json.loads(header)
    before["versions"]["torch"] = "1.0"
    journal.write_text(json.dumps(before) + "\n" + rest)
    report = compare(FakeModel(), sums(4), ["greedy"], out=tmp_path, resume=True)
    assert any('torch: "1.0" before' in note for note in report.notes)
