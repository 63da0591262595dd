"""Drafters: prompt lookup by hand and against a slow search; a draft model that keeps up with its rows."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dovetail.core import InvalidValue, Limits, Unsupported
from dovetail.decoding import Greedy
from dovetail.decoding.drafters import DraftModel, NoDraft, PromptLookup, Texts, look_up
from dovetail.engine import Engine, Rows


def drafted(text: list[int], n: int, max_ngram: int = 3, min_ngram: int = 1) -> list[int]:
    ids = np.array([[*text, 99, 99]])  # what stands behind the text's end means nothing
    tokens, counts = look_up(ids, np.array([len(text)]), n, max_ngram, min_ngram)
    return tokens[0, : counts[0]].tolist()


def slow(text: list[int], n: int, max_ngram: int, min_ngram: int) -> list[int]:
    best, place = 0, -1
    for end in range(len(text) - 1):
        length = 0
        while length < min(max_ngram, end + 1) and text[end - length] == text[len(text) - 1 - length]:
            length += 1
        if length >= best:
            best, place = length, end
    if best < min_ngram:
        return []
    text = text.copy()
    for k in range(n):  # what was drafted may be copied in turn
        text.append(text[place + 1 + k])
    return text[-n:]


def test_what_followed_last_time():
    assert drafted([1, 2, 3, 4, 5, 2, 3], 2) == [4, 5]
    assert drafted([1, 2, 3, 4], 2) == []
    assert drafted([7], 2) == []


def test_the_longest_match_then_the_latest():
    assert drafted([1, 2, 9, 5, 2, 8, 1, 2], 1) == [9]  # [1, 2] is longer than the later [2]
    assert drafted([2, 9, 2, 8, 2], 1) == [8]
    assert drafted([1, 2, 9, 5, 2, 8, 1, 2], 1, max_ngram=1) == [8]


def test_too_short_a_match_drafts_nothing():
    assert drafted([2, 9, 5, 2], 2, min_ngram=2) == []
    assert drafted([1, 2, 9, 1, 2], 2, min_ngram=2) == [9, 1]


def test_repetition_goes_on():
    assert drafted([5, 1, 2, 1, 2], 5) == [1, 2, 1, 2, 1]
    assert drafted([4, 4], 3) == [4, 4, 4]


def test_against_a_slow_search():
    rng = np.random.default_rng(0)
    for trial in range(200):
        lengths = rng.integers(1, 30, 4)
        ids = rng.integers(0, 4, (4, 32))
        n, most, least = 1 + trial % 5, 1 + trial % 4, 1 + trial % 2
        if least > most:
            continue
        tokens, counts = look_up(ids, lengths, n, most, least)
        for row, length in enumerate(lengths):
            expected = slow(ids[row, :length].tolist(), n, most, least)
            assert tokens[row, : counts[row]].tolist() == expected


def texts(rows: list[list[int]]) -> Texts:
    lengths = np.array([len(r) for r in rows])
    ids = np.zeros((len(rows), int(lengths.max())), dtype=np.int64)
    for row, text in enumerate(rows):
        ids[row, : len(text)] = text
    ones = torch.ones(len(rows), dtype=torch.int64)
    return Texts(ids, lengths, Rows(ones, ones, ones, ones > 0))


def test_a_draft_model_drafts_what_it_would_write(tiny_engine, tiny_prompts):
    prompts = tiny_prompts(3)
    written = [list(c.token_ids) for c in Greedy().generate(tiny_engine, prompts, Limits(12))]
    proposer = DraftModel(tiny_engine).open(tiny_engine, Greedy()).begin([p.ids for p in prompts])
    # The rows have written 1, 2 and 4 tokens; of a draft of 3 they keep 3, 0 and 1.
    done = [1, 2, 4]
    for kept in ([3, 0, 1], [0, 3, 2]):
        draft = proposer.propose(
            texts([[*p.ids, *w[:k]] for p, w, k in zip(prompts, written, done, strict=True)]), 3
        )
        assert draft.tokens.tolist() == [w[k : k + 3] for w, k in zip(written, done, strict=True)]
        proposer.settle(np.array(kept))
        done = [k + more + 1 for k, more in zip(done, kept, strict=True)]


def test_an_idle_draft_model_catches_up_and_follows_its_rows(tiny_engine, tiny_prompts):
    prompts = tiny_prompts(3)
    written = [list(c.token_ids) for c in Greedy().generate(tiny_engine, prompts, Limits(12))]
    opened = DraftModel(tiny_engine).open(tiny_engine, Greedy())
    proposer = opened.begin([p.ids for p in prompts[:2]]).join(opened.begin([prompts[2].ids]))
    proposer = proposer.select(torch.tensor([2, 0]))
    proposer.settle(np.array([5, 5]))  # another drafter's success
    order = [2, 0]
    draft = proposer.propose(texts([[*prompts[i].ids, *written[i][: 3 + i]] for i in order]), 2)
    assert draft.tokens.tolist() == [written[i][3 + i : 5 + i] for i in order]


def test_another_vocabulary_is_refused_naming_both_sizes(tiny_engine, tiny_tokenizer, tiny_network):
    from copy import deepcopy

    wider = deepcopy(tiny_tokenizer)
    wider.add_tokens(["<more>"])
    draft = Engine(tiny_network("qwen3", vocab_size=104), wider, name="wide")
    with pytest.raises(ValueError, match=r"wide.*it has 98 tokens of its own, tiny has 97"):
        DraftModel(draft).check(tiny_engine)
    # an embedding that is padded further is the same vocabulary
    DraftModel(Engine(tiny_network("qwen3", vocab_size=104), tiny_tokenizer)).check(tiny_engine)


def test_a_remote_model_cannot_draft(tiny_engine):
    remote = SimpleNamespace(provides=frozenset({"text"}), name="remote")
    with pytest.raises(Unsupported, match="remote cannot draft"):
        DraftModel(remote).check(tiny_engine)


def test_labels_and_sources():
    assert [d.label for d in (NoDraft(), PromptLookup(3), DraftModel("pico-draft", 2))] == [
        "plain",
        "lookup-3",
        "pico-draft-2",
    ]
    assert DraftModel("a", 2).source == DraftModel("a", 5).source != DraftModel("b", 2).source
    assert PromptLookup(2).source == PromptLookup(8).source != PromptLookup(2, min_ngram=2).source


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: PromptLookup(0), "n is 0"),
        (lambda: PromptLookup(2, min_ngram=0), "min_ngram is 0"),
        (lambda: PromptLookup(2, max_ngram=1, min_ngram=2), "max_ngram is 1"),
        (lambda: DraftModel("pico-draft", 0), "n is 0"),
    ],
)
def test_bad_parameters_are_named(build, message):
    with pytest.raises(InvalidValue, match=message):
        build()
