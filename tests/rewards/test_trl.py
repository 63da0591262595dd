"""The rewards in TRL's own trainer."""

from __future__ import annotations

import copy
import math
import runpy
from pathlib import Path

import pytest
from rewards import LAMP, REWARDS

pytest.importorskip("trl", reason="the training extra brings it")


def test_the_example_runs():
    """Two steps of GRPO on pico, in conversations; it prints what each reward paid."""
    example = Path(__file__).parents[2] / "examples" / "trl_drop_in.py"
    logged = runpy.run_path(str(example))["main"]()
    assert len(logged) == 2
    for entry in logged:
        paid = {name: entry[f"rewards/{name}/mean"] for name in ("correct", "format", "laser-d")}
        assert all(math.isfinite(value) for value in paid.values())
        assert 0 <= paid["correct"] <= 1
        assert entry["reward"] == pytest.approx(sum(paid.values()), abs=1e-3)
        assert entry["laser-d/target/easy"] > 0


def test_every_reward_in_one_step(tiny_network, tiny_tokenizer, tmp_path):
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    # TRL hands no entropies or log-probabilities over; the rewards that read them say so.
    offered = {key: make for key, make in REWARDS.items() if not getattr(make(), "reads", ())}
    assert len(offered) == len(REWARDS) - 2
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.pad_token = "<eos>"
    states = {"state": LAMP, "next_state": LAMP, "gold_correct": True, "n_steps": 1}
    rows = [{"prompt": "2+2", "reference": str(n), "box": [0, 0, 10, 10 + n], **states} for n in range(4)]
    trainer = GRPOTrainer(
        model=tiny_network("qwen3"),
        processing_class=tokenizer,
        reward_funcs=[make() for make in offered.values()],
        train_dataset=Dataset.from_list(rows),
        args=GRPOConfig(
            output_dir=str(tmp_path),
            max_steps=1,
            per_device_train_batch_size=8,
            num_generations=4,
            max_completion_length=8,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            bf16=False,
            disable_tqdm=True,
        ),
    )
    trainer.train()
    [entry] = [e for e in trainer.state.log_history if "reward" in e]
    for name in {key.partition(":")[0] for key in offered}:
        assert math.isfinite(entry[f"rewards/{name}/mean"]), name
