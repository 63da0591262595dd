"""A tiny run in however many processes a launcher started; the first writes its losses and weights."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "perf"))

from kill_training import Easiest, tiny

from dovetail.core import Example
from dovetail.tasks.scorers import scorer
from dovetail.training import train
from dovetail.training.monitors.base import Monitor
from dovetail.training.objectives import PolicyGradient
from dovetail.training.processes import Processes


def letters(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    return [sum(c.islower() for c in text) / max(1, len(text)) for text in completions]


class Memory(Monitor):
    """How many numbers this process's optimizers remember."""

    def begin(self, trainer: Any) -> None:
        self.optimisers = trainer.optimisers

    def see(self, figures: Any) -> None:
        return None

    @property
    def held(self) -> int:
        states = [state for one in self.optimisers.each for state in one.state.values()]
        return sum(v.numel() for state in states for k, v in state.items() if k.startswith("exp_avg"))


def main(out: str, steps: int) -> None:
    """``steps`` in all: a run that is there goes on."""
    torch.set_num_threads(1)
    model = tiny()
    model.network.double()
    for layer in model.network.model.layers:
        layer.self_attn.attention_dropout = 0.0
    examples = [Example.ask(f"e{i}", f"{chr(97 + i)}{i}?") for i in range(20)]
    run = train(
        model,
        examples,
        objective=PolicyGradient(group_size=4, kl=0.05),
        rewards=[letters],
        data=[Easiest()],
        held_out=examples[:2],
        scorer=scorer("exact"),
        out=out,
        resume=Path(out, "checkpoint.pt").exists(),
        steps=steps,
        monitors=[Memory()],
        batch=24,
        max_new_tokens=10,
        learning_rate=3e-3,
        micro_batch_tokens=64,
        save_every=2,
    )
    processes = Processes.joined()
    held = processes.joined_lists([run.monitors[0].held])
    if processes.first:
        weights = torch.cat([p.detach().flatten() for p in run.model.network.parameters()])
        told = {name: run.curve(name)[1] for name in ("loss", "kl", "reward", "gradient")}
        digest = hashlib.sha256("".join(s.text for s in run.samples).encode()).hexdigest()
        told |= {"weights": weights[::97].tolist(), "texts": digest, "held": held}
        Path(out, "told.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
