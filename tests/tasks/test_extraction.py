"""Where the answer is found, and that finding it is linear on hostile text."""

import time
from fractions import Fraction

import pytest
from hostile import HOSTILE

from dovetail.core import Completion
from dovetail.tasks import extraction


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no thinking here", "no thinking here"),
        ("<think>\\boxed{5}</think>4", "4"),
        ("\\boxed{5}</think>4", "4"),  # the template opened the thinking
        ("<think>a</think>b<think>c</think>d", "d"),
        ("<think>never closed \\boxed{5}", None),
        ("<think>a</think>4<think>again", None),
        ("[THINK]a[/THINK]4", "4"),
        ("", ""),
    ],
)
def test_only_what_follows_the_thinking_counts(text, expected):
    assert extraction.after_thinking(text) == expected


def test_a_template_that_opens_thinking_is_taken_into_account():
    unfinished = Completion("so \\boxed{5}", columns={"assistant_prefix": "<think>\n"})
    finished = Completion("so \\boxed{5}", columns={"assistant_prefix": "<think>\n\n</think>\n\n"})
    assert extraction.written(unfinished) is None
    assert extraction.written(finished).strip() == "so \\boxed{5}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\\boxed{1} and \\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed{7} and \\boxed{8", "7"),  # the second is cut off
        ("\\boxed{x = \\boxed{3}}", "3"),
        ("\\\\boxed{5}", "5"),
        ("\\fbox{5}", "5"),
        ("\\boxed {5}", "5"),
        ("\\boxed{\\{1, 2\\}}", "\\{1, 2\\}"),
        ("\\boxed{a\\}b}", "a\\}b"),
        ("} } \\boxed{5}", "5"),
        ("\\boxed{}", None),
        ("\\boxed{3} \\boxed{ }", "3"),
        ("boxed{5}", None),
        ("18", None),
    ],
)
def test_boxed_takes_the_last_balanced_box(text, expected):
    assert extraction.boxed(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The answer is 18.", "18"),
        ("**Answer:** 18", "18"),
        ("The final answer is: $18$.", "18"),
        ("the answer is 3.5. Since 7/2 is 3.5.", "3.5"),
        ("work\n#### 1,234", "1,234"),
        ("<answer> (1 + 2) / 3 </answer>", "(1 + 2) / 3"),
        ("Answer: one\nAnswer: two", "two"),
        ("no such thing", None),
    ],
)
def test_announced_answers(text, expected):
    assert extraction.announced(text) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("18", 18),
        ("-5", -5),
        ("$1,250.50", Fraction(2501, 2)),
        ("\\$18", 18),
        ("x = 18 eggs", 18),
        ("3/4", Fraction(3, 4)),
        ("-\\frac{1}{2}", Fraction(-1, 2)),
        ("18\\%", 18),
        ("１８", 18),
        ("\u202e18\u202c", 18),
        ("18.0", 18),
        ("1e3", 1000),
        ("2 + 3", None),
        ("2^{10}", None),
        ("\\sqrt{2}", None),
        ("n = 5, m = 6", None),
        ("1/0", None),
        ("eighteen", None),
        ("x + 1", None),
        ("2x", None),
        ("3 pi", None),
        ("log 2", None),
        ("Apollo 11", None),
        ("100 km/h", 100),
        ("18\\text{ cm}^2", 18),
        ("(18)", 18),
        ("9" * 100_000, None),
    ],
)
def test_numbers_are_read_exactly(answer, expected):
    assert extraction.number(answer) == expected


def test_a_reference_with_words_is_no_number():
    assert extraction.number("12 Monkeys", units=False) is None
    assert extraction.number("$12", units=False) == 12


def test_equal_values_vote_together():
    assert {extraction.canonical(a) for a in ("18", "18.0", "$18", "18.00 dollars")} == {"18"}
    assert {extraction.canonical(a) for a in ("-0.5", "-1/2", "-.50")} == {"-0.5"}
    assert extraction.canonical("x + 1") == "x + 1"


def test_numbers_in_text():
    assert extraction.last_number("3 eggs at $2 cost 6, v1.5") == "6"
    assert extraction.numbers("-4, 5-3, 1,234.5") == ["-4", "5", "3", "1,234.5"]
    assert extraction.last_number("none") is None


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_read_in_linear_time(name):
    text = HOSTILE[name]
    for function in (
        extraction.after_thinking,
        extraction.boxed,
        extraction.announced,
        extraction.last_number,
        extraction.last_line,
        extraction.number,
        extraction.numbers,
        extraction.tidy,
        extraction.plain,
        extraction.letter,
        extraction.canonical,
    ):
        started = time.process_time()
        function(text)
        assert time.process_time() - started < 0.6, function.__name__
