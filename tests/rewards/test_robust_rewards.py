"""Rewards made from rewards: ensembles, calibration, clipping, the evaluator that is refreshed."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dovetail.core import Completion, Example, InvalidValue
from dovetail.rewards import (
    ClippedReward,
    EnsembleReward,
    LengthCalibratedReward,
    RefreshingEvaluator,
    SigmoidReward,
)
from dovetail.rewards.calibrated import expected_at
from dovetail.rewards.refreshing import ridge


def column(name: str) -> Any:
    def reward(prompts: list[str], completions: list[str], **columns: Any) -> list[float | None]:
        return list(columns[name])

    return reward


def paid(reward: Any, **columns: Any) -> list[float | None]:
    n = len(next(iter(columns.values())))
    return reward(prompts=["p"] * n, completions=["c"] * n, **columns)


COLUMNS = {"a": [1.0, 2.0, 0.0], "b": [3.0, 2.0, 1.0], "c": [2.0, 2.0, 5.0]}
THREE = [column("a"), column("b"), column("c")]


def test_ensembles_by_hand() -> None:
    assert paid(EnsembleReward(THREE, "mean"), **COLUMNS) == pytest.approx([2, 2, 2])
    assert paid(EnsembleReward(THREE, "min"), **COLUMNS) == pytest.approx([1, 2, 0])
    # Variances 2/3, 0 and 14/3
    assert paid(EnsembleReward(THREE, "uwo", 0.5), **COLUMNS) == pytest.approx([2 - 1 / 3, 2, 2 - 7 / 3])
    assert paid(EnsembleReward(THREE, "lcb", 1.0), **COLUMNS) == pytest.approx(
        [2 - math.sqrt(2 / 3), 2, 2 - math.sqrt(14 / 3)]
    )
    mean = paid(EnsembleReward(THREE, "mean"), **COLUMNS)
    assert paid(EnsembleReward(THREE, "uwo", 0.0), **COLUMNS) == mean
    lowest = paid(EnsembleReward(THREE, "min"), **COLUMNS)
    assert all(x <= y for x, y in zip(lowest, mean, strict=True))  # type: ignore[operator]


def test_a_member_that_does_not_apply() -> None:
    columns = {**COLUMNS, "b": [3.0, None, 1.0]}
    for mode in ("mean", "min", "uwo", "lcb"):
        found = paid(EnsembleReward(THREE, mode), **columns)  # type: ignore[arg-type]
        assert [v is None for v in found] == [False, True, False]


def test_clipping_and_shaping() -> None:
    assert paid(ClippedReward(column("a"), 0.5, 1.5), a=[0.0, 1.0, 9.0, None]) == [0.5, 1.0, 1.5, None]
    shaped = paid(SigmoidReward(column("a"), "r"), a=[1.0, 3.0, 1e6], r=[1.0, 1.0, 0.0])
    assert shaped == pytest.approx([0.5, 1 / (1 + math.exp(-2)), 1.0])
    assert paid(SigmoidReward(column("a")), a=[-1e6, None]) == [0.0, None]
    with pytest.raises(InvalidValue, match="high"):
        ClippedReward(column("a"), 1, 1)


def test_calibrated_rewards_do_not_depend_on_length() -> None:
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    lengths = rng.integers(5, 200, 400)
    quality = rng.normal(size=400)
    base = quality + 3 * np.log(lengths)
    found = paid(LengthCalibratedReward(column("a")), a=base.tolist(), length=lengths.tolist())
    assert spearmanr(base, lengths).statistic > 0.8
    assert abs(spearmanr(found, lengths).statistic) < 0.1
    assert spearmanr(found, quality).statistic > 0.9
    assert paid(
        LengthCalibratedReward(column("a"), lam=0.0), a=base.tolist(), length=lengths.tolist()
    ) == pytest.approx(base)
    # Too few lengths for a curve: the mean
    assert expected_at([3, 3, 9, 9], [1, 2, 3, 6]).tolist() == [3.0] * 4
    assert paid(LengthCalibratedReward(column("a")), a=[None, 2.0], length=[3, 4]) == [None, 0.0]
    assert all(v == v for v in expected_at([5] * 20 + [6, 7], range(22)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EnsembleReward([column("a")], "uwo"), "at least 2 in mode 'uwo'"),
        (lambda: EnsembleReward([], "mean"), "at least 1"),
        (lambda: EnsembleReward(THREE, "max"), "mode"),  # type: ignore[arg-type]
        (lambda: EnsembleReward(THREE, lam=-1), "lam"),
        (lambda: LengthCalibratedReward(column("a"), share=0), "share"),
        (lambda: SigmoidReward(column("a"), scale=0), "scale"),
        (lambda: RefreshingEvaluator(len, column("a"), [0.0], every=0), "every"),
        (lambda: RefreshingEvaluator(len, column("a"), [0.0], ridge=0), "ridge"),
        (lambda: paid(EnsembleReward(THREE), **COLUMNS | {"b": [1.0]}), "1 values"),
        (lambda: paid(EnsembleReward(THREE), **COLUMNS | {"b": [1.0, math.nan, 2.0]}), "row 1"),
    ],
)
def test_bad_parameters_are_named(make: Any, message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        make()


# --- the evaluator that is refreshed -----------------------------------------------------------------------


def features(batch: Any) -> np.ndarray:
    return np.array([[text.count("q"), text.count("s")] for text in batch.texts], dtype=float)


def quality(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    return [float(text.count("q")) for text in completions]


def rollouts(texts: list[str], step: int) -> Any:
    n = len(texts)
    return SimpleNamespace(
        step=step,
        examples=[Example.ask(f"e{i}", "?") for i in range(n)],
        prompts=[SimpleNamespace(text="?") for _ in range(n)],
        completions=[Completion(t, tuple(range(len(t)))) for t in texts],
        group=np.zeros(n),
    )


def test_ridge_by_hand() -> None:
    assert ridge([[0], [1], [2]], [1, 3, 5], [0, 0], 1e-9) == pytest.approx([2, 1], abs=1e-6)
    assert ridge([[0], [1]], [9, 9], [2, 1], 1e9) == pytest.approx([2, 1], abs=1e-6)


def test_labels_take_the_leak_away() -> None:
    evaluator = RefreshingEvaluator(features, quality, [1.0, 2.0, 0.0], every=2, sample=6, ridge=0.1)
    texts = ["q" * (i % 3) + "s" * (i % 5) for i in range(16)]
    before = evaluator(["?"] * 16, texts)
    assert before == [i % 3 + 2.0 * (i % 5) for i in range(16)]
    evaluator.update(rollouts(texts, step=0))
    assert evaluator.labelled == []  # not its turn
    evaluator.update(rollouts(texts, step=1))
    assert len(evaluator.labelled) == 6
    chosen = {tuple(row[:2]) for row in evaluator.labelled}
    assert (2, 4) in chosen or (1, 4) in chosen  # what it liked best is labelled
    after = evaluator(["?"] * 16, texts)
    gold = [float(i % 3) for i in range(16)]
    assert np.abs(np.array(after) - gold).max() < 0.5 < np.abs(np.array(before) - gold).max()
    assert evaluator.figures() == {"refreshing/labels": 6.0}


def test_half_of_the_labels_go_to_what_scores_best() -> None:
    evaluator = RefreshingEvaluator(features, quality, [1.0, 2.0, 0.0], sample=4)
    chosen = evaluator.choose(np.arange(20.0), step=3)
    assert chosen[:2] == [19, 18]
    assert len(set(chosen)) == 4
    assert evaluator.choose(np.arange(20.0), step=3) == chosen
    assert evaluator.choose(np.arange(20.0), step=4)[2:] != chosen[2:]
    few = RefreshingEvaluator(features, quality, [0, 0, 0]).choose(np.arange(5.0), 0)
    assert sorted(few) == list(range(5))


def test_state_is_kept_and_given_to_members() -> None:
    def made() -> EnsembleReward:
        learner = RefreshingEvaluator(features, quality, [1.0, 2.0, 0.0], every=1, sample=4)
        return EnsembleReward([learner, quality], "min")

    one, other = made(), made()
    one.update(rollouts(["qs", "q", "ss", "s", "qqs"], step=0))
    texts = ["q", "ss"]
    assert one(["?"] * 2, texts) != other(["?"] * 2, texts)
    other.load_state_dict(one.state_dict())
    assert one(["?"] * 2, texts) == other(["?"] * 2, texts)
    with pytest.raises(InvalidValue, match="features"):
        RefreshingEvaluator(features, quality, [1.0])(["?"], ["q"])
