from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path

import pytest
import torch
from models_checkpoints import build_network, build_tokenizer, run_python

import dovetail as dt
from dovetail.core import BadData, InvalidValue, NotReachable, UnknownName, Unsupported
from dovetail.models import embedded, load
from dovetail.models.placement import choose_device, choose_dtype

CPU = {"device": "cpu"}


# -- folders


@pytest.mark.parametrize("family", ["qwen3", "llama", "gpt_neox"])
def test_a_folder_loads_to_the_same_logits(family, tmp_path):
    network = build_network(family)
    network.save_pretrained(tmp_path)
    build_tokenizer().save_pretrained(tmp_path)
    model = load(str(tmp_path), **CPU)
    ids = torch.tensor([[5, 77, 301, 9]])
    with torch.no_grad():
        assert torch.equal(model.network(ids).logits, network(ids).logits)
    assert not model.network.training
    about = model.describe()
    assert about["class"] == type(network).__name__
    assert about["parameters"] == sum(p.numel() for p in network.parameters())
    assert (about["source"], about["dtype"], about["device"]) == ("folder", "float32", "cpu")
    assert about["context"] == 256


def test_shards_load_and_a_missing_one_is_named(tmp_path):
    network = build_network("llama")
    network.save_pretrained(tmp_path, max_shard_size="40KB")
    build_tokenizer().save_pretrained(tmp_path)
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 2
    loaded = load(str(tmp_path), **CPU).network
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), network.parameters(), strict=True))
    shards[1].unlink()
    with pytest.raises(BadData, match=rf"lacks 1 of {len(shards)} shards: {shards[1].name}"):
        load(str(tmp_path))


def test_a_bfloat16_checkpoint_computes_in_what_is_asked_for(tmp_path):
    build_network("qwen3").to(torch.bfloat16).save_pretrained(tmp_path)
    build_tokenizer().save_pretrained(tmp_path)
    assert load(str(tmp_path), **CPU).network.dtype == torch.float32
    assert load(str(tmp_path), dtype="auto", **CPU).network.dtype == torch.bfloat16
    assert load(str(tmp_path), dtype=torch.float16, **CPU).describe()["dtype"] == "float16"


def test_pickled_weights_are_refused_with_a_conversion_that_works(copy, tmp_path, monkeypatch):
    network = build_network("qwen3")
    (copy / "model.safetensors").unlink()
    torch.save(network.state_dict(), copy / "pytorch_model.bin")
    with pytest.raises(Unsupported, match=r"pytorch_model\.bin.*unpickling runs code") as caught:
        load(str(copy))
    command = str(caught.value).split('python -c "')[1].removesuffix('"')
    monkeypatch.chdir(tmp_path)
    exec(command)
    loaded = load(str(tmp_path / "converted"), **CPU).network
    assert torch.equal(loaded.model.embed_tokens.weight, network.model.embed_tokens.weight)


def test_safetensors_beside_pickled_weights_are_the_ones_that_load(copy):
    (copy / "pytorch_model.bin").write_bytes(b"never read")
    assert load(str(copy), **CPU).describe()["parameters"] > 0


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "has no config.json"),
        (lambda f: (f / "config.json").write_text("{"), "config.json is not readable JSON"),
        (lambda f: (f / "config.json").write_text("[]"), "config.json is not a JSON object"),
        (lambda f: (f / "config.json").write_text("{}"), "names no model_type"),
        (lambda f: (f / "model.safetensors").unlink(), r"has no weights \(\*\.safetensors"),
        (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "could not be read"),
        (lambda f: _cut(f / "model.safetensors", 0.9), r"model\.safetensors holds \d+ bytes where"),
        (lambda f: _cut(f / "model.safetensors", 0.001), r"model\.safetensors is not a whole safetensors"),
        (lambda f: (f / "model.safetensors").write_bytes(b""), r"model\.safetensors is not a whole"),
        (lambda f: _scramble(f / "model.safetensors"), r"model\.safetensors is not a safetensors file"),
        (lambda f: (f / "model.safetensors").write_text("version https://git-lfs...\n"), "git lfs pull"),
    ],
)
def test_damage_is_named(copy, damage, message):
    damage(copy)
    with pytest.raises(BadData, match=message) as caught:
        load(str(copy), **CPU)
    assert str(copy) in str(caught.value)


def _cut(path: Path, keep: float) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])


def _scramble(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[8:40] = b"\xff" * 32
    path.write_bytes(content)


def test_weights_that_are_not_there_are_not_drawn_at_random(copy):
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        BadData, match=r"lacks 1 weights of its Qwen3ForCausalLM: model\.layers\.1\.mlp\.up_proj"
    ):
        load(str(copy), **CPU)


def test_weights_of_another_shape_are_an_error(copy):
    _configure(copy, intermediate_size=48)
    with pytest.raises(BadData, match="could not be read"):
        load(str(copy), **CPU)


def test_a_tokenizer_of_another_model_is_an_error(copy):
    build_network("qwen3", vocab_size=300).save_pretrained(copy)
    with pytest.raises(BadData, match=r"tokenizer has \d+ tokens and its network 300 embeddings"):
        load(str(copy), **CPU)


def test_a_padding_token_beyond_the_embeddings_does_no_harm(copy):
    tokenizer = build_tokenizer()
    tokenizer.add_tokens([f"<extra-{i}>" for i in range(80)])
    tokenizer.save_pretrained(copy)
    assert len(load(str(copy), **CPU).tokenizer) > 400


def test_encoder_decoders_encoders_and_headless_models_are_named(copy):
    _configure(copy, model_type="t5", architectures=["T5ForConditionalGeneration"], is_encoder_decoder=True)
    with pytest.raises(Unsupported, match="T5ForConditionalGeneration, an encoder-decoder"):
        load(str(copy), **CPU)
    _configure(copy, model_type="bert", architectures=["BertForMaskedLM"], is_encoder_decoder=False)
    with pytest.raises(Unsupported, match="BertForMaskedLM, not a causal language model"):
        load(str(copy), **CPU)
    _configure(copy, model_type="qwen3", architectures=["Qwen3Model"])
    with pytest.raises(Unsupported, match="Qwen3Model, not a causal"):
        load(str(copy), **CPU)
    _configure(copy, model_type="clip", architectures=[])
    with pytest.raises(Unsupported, match="CLIP, not a causal"):
        load(str(copy), **CPU)


def test_code_of_the_checkpoint_does_not_run_unless_asked_for(copy, tmp_path):
    (copy / "own.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w')\n"
        "from transformers import Qwen3Config, Qwen3ForCausalLM\n"
        "class OwnConfig(Qwen3Config):\n    model_type = 'own'\n"
        "class OwnForCausalLM(Qwen3ForCausalLM):\n    config_class = OwnConfig\n"
    )
    auto = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}
    _configure(copy, model_type="own", architectures=["OwnForCausalLM"], auto_map=auto)
    with pytest.raises(Unsupported, match="trust_remote_code=True"):
        load(str(copy), **CPU)
    assert not (tmp_path / "ran").exists()
    assert load(str(copy), trust_remote_code=True, **CPU).describe()["class"] == "OwnForCausalLM"
    assert (tmp_path / "ran").exists()


def test_an_architecture_that_nobody_knows_is_named(copy):
    _configure(copy, model_type="quux")
    with pytest.raises(Unsupported, match="model_type 'quux' is not known to transformers"):
        load(str(copy), **CPU)


def test_an_adapter_is_not_a_model(copy):
    (copy / "config.json").rename(copy / "adapter_config.json")
    with pytest.raises(Unsupported, match=r"adapter.*merge"):
        load(str(copy))


def _configure(folder: Path, **changes) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


# -- names


def test_a_name_of_no_kind_suggests_the_nearest(monkeypatch, tmp_path):
    embedded_in(monkeypatch, tmp_path, "pico", "pico-draft")
    with pytest.raises(UnknownName, match=r"unknown model.*'pcio'.*did you mean pico"):
        load("pcio")
    with pytest.raises(UnknownName, match="neither embedded, nor a folder"):
        load("./no/such/folder")
    with pytest.raises(UnknownName):
        load("")


def test_embedded_names_come_before_folders(monkeypatch, tmp_path, qwen3):
    embedded_in(monkeypatch, tmp_path, "pico", content=qwen3)
    assert set(embedded()) == {"pico"}
    monkeypatch.chdir(tmp_path)
    shutil.copytree(qwen3, tmp_path / "pico")
    assert load("pico", **CPU).describe()["source"] == "embedded"
    assert load("./pico", **CPU).describe()["source"] == "folder"


def embedded_in(monkeypatch, tmp_path, *names, content=None):
    for name in names:
        folder = tmp_path / "embedded" / name
        if content is not None:
            shutil.copytree(content, folder)
        else:
            folder.mkdir(parents=True)
            (folder / "config.json").write_text("{}")
    monkeypatch.setattr(sys.modules["dovetail.models.load"], "_EMBEDDED", tmp_path / "embedded")


def test_a_folder_has_no_revision(qwen3):
    with pytest.raises(InvalidValue, match="revision is 'main'"):
        load(str(qwen3), revision="main")


def test_remote_names(monkeypatch):
    model = load("openai/Qwen/Qwen3-8B@http://127.0.0.1:9/v1", concurrency=2)
    assert (model.served, model.url) == ("Qwen/Qwen3-8B", "http://127.0.0.1:9/v1")
    assert load("openai/claude@2024@https://x.example/v1").served == "claude@2024"
    for bad in ("openai/x@", "openai/@http://a/v1", "openai/x@ftp://a/v1", "openai/x@http://"):
        with pytest.raises(InvalidValue, match="openai/NAME@URL"):
            load(bad)
    with pytest.raises(InvalidValue, match="without a key in the URL") as caught:
        load("openai/x@https://me:s3cret@a.example/v1")
    assert "s3cret" not in str(caught.value)
    with pytest.raises(InvalidValue, match="device is 'cuda'"):
        load("openai/x@http://127.0.0.1:9/v1", device="cuda")


def test_asking_a_server_needs_no_torch():
    code = (
        "import sys, dovetail as dt; dt.load('openai/x@http://127.0.0.1:9/v1'); "
        "print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    assert run_python(code).split() == ["False", "False"]


# -- devices and dtypes


def test_device_and_dtype_are_checked():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_dtype(None, torch.device("cpu")) == torch.float32
    with pytest.raises(InvalidValue, match="device is 'gpu'"):
        choose_device("gpu")
    with pytest.raises(Unsupported, match="float64"):
        choose_device("mps")
    for bad in ("int8", "fp7", torch.int64, torch.bool, 16):
        with pytest.raises(InvalidValue, match="dtype is"):
            choose_dtype(bad, torch.device("cpu"))


def test_devices_of_other_machines(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device(None) == torch.device("cpu")
    with pytest.raises(InvalidValue, match="there is no CUDA device here"):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device(None) == torch.device("cuda")
    assert choose_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(InvalidValue, match="N below 2"):
        choose_device("cuda:2")
    for supported, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, s=supported: s)
        assert choose_dtype(None, torch.device("cuda")) == dtype


# -- the hub


def test_offline_the_error_comes_at_once_and_names_the_ways_out(monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    started = time.perf_counter()
    with pytest.raises(
        NotReachable, match=r"^some-org/some-model is not in the cache and HF_HUB_OFFLINE is set"
    ):
        load("some-org/some-model")
    assert time.perf_counter() - started < 5


def test_a_hub_that_does_not_answer_is_not_asked_for_minutes(monkeypatch):
    import huggingface_hub.hf_api

    monkeypatch.setattr(huggingface_hub.hf_api.HfApi, "__init__", _endpoint("http://127.0.0.1:9"))
    started = time.perf_counter()
    with pytest.raises(NotReachable, match=r"is not reachable.*embedded model.*--local-dir FOLDER"):
        load("some-org/some-model")
    assert time.perf_counter() - started < 5


def _endpoint(url):
    import huggingface_hub.hf_api

    original = huggingface_hub.hf_api.HfApi.__init__
    return lambda self, *a, **k: original(self, *a, **(k | {"endpoint": url}))


def test_load_is_the_packages_own():
    assert dt.load is load
