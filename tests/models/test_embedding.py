"""Embeddings: invariants on networks of several families, files, and sentence-transformers' view of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as t
from models_checkpoints import build_network, build_tokenizer
from models_diffusion import build_diffusion, write_folder

from dovetail.core import InvalidValue, MissingExtra, NotReachable, Unsupported
from dovetail.models.embedding import CHATML, DiffusionEmbedder, pool

SHORT, LONG = "Who founded it?", "The town of Aldmoor lies on the river Tarn. The answer is 42, I think."
SIZE: dict[str, Any] = {"vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 2}


def network(family: str) -> Any:
    torch.manual_seed(0)
    if family == "diffusion":
        return build_diffusion(vocab_size=400, mask_token_id=399)
    if family == "bert":
        return t.BertModel(
            t.BertConfig(**SIZE, num_attention_heads=4, intermediate_size=48, max_position_embeddings=256)
        ).eval()
    if family == "gpt2":
        return t.GPT2LMHeadModel(t.GPT2Config(vocab_size=400, n_embd=32, n_layer=2, n_head=4)).eval()
    if family == "qwen3-eager":
        made = build_network("qwen3")
        made.set_attn_implementation("eager")
        return made
    return build_network(family)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return build_tokenizer()


@pytest.fixture
def embedder(tokenizer: Any) -> DiffusionEmbedder:
    return DiffusionEmbedder(network("diffusion"), tokenizer)


FAMILIES = ["diffusion", "qwen3", "qwen3-eager", "llama", "gpt_neox", "gpt2", "bert"]


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_and_company_do_not_matter(family: str, tokenizer: Any) -> None:
    embedder = DiffusionEmbedder(network(family), tokenizer)
    alone = embedder.encode([SHORT])
    together = embedder.encode([SHORT, LONG, "42"])
    np.testing.assert_allclose(alone[0], together[0], atol=2e-5)
    right = embedder.preprocess([SHORT, LONG])
    left = {name: values.clone() for name, values in right.items()}
    shift = int((right["attention_mask"][0] == 0).sum())
    assert shift > 0
    for name in left:
        left[name][0] = left[name][0].roll(shift)
    if family != "bert":  # whose positions are absolute, and so are counted by itself
        assert int(left["attention_mask"][0, 0]) == 0
    with torch.no_grad():
        one, other = (embedder(f)["sentence_embedding"] for f in (right, left))
    torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES[:-1])
@pytest.mark.parametrize("attention", ["bidirectional", "causal"])
def test_attention_is_what_it_is_called(family: str, attention: Any, tokenizer: Any) -> None:
    embedder = DiffusionEmbedder(network(family), tokenizer, attention=attention)
    ids = torch.arange(10, 22).repeat(2, 1)
    ids[1, -1] = 99
    with torch.no_grad():
        hidden = embedder.hidden(ids, torch.ones_like(ids, dtype=torch.bool))
    moved = (hidden[0] - hidden[1]).abs().amax(-1)
    assert bool((moved[:-1] > 1e-6).all()) == (attention == "bidirectional")
    assert moved[-1] > 1e-3


def test_causal_attention_is_the_causal_model_itself(tokenizer: Any) -> None:
    causal = build_network("qwen3")
    features = DiffusionEmbedder(causal, tokenizer).preprocess([LONG])
    made = DiffusionEmbedder(causal, tokenizer, attention="causal")(features)["token_embeddings"]
    torch.testing.assert_close(made, causal.model(features["input_ids"]).last_hidden_state)


def test_diffusion_hidden_states_are_those_of_the_clean_text(embedder: DiffusionEmbedder) -> None:
    ids = embedder.preprocess([LONG])["input_ids"]
    expected = embedder.model.hidden(ids).mean(1)[0].detach().numpy()
    np.testing.assert_allclose(embedder.encode([LONG])[0], expected, atol=1e-5)


def test_pooling_by_hand() -> None:
    hidden = torch.tensor([[[1.0], [2.0], [4.0], [torch.nan]]])
    pooled = torch.tensor([[False, True, True, False]])
    assert pool(hidden, pooled, "mean").item() == 3
    assert pool(hidden, pooled, "weighted_mean").item() == pytest.approx((2 + 2 * 4) / 3)
    assert pool(hidden, pooled, "last").item() == 4
    assert pool(hidden, torch.zeros(1, 4, dtype=torch.bool), "last").item() == 0


def test_instruction_is_read_but_not_pooled(embedder: DiffusionEmbedder, tokenizer: Any) -> None:
    features = embedder.preprocess([("Find the founder", SHORT)])
    text = tokenizer(SHORT)["input_ids"]
    head = tokenizer("Find the founder ")["input_ids"]
    assert features["input_ids"][0].tolist() == [*head, *text]
    assert features["embed_mask"][0].tolist() == [0] * len(head) + [1] * len(text)
    hidden = embedder.model.hidden(features["input_ids"])[:, len(head) :].mean(1)[0].detach().numpy()
    with_instruction = embedder.encode([SHORT], instruction="Find the founder")[0]
    np.testing.assert_allclose(with_instruction, hidden, atol=1e-5)
    assert np.abs(with_instruction - embedder.encode([SHORT])[0]).max() > 1e-3
    np.testing.assert_array_equal(embedder.encode([("", SHORT)]), embedder.encode([SHORT]))
    whole = DiffusionEmbedder(embedder.model, tokenizer, skip_instruction=False)
    assert int(whole.preprocess([("Find the founder", SHORT)])["embed_mask"].sum()) == len(head) + len(text)


def test_template_is_the_authors(tokenizer: Any) -> None:
    embedder = DiffusionEmbedder(network("diffusion"), tokenizer, template=CHATML)
    features = embedder.preprocess([("Find:", SHORT)])
    assert tokenizer.decode(features["input_ids"][0]) == f"<|im_start|>user\nFind: {SHORT}<|im_end|>"
    pooled = features["input_ids"][0][features["embed_mask"][0].bool()]
    assert tokenizer.decode(pooled) == f"{SHORT}<|im_end|>"


def test_special_tokens_of_the_tokenizer_are_kept() -> None:
    embedder = DiffusionEmbedder(network("llama"), build_tokenizer(bos=True))
    features = embedder.preprocess([("Find:", SHORT)])
    assert int(features["input_ids"][0, 0]) == 0  # <|endoftext|>, this tokenizer's first token
    assert int(features["embed_mask"][0, 0]) == 0
    assert 0 not in features["input_ids"][0, 1:].tolist()


def test_lengths_are_kept_with_a_warning(tokenizer: Any) -> None:
    embedder = DiffusionEmbedder(network("diffusion"), tokenizer, max_length=12, doc_max_length=5)
    with pytest.warns(UserWarning, match=r"1 of 2 texts were cut at max_length = 12"):
        features = embedder.preprocess([LONG, "42"])
    assert features["attention_mask"].sum(1).tolist()[0] == 5
    roomy = DiffusionEmbedder(network("diffusion"), tokenizer)
    assert roomy.max_length == 128  # the network's positions, not the paper's 4096
    with pytest.warns(UserWarning, match="cut at max_length = 128"):
        assert roomy.encode([LONG * 20]).shape == (1, 32)


def test_normalize_gives_unit_length(tokenizer: Any) -> None:
    made = DiffusionEmbedder(network("diffusion"), tokenizer, normalize=True).encode([SHORT, LONG])
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, atol=1e-6)
    assert made.dtype == np.float32


def test_empty_texts(embedder: DiffusionEmbedder, tokenizer: Any) -> None:
    with pytest.raises(InvalidValue, match="text 1 is ''"):
        embedder.encode([LONG, ""])
    allowing = DiffusionEmbedder(embedder.model, tokenizer, allow_empty=True, template=CHATML)
    assert not allowing.encode(["", SHORT])[0].any()
    assert embedder.encode([]).shape == (0, 32)


def test_a_tokenizer_without_padding_token(embedder: DiffusionEmbedder) -> None:
    bare = build_tokenizer()
    bare.pad_token = None
    np.testing.assert_array_equal(
        DiffusionEmbedder(embedder.model, bare).encode([SHORT, LONG]), embedder.encode([SHORT, LONG])
    )


def test_a_network_without_masks_is_refused(tokenizer: Any) -> None:
    mamba = t.MambaModel(t.MambaConfig(vocab_size=400, hidden_size=32, num_hidden_layers=1, state_size=4))
    with pytest.raises(Unsupported, match="MambaModel could not be run with a mask"):
        DiffusionEmbedder(mamba, tokenizer)


@pytest.mark.parametrize(("ahead", "attention"), [(False, "bidirectional"), (True, "causal")])
def test_a_network_that_heeds_no_mask_is_refused(
    ahead: bool, attention: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf = build_network("qwen3")
    usual = deaf.model.forward

    def forward(input_ids: Any, attention_mask: Any, position_ids: Any) -> Any:
        mask = torch.zeros_like(attention_mask) if ahead else None
        return usual(input_ids=input_ids, attention_mask=mask, position_ids=position_ids)

    monkeypatch.setattr(deaf.model, "forward", forward)
    with pytest.raises(Unsupported, match=r"Qwen3ForCausalLM (looks|does not look) ahead whatever"):
        DiffusionEmbedder(deaf, tokenizer, attention=attention)


def test_an_attention_that_takes_no_mask_is_refused(tokenizer: Any) -> None:
    flash = build_network("qwen3")
    flash.config._attn_implementation = "flash_attention_2"
    with pytest.raises(Unsupported, match="flash_attention_2"):
        DiffusionEmbedder(flash, tokenizer)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"pooling": "max"}, "pooling"),
        ({"attention": "both"}, "attention"),
        ({"max_length": 0}, "max_length"),
        ({"doc_max_length": 0}, "doc_max_length"),
        ({"template": "no place"}, "template"),
    ],
)
def test_impossible_arguments_are_named(arguments: dict[str, Any], named: str, tokenizer: Any) -> None:
    with pytest.raises(InvalidValue, match=f"^{named} is"):
        DiffusionEmbedder(network("diffusion"), tokenizer, **arguments)


def test_wrong_texts_are_named(embedder: DiffusionEmbedder) -> None:
    with pytest.raises(InvalidValue, match="a list of texts"):
        embedder.encode("one text")
    with pytest.raises(InvalidValue, match="a pair of strings"):
        embedder.encode([("a", "b", "c")])  # type: ignore[list-item]
    with pytest.raises(InvalidValue, match="instruction of text 0"):
        embedder.encode([("word " * 200, "text")])


@pytest.mark.parametrize("kind", ["diffusion", "qwen3", "bert"])
def test_saved_and_loaded_it_is_the_same(kind: str, tokenizer: Any, tmp_path: Path) -> None:
    embedder = DiffusionEmbedder(network(kind), tokenizer, max_length=77, pooling="weighted_mean")
    embedder.save(tmp_path)
    again = DiffusionEmbedder.load(tmp_path, device="cpu")
    assert (again.pooling, again.max_length, again.settings()) == ("weighted_mean", 77, embedder.settings())
    np.testing.assert_allclose(again.encode([SHORT, LONG]), embedder.encode([SHORT, LONG]), atol=1e-6)
    assert DiffusionEmbedder.load(tmp_path, pooling="mean").pooling == "mean"


@pytest.mark.parametrize("kind", ["llada", "Dream"])
def test_published_diffusion_folders_embed(kind: str, tokenizer: Any, tmp_path: Path) -> None:
    bias = kind == "Dream"
    diffusion = build_diffusion(vocab_size=400, mask_token_id=399, qk_norm=False, qkv_bias=bias)
    folder = write_folder(tmp_path / kind, kind, diffusion, tokenizer)
    made = DiffusionEmbedder.load(folder, device="cpu").encode([LONG])
    expected = DiffusionEmbedder(diffusion, tokenizer).encode([LONG])
    np.testing.assert_allclose(made, expected, atol=1e-4)


def test_mistakes_in_loading_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no network\nmore")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(NotReachable, match=r"neither embedded .* \(no network\)"):
        DiffusionEmbedder.load("org/model")
    with pytest.raises(InvalidValue, match="poolng"):
        DiffusionEmbedder.load("pico", poolng="mean")


def test_embedded_models_load_by_name() -> None:
    made = DiffusionEmbedder.load("pico-draft", device="cpu").encode(["17 + 25", "the friend of Kalo"])
    assert np.isfinite(made).all()
    assert made.shape == (2, 96)


def test_a_peft_wrapped_network_is_not_saved(embedder: DiffusionEmbedder, tmp_path: Path) -> None:
    embedder.model.merge_and_unload = lambda: None
    with pytest.raises(Unsupported, match="merge_and_unload"):
        embedder.save(tmp_path)


def test_a_missing_extra_says_what_to_install(
    embedder: DiffusionEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtra, match=r"pip install 'dovetail\[embeddings\]'"):
        embedder.as_sentence_transformer()


def test_sentence_transformers_encodes_saves_and_loads(embedder: DiffusionEmbedder, tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    model = embedder.as_sentence_transformer()
    texts = [SHORT, LONG, "42"]
    np.testing.assert_allclose(model.encode(texts), embedder.encode(texts), atol=1e-6)
    np.testing.assert_allclose(
        model.encode(texts, prompt="Find:"), embedder.encode(texts, instruction="Find:"), atol=1e-6
    )
    assert model.max_seq_length == 128
    model.save(str(tmp_path))
    assert json.loads((tmp_path / "modules.json").read_text())[0]["type"].endswith("DiffusionEmbedder")
    again = library.SentenceTransformer(str(tmp_path), trust_remote_code=True, device="cpu")
    np.testing.assert_allclose(again.encode(texts), embedder.encode(texts), atol=1e-5)
