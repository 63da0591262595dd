"""What em's training half computes, by hand."""

import pytest
import torch

from dovetail.recipes.em_training import ARMS, LABEL_FREE, SIZES, Trained, claims, correlation
from dovetail.training import Evaluation, Run


def test_correlation_is_within_groups() -> None:
    # The second group is 10 above the first in both rows: between groups all goes together, within none does.
    group = torch.tensor([0, 0, 1, 1])
    rises, falls = torch.tensor([0.0, 1.0, 10.0, 11.0]), torch.tensor([1.0, 0.0, 11.0, 10.0])
    assert correlation(rises, rises, group) == pytest.approx(1.0)
    assert correlation(rises, falls, group) == pytest.approx(-1.0)
    half = torch.tensor([0.0, 1.0, 10.0, 10.0])  # goes along in one group of two: 0.5 / sqrt(0.5 * 1)
    assert correlation(rises, half, group) == pytest.approx(0.5**0.5)


def test_what_never_differs_correlates_with_nothing() -> None:
    same, other = torch.tensor([3.0, 3.0]), torch.tensor([0.0, 1.0])
    assert correlation(same, other, torch.tensor([5, 5])) == 0.0


def test_no_arm_but_one_knows_the_answers() -> None:
    assert {name for name, (_, rewards, _) in ARMS.items() if rewards is None} == {"RLOO"}
    assert set(LABEL_FREE) < set(ARMS)


def _trained(before: list[float], after: list[float]) -> Trained:
    def evaluation(values: list[float]) -> Evaluation:
        n = len(values)
        ids = tuple(str(i) for i in range(n))
        return Evaluation(-1, ids, tuple(values), (1,) * n, (False,) * n)

    run = Run.__new__(Run)
    run.history = [{"step": 0, "entropy": 1.0}, {"step": 1, "entropy": 0.5}]
    found = {"untouched": [evaluation(before)], **{name: [evaluation(after)] for name in LABEL_FREE}}
    return Trained(found, found, {name: [run] for name in LABEL_FREE})


def test_claims_compare_with_the_untouched_model() -> None:
    better = claims(_trained([0.0, 0.0, 1.0] * 20, [0.0, 1.0, 1.0] * 20), "chain-sum", 0, main=True)
    main = [claim for claim in better if claim.main]
    assert [claim.verdict for claim in main] == ["holds"] * 3
    assert main[0].measured == pytest.approx(1 / 3)
    assert main[0].baseline == pytest.approx(1 / 3)
    assert better[-1].measured == pytest.approx(0.5)  # entropy, last over first
    worse = claims(_trained([0.0, 1.0, 1.0] * 20, [0.0, 0.0, 1.0] * 20), "chain-sum", 0, main=False)
    assert [claim.verdict for claim in worse[:3]] == ["fails"] * 3
    assert not any(claim.main for claim in worse)
    # Where RLOO and SC-RL were not trained, nothing is said of them.
    assert not any("RLOO" in claim.text or "SC-RL" in claim.text for claim in worse)


def test_the_first_ground_is_answered_at_once() -> None:
    for scale in ("smoke", "pico"):
        assert [size.thinking for size in SIZES[scale]] == [False, True]
