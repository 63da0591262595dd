"""Tokens per second of Dovetail's engine beside `transformers.generate`: same weights, prompts and lengths.

    python perf/decode.py [--quick] [--json FILE] [--model pico|60m] [--device cpu]

Both write greedily and exactly the same number of tokens per row (end tokens are suppressed by a budget per
row: rows are ragged in prompt and in length). `transformers.generate` writes until its longest row is done and
is given that freedom: its rows are stopped at their budgets by a stopping criterion, as its users would.
The two are timed in turn, several times; the ratio is taken pair by pair and its median is printed last.
"tokens/s" is all rows' written tokens over wall-clock seconds, reading the prompts included.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

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


def network(name: str, device: str) -> Qwen3ForCausalLM:
    torch.manual_seed(0)
    if name == "pico":
        return AutoModelForCausalLM.from_pretrained(EMBEDDED / "pico", dtype=torch.float32).to(device).eval()
    config = Qwen3Config(
        vocab_size=16384,
        hidden_size=512,
        intermediate_size=1536,
        num_hidden_layers=12,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=64,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
    )
    return Qwen3ForCausalLM(config).to(device).eval()


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


def measure(net: Qwen3ForCausalLM, engine: Engine, rows: int, longest: int, pairs: int) -> dict[str, object]:
    prompts, budgets = workload(rows, net.config.vocab_size, longest)
    total = sum(budgets)
    a, b = ours(engine, prompts, budgets), theirs(net, prompts, budgets)  # warm-up, and the same tokens?
    same = sum(x == y for x, y in zip(a, b, strict=True))
    rates: dict[str, list[float]] = {"dovetail": [], "transformers": []}
    for _ in range(pairs):
        for label, run in (
            ("dovetail", lambda: ours(engine, prompts, budgets)),
            ("transformers", lambda: theirs(net, prompts, budgets)),
        ):
            start = time.perf_counter()
            run()
            rates[label].append(total / (time.perf_counter() - start))
    ratios = [x / y for x, y in zip(rates["dovetail"], rates["transformers"], strict=True)]
    return {
        "batch": rows,
        "dovetail_tokens_per_s": statistics.median(rates["dovetail"]),
        "transformers_tokens_per_s": statistics.median(rates["transformers"]),
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        "rows_with_equal_tokens": f"{same}/{rows}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--model", choices=["pico", "60m"], default="pico")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    net = network(args.model, args.device)
    net.generation_config.eos_token_id = None  # both write their whole budget
    net.generation_config.pad_token_id = 0
    engine = Engine(net, AutoTokenizer.from_pretrained(EMBEDDED / "pico"), name=args.model)
    engine.end_ids = ()
    longest, pairs = (48, 2) if args.quick else (192, 5)
    batches = (1, 16, 64) if args.model == "pico" else (1,)
    results = []
    print(f"{args.model} on {args.device}, greedy, ragged rows; tokens/s, median of {pairs} pairs")
    for rows in batches:
        result = measure(net, engine, rows, longest, pairs)
        results.append(result)
        low, high = result["ratio_range"]  # type: ignore[misc]
        print(
            f"batch {rows:3d}: dovetail {result['dovetail_tokens_per_s']:8.0f}  "
            f"transformers {result['transformers_tokens_per_s']:8.0f}  "
            f"equal tokens {result['rows_with_equal_tokens']}  "
            f"ratio {result['ratio']:.2f} ({low:.2f} to {high:.2f})"
        )
    if args.json:
        record = {"script": "perf/decode.py", "model": args.model, "machine": machine(), "versions": versions()}
        args.json.write_text(json.dumps(record | {"results": results}, indent=1))


if __name__ == "__main__":
    main()
