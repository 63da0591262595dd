"""Strict beside lenient, each scorer's rule, and that no model output makes a scorer raise or hang."""

import threading
import time

import pytest
from hostile import HOSTILE

from dovetail.core import Completion, Example, InvalidValue, Scorer, UnknownName, Unsupported
from dovetail.tasks.scorers import (
    Auto,
    ChoiceLikelihood,
    Exact,
    Math,
    MultipleChoice,
    Numeric,
    TokenF1,
    scorer,
)

QUIZ = Example.ask("q", "Which?", "B", choices=("Rome", "Paris", "Bonn"))


def ask(reference, **columns):
    return Example.ask("e", "?", reference, **columns)


def score(judge, reference, text, **columns):
    return judge(ask(reference, **columns), Completion(text))


def test_strict_and_lenient_stand_side_by_side():
    boxed = score(Numeric(), "18", "so \\boxed{18}")
    said = score(Numeric(), "18", "The answer is 18.")
    last = score(Numeric(), "18", "She makes $18 every day.")
    assert (boxed.value, boxed.strict, boxed.parsed) == (1, 1, True)
    assert (said.value, said.strict, said.parsed) == (1, 0, False)
    assert (last.value, last.strict, last.answer) == (1, 0, "18")


def test_a_wrong_box_is_not_saved_by_the_text_around_it():
    assert score(Numeric(), "18", "\\boxed{17}. The answer is 18.").value == 0


@pytest.mark.parametrize("judge", [Exact(), Numeric(), Math(), MultipleChoice(), TokenF1(), Auto()])
def test_thinking_is_never_the_answer(judge):
    unfinished = judge(
        QUIZ, Completion("<think>It must be \\boxed{B}. The answer is B", finish_reason="length")
    )
    assert (unfinished.value, unfinished.strict, unfinished.answer, unfinished.parsed) == (0, 0, "", False)
    assert judge.extract("<think>\\boxed{B}") == ""
    assert judge.extract("<think>\\boxed{A}</think>\\boxed{B}").upper() == "B"


@pytest.mark.parametrize(
    ("judge", "reference", "answer", "value"),
    [
        (Exact(), "I don't know", "I don’t know.", 1),
        (Exact(), "Paris", "\\text{paris}", 1),
        (Exact(), "Paris", "Paris, France", 0),
        (Exact(normalise=False), "Paris", "paris", 0),
        (Numeric(), "1000", "1,000.00", 1),
        (Numeric(), "0.3333333", "1/3", 1),
        (Numeric(), "1000000", "1000001", 0),
        (Numeric(relative=1e-3), "1000000", "1000001", 1),
        (Numeric(absolute=0.5), "10", "10.5", 1),
        (Numeric(absolute=0.5), "10", "10.51", 0),
        (Numeric(), "10", "ten", 0),
        (Math(), "\\frac{1}{2}", "0.5", 1),
        (Math(), "x^2-1", "(x-1)(x+1)", 1),
        (Math(), "x^2-1", "(x-1)(x+2)", 0),
        (Math(), "\\{1,2\\}", "\\{2,1\\}", 1),
        (Math(), "[2,5)", "[2,5]", 0),
        (Math(), "\\left( 3, \\frac{\\pi}{2} \\right)", "(3, pi/2)", 1),
        (Math(), "10\\%", "0.1", 1),
        (Math(), "\\text{Evelyn}", "evelyn", 1),
        (Math(), "Evelyn", "Eve", 0),
        (TokenF1(), "the Eiffel Tower", "Eiffel Tower!", 1),
        (TokenF1(), "Eiffel Tower", "the tower", 2 / 3),
        (TokenF1(), "Paris", "Rome", 0),
        (Auto(), "18", "18.0", 1),
        (Auto(), "18", "18 dollars", 1),
        (Auto(), "12 Monkeys", "12 Angry Men", 0),
        (Auto(), "Apollo 11", "Gemini 11", 0),
        (Auto(), "Apollo 11", "apollo 11.", 1),
        (Auto(), "2x", "2", 0),
        (Auto(), "\\sqrt{8}", "2\\sqrt{2}", 1),
        (Auto(), "Boudica", "boudica", 1),
    ],
)
def test_what_counts_as_right(judge, reference, answer, value):
    assert score(judge, reference, f"\\boxed{{{answer}}}").value == pytest.approx(value)


def test_any_accepted_answer_will_do():
    for judge in (Exact(), TokenF1(), Math(), Auto()):
        assert score(judge, "pi", "\\boxed{PI}", accepted_answers=("tau", "pi")).value == 1
        assert score(judge, "pi", "\\boxed{e}", accepted_answers=("tau", "pi")).value == 0


@pytest.mark.parametrize("answer", ["B", "(b)", "B. Paris", "Paris", "\\text{B}", "\\text{(B) Paris}"])
def test_a_choice_is_named_by_letter_or_text(answer):
    for judge in (MultipleChoice(), Auto()):
        assert judge(QUIZ, Completion(f"\\boxed{{{answer}}}")).strict == 1
        assert judge(QUIZ, Completion(f"The answer is {answer}.")).value == 1
    assert MultipleChoice()(QUIZ, Completion("\\boxed{A}")).value == 0
    assert MultipleChoice()(QUIZ, Completion("\\boxed{Z}")).value == 0
    assert MultipleChoice()(QUIZ, Completion("A fine city")).value == 0


def test_likelihood_ranks_by_byte_and_by_sum():
    judge = ChoiceLikelihood(prefix=" ")
    assert judge.continuations(QUIZ) == (" Rome", " Paris", " Bonn")
    chosen = judge.choose(QUIZ, [-5.0, -5.5, -9.0])  # the sum prefers Rome, the mean per byte Paris
    result = judge(QUIZ, chosen)
    assert chosen.text == " Paris"
    assert (result.value, result.strict, result.answer) == (1, 1, "B")
    assert result.figures == {"by_sum": 0.0, "by_byte": 1.0}
    assert ChoiceLikelihood(per_byte=False)(QUIZ, chosen).value == 0


def test_likelihood_needs_choices_and_likelihoods():
    with pytest.raises(Unsupported, match="choices=COLUMN"):
        ChoiceLikelihood().continuations(ask("B"))
    with pytest.raises(Unsupported, match="scorer='choice'"):
        ChoiceLikelihood()(QUIZ, Completion("B"))
    with pytest.raises(ValueError, match="2 log-likelihoods for the 3 choices"):
        ChoiceLikelihood().choose(QUIZ, [0.0, 0.0])


def test_votes_for_the_same_value_are_equal():
    assert {Auto().extract(t) for t in ("\\boxed{18}", "The answer is $18.00.", "That makes 18 eggs.")} == {
        "18"
    }
    assert {Exact().extract(t) for t in ("\\boxed{Paris}", "Answer: paris.")} == {"paris"}
    assert {MultipleChoice().extract(t) for t in ("\\boxed{(b)}", "Answer: B")} == {"B"}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_output_makes_a_scorer_raise_or_hang(name):
    for judge in (
        Exact(),
        Numeric(),
        Math(seconds=1),
        MultipleChoice(),
        TokenF1(),
        Auto(math=Math(seconds=1)),
    ):
        for reference, text in (("18", HOSTILE[name]), ("x^2+1", f"\\boxed{{{HOSTILE[name]}}}")):
            started = time.monotonic()
            result = score(judge, reference, text)
            assert result.value == 0
            assert len(result.answer) <= 1000
            # the limit, and what a busy machine and starting the helper process take
            assert time.monotonic() - started < 15


def test_an_undecidable_answer_is_reported():
    result = score(Math(seconds=0.5), "x^2", "\\boxed{9^{9^{9^{9}}}}")
    assert (result.value, result.figures["undecided"]) == (0, 1)
    assert score(Math(), "x^2", "\\boxed{x^3}").figures["undecided"] == 0


def test_math_works_outside_the_main_thread():
    found = []
    thread = threading.Thread(
        target=lambda: found.append(score(Math(seconds=20), "y^2-1", "\\boxed{(y-1)(y+1)}"))
    )
    thread.start()
    thread.join()
    assert found[0].value == 1


@pytest.mark.parametrize(
    "judge", [Exact(), Numeric(), Math(), MultipleChoice(), TokenF1(), Auto(), ChoiceLikelihood()]
)
def test_scorers_say_what_they_do(judge):
    judge: Scorer = judge
    assert judge.name
    assert len(judge.extraction) > 10
    assert type(scorer(judge.name)) is type(judge)


def test_unknown_scorers_and_impossible_values_are_named():
    with pytest.raises(UnknownName, match="did you mean numeric"):
        scorer("numerics")
    with pytest.raises(InvalidValue, match="absolute"):
        Numeric(absolute=-1)
    with pytest.raises(InvalidValue, match="relative"):
        Numeric(relative=float("nan"))
    with pytest.raises(InvalidValue, match="seconds"):
        Math(seconds=0)


def test_a_relative_tolerance_is_as_wide_below_zero() -> None:
    for reference, answer, value in (("-10", "-9.5", 1.0), ("-10", "-8.5", 0.0), ("10", "9.5", 1.0)):
        example = Example.ask("x", "?", reference)
        assert Numeric(relative=0.1).judge(answer, example).value == value


def test_a_letter_beyond_the_choices_names_none() -> None:
    example = Example.ask("x", "?", "C", choices=("red", "green", "blue"))
    assert [MultipleChoice().chosen(letter, example) for letter in "ACDZ"] == ["A", "C", None, None]
