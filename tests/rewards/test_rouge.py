"""ROUGE-L by hand and against the usual table; its mean with BLEU; scores of a model's answers."""

from __future__ import annotations

import random

import pytest

from dovetail.core import InvalidValue, UnknownName
from dovetail.rewards import BleuRouge, RougeL
from dovetail.rewards.bleu import bleu
from dovetail.rewards.rouge import bleu_rouge, common, rouge_l, score_outputs


def table(one: list[str], other: list[str]) -> int:
    rows = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            rows[i + 1][j + 1] = rows[i][j] + 1 if a == b else max(rows[i][j + 1], rows[i + 1][j])
    return rows[-1][-1]


def test_by_hand() -> None:
    assert rouge_l("police killed the gunman", ["police kill the gunman"]) == pytest.approx(0.75)
    assert rouge_l("the gunman kill police", ["police kill the gunman"]) == pytest.approx(0.5)
    assert rouge_l("A, b!", ["a B"]) == 1
    assert rouge_l("a b", ["x", "a", "a b c d"]) == pytest.approx(2 / 3)
    assert rouge_l("", ["a"]) == rouge_l("a", ["."]) == rouge_l("...", ["..."]) == 0


def test_longest_common_subsequence_equals_the_table() -> None:
    rng = random.Random(0)
    for _ in range(200):
        one, other = (rng.choices("abcd", k=rng.randint(1, 80)) for _ in range(2))
        assert common(one, other) == table(one, other)


def test_only_so_many_words_are_read() -> None:
    assert rouge_l("a b c", ["a b c"], longest=2) == 1
    assert rouge_l("a b c", ["a b x"], longest=2) == 1
    with pytest.raises(InvalidValue, match="longest"):
        RougeL(longest=0)


def test_harmonic_mean() -> None:
    text, references = "the cat sat", ["the cat ran"]
    b, r = bleu(text, references), rouge_l(text, references)
    assert bleu_rouge(text, references) == pytest.approx(2 * b * r / (b + r))
    assert bleu_rouge("", references) == 0
    paid = [
        reward(["?"], [f"x <answer>{text}</answer>"], references=[references])[0]
        for reward in (RougeL(), BleuRouge())
    ]
    assert paid == [pytest.approx(r), pytest.approx(bleu_rouge(text, references))]


def test_scores_of_answers() -> None:
    outputs = {"a": "the cat", "b": None, "c": "dog"}
    references = {"a": ["the cat"], "b": ["x"], "c": ["the cat", "a dog"], "unused": ["y"]}
    assert score_outputs(outputs, references) == {"a": 1, "b": 0, "c": pytest.approx(bleu("dog", ["a dog"]))}
    assert score_outputs({"c": "dog"}, references, "rouge-l") == {"c": pytest.approx(2 / 3)}
    with pytest.raises(UnknownName, match="metric"):
        score_outputs(outputs, references, "rouge")
    for bad in ({"a": "the cat"}, {}, {"a": []}, {"a": [" "]}, {"a": [None]}):
        with pytest.raises(InvalidValue, match=r"references\['a'\]"):
            score_outputs({"a": "x"}, bad)  # type: ignore[arg-type]
