"""BLEU against a direct computation and hand-worked numbers; the choice of examples."""

from __future__ import annotations

import math
import random

import pytest

from dovetail.core import InvalidValue
from dovetail.rewards import Bleu
from dovetail.rewards.bleu import agreement, answered, bleu, select, tokens_13a

WORDS = ["the", "a", "cat", "dog", "sat", "ran", "on", "under", "mat", "rug", "and", ",", "."]


def pay(texts, references, **options):
    return Bleu(**options)(["?"] * len(texts), texts, references=references)


def slow(prediction, references):
    """The definition, n by n."""
    words, others = tokens_13a(prediction), [tokens_13a(r) for r in references]
    logs = 0.0
    for n in range(1, 5):
        grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
        match = 0
        for gram in set(grams):
            most = max(sum(tuple(r[i : i + n]) == gram for i in range(len(r) - n + 1)) for r in others)
            match += min(grams.count(gram), most)
        logs += math.log((match + 1) / (len(grams) + 1)) / 4
    shortest = min(map(len, others))
    return math.exp(logs) * (1.0 if len(words) > shortest else math.exp(1 - shortest / len(words)))


def sentence(rng, n):
    return " ".join(rng.choices(WORDS, k=n))


def test_by_hand():
    """Prediction "the cat sat", reference "the cat ran": 2 of 3 words, 1 of 2 pairs, 0 of 1, 0 of 0."""
    expected = ((3 / 4) * (2 / 3) * (1 / 2) * 1) ** 0.25
    assert bleu("the cat sat", ["the cat ran"]) == pytest.approx(expected)
    assert bleu("the cat", ["the cat sat on"]) == pytest.approx(math.exp(1 - 2))  # all match, half the length
    assert bleu("the the the", ["the cat sat"]) == pytest.approx((2 / 4 * 1 / 3 * 1 / 2) ** 0.25)  # clipped
    assert bleu("x", ["y"], smooth=False) == 0


def test_equals_the_definition():
    rng = random.Random(0)
    for _ in range(50):
        prediction = sentence(rng, rng.randint(1, 12))
        references = [sentence(rng, rng.randint(1, 12)) for _ in range(rng.randint(1, 3))]
        assert bleu(prediction, references) == pytest.approx(slow(prediction, references))


def test_what_must_hold():
    rng = random.Random(1)
    for _ in range(50):
        text, others = sentence(rng, rng.randint(1, 12)), [sentence(rng, 8) for _ in range(3)]
        scores = [bleu(text, others[:n]) for n in (1, 2, 3)]
        assert scores == sorted(scores)  # another reference never lowers it
        assert 0 <= scores[0] <= 1
        assert bleu(text, others[::-1]) == pytest.approx(scores[-1])
        assert bleu(text, [*others, text]) == pytest.approx(1.0)
        assert bleu(text, [text]) == 1.0


def test_tokens():
    assert tokens_13a("Hello, world! It's 3.5 (or 1,000) -- ok.") == [
        *["Hello", ",", "world", "!", "It's", "3.5", "(", "or", "1,000", ")", "--", "ok", "."]
    ]
    assert tokens_13a("a-b 3-4 x&amp;y &lt;b&gt; end-\nline\nnext <skipped>") == [
        *["a-b", "3", "-", "4", "x", "&", "y", "<", "b", ">", "endline", "next"]
    ]
    assert tokens_13a(" \n ") == []


def test_answers_are_cut_out():
    assert answered("x <answer> a b </answer> y") == "a b"
    assert answered("x <answer> a b") == "a b"
    assert answered(" a b ") == "a b"
    texts = ["<think>x</think><answer>a b c d</answer>", "a b c d", "", " \n"]
    assert pay(texts, [["a b c d"]] * 4) == [1, 1, 0, 0]
    assert pay(texts[:1], [["a b c d"]], answer=False)[0] < 0.6


def test_several_references_and_the_single_one_of_the_trainer():
    assert pay(["a b"], [["x y", "a b"]]) == [1]
    assert Bleu()(["?"], ["a b"], reference=["a b"]) == [1]
    assert Bleu(column="gold")(["?"], ["a b"], gold=[("a b",)]) == [1]


@pytest.mark.parametrize("row", ["a bare text", [], ["", " "], [None], None, [3]], ids=repr)
def test_bad_references_are_named(row):
    with pytest.raises(InvalidValue, match="'references', row 1"):
        pay(["a", "b"], [["a"], row])


def test_lighter_noise_wins_and_more_references_agree_better():
    """Two noisy copies of a sentence, one noisier: BLEU tells which, better with four references than one."""
    rng = random.Random(2)

    def noisy(words, share):
        return " ".join(w if rng.random() > share else rng.choice(WORDS) for w in words)

    rates = []
    for count in (1, 4):
        light, heavy = [], []
        for _ in range(150):
            words = rng.choices(WORDS, k=14)
            references = [noisy(words, 0.3) for _ in range(count)]
            light.append(bleu(noisy(words, 0.1), references))
            heavy.append(bleu(noisy(words, 0.5), references))
        rates.append(agreement(light, heavy, ["a"] * 150))
    assert rates[0] > 0.8
    assert rates[1] > rates[0]


def test_selection():
    scores = {f"q{i}": i / 10 for i in range(10)}
    assert select(scores, 3) == ["q2", "q1", "q0"]
    assert select(scores, 3, "easy") == ["q9", "q8", "q7"]
    assert select(scores, 4, "medium") == ["q6", "q5", "q4", "q3"]
    some = select(scores, 5, "random", seed=1)
    assert some == select(scores, 5, "random", seed=1) != select(scores, 5, "random", seed=2)
    assert len(set(some)) == 5
    with pytest.warns(UserWarning, match="there are 10"):
        assert len(select(scores, 11)) == 10
    for bad in ({"mode": "hardest"}, {"n": 0}, {"scores": {}}, {"scores": {"a": math.nan}}):
        with pytest.raises(InvalidValue, match=next(iter(bad))):
            select(**({"scores": scores, "n": 3} | bad))


def test_agreement():
    assert agreement([1, 0, 0.5, 1], [0, 1, 0.5, 0], ["a", "b", "tie", "b"]) == 0.75
    with pytest.raises(InvalidValue, match="human"):
        agreement([1], [0], ["model_a"])
    with pytest.raises(InvalidValue, match="one size"):
        agreement([1], [0, 1], ["a"])
