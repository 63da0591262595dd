"""GRPO here against TRL's GRPOTrainer: completions per second, peak memory, and the learning curves.

    python perf/grpo.py [--json] [--quick] [--updates N] [--seeds N] [--limit TOKENS]

Both train the same pico weights in float32 on one thread: same questions, groups of 8, batches of 128, the
same completion limit, learning rate, optimizer, clipping, loss (token means) and reward; no KL term. Each run
is a process of its own, so that its peak memory is its own; runs take turns, so that a machine that slows
down slows both. At a limit of 40 tokens pico has much to learn, as in ``make train``: there curves climb.

The ratio is of medians of seconds per update, without the first update, which warms up. Processor seconds
stand beside it: they say the same on a machine that is busy otherwise. TRL comes with
``pip install 'dovetail[training]'``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

GROUP, BATCH, RATE = 8, 128, 1e-4
TASK = {"min_terms": 3, "max_terms": 5}


def questions() -> Any:
    import dovetail as dt

    task = dt.task("chain-sum", **TASK)
    return task.examples(1000, 0)[0], task.scorer


def ours(seed: int, updates: int, limit: int) -> dict[str, Any]:
    import dovetail as dt
    from dovetail.training.judging import ByScorer
    from dovetail.training.objectives import PolicyGradient
    from dovetail.training.progress import Silent

    examples, scorer = questions()

    class Clock(Silent):
        def begin(self, done: int, steps: int) -> None:
            self.ends = [(time.perf_counter(), time.process_time())]

        def advance(self, figures: Any) -> None:
            self.ends.append((time.perf_counter(), time.process_time()))

    model = dt.load("pico", device="cpu")
    clock = Clock()
    run = dt.train(
        model,
        examples,
        objective=PolicyGradient(group_size=GROUP),
        rewards=[ByScorer(scorer)],
        in_place=True,
        steps=updates,
        batch=BATCH,
        learning_rate=RATE,
        max_new_tokens=limit,
        seed=seed,
        progress=clock,
    )
    return times(clock.ends) | {name: run.curve(name)[1] for name in ("reward", "length", "padding")}


def trl(seed: int, updates: int, limit: int) -> dict[str, Any]:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from dovetail.core import Completion
    from dovetail.models import embedded

    examples, scorer = questions()
    by_id = {e.id: e for e in examples}

    def reward(completions: list[Any], id: list[str], **_: Any) -> list[float]:
        texts = [c[-1]["content"] for c in completions]
        return [scorer(by_id[i], Completion(t)).value for i, t in zip(id, texts, strict=True)]

    class Clock(TrainerCallback):
        """Update after update: generation, rewards and loss."""

        def __init__(self) -> None:
            self.ends: list[tuple[float, float]] = []

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.ends.append((time.perf_counter(), time.process_time()))

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.ends.append((time.perf_counter(), time.process_time()))

    folder = embedded()["pico"]
    rows = [{"prompt": [m.as_dict() for m in e.messages], "id": e.id} for e in examples]
    with tempfile.TemporaryDirectory() as out:
        config = GRPOConfig(
            output_dir=out,
            seed=seed,
            max_steps=updates,
            per_device_train_batch_size=BATCH,
            num_generations=GROUP,
            max_completion_length=limit,
            learning_rate=RATE,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            max_grad_norm=1.0,
            beta=0.0,
            temperature=1.0,
            top_p=1.0,
            top_k=0,
            loss_type="dapo",  # token means, as ours
            scale_rewards="group",
            mask_truncated_completions=False,
            gradient_checkpointing=False,
            use_cpu=True,
            bf16=False,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        clock = Clock()
        trainer = GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(folder, dtype="float32"),
            processing_class=AutoTokenizer.from_pretrained(folder),
            reward_funcs=reward,
            args=config,
            train_dataset=Dataset.from_list(rows),
            callbacks=[clock],
        )
        trainer.train()
    log = [entry for entry in trainer.state.log_history if "reward" in entry]
    return times(clock.ends) | {
        "reward": [entry["reward"] for entry in log],
        "length": [entry["completions/mean_length"] for entry in log],
        "padding": [],
    }


def times(ends: list[tuple[float, float]]) -> dict[str, list[float]]:
    """Wall-clock and processor seconds of every update."""
    pairs = list(itertools.pairwise(ends))
    return {
        "seconds": [end[0] - begin[0] for begin, end in pairs],
        "cpu_seconds": [end[1] - begin[1] for begin, end in pairs],
    }


def child(name: str, seed: int, updates: int, limit: int) -> None:
    """One run in this process; prints a JSON line."""
    import torch

    torch.set_num_threads(1)
    clock = time.perf_counter()
    found = {"ours": ours, "trl": trl}[name](seed, updates, limit)
    found["training_seconds"] = time.perf_counter() - clock
    found["peak_memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print("\n" + json.dumps(found))


def run(name: str, seed: int, updates: int, limit: int) -> dict[str, Any]:
    numbers = {"--seed": seed, "--updates": updates, "--limit": limit}
    given = [part for option, number in numbers.items() for part in (option, str(number))]
    command = [sys.executable, __file__, "--child", name, *given]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def measure(updates: int, seeds: int, limit: int) -> dict[str, Any]:
    from importlib.metadata import version

    runs: dict[str, list[dict[str, Any]]] = {"ours": [], "trl": []}
    for seed in range(seeds):
        for name in ("ours", "trl") if seed % 2 == 0 else ("trl", "ours"):
            runs[name].append(run(name, seed, updates, limit))
            print(f"{name}, seed {seed}: done", file=sys.stderr, flush=True)
    pace = {n: statistics.median([s for one in of for s in one["seconds"][1:]]) for n, of in runs.items()}
    work = {n: statistics.median([s for one in of for s in one["cpu_seconds"][1:]]) for n, of in runs.items()}
    tail = max(1, updates // 3)
    early = {n: [statistics.mean(one["reward"][:tail]) for one in of] for n, of in runs.items()}
    late = {n: [statistics.mean(one["reward"][-tail:]) for one in of] for n, of in runs.items()}
    spread = statistics.stdev([*late["ours"], *late["trl"]]) if seeds > 1 else float("nan")
    return {
        "trl": version("trl"),
        "transformers": version("transformers"),
        "updates": updates,
        "seeds": seeds,
        "limit": limit,
        "rollouts_per_second": {n: BATCH / s for n, s in pace.items()},
        "ratio": pace["trl"] / pace["ours"],
        "ratio_of_processor_seconds": work["trl"] / work["ours"],
        "peak_memory": {n: max(one["peak_memory"] for one in of) for n, of in runs.items()},
        "mean_length": {
            n: statistics.mean([x for one in of for x in one["length"]]) for n, of in runs.items()
        },
        "padding": statistics.mean([x for one in runs["ours"] for x in one["padding"]]),
        "reward_of_the_first_third": early,
        "reward_of_the_last_third": late,
        "difference_of_rewards": statistics.mean(late["ours"]) - statistics.mean(late["trl"]),
        "spread_over_seeds": spread,
        "curves": {n: [one["reward"] for one in of] for n, of in runs.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    parser.add_argument("--quick", action="store_true", help="6 updates, 2 seeds; else 20 updates, 3 seeds")
    parser.add_argument("--updates", type=int)
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--limit", type=int, default=128, help="tokens of a completion at most")
    parser.add_argument("--child", choices=("ours", "trl"), help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    updates = given.updates or (6 if given.quick else 20)
    if given.child:
        child(given.child, given.seed, updates, given.limit)
        return
    found = measure(updates, given.seeds or (2 if given.quick else 3), given.limit)
    if given.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
