import math
import time

import numpy as np
import pytest
from scipy.stats import binomtest
from statsmodels.stats.multitest import multipletests

from dovetail.core import BadData, Cost, InvalidValue, Outcome
from dovetail.core import statistics as st


def outcome(arm, example, value, *, tokens=10, parsed=True, **figures):
    return Outcome(
        arm,
        example,
        "p",
        "c",
        "1",
        "1",
        value,
        value,
        parsed,
        "stop",
        Cost(5, tokens, float(tokens), 0.5, 7),
        figures=figures,
    )


# ---- intervals


def test_wilson_is_wilson_s():
    # Newcombe 1998, table I: 81/263 by the score method without continuity correction.
    figure = st.wilson(81, 263)
    assert figure.value == pytest.approx(0.3080, abs=5e-5)
    assert figure.interval == pytest.approx((0.2553, 0.3662), abs=5e-5)


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 200), (200, 200)])
def test_wilson_at_the_edges_contains_its_value_and_has_width(k, n):
    figure = st.wilson(k, n)
    low, high = figure.interval
    assert 0 <= low <= figure.value <= high <= 1
    assert high - low > 0.01


def test_wilson_of_nothing_is_everything():
    figure = st.wilson(0, 0)
    assert math.isnan(figure.value)
    assert figure.interval == (0.0, 1.0)
    with pytest.raises(InvalidValue, match="between 0 and n = 3"):
        st.wilson(4, 3)


def test_mean_interval_covers_the_truth():
    rng = np.random.default_rng(0)
    hits = 0
    for i in range(200):
        low, high = st.mean(rng.gamma(2.0, 50.0, 100), seed=i, resamples=1000).interval
        hits += low <= 100 <= high
    assert 180 <= hits <= 200


def test_mean_edges():
    assert all(math.isnan(x) for x in (st.mean([]).value, *st.mean([]).interval))
    assert st.mean([3.0]).interval == (3.0, 3.0)
    assert st.mean([2.0] * 9).interval == (2.0, 2.0)
    with pytest.raises(InvalidValue, match="example 'b'"):
        st.mean([1.0, float("nan")], ids=["a", "b"])
    with pytest.raises(InvalidValue, match=r"shape \(1, 2\)"):
        st.mean([[1.0, 2.0]])


def test_score_is_wilson_for_right_and_wrong_and_bootstrap_for_graded():
    assert st.score([1, 0, 1, 1]) == st.wilson(3, 4)
    graded = st.score([0.5, 0.25, 1.0, 0.0])
    assert graded == st.mean([0.5, 0.25, 1.0, 0.0])


# ---- paired differences


def differences(wins, losses, n):
    d = np.zeros(n)
    d[:wins] = 1
    d[wins : wins + losses] = -1
    return d


@pytest.mark.parametrize(
    ("wins", "losses", "n"),
    [(5, 0, 200), (6, 0, 200), (9, 1, 50), (14, 4, 60), (32, 18, 200), (70, 40, 1000)],
)
def test_p_value_follows_the_exact_test(wins, losses, n):
    d = differences(wins, losses, n)
    p = st.paired_difference(d, np.zeros(n)).p_value
    assert p == pytest.approx(binomtest(wins, wins + losses).pvalue, abs=0.015)


def test_five_wins_and_no_loss_are_not_enough():
    # The plain bootstrap calls this better (p = 0.013); the sign test says 0.06.
    zeros = np.zeros(200)
    assert st.paired_difference(differences(5, 0, 200), zeros).verdict == "cannot tell"
    assert st.paired_difference(differences(12, 0, 200), zeros).verdict == "better"
    assert st.paired_difference(-differences(12, 0, 200), zeros).verdict == "worse"


@pytest.mark.parametrize("disagree", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("n", [6, 20, 200])
def test_equal_arms_are_rarely_told_apart(n, disagree):
    rng = np.random.default_rng(n)
    false = 0
    for i in range(300):
        d = np.where(rng.random(n) < disagree, rng.choice([-1.0, 1.0], n), 0.0)
        false += st.paired_difference(d, np.zeros(n), seed=i, resamples=2000).verdict != "cannot tell"
    assert false <= 25  # 5% of 300 is 15; P(more than 25 | 5%) < 0.01


def test_interval_agrees_with_the_verdict():
    rng = np.random.default_rng(5)
    for i in range(100):
        a, b = rng.random(60) < 0.7, rng.random(60) < 0.5
        d = st.paired_difference(a, b, seed=i, resamples=2000)
        low, high = d.interval
        assert low <= d.value <= high
        # At p of exactly 0.05 a single resample decides; away from it the two must agree.
        if abs(d.p_value - 0.05) > 0.003:
            assert (d.verdict != "cannot tell") == (low > 0 or high < 0)


def test_pairing_matters():
    rng = np.random.default_rng(0)
    difficulty = rng.random(200)
    base = difficulty + rng.normal(0, 0.01, 200)
    arm = difficulty + 0.01 + rng.normal(0, 0.01, 200)
    assert st.paired_difference(arm, base).verdict == "better"
    assert st.paired_difference(rng.permutation(arm), base).verdict == "cannot tell"


def test_same_seed_same_result_and_arms_do_not_disturb_each_other():
    rng = np.random.default_rng(0)
    values = {name: rng.random(50) for name in "abc"}
    alone = st.paired_difference(values["b"], values["a"], scale=1.0)
    together = st.compare_to_baseline(values, "a")["b"]
    assert (alone.value, alone.interval, alone.p_value) == (
        together.value,
        together.interval,
        together.p_value,
    )
    again = st.compare_to_baseline(dict(reversed(values.items())), "a")
    assert again["b"] == together


def test_difference_edges():
    nothing = st.paired_difference([], [])
    assert math.isnan(nothing.value)
    assert (nothing.verdict, nothing.pairs) == ("cannot tell", 0)
    one = st.paired_difference([1.0], [0.0])
    assert one.verdict == "cannot tell"
    assert one.interval[0] <= 0
    five = st.paired_difference(np.ones(5), np.zeros(5))
    assert five.verdict == "cannot tell"
    same = st.paired_difference(np.ones(200), np.ones(200))
    assert (same.value, same.interval, same.p_value) == (0.0, (0.0, 0.0), 1.0)
    low, high = st.paired_difference(np.ones(200), np.ones(200), scale=1.0).interval
    assert low == pytest.approx(-3 / 202, abs=0.006)  # the rule of three
    assert high == pytest.approx(3 / 202, abs=0.006)
    with pytest.raises(InvalidValue, match="as many as the baseline's 2"):
        st.paired_difference([1.0], [0.0, 1.0])
    with pytest.raises(InvalidValue, match="example 'q7'"):
        st.paired_difference([1.0, math.inf], [0.0, 1.0], ids=["q6", "q7"])


def test_ties_of_floats_count_as_ties():
    # 0.1 + 0.2 - 0.3 is not 0 in floating point; it must neither speak for nor against the arm.
    a = np.full(100, 0.1 + 0.2)
    assert st.paired_difference(a, np.full(100, 0.3)).p_value == 1.0


def test_holm_over_arms():
    rng = np.random.default_rng(1)
    n = 200
    base = rng.random(n) < 0.5
    values = {"base": base.astype(float)}
    for i in range(8):
        values[f"same{i}"] = (rng.random(n) < 0.5).astype(float)
    values["good"] = np.maximum(base, rng.random(n) < 0.6).astype(float)
    found = st.compare_to_baseline(values, "base")
    assert "base" not in found
    assert found["good"].verdict == "better"
    assert all(d.p_adjusted >= d.p_value for d in found.values())
    expected = multipletests([d.p_value for d in found.values()], method="holm")[1]
    assert [d.p_adjusted for d in found.values()] == pytest.approx(list(expected))


def test_no_p_value_is_zero():
    """However clear: of r resamples none disagreed, which bounds p at 2 / (r + 1) and proves no more."""
    found = st.paired_difference(np.ones(500), np.zeros(500), resamples=999)
    assert found.p_value == pytest.approx(2 / 1000)


@pytest.mark.parametrize("seed", range(5))
def test_holm_is_statsmodels_holm(seed):
    """Small p-values that differ: neither capped at 1 nor lifted to the one before, as with equal arms."""
    p = (np.random.default_rng(seed).random(6) ** 3).tolist()
    given = {f"arm{i}": st.Difference(0.1, (0.0, 0.2), x, x, "better", 50) for i, x in enumerate(p)}
    found = st.holm(given)
    expected = multipletests(p, method="holm")[1]
    assert [d.p_adjusted for d in found.values()] == pytest.approx(list(expected))
    assert [d.verdict for d in found.values()] == ["better" if x < 0.05 else "cannot tell" for x in expected]


def test_holm_turns_a_lone_finding_among_many_arms_into_cannot_tell():
    lone = st.paired_difference(differences(20, 8, 200), np.zeros(200))
    assert lone.verdict == "better"
    none = st.paired_difference(differences(8, 8, 200), np.zeros(200))
    many = st.holm({"lone": lone, **{f"arm{i}": none for i in range(8)}})
    assert many["lone"].verdict == "cannot tell"
    assert many["lone"].interval == lone.interval


def test_compare_to_baseline_names_what_is_wrong():
    with pytest.raises(InvalidValue, match="one of the arms a, b"):
        st.compare_to_baseline({"a": [1.0], "b": [0.0]}, "c")
    with pytest.raises(InvalidValue, match="arm 'b' is '2 values'"):
        st.compare_to_baseline({"a": [1.0], "b": [0.0, 1.0]}, "a")
    with pytest.raises(InvalidValue, match="arm 'b' at example 'x1'"):
        st.compare_to_baseline({"a": [1.0, 1.0], "b": [0.0, math.nan]}, "a", ids=["x0", "x1"])


def test_paired_ratio():
    rng = np.random.default_rng(0)
    base = rng.gamma(2.0, 50.0, 200)
    figure = st.paired_ratio(base * 0.7 + rng.normal(0, 1, 200).clip(-0.5, 0.5) ** 2, base)
    assert figure.interval[0] <= figure.value <= figure.interval[1]
    assert figure.value == pytest.approx(0.7, abs=0.01)
    assert figure.interval[1] - figure.interval[0] < 0.01  # pairing takes the spread of lengths out
    assert st.paired_ratio([1.0, 1.0], [0.0, 1.0]).interval[1] == math.inf
    with pytest.raises(InvalidValue, match="positive somewhere"):
        st.paired_ratio([1.0], [0.0])
    with pytest.raises(InvalidValue, match="at least 0"):
        st.paired_ratio([-1.0], [1.0])


def test_ten_thousand_resamples_are_fast():
    rng = np.random.default_rng(0)
    a, b = (rng.random(1319) < 0.5).astype(float), (rng.random(1319) < 0.5).astype(float)
    start = time.perf_counter()
    for i in range(20):
        st.paired_difference(a, b, seed=i)
    assert time.perf_counter() - start < 2.0


# ---- outcomes -> arms


def test_summarise():
    rows = []
    for i in range(40):
        rows.append(outcome("greedy", f"q{i}", float(i % 2), tokens=100 + i, f1=i / 40))
        rows.append(outcome("best", f"q{i}", 1.0, tokens=50 + i, parsed=i != 3, f1=0.5))
    greedy, best = st.summarise(rows, "greedy", arms={"greedy": "the most likely token", "best": ""})
    assert (greedy.name, greedy.description, greedy.examples) == ("greedy", "the most likely token", 40)
    assert greedy.difference is None
    assert greedy.figures["accuracy"] == st.wilson(20, 40)
    assert best.figures["parsed"] == st.wilson(39, 40)
    assert greedy.figures["f1"].value == pytest.approx(19.5 / 40)
    assert greedy.cost == Cost(200, sum(range(100, 140)), float(sum(range(100, 140))), 20.0, 7)
    assert greedy.mean_cost["tokens_written"].value == pytest.approx(119.5)
    low, high = greedy.mean_cost["tokens_written"].interval
    assert 114 < low < 119.5 < high < 125
    assert best.difference is not None
    assert best.difference.value == 0.5
    assert (best.difference.verdict, best.difference.pairs) == ("better", 40)


def test_summarise_pairs_what_both_arms_have():
    rows = [outcome("a", f"q{i}", 0.0) for i in range(30)]
    # The examples that only "b" has would change the sign if they were counted.
    rows += [outcome("b", f"q{i}", 1.0) for i in range(10)] + [outcome("b", f"x{i}", 0.0) for i in range(90)]
    a, b = st.summarise(reversed(rows), "a", arms=["a", "b"])
    assert (a.examples, b.examples) == (30, 100)
    assert b.difference is not None
    assert (b.difference.value, b.difference.pairs) == (1.0, 10)


def test_summarise_keeps_an_arm_that_never_ran():
    a, b = st.summarise([outcome("a", "q0", 1.0)], "a", arms=["a", "b"])
    assert b.examples == 0
    assert math.isnan(b.figures["accuracy"].value)
    assert b.difference is not None
    assert b.difference.verdict == "cannot tell"
    assert a.figures["accuracy"].value == 1.0


def test_summarise_names_what_is_wrong():
    twice = [outcome("a", "q0", 1.0), outcome("a", "q0", 0.0)]
    with pytest.raises(BadData, match="two outcomes for example 'q0'"):
        st.summarise(twice, "a")
    with pytest.raises(InvalidValue, match="one of the arms a"):
        st.summarise(twice[:1], "z")
    with pytest.raises(InvalidValue, match="'a' too"):
        st.summarise(twice[:1], "z", arms=["z"])
    with pytest.raises(InvalidValue, match="'b' at example 'q0'"):
        st.summarise([outcome("a", "q0", 1.0), outcome("b", "q0", math.nan)], "a")
    with pytest.raises(BadData, match="reserved name"):
        st.summarise([outcome("a", "q0", 1.0, strict=1.0)], "a")
