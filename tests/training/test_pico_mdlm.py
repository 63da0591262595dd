"""pico-mdlm's making: what is masked and learned, training that resumes, and the embedded folder."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dovetail.core import Limits
from dovetail.models import embedded, load
from dovetail.models.masked_diffusion import MaskedDiffusionLM
from dovetail.training.pico import corpus, mdlm, train

TINY = train.Shape(layers=1, width=32, heads=2, key_value_heads=2, head_width=16, mlp_width=32)
SHORT = train.Schedule(steps=4, documents_per_step=8, micro_batches=2, warmup=1)


@pytest.fixture(scope="module")
def tok():
    return mdlm.tokenizer()


@pytest.fixture(scope="module")
def documents(tok):
    return train.build_corpus(tok, 0, 512, documents=mdlm.documents)


def test_no_held_out_question_is_trained_on():
    made = list(mdlm.documents(0, 300))
    assert made == list(mdlm.documents(0, 300))
    assert len(made) == 300
    assert not any(corpus.held_out(d.messages[-1]["content"]) for d in made)
    assert all("\\boxed{" in d.completion for d in made)


def test_the_mask_is_one_more_token(tok):
    plain = train.pico_tokenizer.build()
    assert tok.get_vocab() == plain.get_vocab() | {mdlm.MASK: len(plain)}
    assert tok.mask_token_id == len(plain)


def test_only_answers_are_masked_and_what_is_learned_is_masked(documents, tok):
    shares, blocks = [], 0
    for first in range(0, 512, 16):
        rows = np.arange(first, first + 16)
        ids, labels, weights = mdlm.batch(documents, rows)
        learned, hidden = labels != -100, ids < 0
        assert hidden[learned].all()
        assert ((weights > 0) == learned).all()
        assert float(weights[learned].mean()) == pytest.approx(1, abs=1e-5)
        for row in range(16):
            prompt = int(documents.prompts[first + row])
            text = documents.ids[documents.offsets[first + row] : documents.offsets[first + row + 1]]
            clean = torch.where(learned[row], labels[row], ids[row])
            seen = clean >= 0
            assert not hidden[row, :prompt].any()
            assert torch.equal(
                clean[: len(text)][seen[: len(text)]],
                torch.from_numpy(text.astype("int64"))[seen[: len(text)]],
            )
            assert (clean[len(text) :][seen[len(text) :]] == tok.eos_token_id).all()
            shares.append(float(hidden[row, prompt:].float().mean()))
            # masked by block: everything behind is masked and not learned
            blocks += bool(hidden[row, -1] and not learned[row, -1])
    assert 0.25 < blocks / 512 < 0.55
    assert min(shares) < 0.1
    assert max(shares) > 0.9


def test_a_batch_is_a_function_of_its_rows(documents):
    rows = np.arange(40, 56)
    for a, b in zip(mdlm.batch(documents, rows), mdlm.batch(documents, rows), strict=True):
        assert torch.equal(a, b)
    one, other = (mdlm.batch(documents, r)[0] for r in (rows, rows + 16))
    width = min(one.shape[1], other.shape[1])
    assert not torch.equal(one[:, :width], other[:, :width])


def test_a_resumed_run_equals_an_undisturbed_one(tmp_path):
    options = {"shape": TINY, "schedule": SHORT, "checkpoint_every": 2, "report": lambda line: None}
    options["evaluate"] = None
    mdlm.train(tmp_path / "whole", **options)

    def stop(model, tokenizer):  # stands for a kill between the checkpoint of step 2 and the end
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mdlm.train(tmp_path / "cut", **{**options, "export_every": 2, "evaluate": stop})
    mdlm.train(tmp_path / "cut", **options)
    whole, cut = (MaskedDiffusionLM.from_pretrained(tmp_path / n).state_dict() for n in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_the_embedded_model_solves_sums_that_it_never_saw():
    model = load("pico-mdlm", device="cpu")
    folder = embedded()["pico-mdlm"]
    assert (folder / "model.safetensors").stat().st_size < 5e6
    pico = load("pico", device="cpu")
    assert model.tokenizer.get_vocab() == pico.tokenizer.get_vocab() | {mdlm.MASK: len(pico.tokenizer)}
    assert model.template.text == pico.template.text
    figures = mdlm.quick_accuracy(model.network, model.tokenizer, count=12)
    assert figures["chain-sum"] >= 0.5  # a constant answer is right in about one of twenty
    assert figures["ended"] == 1
    assert model.complete("1 + 2 = ?", limits=Limits(128)).token_ids
