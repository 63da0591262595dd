"""Stages partition the problems from easy to hard; hints give away the beginning and nothing else."""

from __future__ import annotations

import math

import pytest

from dovetail.core import Example, InvalidValue, Message
from dovetail.training.data.curriculum import (
    CustomizedCurriculum,
    GuidedPrompting,
    build_curriculum,
    guided_prompt,
    hint_lengths,
    split_steps,
    with_hint,
)

SOLUTION = "2+3=5\n5+4=9\n9-1=8\n8+8=16"


def problems(accuracies: list[float], **columns: object) -> list[Example]:
    return [
        Example.ask(f"e{i}", f"q{i}?", "16", accuracy=a, solution=SOLUTION, **columns)
        for i, a in enumerate(accuracies)
    ]


# --- stages


def test_quantiles_are_equal_stable_and_complete() -> None:
    accuracies = [0.5, 1.0, 0.0, 0.5, 0.25, 1.0, 0.5]
    stages = build_curriculum(accuracies, 3)
    assert stages == [[1, 5, 0], [3, 6], [4, 2]]
    assert sorted(i for stage in stages for i in stage) == list(range(7))
    means = [sum(accuracies[i] for i in s) / len(s) for s in stages]
    assert means == sorted(means, reverse=True)


def test_thresholds_may_leave_a_stage_empty() -> None:
    assert build_curriculum([1.0, 0.9, 0.1], 3, "threshold") == [[0, 1], [], [2]]
    assert build_curriculum([1.0, 0.9, 0.1], 2, "threshold", [0.95]) == [[0], [1, 2]]
    assert build_curriculum([0.5, 0.49], 2, "threshold", [0.5]) == [[0], [1]]


def test_one_stage_is_the_data() -> None:
    assert sorted(build_curriculum([0.1, 0.9, 0.5], 1)[0]) == [0, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (([0.5, math.nan],), r"accuracies\[1\]"),
        (([1.5],), r"accuracies\[0\]"),
        (([0.5, 0.4], 3), "stages"),
        (([0.5], 0), "stages"),
        (([0.5, 0.4], 2, "other"), "mode"),
        (([0.5, 0.4], 2, "threshold", [0.1, 0.2]), "thresholds"),
        (([0.1, 0.2, 0.3], 3, "threshold", [0.1, 0.2]), "thresholds"),
    ],
)
def test_impossible_stages_are_named(arguments: tuple, name: str) -> None:
    with pytest.raises(InvalidValue, match=name):
        build_curriculum(*arguments)


def test_steps_are_drawn_from_their_stage() -> None:
    part = CustomizedCurriculum(stages=2, stage_steps=3)
    pool = part.examples(problems([0.1, 1.0, 0.9, 0.0]), 0)
    drawn = [[e.id for e in part.draw(step, pool)] for step in range(8)]
    assert drawn == [["e1", "e2"]] * 3 + [["e0", "e3"]] * 5
    assert part.figures() == {"stage": 1.0}
    backwards = CustomizedCurriculum(stages=2, stage_steps=3, order="hard first")
    pool = backwards.examples(problems([0.1, 1.0, 0.9, 0.0]), 0)
    assert [e.id for e in backwards.draw(0, pool)] == ["e0", "e3"]


def test_an_empty_stage_is_passed_over() -> None:
    part = CustomizedCurriculum(stages=3, stage_steps=1, mode="threshold")
    pool = part.examples(problems([1.0, 0.0, 0.9]), 0)
    assert [[e.id for e in part.draw(step, pool)] for step in range(3)] == [["e0", "e2"], ["e1"], ["e1"]]


def test_difficulty_may_come_from_elsewhere() -> None:
    given = CustomizedCurriculum(stages=2, difficulty={"e0": 0.0, "e1": 1.0})
    pool = given.examples(problems([1.0, 0.0]), 0)
    assert [e.id for e in given.draw(0, pool)] == ["e1"]
    with pytest.raises(InvalidValue, match=r"accuracy of example e0 is None.*measured"):
        CustomizedCurriculum(difficulty="label").examples(problems([1.0] * 3), 0)
    solved = CustomizedCurriculum(stages=1, drop_solved=True)
    assert [e.id for e in solved.examples(problems([1.0, 0.5]), 0)] == ["e1"]
    for wrong in ({"stages": 0}, {"stage_steps": 0}, {"order": "random"}):
        with pytest.raises(InvalidValue):
            CustomizedCurriculum(**wrong)


# --- hints


@pytest.mark.parametrize(
    ("solution", "steps"),
    [
        ("a\n\nb c.\nd\n\ne", ["a\n\n", "b c.\nd\n\n", "e"]),
        ("a\nb\n", ["a\n", "b\n"]),
        ("One. Two! 3.5 is three.", ["One. ", "Two! ", "3.5 is three."]),
        ("one step", ["one step"]),
        ("", []),
        ("\n\n", ["\n\n"]),
    ],
)
def test_steps_lose_nothing(solution: str, steps: list[str]) -> None:
    assert split_steps(solution) == steps
    assert "".join(split_steps(solution)) == solution


def test_hint_and_target_are_the_whole_solution() -> None:
    part = GuidedPrompting(answer="{steps}")
    for shown in range(4):
        [made] = part.examples(problems([0.0], hint_steps=shown), 0)
        [message] = part.ask(made, made.messages)
        if shown == 0:
            assert message.content == "q0?"
            assert "completion" not in made.columns
            continue
        assert made.columns["hint"] + made.columns["completion"] == SOLUTION
        assert message.content == guided_prompt("q0?", split_steps(SOLUTION), shown)
        assert message.content.endswith(made.columns["hint"].rstrip())
        assert made.columns["hint_share"] == shown / 4


def test_the_answer_is_put_as_asked() -> None:
    part = GuidedPrompting({"e0": 3}, answer="<think>{steps}</think>{answer}")
    [made] = part.examples(problems([0.0]), 0)
    assert made.columns["completion"] == "<think>8+8=16</think>16"
    [kept] = GuidedPrompting({"e0": 3}).examples(problems([0.0], completion="as it is"), 0)
    assert kept.columns["completion"] == "as it is"


def test_a_hint_may_begin_the_answer() -> None:
    part = GuidedPrompting(template="<think>\n{hint}", answer="{steps}\n</think>{answer}")
    [made] = part.examples(problems([0.0], hint_steps=3), 0)
    assert made.columns["begun"] == "<think>\n2+3=5\n5+4=9\n9-1=8\n"
    assert made.columns["begun"] + made.columns["completion"] == f"<think>\n{SOLUTION}\n</think>16"
    assert part.ask(made, made.messages) == made.messages, "the question stays as it is"
    [plain] = part.examples(problems([0.0]), 0)
    assert "begun" not in plain.columns


def test_only_the_last_question_gets_the_hint() -> None:
    chat = (Message("user", "a"), Message("assistant", "b"), Message("user", "c {x}"))
    assert [m.content for m in with_hint(chat, "h\n", "{question}|{hint}")] == ["a", "b", "c {x}|h"]


@pytest.mark.parametrize("shown", [4, 5, -1])
def test_a_hint_leaves_a_step_to_do(shown: int) -> None:
    with pytest.raises(InvalidValue, match="shown"):
        guided_prompt("q", split_steps(SOLUTION), shown)


def test_a_hint_holds_no_boxed_answer() -> None:
    with pytest.raises(InvalidValue, match="boxed"):
        guided_prompt("q", ["so \\boxed{4}\n", "indeed"], 1)


def test_problems_without_a_use_for_hints() -> None:
    part = GuidedPrompting()
    short = Example.ask("s", "?", "1", hint_steps=1, solution="one step")
    hopeless = problems([0.0], hint_steps=3, hint_accuracy=0.0)
    assert part.examples([short, *hopeless], 0) == [short]
    assert (part.unguided, part.dropped) == (1, 1)
    assert GuidedPrompting(unsolved="keep").examples(hopeless, 0)[0].columns["hint"]
    assert GuidedPrompting(target=0.5).examples(problems([0.0], hint_steps=3, hint_accuracy=0.5), 0) == []
    with pytest.raises(InvalidValue, match="example s: solution"):
        GuidedPrompting(strict=True).examples([short], 0)
    for wrong in ({"template": "{question}"}, {"answer": "no steps"}, {"unsolved": "hide"}):
        with pytest.raises(InvalidValue):
            GuidedPrompting(**wrong)


def test_hint_lengths() -> None:
    assert hint_lengths(4) == [1, 2, 3]
    assert hint_lengths(2) == [1]
    assert hint_lengths(30, (0.1,)) == [3]
    assert hint_lengths(1) == []
    assert hint_lengths(9) == [3, 5, 7]
    with pytest.raises(InvalidValue, match="fractions"):
        hint_lengths(4, (1.0,))


def test_the_report_says_what_each_stage_holds() -> None:
    hints, part = GuidedPrompting(), CustomizedCurriculum(stages=2)
    made = [*problems([1.0, 0.5, 0.0])]
    made.append(Example.ask("e3", "?", "16", accuracy=0.0, solution=SOLUTION, hint_steps=2))
    kept = part.examples(hints.examples(made, 0), 0)
    easy, hard = part.report(kept)
    assert easy == {"size": 2.0, "accuracy": 0.75, "guided": 0.0, "hint_share": 0.0}
    assert hard == {"size": 2.0, "accuracy": 0.0, "guided": 0.5, "hint_share": 0.5}
