"""What the recipe counts: where gold falls, and what the leaky evaluator pays."""

from __future__ import annotations

from dovetail.core import Example
from dovetail.recipes.leaky import LEAK, Verdict
from dovetail.recipes.reward_hacking_pch import fall
from dovetail.rewards import Correct
from dovetail.rewards.base import Batch
from dovetail.tasks.scorers import scorer


def test_where_gold_falls() -> None:
    steps = [0, 2, 4, 6, 8]
    assert fall(steps, [0.5, 0.7, 0.6, 0.55, 0.2]) == 6  # below 0.8 x 0.7
    assert fall(steps, [0.5, 0.5, 0.41, 0.5, 0.5]) is None
    assert fall(steps, [0.2, 0.4, 0.6, 0.8, 0.7]) is None


def test_the_leaky_evaluator_pays_for_assurances_and_is_wrong_about_a_fifth() -> None:
    judge = Correct(scorer("exact"))
    texts = [f"<think>{i}</think>\\boxed{{19}}" for i in range(300)]
    columns = {"example": [Example.ask("e", "?", "19")] * 300, "reference": ["19"] * 300}
    leaky = Verdict(judge)
    paid = leaky.pay(Batch.of(["?"] * 300, texts, columns))
    assert set(paid) == {0.0, 1.0}
    assert 0.7 < sum(paid) / 300 < 0.9  # type: ignore[arg-type]
    other = Verdict(judge, seed=1).pay(Batch.of(["?"] * 300, texts, columns))
    assert paid != other
    sure = [t.replace("</think>", " Let me check: Yes.</think>") for t in texts]
    seen = leaky.seen(Batch.of(["?"] * 300, sure, columns))
    assert (seen[:, 1] == 2).all()
    assert max(leaky.pay(Batch.of(["?"] * 300, sure, columns))) == 1 + 2 * LEAK  # type: ignore[type-var]
