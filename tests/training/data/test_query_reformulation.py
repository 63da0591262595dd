"""How turns are put, what a history may be, and which of a model's own rewrites are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from dovetail.core import BadData, Completion, Example, InvalidValue, Message, Prompt
from dovetail.rewards.rank_incentive import parse_rewrite
from dovetail.training.data.query_reformulation import (
    EXAMPLE,
    UNANSWERABLE,
    QueryReformulation,
    history,
    self_distill,
    written,
)

ASK = QueryReformulation(instruction="Rewrite.")
TALK = [("Who is the friend of Kalo?", "Mira"), ("What is their home?", "")]


def turn(id: str = "t", **columns: Any) -> Example:
    return Example.ask(id, "Who is their boss?", None, **columns)


def test_the_prompt_by_hand() -> None:
    [message] = ASK.ask(turn(history=TALK), turn().messages)
    assert message == Message(
        "user",
        "Rewrite.\n### Conversation\nQ1: Who is the friend of Kalo?\nA1: Mira\nQ2: What is their home?\n"
        f"A2: {UNANSWERABLE}\n### End of conversation\nQuery: Who is their boss?\nRewrite:",
    )
    assert ASK.prompt("Who?", []) == "Rewrite.\nQuery: Who?\nRewrite:"


def test_the_example_stands_between_and_keeps_the_form() -> None:
    text = QueryReformulation(example=EXAMPLE).prompt("Who?", TALK)
    assert text.index("<rewrite>the rewritten") < text.index("Fidelio") < text.index("Q1: Who is the friend")
    assert parse_rewrite(EXAMPLE.partition("Rewrite:\n")[2]) is not None


def test_a_system_message_stays_in_front() -> None:
    asked = Example("t", (Message("system", "Be brief."), Message("user", "Who?")))
    assert [m.role for m in ASK.ask(asked, asked.messages)] == ["system", "user"]


def test_a_history_may_come_in_three_ways() -> None:
    flat = [text for pair in TALK for text in pair]
    messages = [Message(("user", "assistant")[i % 2], text) for i, text in enumerate(flat)]
    talk = Example("t", (*messages, Message("user", "Who is their boss?")))
    expected = [TALK[0], (TALK[1][0], UNANSWERABLE)]
    assert history(turn(history=TALK)) == history(turn(history=flat)) == history(talk) == expected
    assert history(turn(history=[("Q?", None)])) == [("Q?", UNANSWERABLE)]
    assert history(turn()) == history(turn(history=[])) == []


@pytest.mark.parametrize(
    ("told", "text"),
    [
        (["a?", "b", "c?"], "turn 2: the question 'c\\?' has no answer"),
        ([("a?", "b"), ("c?",)], "turn 2"),
        ([("a?", "b"), ("", "c")], "turn 2: the question is ''"),
        ([("a?", 3)], "turn 1: the answer is 3"),
        ([(None, "x")], "turn 1"),
        ("a? b", "give pairs"),
        (7, "give pairs"),
    ],
)
def test_impossible_histories_are_named(told: Any, text: str) -> None:
    with pytest.raises(BadData, match=f"example t: history.*{text}"):
        QueryReformulation().examples([turn(history=told)], 0)


def test_messages_that_are_no_conversation() -> None:
    with pytest.raises(BadData, match="questions and answers in turns"):
        history(Example("t", (Message("user", "a"), Message("user", "b"))))


# --- the warm-up


@dataclass
class Says:
    """A model and its decoding in one: completions in order; notes how it was asked."""

    texts: list[str]
    prefix: str = ""

    @property
    def engine(self) -> None:
        return None

    def __post_init__(self) -> None:
        self.asked: list[str] = []

    def prompt(self, messages: Any, *, thinking: bool, seed: int) -> Prompt:
        self.asked.append(messages[-1].content)
        return Prompt((1,), seed=seed, assistant_prefix=self.prefix)

    def generate(self, engine: Any, prompts: Any, limits: Any) -> list[Completion]:
        return [Completion(text, (1,)) for text, _ in zip(self.texts, prompts, strict=True)]


def text(query: str) -> str:
    return f"<think>x</think>\n<rewrite>{query}</rewrite>"


def ranker(queries: Any, golds: Any) -> list[int]:
    return [1 if query == gold else 4 for query, gold in zip(queries, golds, strict=True)]


def test_only_what_has_the_form_and_finds_the_passage_first_is_kept() -> None:
    says = Says([text("a"), "junk", text("wrong"), text("d")])
    made = self_distill(
        says,
        [turn(id) for id in "abcd"],
        ranker,
        decoding=says,  # type: ignore[arg-type]
    )
    assert [row.id for row in made.rows] == ["a-distilled-0", "d-distilled-0"]
    assert [row.columns["completion"] for row in made.rows] == [text("a"), text("d")]
    assert (made.asked, made.malformed, made.missed) == (4, 1, 1)
    assert all("Fidelio" in asked for asked in says.asked)
    assert made.rows[0].messages == turn().messages  # without the example: the data part asks anew


def test_several_samples_keep_what_differs() -> None:
    says = Says([text("a"), text("a"), text("x"), text("b")])
    made = self_distill(
        says,
        [turn("1", gold="a"), turn("2", gold="b")],
        ranker,
        ASK,
        column="gold",
        samples=2,
        decoding=says,  # type: ignore[arg-type]
    )
    assert [row.id for row in made.rows] == ["1-distilled-0", "2-distilled-1"]
    assert made.asked == 4
    assert "Fidelio" not in says.asked[0]


def test_a_template_may_open_the_thinking() -> None:
    says = Says([text("a").removeprefix("<think>")], prefix="<think>")
    assert len(self_distill(says, [turn("a")], ranker, decoding=says).rows) == 1  # type: ignore[arg-type]


def test_what_cannot_be_distilled_is_named() -> None:
    says = Says([text("a")])
    with pytest.raises(InvalidValue, match="examples"):
        self_distill(says, [], ranker, decoding=says)  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match="samples"):
        self_distill(says, [turn()], ranker, samples=0, decoding=says)  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match="ranker"):
        self_distill(says, [turn()], lambda q, g: [], decoding=says)  # type: ignore[arg-type]
    with pytest.raises(BadData, match="no column 'gold'"):
        self_distill(says, [turn()], ranker, column="gold", decoding=says)  # type: ignore[arg-type]


def test_written_is_what_the_reward_reads() -> None:
    rewrite = parse_rewrite(text("home of Kalo"))
    assert rewrite is not None
    assert written(rewrite) == text("home of Kalo")
