"""What is learned from is what was written: log-probabilities equal the network's and the engine's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from training_tools import rollouts

from dovetail.core import Example, Limits
from dovetail.decoding import Sampling
from dovetail.engine import Engine
from dovetail.training.policy import Policy
from dovetail.training.rollouts import Rollouts, totals_of


@pytest.mark.parametrize("family", ["qwen3", "llama", "gemma2", "gpt-neox"])
def test_logprobs_and_entropies_are_the_networks(family: str, tiny_network: Any) -> None:
    network = tiny_network(family).double()
    rows = rollouts([5, 1, 9])
    reading = Policy(network, temperature=0.7)(rows)
    for i in range(3):
        prompt, written = rows.prompts[i].ids, rows.completions[i].token_ids
        with torch.no_grad():
            logits = network(input_ids=torch.tensor([prompt + written])).logits[0]
        logs = (logits[len(prompt) - 1 : -1] / 0.7).log_softmax(-1)
        chosen = logs[range(len(written)), list(written)]
        n = len(written)
        torch.testing.assert_close(reading.logprobs[i, :n].detach(), chosen)
        torch.testing.assert_close(reading.entropy[i, :n].detach(), -(logs.exp() * logs).sum(-1))
        assert not reading.logprobs[i, n:].any()


def test_reading_agrees_with_what_the_engine_drew_from(tiny_engine: Engine, tiny_prompts: Any) -> None:
    prompts = tiny_prompts(6)
    written = Sampling().generate(tiny_engine, prompts, Limits(12, logprobs=True))
    rows = Rollouts.of(0, [Example.ask("e", "?")] * 6, prompts, written, list(range(6)))
    logprobs, entropies = Policy(tiny_engine.network, micro_batch_tokens=40).read(rows, entropy=True)
    assert entropies is not None
    for i, completion in enumerate(written):
        n = len(completion.token_ids)
        torch.testing.assert_close(logprobs[i, :n], torch.tensor(completion.logprobs), atol=1e-5, rtol=1e-5)
        assert (entropies[i, :n] > 0).all()


def test_shares_of_means_add_up() -> None:
    rows = rollouts([3, 5, 2, 4])
    rows.mask[2] = False  # a completion that does not count
    values = torch.rand(rows.mask.shape)
    rows.totals = totals_of(rows, 10)
    parts = [rows.select([0, 2]), rows.select([3, 1])]
    kept = [values[i, : len(rows.completions[i].token_ids)] for i in (0, 1, 3)]
    want = {
        "token": torch.cat(kept).mean(),
        "sequence": torch.stack([k.mean() for k in kept]).mean(),
        "constant": torch.cat(kept).sum() / (3 * 10),
    }
    for average, expected in want.items():
        found = sum(
            part.mean(values[index, : part.mask.shape[1]], average)  # type: ignore[arg-type]
            for part, index in zip(parts, ([0, 2], [3, 1]), strict=True)
        )
        torch.testing.assert_close(found, expected)
