"""What the training half computes from always-thinking completions, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from dovetail.decoding.answer_twice import FALLBACK
from dovetail.recipes.videoauto_training import (
    DUAL,
    NO_BONUS,
    REWARDS,
    SINGLE,
    Answers,
    claims,
    gated,
    threshold_of,
)

ONE: dict[str, list[float]] = {
    "hard": [0.0, 0.0, 1.0, 1.0],
    "confidence": [0.99, 0.7, 0.4, -1.0],  # the last asks for thought
    "first": [1.0, 1.0, 0.0, 0.0],
    "second": [1.0, 1.0, 1.0, 0.0],
    "asks": [0.0, 0.0, 0.0, 1.0],
    "short": [5.0, 5.0, 5.0, 9.0],
    "long": [25.0, 25.0, 45.0, 49.0],
}


def test_a_gate_by_hand():
    found = gated(ONE, 0.7)
    assert found == {"gated": [1.0, 1.0, 1.0, 0.0], "tokens": [5, 5, 45, 49], "thinks": [0, 0, 1, 1]}
    assert gated(ONE, 0.0)["thinks"] == [0, 0, 0, 1], "whoever asks for thought always thinks"
    assert threshold_of(ONE) == 0.7
    assert threshold_of(ONE | {"confidence": [-1.0] * 4}) == 1.0


def test_figures_of_an_arm():
    arm = Answers.of([{"reported": ONE, "tuning": ONE}]).arm(DUAL)
    figures = {k: v if isinstance(v, float) else v.value for k, v in arm.figures.items()}
    assert figures["accuracy"] == figures["accuracy_always"] == 0.75
    assert figures["tokens_written"] == 26
    assert figures["tokens_always"] == 36
    assert (figures["first_right_easy"], figures["first_right_hard"]) == (1, 0)
    assert (figures["asks_easy"], figures["asks_hard"]) == (0, 0.5)
    assert figures["think_ratio"] == 0.5


def test_what_each_reward_pays():
    texts = [
        f"\\boxed{{{first}}}<think>2+2=4</think>\\boxed{{{second}}}"
        for first, second in (("4", "4"), ("5", "4"))
    ]
    texts.append(f"\\boxed{{{FALLBACK}.}}<think>2+2=4</think>\\boxed{{4}}")
    paid = {name: reward(["?"] * 3, texts, reference=["4"] * 3) for name, reward in REWARDS.items()}
    assert paid[DUAL] == pytest.approx([3.0, 2.1, 2.4])
    assert paid[NO_BONUS] == pytest.approx([3.0, 2.1, 2.1])
    assert paid[SINGLE] == pytest.approx([3.0, 3.0, 3.0])


def made(first: float, asks: float, second: float = 1.0) -> Answers:
    """Easy questions, a share ``first`` of them answered at once, and as many hard ones."""
    n = 250

    def share(of: float) -> list[float]:
        return [float(i < of * n) for i in range(n)]

    one: dict[str, Any] = {
        "hard": [0.0] * n + [1.0] * n,
        "confidence": [0.99 if v else -1.0 for v in share(first)] + [-1.0] * n,
        "first": share(first) + [0.0] * n,
        "second": share(second) * 2,
        "asks": [0.0] * n + share(asks),
        "short": [5.0] * 2 * n,
        "long": [45.0] * 2 * n,
    }
    return Answers.of([{"reported": one, "tuning": one}])


def test_verdicts_follow_from_the_answers():
    good = {"start": made(0.5, 0.5), DUAL: made(0.95, 0.9), SINGLE: made(0.5, 0.5), NO_BONUS: made(0.95, 0.5)}
    assert [c.verdict for c in claims(good, 0)] == ["holds"] * 5
    bad = {"start": made(0.5, 0.9), DUAL: made(0.4, 0.2), SINGLE: made(0.9, 0.5)}
    assert [c.verdict for c in claims(bad, 0)] == ["fails", "fails", "holds", "fails"]
    assert [c.main for c in claims(bad, 0)] == [True, False, True, False]
