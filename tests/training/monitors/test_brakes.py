"""ProxyGap on made-up runs, and the brakes inside the trainer."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_tools import examples

from dovetail.core import InvalidValue, Unsupported
from dovetail.models.local import LocalModel
from dovetail.tasks.scorers import scorer
from dovetail.training import evaluate, train
from dovetail.training.monitors import (
    AdaptiveKL,
    EarlyStopOnGold,
    EarlyStopOnOutliers,
    ProxyGap,
    Transcript,
)
from dovetail.training.monitors.base import Alarm
from dovetail.training.monitors.proxy_gap import slope_interval
from dovetail.training.objectives import PolicyGradient, Supervised


def played(
    monitor: ProxyGap, steps: int = 16, *, seed: int = 0, leak: float = 0.0, scale: float = 1.0
) -> list[int]:
    """The steps with an alarm, of a run whose texts get longer; ``leak`` pays for that, and from step 8 on
    length costs quality."""
    rng = np.random.default_rng(seed)
    raised = []
    for step in range(steps):
        length = rng.integers(8, 14, 64) + (2 * step if leak else 0)
        gold = rng.normal(size=64) - (0.15 * max(0, step - 8) if leak else 0)
        proxy = scale * (gold + leak * length) + 7 * (scale - 1)
        responses = [" ".join(f"w{i}" for i in range(n)) for n in length]
        monitor.log(step, responses, proxy, gold, [f"q{i % 8}" for i in range(64)])
        if monitor.see({"step": step}):
            raised.append(step)
    return raised


def test_the_alarm_comes_before_gold_falls() -> None:
    monitor = ProxyGap(gold="gold")
    raised = played(monitor, leak=0.2)
    assert raised
    assert raised[0] <= 8
    report = monitor.report()
    assert report.alarm == raised[0]
    assert report.first["features"] == raised[0]
    assert {"gap", "divergence"} <= set(report.first)
    assert [s.feature for s in report.shifts if s.flagged] == ["length"]
    assert report.curve[-1]["rows"] > 0.3  # type: ignore[operator]
    assert report.curve[-1]["gap"] == pytest.approx(report.curve[-1]["proxy"] - report.curve[-1]["gold"])  # type: ignore[operator]
    json.dumps(report.as_dict())


def test_a_change_of_the_proxys_unit_changes_nothing() -> None:
    one, other = ProxyGap(gold="gold"), ProxyGap(gold="gold")
    assert played(one, leak=0.2) == played(other, leak=0.2, scale=3.0)
    assert one.first == other.first


def test_no_false_alarm_where_proxy_is_gold() -> None:
    for seed in range(30):
        monitor = ProxyGap(gold="gold")
        assert played(monitor, seed=seed, steps=12) == []
        assert all(point["rows"] == 0 and point["gap"] == 0 for point in monitor.report().curve)


def test_gold_that_rises_with_the_proxy_is_no_gap() -> None:
    rng = np.random.default_rng(0)
    monitor = ProxyGap(gold="gold")
    for step in range(12):
        gold = rng.normal(size=64) + 0.3 * step
        monitor.log(step, ["same words here"] * 64, gold + 0.3 * rng.normal(size=64), gold)
    assert monitor.first == {}
    assert monitor.report().curve[-1]["gold"] > 2  # type: ignore[operator]


def test_what_cannot_be_told_is_said() -> None:
    blind = ProxyGap()
    for step in range(6):
        blind.log(step, ["a"] * 8, list(range(8)))
    assert blind.report().signal.startswith("no gold")
    assert blind.report().curve[-1]["gap"] is None
    assert set(blind.figures()) == {"gap/proxy"}
    constant = ProxyGap(gold="gold")
    for step in range(6):
        constant.log(step, ["a"] * 8, [1.0] * 8, list(range(8)))
    assert constant.report().signal == "no signal: the proxy is constant"
    assert constant.first == {}
    assert ProxyGap().report().signal.startswith("no signal: 0 steps")


def test_bad_rows_are_named() -> None:
    monitor = ProxyGap(gold="gold")
    with pytest.raises(InvalidValue, match="2 values': must be one for each of 1 responses"):
        monitor.log(0, ["a"], [1, 2], [1])
    with pytest.raises(InvalidValue, match="proxy of rows 1"):
        monitor.log(0, ["a", "b"], [1, math.nan], [1, 2])
    monitor.log(0, ["a", "b"], [1, 2], [1, 2])
    with pytest.raises(InvalidValue, match="gold"):
        monitor.log(1, ["a", "b"], [1, 2])
    for bad in ({"reference": 0}, {"window": 2}, {"sd": 0.0}):
        with pytest.raises(InvalidValue, match=next(iter(bad))):
            ProxyGap(**bad)  # type: ignore[arg-type]


def test_slopes() -> None:
    rng = np.random.default_rng(0)
    rising = [rng.normal(size=50) + step for step in range(5)]
    low, high = slope_interval(rising)
    assert low < 1 < high
    assert low > 0.8
    flat = slope_interval([rng.normal(size=50) for _ in range(5)])
    assert flat[0] < 0 < flat[1]


def test_a_resumed_monitor_goes_on_as_it_would_have() -> None:
    whole, begun, resumed = (ProxyGap(gold="gold") for _ in range(3))
    played(whole, leak=0.2)
    rng = np.random.default_rng(1)

    def feed(monitor: ProxyGap, steps: range, rows: list[Any]) -> None:
        for step in steps:
            monitor.log(step, *rows[step])

    rows = [(["a b"] * 9, rng.normal(size=9) + s, rng.normal(size=9)) for s in range(10)]
    straight = ProxyGap(gold="gold")
    feed(straight, range(10), rows)
    feed(begun, range(6), rows)
    resumed.load_state_dict(json.loads(json.dumps(begun.state_dict())))
    feed(resumed, range(6, 10), rows)
    assert resumed.report() == straight.report()


# --- in the trainer ---------------------------------------------------------------------------------------

SMALL: dict[str, Any] = {"steps": 8, "batch": 16, "max_new_tokens": 6, "learning_rate": 5e-3}


def lower(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    return [sum(c.islower() for c in text) / max(1, len(text)) for text in completions]


def upper(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    return [sum(c.isupper() for c in text) / max(1, len(text)) for text in completions]


def test_monitors_see_completions(learner: LocalModel, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "rows.jsonl"
    run = train(
        learner,
        examples(),
        objective=PolicyGradient(group_size=4),
        rewards=[lower, upper],
        weights=[1, 0],
        monitors=[ProxyGap(gold="upper"), Transcript(path), EarlyStopOnOutliers(limit=0.99)],
        **SMALL,
    )
    assert {"gap", "gap/rows", "outliers/mop"} <= set(run.history[-1])
    assert len(run.monitors[0].report().curve) == 8
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(rows) == 8 * 16
    assert set(rows[0]) == {"step", "id", "prompt", "response", "length", "lower", "upper", "reward"}
    assert [r["reward"] for r in rows] == [r["lower"] for r in rows]


def test_the_transcript_of_a_resumed_run_has_no_step_twice(learner: LocalModel, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    options = {
        "objective": PolicyGradient(group_size=4),
        "rewards": [lower],
        "out": tmp_path / "run",
        "save_every": 2,
    }
    train(learner, examples(), monitors=[Transcript(path)], **options, **SMALL | {"steps": 4})  # type: ignore[arg-type]
    once = path.read_text()
    path.write_text(once + "of steps that are done again" * 10_000)
    train(learner, examples(), monitors=[Transcript(path)], resume=True, **options, **SMALL | {"steps": 6})  # type: ignore[arg-type]
    steps = [json.loads(line)["step"] for line in path.read_text().splitlines()]
    assert steps == [s for s in range(6) for _ in range(16)]
    assert path.read_text().startswith(once)


def test_adaptive_kl_turns_the_objectives_knob(learner: LocalModel) -> None:
    options = {**SMALL, "rewards": [lower], "objective": PolicyGradient(group_size=4, kl=0.1)}
    tight = train(learner, examples(), monitors=[AdaptiveKL(target=1e-6, horizon=16)], **options)
    loose = train(learner, examples(), monitors=[AdaptiveKL(target=1e6, horizon=16)], **options)
    # The first step has no divergence yet: 1 - 0.2, then seven steps of 1.2
    assert tight.monitors[0].beta == pytest.approx(0.1 * 0.8 * 1.2**7)
    assert loose.monitors[0].beta == pytest.approx(0.1 * 0.8**8)
    assert tight.history[-1]["kl/beta"] == pytest.approx(0.1 * 0.8 * 1.2**6)
    with pytest.raises(Unsupported, match="PolicyGradient has kl = 0"):
        train(learner, examples(), rewards=[lower], monitors=[AdaptiveKL()], **SMALL)
    with pytest.raises(Unsupported, match="Supervised has kl = None"):
        train(learner, examples(), objective=Supervised(), monitors=[AdaptiveKL()], **SMALL)


class Weights:
    """What `EarlyStopOnGold` needs of a trainer."""

    def __init__(self) -> None:
        self.model = self
        self.network = torch.nn.Linear(1, 1)


def test_early_stop_restores_the_best() -> None:
    trainer: Any = Weights()
    monitor = EarlyStopOnGold("gold", patience=2)
    monitor.begin(trainer)
    said: list[Alarm | None] = []
    for step, value in enumerate([0.3, 0.6, 0.5, 0.55, 0.9]):
        with torch.no_grad():
            trainer.network.weight.fill_(float(step))
        said.append(monitor.see({"step": step, "gold": value}))
        said.append(monitor.see({"step": step}))  # steps without an evaluation do not count
        if said[-2]:
            break
    assert [s is not None for s in said] == [False] * 6 + [True, False]
    assert said[6] is not None
    assert said[6].stop
    assert "its best, 0.6, was not beaten 2 times; its weights are back, those of step 1" in said[6].text
    assert trainer.network.weight.item() == 1.0


def test_early_stop_averages_and_resumes() -> None:
    trainer: Any = Weights()
    one, other = (EarlyStopOnGold("gold", patience=1, average=2, restore=False) for _ in range(2))
    for monitor in (one, other):
        monitor.begin(trainer)
    values = [0.2, 0.6, 0.3, 0.4]
    assert [one.see({"step": i, "gold": v}) for i, v in enumerate(values[:3])] == [None] * 3  # 0.40, 0.45
    assert one.best == pytest.approx(0.45)
    other.load_state_dict(one.state_dict())
    alarm = other.see({"step": 3, "gold": values[3]})  # 0.35
    assert alarm is not None
    assert "weights" not in alarm.text


def test_a_stopped_run_is_evaluated_as_it_ends(learner: LocalModel) -> None:
    run = train(
        learner,
        examples(),
        objective=PolicyGradient(group_size=4),
        rewards=[lower, upper],
        weights=[1, 0],
        monitors=[EarlyStopOnGold("reward/upper", patience=2)],
        held_out=examples(4),
        scorer=scorer("exact"),
        evaluate_every=1,
        **SMALL | {"steps": 30},
    )
    assert run.stopped.startswith("EarlyStopOnGold: reward/upper is")
    assert len(run.history) < 30
    assert [e.step for e in run.evaluations] == list(range(len(run.history) + 1))
    again = evaluate(run.model, examples(4), scorer("exact"), max_new_tokens=6)
    assert run.final.texts == again.texts  # of the weights that were brought back
    assert run.final.texts != run.evaluations[-2].texts


def test_outliers_stop_a_run_that_leaves_its_beginnings(learner: LocalModel) -> None:
    def letters(texts: list[str]) -> np.ndarray:
        return np.array(
            [[sum(c.islower() for c in t), sum(c.isupper() for c in t)] for t in texts], dtype=float
        )

    run = train(
        learner,
        examples(),
        objective=PolicyGradient(group_size=4),
        rewards=[lower],
        monitors=[EarlyStopOnOutliers(limit=0.1, reference=2, latents=letters)],
        **SMALL | {"steps": 60, "learning_rate": 1e-2},
    )
    assert "are outliers (limit 10%)" in run.stopped
    assert run.history[-1]["outliers/mop"] > 0.1
    for bad in ({"limit": 0.0}, {"window": 0}):
        with pytest.raises(InvalidValue, match=next(iter(bad))):
            EarlyStopOnOutliers(**bad)  # type: ignore[arg-type]
