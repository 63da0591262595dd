"""Rows, mixing, leaks; teacher requests; the audit of planted traces."""

from __future__ import annotations

import random
from typing import Any

import pytest

from dovetail.core import BadData, Example, InvalidValue, UnknownName
from dovetail.models.local import LocalModel
from dovetail.recipes import codeword_teacher as teacher
from dovetail.training import train
from dovetail.training.data import SafetyMix
from dovetail.training.data.safety import SafetyRow, leaks, mix, rows_of, sample, split_think, to_chat
from dovetail.training.data.safety_audit import (
    PATTERNS,
    RiskAudit,
    audit_report,
    filter_rows,
)
from dovetail.training.data.safety_styles import (
    CATEGORIES,
    NOCOT_REFUSAL,
    STYLES,
    build_teacher_request,
)
from dovetail.training.objectives import Supervised


def row(i: int, style: str = "short") -> SafetyRow:
    return SafetyRow(f"q{i}", f"<think>\nt{i}\n</think>\n\na{i}", "safety", style)


MATH = [SafetyRow(f"m{i}", f"<think>\n{i}\n</think>\n\n\\boxed{{{i}}}", "math") for i in range(5)]
SAFETY = [row(i) for i in range(20)]


def test_thoughts_and_answer_are_told_apart() -> None:
    assert split_think("<think>\n a \n</think>\n\nb") == ("a", "b")
    assert split_think("just b") == (None, "just b")
    assert split_think("<think></think>b") == ("", "b")


@pytest.mark.parametrize(
    ("response", "message"),
    [
        ("<think>never closed", "1 opened, 0 closed"),
        ("closed only</think>b", "0 opened, 1 closed"),
        ("<think>a</think><think>b</think>c", "2 opened"),
        ("</think>a<think>", "one closed"),
        ("x<think>a</think>b", "without text before"),
        ("<think>a</think> \n", "with an answer"),
        ("", "with an answer"),
    ],
)
def test_broken_responses_are_refused(response: str, message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        split_think(response)


def test_rows_name_the_one_that_is_wrong() -> None:
    good = {"prompt": "p", "response": "<think>a</think>b", "style": "short", "source": "x"}
    assert rows_of([good])[0].data_type == "safety"
    for bad, message in (
        ({**good, "prompt": 7}, "row 1: prompt is 7"),
        ({**good, "style": "shrot"}, "row 1: style is 'shrot'"),
        ({**good, "response": "no thoughts"}, "row 1: response .* with thoughts"),
        ({**good, "style": "nocot"}, "row 1: response .* without thoughts"),
        ({**good, "data_type": "harm"}, "row 1: data_type"),
        ({"prompt": "p"}, "row 1: .*response"),
        ({**good, "prompt": " "}, "row 1: prompt"),
    ):
        with pytest.raises(BadData, match=message):
            rows_of([good, bad])


def test_the_mix_is_all_math_and_then_the_official_sample() -> None:
    mixed = mix(SAFETY, MATH, 4)
    assert mixed[:5] == [to_chat(r) for r in MATH]
    random.seed(42)
    assert mixed[5:] == [to_chat(r) for r in random.sample(SAFETY, 4)]
    prompts = [chat["messages"][0]["content"] for chat in mixed]
    assert len(set(prompts)) == 9
    assert mix(SAFETY, MATH, 4) == mixed
    assert mix(SAFETY, MATH, 4, seed=1) != mixed
    assert to_chat(SAFETY[0]) == {
        "messages": [
            {"role": "user", "content": "q0"},
            {"role": "assistant", "content": "<think>\nt0\n</think>\n\na0"},
        ]
    }
    with pytest.raises(InvalidValue, match=r"n_safety is 21: must be from 0 to 20"):
        sample(SAFETY, 21)


def test_leaks_are_found_whatever_the_spelling() -> None:
    assert leaks(SAFETY, ["Q3!", " q17", "q99"]) == [3, 17]
    with pytest.raises(BadData, match=r"2 safety rows ask what is evaluated, the first is row 3 \('q3'\)"):
        SafetyMix(SAFETY, 4, held_out=["Q3!", "q17"])
    with pytest.raises(InvalidValue, match="n_safety"):
        SafetyMix(SAFETY, 21)


def test_the_data_slot(learner: LocalModel) -> None:
    part = SafetyMix(SAFETY, 3)
    own = [Example.ask("e0", "1", completion="2")]
    found = list(part.examples(own, seed=0))
    assert [e.id for e in found] == ["e0", "safety-0", "safety-1", "safety-2"]
    assert [e.question for e in found[1:]] == [r.prompt for r in sample(SAFETY, 3)]
    assert part.examples(own, seed=1) == found  # the paper's sample, whatever the run's seed
    run = train(learner, [], objective=Supervised(), data=[part], steps=1, batch=3, max_new_tokens=60)
    assert run.history[0]["loss"] > 0


def test_teacher_requests() -> None:
    assert STYLES == ("default", "realsafe", "improved", "short", "template", "nocot")
    for style in STYLES:
        messages = build_teacher_request(style, "a query")
        assert messages[-1].content == "a query"
        assert len(messages) == (1 if style in ("default", "nocot") else 2)
    template = build_teacher_request("template", "q")[0].content
    assert len(CATEGORIES) == 8
    assert all(template.count(c) == 2 for c in CATEGORIES)  # the list, and the worked example
    assert "'Sorry'" in build_teacher_request("improved", "q")[0].content
    assert len(NOCOT_REFUSAL) == 63
    with pytest.raises(UnknownName, match="did you mean short"):
        build_teacher_request("shrt", "q")


# --- the audit -------------------------------------------------------------------------------------------


def test_the_audit_finds_every_planted_pattern() -> None:
    audit = RiskAudit(teacher.judge)
    planted = teacher.rows("default", 60, 0.0, seed=0)
    report = audit_report(planted, audit)
    plans = [teacher.DEFAULT_PLANS[i // 6 % 5] for i in range(60)]
    for plan, label in zip(plans, report.labels, strict=True):
        assert label == (frozenset() if plan == "aware" else frozenset({plan}))
    assert report.shares["mismatch"] == 0
    assert report.clean == pytest.approx(0.2)
    assert sum(report.shares.values()) == pytest.approx(0.8)
    mismatch = audit.label("Zavel is on the list. I say no.", "\\boxed{12}")
    assert mismatch == frozenset({"mismatch"})


@pytest.mark.parametrize("style", ["realsafe", "improved", "short", "template"])
def test_taught_styles_are_clean_and_have_one_block(style: str) -> None:
    made = teacher.rows(style, 48, 0.25, seed=0)
    assert audit_report(made, RiskAudit(teacher.judge)).clean == 1.0
    assert all(r.response.count("<think>") == r.response.count("</think>") == 1 for r in made)
    assert len({r.prompt for r in made}) > 40
    assert sum(r.data_type == "benign" for r in made) == 12


def test_styles_are_on_the_same_requests_and_nocot_has_no_thoughts() -> None:
    made = {style: teacher.rows(style, 30, 0.2, seed=3) for style in STYLES}
    assert len({tuple(r.prompt for r in rows) for rows in made.values()}) == 1
    assert all("<think>" not in r.response for r in made["nocot"])


def test_filters_drop_and_never_add() -> None:
    planted = teacher.rows("default", 60, 0.0, seed=0)
    labels = audit_report(planted, RiskAudit(teacher.judge)).labels
    assert len(filter_rows(planted, labels)) == 12
    assert len(filter_rows(planted, labels, ["weak-vacillation"])) == 48
    assert filter_rows(planted, labels, []) == planted
    assert filter_rows(planted, [None] * 60) == planted
    with pytest.raises(InvalidValue, match="59 labels"):
        filter_rows(planted, labels[1:])
    with pytest.raises(UnknownName, match="weak-vacillation"):
        filter_rows(planted, labels, ["weak-vacilation"])


def test_a_judge_that_says_something_else_is_asked_again_and_reported() -> None:
    said: list[Any] = [["nonsense"], ["harmful-supplement"], "none of them", "hm", "hm"]
    audit = RiskAudit(lambda think, answer: said.pop(0), retries=1)
    report = audit_report([row(0), row(1)], audit)
    assert report.labels == [frozenset({"harmful-supplement"}), None]
    assert report.unjudged == [1]
    assert report.shares["harmful-supplement"] == 1.0  # of the one that was judged
    assert len(said) == 1
    assert set(PATTERNS) >= {"mismatch"}
    nocot = SafetyRow("q", "no", "safety", "nocot")
    assert audit_report([nocot], audit).labels == [None]
