"""ReasonAug with a generator that is scripted: pairs, checks, negatives, leaks."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from dovetail.core import InvalidValue
from dovetail.training.data.reasonaug import (
    TO_CONCEPT,
    TO_QUESTION,
    Bm25,
    Concept,
    build_reasonaug,
    overlap,
)

CONCEPTS = [Concept("sorting", "algorithms"), Concept("inertia", "physics"), Concept("interest", "finance")]


class Scripted:
    """Answers every prompt by its kind; notes the prompts."""

    def __init__(self, **answers: str) -> None:
        self.answers, self.prompts = answers, []

    def __call__(self, prompt: str) -> str:
        self.prompts.append(prompt)
        concept = (re.search(r"'(\w+)'", prompt) or ["", ""])[1]
        if prompt.startswith("Define"):
            return f" {concept} is a thing. "
        if prompt.startswith(("Does solving", "Is this solution")):
            return self.answers.get("concept" if prompt.startswith("Does") else "solution", "Yes.")
        number = len(self.prompts)
        kind = "imitated" if "looks like" in prompt else "asked"
        pair = {"question": f"{kind} {number} about {concept}?", "solution": f"solved {number}"}
        return self.answers.get("pair", f"```json\n{json.dumps(pair)}\n```")


def test_triples_pair_a_question_with_its_definition_and_another_question() -> None:
    made = build_reasonaug(CONCEPTS, Scripted(), questions=3, imitations=0.0)
    assert len(made.triples) == 3 * 3 * 2
    assert not made.discarded
    for triple in made.triples:
        assert triple.topic in triple.positive
        assert triple.topic not in triple.negatives[0]
        if triple.instruction == TO_CONCEPT:
            assert triple.positive == f"{triple.topic} is a thing."
        else:
            assert triple.instruction == TO_QUESTION
            assert triple.query not in triple.positive
            assert "solved" in triple.positive
    again = build_reasonaug(CONCEPTS, Scripted(), questions=3, imitations=0.0)
    assert again.triples == made.triples


def test_negatives_are_imitations_where_asked() -> None:
    made = build_reasonaug(CONCEPTS, Scripted(), questions=2, imitations=1.0)
    assert all(triple.negatives[0].startswith("imitated") for triple in made.triples)
    broken = build_reasonaug(CONCEPTS, Broken(), questions=1, imitations=1.0)
    assert broken.discarded["imitation unreadable"] == 3
    assert all("is a thing" in triple.negatives[0] for triple in broken.triples)  # BM25 steps in


class Broken(Scripted):
    def __call__(self, prompt: str) -> str:
        answer = super().__call__(prompt)
        return "no JSON" if "looks like" in prompt else answer


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({"concept": "No."}, "question without the concept"),
        ({"solution": "no"}, "solution wrong"),
        ({"pair": "I would rather not"}, "question unreadable"),
        ({"pair": '{"question": 3}'}, "question unreadable"),
        ({"pair": "{broken}"}, "question unreadable"),
    ],
)
def test_what_fails_a_check_is_replaced_then_given_up_and_counted(answers: Any, reason: str) -> None:
    made = build_reasonaug(CONCEPTS, Scripted(**answers), questions=2, attempts=3)
    assert made.triples == []
    assert made.discarded == {reason: 3 * 2 * 3, "question given up": 3 * 2}


def test_texts_of_the_evaluation_are_kept_out() -> None:
    free = build_reasonaug(CONCEPTS, Scripted(), questions=1, imitations=0.0)
    held = build_reasonaug(
        CONCEPTS, Scripted(), questions=1, imitations=0.0, kept_out=["xx sorting is a thing. yy"]
    )
    assert len(held.triples) == len(free.triples) - 1
    assert held.discarded["too like a text of the evaluation"] == 1


def test_overlap_by_hand() -> None:
    assert overlap("abcdef", "xxcdeyy") == pytest.approx(3 / 6)
    assert overlap("same", "same") == 1
    assert overlap("", "text") == 0


def test_bm25_prefers_rare_words_of_other_groups() -> None:
    index = Bm25({"a": ["the red fox"], "b": ["the the the cow"], "c": ["the red red hen"], "d": ["a lynx"]})
    assert index.nearest("the red", besides="a") == "the red red hen"
    assert index.nearest("the red fox", besides="z") == "the red fox"
    assert index.nearest("unheard", besides="a") == "the the the cow"
    assert Bm25({"a": ["x"]}).nearest("x", besides="a") is None


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"concepts": CONCEPTS[:1]}, "concepts"),
        ({"concepts": [*CONCEPTS, CONCEPTS[0]]}, "concepts is 'sorting'"),
        ({"questions": 0}, "questions"),
        ({"attempts": 0}, "attempts"),
        ({"imitations": 1.5}, "imitations"),
        ({"most_alike": -0.1}, "most_alike"),
    ],
)
def test_mistakes_are_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidValue, match=named):
        build_reasonaug(**{"concepts": CONCEPTS, "generator": Scripted(), **changes})
