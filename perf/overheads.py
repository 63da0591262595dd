"""What a decoding costs per token beyond plain sampling with the same filters: the same model and prompts.

    python perf/overheads.py [--quick] [--json FILE] [--rows 16]

Soft thinking and mixture of inputs each write next to sampling, in turn, several times, all rows equally many
tokens (end tokens and Cold Stop are off, so that the work is the same). The ratio is seconds per token over
sampling's, pair by pair; the medians are printed last. 1.10 means 10% more time per token.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from decode import EMBEDDED, network, workload
from transformers import AutoTokenizer

from dovetail.core import Limits, Prompt
from dovetail.core.environment import machine, versions
from dovetail.decoding import MixtureOfInputs, Sampling, SoftThinking
from dovetail.engine import Engine

PAIRS = {
    "soft-thinking": (SoftThinking(entropy_threshold=0.0), Sampling(0.6, top_k=30, top_p=0.95, min_p=0.001)),
    "mixture-of-inputs": (MixtureOfInputs(), Sampling(0.6, top_p=0.95)),
}


def measure(engine: Engine, rows: int, tokens: int, pairs: int) -> list[dict[str, Any]]:
    prompts, _ = workload(rows, engine.forward.vocab_size, tokens)
    asked = [Prompt((), "x", tuple(p), seed=i) for i, p in enumerate(prompts)]
    results = []
    for name, (method, sampling) in PAIRS.items():
        seconds: dict[str, list[float]] = {"method": [], "sampling": []}
        for turn in range(pairs + 1):  # the first warms up
            for label, decoding in (("method", method), ("sampling", sampling)):
                start = time.perf_counter()
                written = decoding.generate(engine, asked, Limits(tokens))
                elapsed = time.perf_counter() - start
                if turn:
                    seconds[label].append(elapsed / sum(len(c.token_ids) for c in written))
        ratios = [a / b for a, b in zip(seconds["method"], seconds["sampling"], strict=True)]
        results.append(
            {
                "method": name,
                "rows": rows,
                "microseconds_per_token": 1e6 * statistics.median(seconds["method"]),
                "sampling_microseconds_per_token": 1e6 * statistics.median(seconds["sampling"]),
                "ratio": statistics.median(ratios),
                "ratio_range": [min(ratios), max(ratios)],
            }
        )
    return results


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="few and short pairs: shows that it runs")
    parser.add_argument("--rows", type=int, default=16)
    args = parser.parse_args()
    engine = Engine(network("pico", "cpu"), AutoTokenizer.from_pretrained(EMBEDDED / "pico"), name="pico")
    engine.end_ids = ()
    tokens, pairs = (24, 3) if args.quick else (128, 9)
    print(f"pico, {args.rows} rows, {tokens} tokens each, {torch.get_num_threads()} threads, {pairs} pairs")
    results = measure(engine, args.rows, tokens, pairs)
    for r in results:
        low, high = r["ratio_range"]
        print(
            f"{r['method']:18s} {r['microseconds_per_token']:6.0f} us/token, sampling "
            f"{r['sampling_microseconds_per_token']:6.0f}  (ratio {low:.2f} to {high:.2f})"
        )
    if args.json:
        record = {"script": "perf/overheads.py", "machine": machine(), "versions": versions()}
        args.json.write_text(json.dumps(record | {"results": results}, indent=1))
    print("ratio: " + "; ".join(f"{r['method']} {r['ratio']:.2f}" for r in results))


if __name__ == "__main__":
    main()
