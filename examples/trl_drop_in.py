"""Rewards of dovetail in TRL's GRPOTrainer: pico learns sums for two steps, on a CPU, in seconds.

    pip install 'dovetail[training]'
    python examples/trl_drop_in.py

Nothing is wrapped or adapted: a reward is called as TRL calls its own, each is logged under its name, and
the columns of the dataset reach it by theirs (here ``reference``, the accepted answer). LASER-D adds its
bonus for short right answers, chooses its targets as it goes, and logs them.
"""

from __future__ import annotations

import tempfile

from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

import dovetail as dt
from dovetail.rewards import Correct, Format, LaserD

STEPS, GROUP, QUESTIONS = 2, 4, 2  # completions per step: GROUP * QUESTIONS


def main(steps: int = STEPS) -> list[dict[str, float]]:
    """Trains, and returns what TRL logged at every step."""
    examples, _ = dt.task("chain-sum", min_terms=2, max_terms=3).examples(16, seed=0)
    rows = [{"prompt": [m.as_dict() for m in e.messages], "reference": e.reference} for e in examples]
    pico = dt.load("pico", device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model=pico.network,
            processing_class=pico.tokenizer,
            reward_funcs=[Correct(), Format(), LaserD(target=16, upper=64, interval=4, alone=False)],
            train_dataset=Dataset.from_list(rows),
            args=GRPOConfig(
                output_dir=folder,
                max_steps=steps,
                per_device_train_batch_size=GROUP * QUESTIONS,
                num_generations=GROUP,
                max_completion_length=64,
                learning_rate=1e-5,
                logging_steps=1,
                save_strategy="no",
                report_to=[],
                use_cpu=True,
                bf16=False,
                disable_tqdm=True,
                seed=0,
            ),
        )
        trainer.train()
        return [entry for entry in trainer.state.log_history if "reward" in entry]


if __name__ == "__main__":
    for step, entry in enumerate(main(), start=1):
        paid = {name: entry[f"rewards/{name}/mean"] for name in ("correct", "format", "laser-d")}
        print(f"step {step}: {paid}")
