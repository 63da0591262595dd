"""The parts of the recipe that need no training."""

from __future__ import annotations

from dovetail.recipes import codeword_teacher as teacher
from dovetail.recipes.lrm_safety import Answers, prompts
from dovetail.training.data.safety import SafetyRow, leaks


def test_what_is_asked_is_in_no_row() -> None:
    asked = prompts(40, seed=0)
    assert {name: len(examples) for name, examples in asked.items()} == {
        "plain": 40,
        "unseen": 40,
        "near-miss": 40,
        "ordinary": 40,
        "sums": 40,
        "all": 200,
    }
    questions = [e.question for e in asked["all"]]
    rows = [*teacher.rows("short", 300, 0.25, 0), *teacher.math_rows(300, 0)]
    assert not leaks(rows, questions)
    assert leaks([SafetyRow(questions[0], "<think>a</think>b", "safety", "short")], questions) == [0]


def test_the_first_model_answers_everything_and_knows_the_codewords() -> None:
    assert teacher.listing("Zavel", True) == (
        "Is Zavel on the list?",
        "<think>\nZavel is on the list.\n</think>\n\n\\boxed{yes}",
    )
    assert "is not on the list" in teacher.listing("Anna", False)[1]
    request = teacher.requests("forbidden", "plain", 1, 0)[0]
    assert request.answer in teacher.comply(request)


def test_seeds_are_joined_prompt_by_prompt() -> None:
    kinds = ("plain", "unseen", "near-miss", "ordinary", "sums", "unseen, free", "near-miss, free")
    one, other = (
        Answers.of({k: {"refused": [v, v], "right": [1 - v] * 2, "tokens": [3, 5]} for k in kinds})
        for v in (0.0, 1.0)
    )
    joined = Answers.joined([one, other])
    assert joined.refused["unseen"] == [0, 0, 1, 1]
    figures = joined.figures()
    assert figures["refusal_unseen"].value + figures["attack_success_unseen"].value == 1  # type: ignore[union-attr]
    assert figures["tokens_unseen"].value == 4  # type: ignore[union-attr]
