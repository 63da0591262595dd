"""Kills training runs with SIGKILL at random moments, resumes them, and compares the endings bit for bit.

    python perf/kill_training.py [--json] [--quick] [--trials N]

The tiny network has dropout, the data a part with state, the reward draws random numbers: what a checkpoint
could forget is all there. Every trial is killed one to three times; its weights and its log (but for seconds)
must be those of a run that nobody disturbed. Each run is forked from a process that has imported everything,
so that moments fall into the run rather than into imports.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from dovetail.core import Example
from dovetail.models.local import LocalModel
from dovetail.training import Rollouts, train
from dovetail.training.data import Data
from dovetail.training.monitors import Floor
from dovetail.training.objectives import PolicyGradient

STEPS = 10


def tiny() -> LocalModel:
    """A random two-layer Qwen3 with dropout, one token per printable character."""
    core = Tokenizer(models.WordLevel({chr(c): c - 33 for c in range(33, 127)}, unk_token="!"))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    core.decoder = decoders.Fuse()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>")
    torch.manual_seed(0)
    config = transformers.Qwen3Config(
        vocab_size=95,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=128,
        attention_dropout=0.1,
        eos_token_id=94,
        bos_token_id=None,
        pad_token_id=None,
    )
    return LocalModel(transformers.Qwen3ForCausalLM(config).eval(), tokenizer, name="tiny")


@dataclass
class Easiest(Data):
    """Leaves out what was paid least so far: state that decides what is drawn."""

    paid: dict[str, float] = field(default_factory=dict)

    def draw(self, step: int, pool: Sequence[Example]) -> Sequence[Example]:
        ranked = sorted(pool, key=lambda e: (self.paid.get(e.id, 1.0), e.id))
        return ranked[len(ranked) // 4 :]

    def update(self, rollouts: Rollouts) -> None:
        for example, reward in zip(rollouts.examples, rollouts.reward.tolist(), strict=True):
            self.paid[example.id] = 0.5 * self.paid.get(example.id, 0.0) + 0.5 * reward

    def state_dict(self) -> dict[str, Any]:
        return {"paid": dict(self.paid)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.paid = dict(state["paid"])


def noisy(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    """The share of lower-case letters, and a little noise."""
    return [sum(c.islower() for c in t) / max(1, len(t)) + 0.01 * random.random() for t in completions]


def run(out: Path) -> None:
    train(
        tiny(),
        [Example.ask(f"e{i}", f"{chr(97 + i)}{i}?") for i in range(20)],
        objective=PolicyGradient(group_size=4, passes=2, kl=0.05),
        rewards=[noisy],
        data=[Easiest()],
        monitors=[Floor("reward", 0.9, steps=2)],
        out=out,
        resume=True,
        steps=STEPS,
        batch=16,
        max_new_tokens=12,
        learning_rate=3e-3,
        warmup=3,
        decay=0.5,
        save_every=1,
        samples_every=2,
    )


def forked(out: Path) -> int:
    """Starts or resumes the run in a process of its own; returns its id."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            run(out)
            code = 0
        finally:
            os._exit(code)
    return process


def ending(out: Path) -> tuple[str, str]:
    """Digests of the weights and of the log without its seconds."""
    weights = hashlib.sha256((out / "model" / "model.safetensors").read_bytes()).hexdigest()
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    steady = [{k: v for k, v in one.items() if "second" not in k} for one in lines]
    return weights, hashlib.sha256(json.dumps(steady).encode()).hexdigest()


def trial(out: Path, seconds: float, moments: random.Random) -> dict[str, Any]:
    """One run, killed at random moments and resumed to its end."""
    kills = []
    for _ in range(moments.randint(1, 3)):
        process = forked(out)
        time.sleep(moments.uniform(0.05, 0.7) * seconds)
        os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        log = out / "log.jsonl"
        done = log.read_bytes().count(b"\n") if log.exists() else 0
        kills.append({"killed": os.WIFSIGNALED(status), "steps": done})
    _, status = os.waitpid(forked(out), 0)
    if status:
        raise SystemExit(f"the resumed run in {out} failed")
    return {"kills": kills, "ending": ending(out)}


def measure(trials: int, folder: Path) -> dict[str, Any]:
    torch.set_num_threads(1)
    run(folder / "imports")
    gc.freeze()
    clock = time.perf_counter()
    os.waitpid(forked(folder / "undisturbed"), 0)
    seconds = time.perf_counter() - clock
    expected = ending(folder / "undisturbed")
    moments = random.Random(0)
    found = [trial(folder / f"trial-{i}", seconds, moments) for i in range(trials)]
    kills = [kill for one in found for kill in one["kills"] if kill["killed"]]
    return {
        "trials": trials,
        "kills": len(kills),
        "killed_before_the_first_step": sum(kill["steps"] == 0 for kill in kills),
        "steps": STEPS,
        "seconds_undisturbed": seconds,
        "identical_weights": sum(one["ending"][0] == expected[0] for one in found),
        "identical_logs": sum(one["ending"][1] == expected[1] for one in found),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    parser.add_argument("--quick", action="store_true", help="the same: 20 trials")
    parser.add_argument("--trials", type=int, default=20)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(given.trials, Path(folder))
    if given.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name}: {value}")
    sys.exit(found["identical_weights"] < given.trials or found["identical_logs"] < given.trials)


if __name__ == "__main__":
    main()
