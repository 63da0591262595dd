import random

import pytest

from dovetail.core import Cost, Outcome, Report
from dovetail.core.statistics import summarise
from dovetail.report import notes

NASTY = '</script><script>alert(1)</script><!-- <img src=x onerror=alert(1)> \u2028\u2029 "quotes" & é 漢字'


def outcomes(arms, n, right):
    """``right``: arm -> probability of a right answer."""
    rows = []
    for k, arm in enumerate(arms):
        rng = random.Random(f"{arm} {n}")
        for i in range(n):
            ok = rng.random() < right[arm]
            tokens = rng.randint(50, 150) * (k + 1)
            rows.append(
                Outcome(
                    arm=arm,
                    example_id=f"sum-{i}",
                    prompt=f"<|im_start|>user\nWhat is {i} + 1?<|im_end|>\n<|im_start|>assistant\n",
                    completion=f"<think>\n{i} + 1\n</think>\n\n\\boxed{{{i + 1 if ok else 0}}}",
                    reference=None if i == 3 else str(i + 1),
                    answer=str(i + 1 if ok else 0),
                    value=float(ok),
                    strict=float(ok),
                    parsed=True,
                    finish_reason="length" if i == 2 else "stop",
                    cost=Cost(12, tokens, float(tokens), tokens / 1000, 10**8),
                    figures={"f1": i / n} if i % 2 else {},
                    columns={"votes": {"a": 2}, "share": 0.5} if i == 1 else {},
                    error="RuntimeError: closed" if i == 4 else "",
                )
            )
    return rows


def report_of(arms=("greedy", "sampling"), n=40, right=None, **fields):
    rows = outcomes(arms, n, right or dict.fromkeys(arms, 0.5))
    summary = summarise(rows, arms[0], arms=arms, resamples=500)
    base = {
        "title": "pico on sums",
        "model": "pico",
        "task": "sums",
        "baseline": arms[0],
        "arms": summary,
        "outcomes": tuple(rows),
        "record": {"prompt": rows[0].prompt, "seed": 0, "versions": {"torch": "2"}},
        "notes": notes(summary, arms[0]),
    }
    return Report(**{**base, **fields})


@pytest.fixture
def report():
    return report_of()
