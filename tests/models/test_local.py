from __future__ import annotations

import shutil

import pytest
from models_checkpoints import build_network, build_tokenizer

import dovetail.models.local as local
from dovetail.core import Completion, InvalidValue, Limits, Message
from dovetail.decoding import Greedy, Sampling
from dovetail.models import LocalModel, load


@pytest.fixture(scope="module")
def model():
    return LocalModel(build_network("qwen3"), build_tokenizer(), name="tiny")


def test_a_network_of_ones_own_is_a_model(model):
    about = model.describe()
    assert about["name"] == "tiny"
    assert about["source"] == "object"
    assert about["parameters"] == sum(p.numel() for p in model.network.parameters())
    assert about["template"] == "tokenizer"
    assert about["template_sha256"] == model.template.digest
    assert about["thinking_modes"] is True
    assert about["system_role"] == "template"
    assert model.provides == model.engine.provides >= {"text", "logits"}


def test_the_engine_is_built_when_first_asked_for():
    model = LocalModel(build_network("llama"), build_tokenizer())
    assert "engine" not in vars(model)
    assert model.engine is model.engine


def test_complete_is_greedy_unless_told_otherwise(model):
    limits = Limits(max_new_tokens=12)
    plain = model.complete("What is 17 + 25?", limits=limits)
    assert isinstance(plain, Completion)
    assert len(plain.token_ids) == 12
    assert plain.token_ids == model.complete("What is 17 + 25?", Greedy(), limits).token_ids
    talk = [Message("user", "What is 17 + 25?")]
    assert plain.token_ids == model.complete(talk, limits=limits).token_ids
    drawn = {model.complete(talk, Sampling(), limits, seed=s).token_ids for s in (1, 2, 1)}
    assert len(drawn) == 2


def test_complete_passes_thinking_and_prefix_on(model, monkeypatch):
    asked = []
    monkeypatch.setattr(model.engine, "generate", lambda prompts, limits: asked.extend(prompts) or [None])
    model.complete("Hello", thinking=False, prefix="Well", seed=5)
    assert asked[0].assistant_prefix == "<think>\n\n</think>\n\nWell"
    assert asked[0].seed == 5


def test_greedy_tokens_are_those_of_transformers(model):
    import torch

    prompt = model.prompt([Message("user", "Who founded it?")])
    ours = model.engine.generate([prompt], Limits(max_new_tokens=16))[0].token_ids
    with torch.no_grad():
        theirs = model.network.generate(
            torch.tensor([prompt.ids]), max_new_tokens=16, do_sample=False, pad_token_id=0, eos_token_id=None
        )
    assert list(ours) == theirs[0, len(prompt.ids) :].tolist()[: len(ours)]


def test_the_digest_is_of_the_contents(qwen3, copy):
    first = load(str(qwen3), device="cpu").describe()["digest"]
    assert first.startswith("sha256:")
    assert load(str(copy), device="cpu").describe()["digest"] == first
    (copy / "notes.md").write_text("not part of the model")
    assert local.folder_digest(copy) == first
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert local.folder_digest(copy) != first
    shutil.copy(qwen3 / "model.safetensors", copy)
    (copy / "chat_template.jinja").write_text("another")
    assert local.folder_digest(copy) != first


def test_large_files_are_sampled_and_say_so(copy, monkeypatch):
    monkeypatch.setattr(local, "_WHOLE", 10_000)
    monkeypatch.setattr(local, "_BLOCK", 16)
    first = local.folder_digest(copy)
    assert first.startswith("sha256-sampled:")
    with (copy / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    assert local.folder_digest(copy) != first


def test_load_takes_a_template(qwen3):
    model = load(str(qwen3), device="cpu", template="plain")
    assert model.describe()["template"] == "plain"
    assert model.prompt([Message("user", "Hi")]).text == "Hi\n\n"
    with pytest.raises(InvalidValue):
        model.prompt([])
