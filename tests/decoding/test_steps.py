"""Steps: where they end, that waiting rows are left alone, what a verifier is shown."""

from __future__ import annotations

import pytest
import torch

from dovetail.core import Limits
from dovetail.decoding import Sampling
from dovetail.decoding.steps import Delimiter, StepWriter


class Words:
    """One token per word of a given list."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def decode(self, ids, skip_special_tokens=False):
        return "".join(self.words[i] for i in ids)


class Row:
    """A batch of one row that has written ``ids``."""

    def __init__(self, ids):
        self.tokens = torch.tensor([ids])
        self.rows = type("Rows", (), {"step": torch.tensor([len(ids)])})()


def ends(words, delimiter):
    """Cuts ``words``, one token each, into steps."""
    rule = Delimiter(Words(*words), delimiter)
    begun, steps = 0, []
    for i in range(len(words)):
        row = Row(list(range(i + 1)))
        if bool(rule.reached(row, torch.tensor([i]), torch.tensor([begun]))[0]):
            steps.append("".join(words[begun : i + 1]))
            begun = i + 1
    return [*steps, "".join(words[begun:])]


@pytest.mark.parametrize(
    ("words", "delimiter", "steps"),
    [
        (["a", "\n\n", "b", "\n", "c"], "\n\n", ["a\n\n", "b\nc"]),
        (["a", "\n", "\n", "b"], "\n\n", ["a\n\n", "b"]),  # in two tokens
        (["a.\n\nb", "c"], "\n\n", ["a.\n\nb", "c"]),  # inside of a token, which is not cut
        (["\n\n", "a", "\n\n"], "\n\n", ["\n\na\n\n", ""]),  # nothing was said before
        (["<think>", "\n", "a", "\n", "</think>", "\n\n", "b"], None, ["<think>\na\n", "</think>\n\nb"]),
        (["a", "\n", "b", "\n", "c"], None, ["a\n", "b\n", "c"]),
        (["a", "\n", "b", "\n\n", "c", "\n", "d", "\n\n", "e"], None, ["a\n", "b\n\n", "c\nd\n\n", "e"]),
        (["a", ";", "b", "\n\n", "c"], ";", ["a;", "b\n\nc"]),
        (["a", "\ufffd", "b"], "ä", ["a\ufffdb"]),
    ],
)
def test_where_a_step_ends(words, delimiter, steps):
    assert ends(words, delimiter) == steps


@pytest.fixture
def writer(tiny_engine, tiny_prompts):
    return StepWriter(
        tiny_engine, tiny_prompts(4), Limits(24), Sampling(), capacity=8, delimiter="I", watch=True
    )


def by_seed(batch):
    """Everything about a row, by its seed."""
    state, found = batch.rows.state, {}
    for row, seed in enumerate(batch.rows.seeds.tolist()):
        n = int(batch.rows.step[row])
        found[seed] = (batch.tokens[row, :n].tolist(), int(state["steps.count"][row]), batch.logits[row])
    return found


def begin(writer, copies=3):
    batch = writer.begin(copies)
    batch.rows.seeds = torch.arange(len(batch)) + 50
    return batch


@torch.inference_mode()
def test_a_row_writes_a_step_and_then_waits(writer, tiny_engine):
    batch = writer.write(begin(writer))
    assert sorted(batch.rows.seeds.tolist()) == list(range(50, 62))
    assert sorted(batch.index) == sorted([0, 1, 2, 3] * 3)
    for seed, (ids, count, logits) in by_seed(batch).items():
        reason = int(batch.rows.state["steps.reason"][batch.rows.seeds.tolist().index(seed)])
        said = tiny_engine.text(ids)
        assert count == 1
        assert ("I" in said[1:]) <= (said.find("I", 1) == len(said) - 1), "wrote on after its step"
        assert reason == (1 if ids[-1] == 94 else 2 if len(ids) == 24 else 0)
        if reason == 0:  # the next token's logits are those of the row's own text
            prompt = writer.prompts[batch.index[batch.rows.seeds.tolist().index(seed)]]
            whole = torch.tensor([[*prompt.ids, *ids]])
            expected = tiny_engine.forward(tiny_engine.forward.cache(1), whole).logits[0]
            torch.testing.assert_close(logits, expected)


@torch.inference_mode()
def test_steps_add_up_to_what_is_written_at_once(writer):
    stepwise = begin(writer)
    for _ in range(3):
        stepwise = writer.write(stepwise)
    stepwise = by_seed(writer.write(stepwise, to_end=True))
    at_once = by_seed(writer.write(begin(writer), to_end=True))
    assert {s: ids for s, (ids, *_) in stepwise.items()} == {s: ids for s, (ids, *_) in at_once.items()}
    assert max(count for _, count, _ in stepwise.values()) > 1
    assert {count for _, count, _ in at_once.values()} == {1}


@torch.inference_mode()
def test_forked_rows_write_what_their_source_would_have(writer):
    batch = writer.write(begin(writer))
    alone = by_seed(writer.write(batch.select(torch.arange(len(batch)))))
    twice = writer.write(batch.select(torch.arange(len(batch)).repeat(2)))
    assert len(twice) == 2 * len(batch)
    for row, seed in enumerate(twice.rows.seeds.tolist()):
        assert twice.tokens[row, : int(twice.rows.step[row])].tolist() == alone[seed][0]


@torch.inference_mode()
def test_a_long_step_ends_its_row(tiny_engine, tiny_prompts):
    writer = StepWriter(
        tiny_engine, tiny_prompts(4), Limits(24), Sampling(), 4, delimiter="none of it", max_tokens_per_step=5
    )
    batch = writer.write(begin(writer))
    assert batch.rows.step.max() == 5
    assert ((batch.rows.state["steps.reason"] == 2) == (batch.rows.step == 5)).all()
    assert by_seed(writer.write(batch)).keys() == by_seed(batch).keys(), "rows that are done stay"


@torch.inference_mode()
def test_what_a_verifier_is_shown(writer, tiny_engine):
    batch = writer.write(writer.write(begin(writer)))
    shown = writer.solutions(batch)
    assert shown.hidden.shape == (12, 8, 32)
    seen = []
    handle = tiny_engine.network.model.layers[-1].register_forward_hook(
        lambda module, args, out: seen.append(out if torch.is_tensor(out) else out[0])
    )
    for row, count in enumerate(shown.counts.tolist()):
        assert len(shown.steps[row]) == count
        at = shown.ends[row, :count].tolist()
        ids = shown.tokens[row, : at[-1]].tolist()
        assert "".join(shown.steps[row]) == tiny_engine.text(ids)
        prompt = shown.prompts[row].ids
        logits = tiny_engine.network(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
        expected = logits.log_softmax(-1)[torch.arange(len(ids)), ids]
        torch.testing.assert_close(shown.logprobs[row, : len(ids)].double(), expected, atol=1e-6, rtol=0)
        states = seen[-1][0, [len(prompt) + n - 1 for n in at]]
        torch.testing.assert_close(shown.hidden[row, :count].double(), states, atol=1e-5, rtol=1e-5)
    handle.remove()
