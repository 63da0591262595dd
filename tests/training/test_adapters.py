"""Options that change how the network computes: LoRA, gradient checkpointing, autocast."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest
import torch
from training_tools import examples, rollouts

from dovetail.core import InvalidValue, MissingExtra
from dovetail.models import load
from dovetail.models.local import LocalModel
from dovetail.training import Run, train
from dovetail.training.objectives import PolicyGradient
from dovetail.training.policy import Policy


def letters(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    return [sum(c.islower() for c in text) / max(1, len(text)) for text in completions]


def go(learner: LocalModel, **options: Any) -> Run:
    options = {"steps": 2, "batch": 16, "max_new_tokens": 8, "learning_rate": 3e-3} | options
    return train(learner, examples(), objective=PolicyGradient(group_size=4), rewards=[letters], **options)


def weights(network: Any) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def test_gradient_checkpointing_changes_nothing(learner: LocalModel) -> None:
    plain, again = go(learner), go(learner, gradient_checkpointing=True)
    torch.testing.assert_close(weights(plain.model.network), weights(again.model.network), atol=1e-6, rtol=0)


def test_autocast_is_close_and_keeps_float32_weights(learner: LocalModel) -> None:
    rows = rollouts([5, 9, 3])
    exact, coarse = Policy(learner.network)(rows), Policy(learner.network, autocast=True)(rows)
    assert coarse.logits.dtype == torch.float32
    torch.testing.assert_close(exact.logprobs, coarse.logprobs, atol=0.2, rtol=0.05)
    assert not torch.equal(exact.logprobs, coarse.logprobs)
    run = go(learner, precision="bfloat16")
    assert weights(run.model.network).dtype == torch.float32
    with pytest.raises(InvalidValue, match="precision"):
        go(learner, precision="float8")


def test_lora_trains_adapters_alone(learner: LocalModel, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    before = {n: p.clone() for n, p in learner.network.named_parameters()}
    run = go(learner, lora_rank=2, out=tmp_path, steps=3, save_every=1)
    trained = dict(run.model.network.named_parameters())
    count = sum(p.numel() for p in trained.values() if p.requires_grad)
    assert 0 < count < 0.3 * sum(map(torch.numel, before.values()))
    for name, value in before.items():
        kept = trained.get(name, trained.get(name.replace(".weight", ".base_layer.weight")))
        assert kept is not None
        assert torch.equal(kept, value)
    found = load(tmp_path / "model")
    assert isinstance(found, LocalModel)
    # The merged folder writes what the adapted model writes, and not what the untouched one does.
    rows = rollouts([6, 4])
    merged, adapted = Policy(found.network)(rows).logprobs, Policy(run.model.network)(rows).logprobs
    torch.testing.assert_close(merged, adapted, atol=1e-4, rtol=1e-4)
    assert (merged - Policy(learner.network)(rows).logprobs).abs().max() > 1e-3
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()
    more = go(learner, lora_rank=2, out=tmp_path, steps=4, save_every=1, resume=True)
    straight = go(learner, lora_rank=2, steps=4)
    assert torch.equal(weights(more.model.network), weights(straight.model.network))


def test_lora_without_peft(learner: LocalModel, monkeypatch: Any) -> None:
    original = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "peft":
            raise ImportError(name)
        return original(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r"dovetail\[training\]"):
        go(learner, lora_rank=2)
