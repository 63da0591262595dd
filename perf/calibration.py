"""How often are equal arms told apart, and how often is a true difference of ten points found?

    python perf/calibration.py [--quick] [--json FILE] [--synthetic] [--model pico] [--task chain-sum]

The question is about `core.statistics.compare_to_baseline`, the code behind every verdict, at n = 200.

**How the truth is known.** One sampling arm (temperature 1) answers 400 examples 16 times each, every time
from another random stream, and all scores are kept in a table. That table is then the whole world: a
comparison draws 200 of its examples at random and, on each, draws outcomes from the example's row. Whatever
is true of the table on average is true of these comparisons by construction; nothing is assumed of the model.

* *Equal arms*: on every example the two arms get two different draws of the same row. They are the same arm
  under different seeds, exchangeable, so each "better" or "worse" is false. 400 comparisons.
* *Five equal arms*: the same with four arms against the baseline; false where any of the four is called
  better or worse, which is what Holm's correction bounds.
* *Ten points*: the second arm writes what the first one wrote, but each of its answers is replaced, with
  probability w, by that of a stronger arm: the best of 4 other draws of the example. The stronger arm's
  accuracy over the table is the mean of 1 - C(wrong, 4) / C(draws, 4) (Chen et al. 2021, arXiv 2107.03374,
  eq. 1), so w = 0.10 / (stronger - own) makes the true difference ten points exactly. The arms share the
  answers that are not replaced, as two arms of a report do where a method changes little.
* *Ten points, independent*: as before, but the second arm's own answers come from other draws too. The same
  true difference with more noise around it; how often anything can find it depends on how often the sampling
  arm agrees with itself. "Ceiling" is what a z-test that is told the true variance would find.

`--synthetic` takes a Bernoulli model in place of a real one: every example has its own chance of being
answered right, drawn from a Beta(1.2, 0.8) (accuracy 60%).

Comparisons draw from one table, so they are not quite independent of each other; the intervals (Wilson)
take them as if they were.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from dovetail.core.environment import machine, versions
from dovetail.core.statistics import compare_to_baseline, wilson

N = 200  # examples of a comparison
BEST_OF = 4
TRUE = 0.10


def synthetic(examples: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Scores [examples, draws] of an arm that answers example i right with its own chance p_i."""
    return (rng.random((examples, draws)) < rng.beta(1.2, 0.8, (examples, 1))).astype(float)


def sampled(model_name: str, task_name: str, examples: int, draws: int, seed: int) -> np.ndarray:
    """Scores [examples, draws] of the sampling arm of a real model."""
    import dovetail
    from dovetail.core import Limits
    from dovetail.core.seeds import stream
    from dovetail.decoding import Sampling
    from dovetail.decoding.self_consistency import resampled

    model, task = dovetail.load(model_name), dovetail.task(task_name)
    asked, _ = task.examples(examples, seed)
    scores = []
    for start in range(0, len(asked), 16):
        some = asked[start : start + 16]
        prompts = [
            one
            for e in some
            for one in resampled(model.prompt(e.messages, seed=stream(seed, "calibration", e.id)), draws)
        ]
        written = Sampling().generate(model.engine, prompts, Limits(256))
        scores += [task.scorer(some[i // draws], c).value for i, c in enumerate(written)]
        print(f"\r{start + len(some)} of {len(asked)} examples", end="", flush=True)
    print()
    return np.asarray(scores, dtype=float).reshape(len(asked), draws)


def equal_arms(table: np.ndarray, arms: int, comparisons: int, rng: np.random.Generator, seed: int) -> int:
    """How many of so many comparisons tell an arm from itself."""
    false = 0
    for i in range(comparisons):
        rows = rng.choice(len(table), N, replace=False)
        drawn = rng.permuted(table[rows], axis=1)[:, :arms]
        found = compare_to_baseline({str(k): drawn[:, k] for k in range(arms)}, "0", seed=seed + i)
        false += any(d.verdict != "cannot tell" for d in found.values())
    return false


def ten_points(
    table: np.ndarray, share: float, independent: bool, comparisons: int, rng: np.random.Generator, seed: int
) -> int:
    """How many of so many comparisons call the better arm better."""
    right = 0
    for i in range(comparisons):
        rows = rng.choice(len(table), N, replace=False)
        drawn = rng.permuted(table[rows], axis=1)
        first, own = drawn[:, 0], drawn[:, 1] if independent else drawn[:, 0]
        stronger = drawn[:, 2 : 2 + BEST_OF].max(axis=1)
        second = np.where(rng.random(N) < share, stronger, own)
        found = compare_to_baseline({"first": first, "second": second}, "first", seed=seed + i)
        right += found["second"].verdict == "better"
    return right


def ceiling(table: np.ndarray, share: float, rng: np.random.Generator, times: int = 20_000) -> float:
    """What a two-sided z-test that knows the variance would find, for independent arms."""
    rows = rng.integers(0, len(table), times)
    drawn = rng.permuted(table[rows], axis=1)
    second = np.where(rng.random(times) < share, drawn[:, 2 : 2 + BEST_OF].max(axis=1), drawn[:, 1])
    z = TRUE / ((second - drawn[:, 0]).std() / math.sqrt(N))
    return 0.5 * math.erfc((1.96 - z) / math.sqrt(2))


def stronger_accuracy(table: np.ndarray) -> float:
    """Mean chance that the best of `BEST_OF` draws of an example is right (scores 0 or 1)."""
    draws = table.shape[1]
    wrong = (draws - table.sum(axis=1)).astype(int)
    return float(np.mean([1 - math.comb(w, BEST_OF) / math.comb(draws, BEST_OF) for w in wrong]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--quick", action="store_true", help="fewer examples and comparisons")
    parser.add_argument("--synthetic", action="store_true", help="a Bernoulli model in place of a real one")
    parser.add_argument("--model", default="pico")
    parser.add_argument("--task", default="chain-sum")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    examples, draws = (240, 8) if options.quick else (400, 16)
    comparisons = 100 if options.quick else 400
    rng = np.random.default_rng(options.seed)
    if options.synthetic:
        table, source = synthetic(examples, draws, rng), "Bernoulli, Beta(1.2, 0.8)"
    else:
        table = sampled(options.model, options.task, examples, draws, options.seed)
        source = f"{options.model} on {options.task}"
    own, stronger = float(table.mean()), stronger_accuracy(table)
    if not np.isin(table, (0.0, 1.0)).all() or stronger - own < TRUE:
        raise SystemExit(
            f"{source}: accuracy {own:.1%}, best of {BEST_OF} {stronger:.1%}: this needs right/wrong scores "
            "and a best of 4 that is ten points above a single draw"
        )
    share = TRUE / (stronger - own)
    agreement = float(np.mean((table.sum(1) / draws) ** 2 + (1 - table.sum(1) / draws) ** 2))

    counts = {
        "equal": equal_arms(table, 2, comparisons, rng, options.seed),
        "equal_five": equal_arms(table, 5, comparisons, rng, options.seed),
        "found": ten_points(table, share, False, comparisons, rng, options.seed),
        "found_independent": ten_points(table, share, True, comparisons, rng, options.seed),
    }
    rates = {name: wilson(count, comparisons) for name, count in counts.items()}
    result: dict[str, Any] = {
        "source": source,
        "examples": N,
        "comparisons": comparisons,
        "accuracy": own,
        "accuracy_best_of_4": stronger,
        "share_replaced": share,
        "agreement_with_itself": agreement,
        "ceiling_independent": ceiling(table, share, rng),
        **{name: {"value": f.value, "interval": list(f.interval)} for name, f in rates.items()},
        "machine": machine(),
        "versions": versions(),
    }
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")

    def line(name: str) -> str:
        f = rates[name]
        return f"{f.value:6.1%}  [{f.interval[0]:.1%}, {f.interval[1]:.1%}]"

    print(
        f"{source}: {len(table)} examples, {draws} draws each, accuracy {own:.1%}, best of 4 {stronger:.1%}"
    )
    print(f"two draws agree on {agreement:.0%} of examples; {comparisons} comparisons of {N} examples")
    print(f"five equal arms, any told apart     {line('equal_five')}")
    print(f"ten points, independent, found      {line('found_independent')}  "
          f"(ceiling {result['ceiling_independent']:.1%})")  # fmt: skip
    print(f"equal arms told apart               {line('equal')}  at most 5% wanted")
    print(f"true ten points found               {line('found')}  at least 80% wanted")


if __name__ == "__main__":
    main()
