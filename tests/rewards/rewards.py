"""Every registered reward with small parameters: the contract tests run over this list."""

from __future__ import annotations

from typing import Any

from dovetail.rewards import (
    AdaptiveSelfRecovery,
    Agreement,
    Bleu,
    BleuRouge,
    BoundaryReward,
    BoxFormat,
    BoxIoU,
    Correct,
    CorrectOrRefused,
    DualAnswer,
    Efficient,
    Format,
    Kimi,
    L1Exact,
    L1Max,
    Laser,
    LaserD,
    LaserDE,
    Overlong,
    RankIncentive,
    RougeL,
    SequenceEntropy,
    TaggedFormat,
    ThinkPrune,
    TokenEntropy,
    TransitionMetric,
    Truncation,
    VerifierReward,
)

ADAPTIVE: dict[str, Any] = {"target": 8, "upper": 48, "interval": 8}


def ranker(queries: Any, golds: Any) -> list[int]:
    return [1 + len(query) + int(gold) for query, gold in zip(queries, golds, strict=True)]


# Made anew for every test: some rewards have state.
REWARDS: dict[str, Any] = {
    "asrr": lambda: AdaptiveSelfRecovery(tau=0.25, window=40),
    "barrel": lambda: BoundaryReward(),
    "bleu": lambda: Bleu(),
    "box-format": lambda: BoxFormat(),
    "box-format:thinking=false": lambda: BoxFormat(thinking=False),
    "box-iou": lambda: BoxIoU(),
    "box-iou:lenient": lambda: BoxIoU(lenient=True),
    "bleu-rouge": lambda: BleuRouge(),
    "agreement": lambda: Agreement(),
    "correct": lambda: Correct(),
    "correct:math": lambda: Correct("math", strict=True),
    "correct:exact": lambda: Correct("exact", column="reference"),
    "correct-or-refused": lambda: CorrectOrRefused(),
    "format": lambda: Format(),
    "format:thinking=false": lambda: Format(thinking=False),
    "dual-answer": lambda: DualAnswer(),
    "efficient": lambda: Efficient(),
    "kimi": lambda: Kimi(),
    "l1-exact": lambda: L1Exact(target=20, alpha=0.01),
    "l1-max": lambda: L1Max(target=20),
    "laser": lambda: Laser(target=20),
    "laser:alone=false": lambda: Laser(target=20, kind="hybrid", alone=False),
    "laser-d": lambda: LaserD(**ADAPTIVE),
    "laser-de": lambda: LaserDE(**ADAPTIVE, pay_loops=True),
    "overlong": lambda: Overlong(max_length=40, cache=20),
    "rank-incentive": lambda: RankIncentive(ranker, column="reference"),
    "tagged-format": lambda: TaggedFormat(),
    "rouge-l": lambda: RougeL(),
    "thinkprune": lambda: ThinkPrune(stages=(30, 20)),
    "truncation": lambda: Truncation(target=20),
    "verifier": lambda: VerifierReward(),
    "sequence-entropy": lambda: SequenceEntropy(),
    "token-entropy": lambda: TokenEntropy(),
    "transition-metric": lambda: TransitionMetric(),
    "transition-metric:lines": lambda: TransitionMetric("binary", "lines"),
}

TEXTS = (
    "<think>\n2+2=4\n</think>\n\n\\boxed{4}",
    "<think>\n2+2=5\n</think>\n\n\\boxed{5}",
    "<think>\n2+2=4\nLet me check: 2+2=4. Yes.\n</think>\n\n\\boxed{4}",
    "<think>2+2=4</think><answer>\\boxed{4}</answer>",
    "\\boxed{4}",
    "the answer is 4",
    "<think>\n2+2=4",
    "",
    "<think></think>\\boxed{4} \\boxed{5}",
    "<think>\nwhich sum?\n</think>\n<rewrite>2 + 2</rewrite>",
    "\\boxed{5}<think>2+2=4</think>\\boxed{4}",
    "<think>\n</think>\nSorry, I do not know.",
    "<think>\nleft\n</think>\n<answer>(0,0),(500,400)</answer>",
    '<think>\n</think>\n{"modified": [], "removed": []}',
    "<think>\n</think>\nnothing changes",
    "<think>\n</think>\nStep Verification:\nStep 1: \\boxed{CORRECT}\nFinal Verification: \\boxed{CORRECT}",
)
LAMP = '[{"uuid": "lamp", "properties": {"on": false}}]'
REFERENCES = ("4", "5", "4", "7")


def batch(groups: int = 4, size: int = 8) -> dict[str, Any]:
    """A call's arguments: ``groups`` questions side by side, ``size`` completions each."""
    rows = [(g, i) for g in range(groups) for i in range(size)]
    texts = [TEXTS[(3 * g + i) % len(TEXTS)] if (g * i) % 5 != 4 else TEXTS[0] for g, i in rows]
    return {
        "prompts": [f"Question {g}: what is 2 + 2?" for g, _ in rows],
        "completions": texts,
        "reference": [REFERENCES[g % len(REFERENCES)] for g, _ in rows],
        "completion_ids": [list(range(3 + (7 * i + 5 * g) % 45)) for g, i in rows],
        "step": [0] * len(rows),
        "box": [[100 * (g % 4), 0, 500, 500] for g, _ in rows],
        "gold_correct": [bool((g + i) % 2) for g, i in rows],
        "n_steps": [1 + g for g, _ in rows],
        "state": [LAMP] * len(rows),
        "next_state": [LAMP if g % 2 else LAMP.replace("false", "true") for g, _ in rows],
        "entropies": [[0.1 * ((g + i) % 5), 0.5] for g, i in rows],
        "logprobs": [[-0.1 * ((g + i) % 5), -0.5] for g, i in rows],
    }
