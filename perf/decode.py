"""Tokens per second of Dovetail's engine beside `transformers.generate`: same weights, prompts and lengths.

    python perf/decode.py [--quick] [--json FILE] [--model NAME ...] [--device cpu|cuda]

On a CPU: `pico` (float32) at batch 1, 16 and 64, and 32 samples of one prompt; `60m`, a Qwen3 of 59 million
random weights (float32), at batch 1. On a GPU: `0.6b`, the shape of Qwen3-0.6B with random weights in
bfloat16, beside the bound that memory sets: the bytes of weights and cache that a step must read over the
bandwidth that a large copy reaches in this process.

Both write greedily and exactly the same number of tokens per row (end tokens are suppressed by a budget per
row: rows are ragged in prompt and in length). `transformers.generate` writes until its longest row is done
and is given that freedom: its rows are stopped at their budgets by a stopping criterion, as its users would.
"n samples of one prompt" gives transformers the prompt n times, which is what its num_return_sequences does.
The two are timed in turn, several times; the ratio is taken pair by pair and its median is printed last.
"tokens/s" is all rows' written tokens over wall-clock seconds, reading the prompts included.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3Config, Qwen3ForCausalLM
from transformers.generation import StoppingCriteria, StoppingCriteriaList

from dovetail.core import Limits, Prompt
from dovetail.core.environment import machine, versions
from dovetail.engine import Choice, Engine, Rows, Stepwise

EMBEDDED = Path(__file__).parents[1] / "src/dovetail/models/embedded"


class Budgeted(Stepwise):
    """Greedy, every row for exactly its budget of tokens (its seed holds the budget)."""

    def stop(self, choice: Choice, rows: Rows) -> torch.Tensor:
        return rows.step >= rows.seeds


class BudgetReached(StoppingCriteria):
    """The same for transformers: row b is done after ``budgets[b]`` tokens."""

    def __init__(self, prompt_length: int, budgets: torch.Tensor) -> None:
        self.prompt_length, self.budgets = prompt_length, budgets

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: object) -> torch.Tensor:
        return input_ids.shape[1] - self.prompt_length >= self.budgets


SHAPES: dict[str, dict[str, int]] = {
    "60m": {
        "vocab_size": 16384,
        "hidden_size": 512,
        "intermediate_size": 1536,
        "num_hidden_layers": 16,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 64,
        "max_position_embeddings": 2048,
    },
    "0.6b": {
        "vocab_size": 151936,
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 4096,
    },
}
BATCHES = {"pico": (1, 16, 64), "60m": (1,), "0.6b": (1, 16, 64)}


def network(name: str, device: str) -> Qwen3ForCausalLM:
    torch.manual_seed(0)
    if name == "pico":
        net = AutoModelForCausalLM.from_pretrained(EMBEDDED / "pico", dtype=torch.float32)
    else:
        net = Qwen3ForCausalLM(Qwen3Config(**SHAPES[name], tie_word_embeddings=True))
    if device != "cpu":
        net = net.to(torch.bfloat16)
    net.generation_config.eos_token_id = None  # both write their whole budget
    net.generation_config.pad_token_id = 0
    return net.to(device).eval()


def workload(rows: int, vocabulary: int, longest: int) -> tuple[list[list[int]], list[int]]:
    """Random prompts of 16 to 64 tokens and budgets of a quarter of ``longest`` to all of it."""
    rng = torch.Generator().manual_seed(rows)
    lengths = torch.randint(16, 65, (rows,), generator=rng).tolist()
    budgets = torch.randint(longest // 4, longest + 1, (rows,), generator=rng).tolist()
    budgets[0] = longest
    return [torch.randint(10, vocabulary, (n,), generator=rng).tolist() for n in lengths], budgets


def ours(engine: Engine, prompts: list[list[int]], budgets: list[int]) -> list[tuple[int, ...]]:
    asked = [Prompt((), "x", tuple(p), seed=b) for p, b in zip(prompts, budgets, strict=True)]
    return [c.token_ids for c in engine.generate(asked, Limits(max(budgets)), Budgeted())]


def theirs(net: Qwen3ForCausalLM, prompts: list[list[int]], budgets: list[int]) -> list[tuple[int, ...]]:
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(p)) + p for p in prompts], device=net.device)
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=net.device)
    criterion = BudgetReached(longest, torch.tensor(budgets, device=net.device))
    out = net.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=max(budgets),
        do_sample=False,
        stopping_criteria=StoppingCriteriaList([criterion]),
    )
    written = out[:, longest:].tolist()
    return [tuple(w[:b]) for w, b in zip(written, budgets, strict=True)]


def samples(rows: int, vocabulary: int, longest: int) -> tuple[list[list[int]], list[int]]:
    """``rows`` copies of one prompt of 256 tokens, ``longest`` tokens each."""
    rng = torch.Generator().manual_seed(rows)
    return [torch.randint(10, vocabulary, (256,), generator=rng).tolist()] * rows, [longest] * rows


def bound(net: Qwen3ForCausalLM, prompts: list[list[int]], budgets: list[int]) -> float:
    """Tokens/s of a step that only reads the weights once and every row's cache, at a copy's bandwidth."""
    source = torch.empty(1 << 28, dtype=torch.int32, device=net.device)
    target = torch.empty_like(source)
    seconds = []
    for _ in range(5):
        synchronize(net)
        start = time.perf_counter()
        target.copy_(source)
        synchronize(net)
        seconds.append(time.perf_counter() - start)
    bandwidth = 2 * source.nbytes / min(seconds)
    config, width = net.config, net.dtype.itemsize
    weights = sum(p.numel() for p in net.parameters()) * width
    column = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * width
    steps = max(budgets)
    # Row b reads its prompt and half of what it writes, on average, in each of its steps.
    cache = sum(n * (len(p) + n / 2) for p, n in zip(prompts, budgets, strict=True)) * column
    return sum(budgets) * bandwidth / (steps * weights + cache)


def synchronize(net: Qwen3ForCausalLM) -> None:
    if net.device.type == "cuda":
        torch.cuda.synchronize()


def measure(
    net: Qwen3ForCausalLM, engine: Engine, rows: int, longest: int, pairs: int, work: Any = workload
) -> dict[str, Any]:
    prompts, budgets = work(rows, net.config.vocab_size, longest)
    total = sum(budgets)
    a, b = ours(engine, prompts, budgets), theirs(net, prompts, budgets)  # warm-up, and the same tokens?
    same = sum(x == y for x, y in zip(a, b, strict=True))
    rates: dict[str, list[float]] = {"dovetail": [], "transformers": []}
    for _ in range(pairs):
        for label, run in (
            ("dovetail", lambda: ours(engine, prompts, budgets)),
            ("transformers", lambda: theirs(net, prompts, budgets)),
        ):
            synchronize(net)
            start = time.perf_counter()
            run()
            synchronize(net)
            rates[label].append(total / (time.perf_counter() - start))
    ratios = [x / y for x, y in zip(rates["dovetail"], rates["transformers"], strict=True)]
    result: dict[str, Any] = {
        "work": f"{rows} samples of one prompt" if work is samples else f"batch {rows}",
        "dovetail_tokens_per_s": statistics.median(rates["dovetail"]),
        "transformers_tokens_per_s": statistics.median(rates["transformers"]),
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        "rows_with_equal_tokens": f"{same}/{rows}",
    }
    if net.device.type == "cuda":
        result["bound_tokens_per_s"] = bound(net, prompts, budgets)
    return result


def show(result: dict[str, Any]) -> str:
    low, high = result["ratio_range"]
    line = (
        f"{result['model']:5s} {result['work']:24s} dovetail {result['dovetail_tokens_per_s']:8.0f}  "
        f"transformers {result['transformers_tokens_per_s']:8.0f}  "
        f"equal rows {result['rows_with_equal_tokens']:6s} "
        f"ratio {result['ratio']:.2f} ({low:.2f} to {high:.2f})"
    )
    if "bound_tokens_per_s" in result:
        share = result["dovetail_tokens_per_s"] / result["bound_tokens_per_s"]
        line += f"  bound {result['bound_tokens_per_s']:.0f} ({share:.0%} of it)"
    return line


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="few and short pairs: shows that it runs")
    parser.add_argument("--model", action="append", choices=sorted(BATCHES), help="default: by the device")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    longest, pairs = (32, 2) if args.quick else (192, 5)
    print(
        f"{args.device}, {torch.get_num_threads()} threads, greedy, ragged rows; "
        f"tokens/s, medians of {pairs} pairs (pico at batch 1: {3 * pairs})"
    )
    results: list[dict[str, Any]] = []
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED / "pico")
    for name in args.model or (["pico", "60m"] if args.device == "cpu" else ["0.6b"]):
        net = network(name, args.device)
        engine = Engine(net, tokenizer, name=name)
        engine.end_ids = ()
        tasks: list[tuple[int, int, Any]] = [(rows, longest, workload) for rows in BATCHES[name]]
        if name == "60m":
            tasks = [(1, longest // 2, workload)]
        else:
            tasks.append((32, longest // 3, samples))
        for rows, most, work in tasks:
            turns = 3 * pairs if name == "pico" and rows == 1 else pairs  # so short that noise shows
            results.append({"model": name} | measure(net, engine, rows, most, turns, work))
            print(show(results[-1]), flush=True)
    if args.json:
        record = {"script": "perf/decode.py", "machine": machine(), "versions": versions()}
        args.json.write_text(
            json.dumps(record | {"threads": torch.get_num_threads(), "results": results}, indent=1)
        )
    print("ratio: " + "; ".join(f"{r['model']} {r['work']} {r['ratio']:.2f}" for r in results))


if __name__ == "__main__":
    main()
