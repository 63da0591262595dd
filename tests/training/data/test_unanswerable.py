"""Questions lose their answers by each criterion; a mix keeps its size, its share and its rows."""

from __future__ import annotations

import json
import random

import pytest
from training_tools import rollouts

from dovetail.core import Example, InvalidValue, Message, UnknownName
from dovetail.rewards.refusal import answerable
from dovetail.training.data import SyntheticUnanswerableMath, UnanswerableMix
from dovetail.training.data.unanswerable import (
    INSTRUCTION,
    instructed,
    mix_unanswerable,
    with_refusal_instruction,
)
from dovetail.training.data.unanswerable_prompt import make_unanswerable, rewriting_prompt
from dovetail.training.data.unanswerable_rules import CRITERIA, ablate_question

QUESTION = "Anna has 13 coins. Tom gives Anna 5 more. How many coins does Anna have now?"


def questions(n: int = 40) -> list[Example]:
    return [Example.ask(f"e{i}", QUESTION.replace("13", str(20 + i)), str(25 + i)) for i in range(n)]


@pytest.mark.parametrize(
    ("criterion", "expected"),
    [
        ("deletion", {QUESTION.replace("13 ", ""), QUESTION.replace("5 ", "")}),
        (
            "ambiguous",
            {
                QUESTION.replace(n, f"{vague} {n}")
                for n in ("13", "5")
                for vague in ("more than", "fewer than", "about")
            },
        ),
        ("unrealistic", {QUESTION.replace("13", "-13"), QUESTION.replace("5", "-5")}),
        ("cut", {"Anna has 13 coins. Tom gives Anna 5 more. How many?"}),
    ],
)
def test_rules_change_one_thing(criterion: str, expected: set[str]) -> None:
    assert {ablate_question(QUESTION, criterion, random.Random(i)) for i in range(60)} == expected


def test_the_asked_person_becomes_a_stranger() -> None:
    changed = ablate_question(QUESTION, "unrelated", random.Random(0))
    assert changed is not None
    told, _, asked = changed.rpartition(". ")
    assert told == "Anna has 13 coins. Tom gives Anna 5 more"
    name = asked.split()[4]
    assert name not in QUESTION
    assert asked == f"How many coins does {name} have now?"


@pytest.mark.parametrize(
    ("question", "criterion"),
    [
        ("How many?", "deletion"),
        ("How many?", "cut"),
        ("Compute 3 + 4.", "cut"),
        ("What is 3 + 4?", "unrelated"),
        ("", "ambiguous"),
    ],
)
def test_rules_that_do_not_fit(question: str, criterion: str) -> None:
    assert ablate_question(question, criterion, random.Random(0)) is None


def test_numbers_are_taken_whole() -> None:
    assert ablate_question("It costs $1,250.50. Why?", "deletion", random.Random(0)) == "It costs. Why?"
    assert ablate_question("x2 and 3a", "deletion", random.Random(0)) is None
    with pytest.raises(UnknownName, match="did you mean deletion"):
        ablate_question("1", "deletions", random.Random(0))


def test_the_rewriting_prompt_holds_what_it_should() -> None:
    asked = rewriting_prompt(QUESTION, ("deletion", "cut"))
    assert QUESTION in asked
    assert CRITERIA["cut"] in asked
    assert CRITERIA["unrelated"] not in asked
    assert asked.count("modified_question") == 3


@pytest.mark.parametrize(
    ("reply", "modified"),
    [
        ('Sure: {"original_question": "q", "modified_question": "Anna has coins?"}', "Anna has coins?"),
        ('{"a": 1} then {"modified_question": " x "}', "x"),
        ("I can't.", None),
        ('{"modified_question": ""}', None),
        ('{"modified_question": 3}', None),
        (json.dumps({"modified_question": QUESTION.upper()}), None),  # nothing changed
        ('{"modified_question": "Anna has an unspecified number of coins?"}', None),
        ("{" * 100_000, None),
    ],
)
def test_a_models_reply_is_read(reply: str, modified: str | None) -> None:
    made = make_unanswerable(QUESTION, lambda prompt: reply)
    assert (None if made is None else made.modified_question) == modified


def test_declined_rewrites_are_counted_by_reason() -> None:
    replies = iter(['{"modified_question": "x"}', "I can't", QUESTION, '{"modified_question": "unknown"}'])
    made, declined = SyntheticUnanswerableMath(lambda prompt: next(replies)).rewrite_all(questions(4))
    assert [e.question for e in made] == ["x"]
    assert declined == {"declined or no JSON": 2, "gives itself away": 1}
    _, declined = SyntheticUnanswerableMath(criteria=("cut",)).rewrite_all([Example.ask("a", "1 + 1", "2")])
    assert declined == {"no rule fits": 1}
    with pytest.raises(InvalidValue, match="criteria"):
        SyntheticUnanswerableMath(criteria=("cutting",))


def test_a_rewritten_example_has_no_answer_left() -> None:
    told = {"accepted_answers": ["18"], "solution": "13+5=18", "completion": "18", "level": 2}
    asked = Example("e", (Message("system", "s"), Message("user", QUESTION)), "18", columns=told)
    made = SyntheticUnanswerableMath().rewrite(asked)
    assert made.reference is None
    assert not answerable(made)
    assert made.messages[0] == asked.messages[0]
    assert set(made.columns) == {"level", "answerable", "original_question", "criterion"}
    assert made.columns["original_question"] == QUESTION
    assert made.columns["criterion"] in CRITERIA
    assert made == SyntheticUnanswerableMath().rewrite(asked)
    assert made != SyntheticUnanswerableMath().rewrite(asked, seed=1)


@pytest.mark.parametrize("ratio", [0.0, 0.01, 0.1, 0.3, 0.5, 1.0])
def test_size_and_share(ratio: float) -> None:
    mixed = UnanswerableMix(ratio).examples(questions(), seed=3)
    replaced = [e for e in mixed if not e.columns["answerable"]]
    assert len(mixed) == 40
    assert len(replaced) == round(ratio * 40)
    assert len({e.id for e in mixed}) == 40
    assert all(e.reference is None for e in replaced)
    assert mixed == UnanswerableMix(ratio).examples(questions(), seed=3)


def test_ratio_zero_changes_only_the_column() -> None:
    for kept, before in zip(UnanswerableMix(0.0).examples(questions(), 0), questions(), strict=True):
        assert (kept.id, kept.messages, kept.reference) == (before.id, before.messages, before.reference)


def test_a_larger_ratio_replaces_the_same_questions_and_more() -> None:
    def replaced(ratio: float) -> set[str]:
        return {e.id for e in UnanswerableMix(ratio).examples(questions(), 0) if not e.columns["answerable"]}

    assert replaced(0.1) < replaced(0.3)
    assert replaced(0.3) != {
        e.id for e in UnanswerableMix(0.3).examples(questions(), 1) if not e.columns["answerable"]
    }


def test_mixing_given_examples() -> None:
    others = [Example.ask(f"u{i}", "How many?") for i in range(6)]
    mixed = mix_unanswerable(questions(), others, 0.1, seed=2)
    assert mixed == mix_unanswerable(questions(), others, 0.1, seed=2)
    assert sum(e.id.startswith("u") for e in mixed) == 4
    assert UnanswerableMix(0.1, others).examples(questions(), 2) == mixed
    refusing = [Example.ask(f"u{i}", "How many?", "I don't know.") for i in range(4)]
    assert sum(e.reference is None for e in mix_unanswerable(questions(), refusing, 0.1)) == 4


def test_impossible_mixes_are_named() -> None:
    with pytest.raises(InvalidValue, match=r"ratio is 1\.5"):
        UnanswerableMix(1.5)
    with pytest.raises(InvalidValue, match=r"'3 examples'.*at least 4, for ratio 0.1"):
        mix_unanswerable(questions(), [Example.ask(f"u{i}", "?") for i in range(3)], 0.1)
    with pytest.raises(InvalidValue, match=r"'0 examples'.*at least 1"):
        UnanswerableMix(1.0).examples([Example.ask("a", "why", "4")], 0)
    with pytest.raises(InvalidValue, match="example a: reference is None"):
        UnanswerableMix(0.0).examples([Example.ask("a", "1?")], 0)
    with pytest.raises(InvalidValue, match="example u: reference is '4'"):
        mix_unanswerable(questions(2), [Example.ask("u", "?", "4")], 0.5)


def test_every_question_is_told_once_how_to_refuse() -> None:
    told = with_refusal_instruction("Why?")
    assert told.count(INSTRUCTION) == 1
    assert with_refusal_instruction(told) == told
    chat = (Message("system", "s"), Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    assert [m.content for m in instructed(chat)] == ["s", "a", "b", with_refusal_instruction("c")]
    part = UnanswerableMix(0.5)
    for e in part.examples(questions(), 0):
        assert INSTRUCTION in part.ask(e, e.messages)[-1].content
    assert UnanswerableMix(instruction="").ask(questions()[0], questions()[0].messages)[0].content == (
        questions()[0].question
    )


def test_refusals_of_either_kind_are_logged() -> None:
    seen = rollouts([3, 3, 3, 3], [0, 0, 1, 1])
    kinds = (True, True, False, False)
    seen.examples = [Example.ask(str(k), "?", answerable=k) for k in kinds]
    texts = ("\\boxed{4}", "\\boxed{I don't know.}", "\\boxed{I don't know}", "\\boxed{i don't know}")
    for row, text in enumerate(texts):
        object.__setattr__(seen.completions[row], "text", text)
    part = UnanswerableMix()
    part.update(seen)
    assert part.figures() == {"refused/answerable": 0.5, "refused/unanswerable": 1.0}
