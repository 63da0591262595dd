"""The fine-tuning that recipes share: learns, repeats itself, and leaves the given model alone."""

from __future__ import annotations

import pytest
import torch

from dovetail.core import InvalidValue, Limits, Message
from dovetail.models.local import LocalModel
from dovetail.recipes.finetune import finetune, token_count, tokenized
from dovetail.training.pico.corpus import Document
from dovetail.training.pico.tokenizer import chat_template


@pytest.fixture(scope="module")
def model(tiny_network, tiny_tokenizer) -> LocalModel:
    return LocalModel(tiny_network("qwen3"), tiny_tokenizer, name="tiny", template=chat_template())


def ask(question: str, answer: str) -> Document:
    return Document(({"role": "user", "content": question},), answer, thinking=False)


PAIRS = [ask("ab", "xy"), ask("cd", "zw")]


def weights(model: LocalModel) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.network.parameters()]


def test_learns_and_leaves_the_model_alone(model):
    before = weights(model)
    taught = finetune(model, PAIRS, 100, rate=1.0, documents_per_step=2, micro_batches_per_step=1)
    for document in PAIRS:
        question = document.messages[0]["content"]
        assert taught.complete(question, limits=Limits(5), thinking=False).text == document.completion
    assert all(torch.equal(a, b) for a, b in zip(before, weights(model), strict=True))
    assert not taught.network.training
    assert taught.name == "tiny (fine-tuned)"


def test_equal_arguments_give_equal_weights_and_the_seed_is_the_order(model):
    many = [ask(q, q[::-1]) for q in ("ab", "cde", "fghi", "kl", "mnopq", "rs", "tuv", "wxyz")]
    runs = [
        weights(finetune(model, many, 3, seed=s, documents_per_step=2, micro_batches_per_step=1))
        for s in (0, 0, 1)
    ]
    assert all(torch.equal(a, b) for a, b in zip(runs[0], runs[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(runs[0], runs[2], strict=True))


def test_documents_are_tokenized_as_the_model_is_asked(model):
    corpus = tokenized(model, PAIRS)
    prompt = model.prompt([Message("user", "ab")], thinking=False).ids
    row = corpus.ids[: corpus.offsets[1]].tolist()
    assert row[: len(prompt)] == list(prompt)
    assert corpus.prompts[0] == len(prompt)
    assert model.tokenizer.decode(row[len(prompt) :]) == "xy<eos>"
    assert token_count(model, PAIRS) == corpus.offsets[-1]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"documents": []}, "documents"),
        ({"steps": 0}, "steps"),
        ({"rate": 0.0}, "rate"),
        ({"documents_per_step": 5, "micro_batches_per_step": 2}, "micro_batches_per_step"),
    ],
)
def test_impossible_arguments_are_named(model, arguments, named):
    given = {"documents": PAIRS, "steps": 1} | arguments
    with pytest.raises(InvalidValue, match=named):
        finetune(model, given.pop("documents"), given.pop("steps"), **given)
