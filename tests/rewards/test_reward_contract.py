"""What every reward promises, run over all of them."""

from __future__ import annotations

import pickle
import random
import time
from dataclasses import FrozenInstanceError, fields, is_dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rewards import REWARDS, TEXTS, batch

from dovetail.core import InvalidValue
from dovetail.rewards import NAMES, Reward

# What a model, or somebody who wants to break the judge, may write.
HOSTILE = {
    "backslashes": "\\" * 100_000,
    "nested braces": "\\boxed{" + "{" * 50_000 + "}" * 50_000,
    "nested boxes": "\\boxed{" * 20_000 + "4" + "}" * 20_000,
    "unpaired box": "\\boxed{" * 15_000,
    "unpaired thinking": "<think>" * 10_000 + "</think>",
    "closings": "</think>" * 10_000 + "\\boxed{4}",
    "bidi": "<think>\u202e\u2066x</think>\u202e\\boxed{\u20664\u2069}\u202c",
    "surrogate": "\\boxed{\ud800}",
    "power": "<think>a</think>\\boxed{9**9**9}",
    "tower": "<think>a</think>\\boxed{9^{9^{9^9}}}",
    "code": "\\boxed{__import__('os').system('true')}",
    "digits": "\\boxed{" + "9" * 100_000 + "}",
    "spaces": "\\boxed{4" + " " * 100_000 + "}",
    "tags": "<answer>" * 12_000,
    "nul": "\x00" * 1000 + "\\boxed{4}",
    "exponent": "\\boxed{1e999999999}",
    "bold": "**" * 50_000 + "So the final answer is " * 2000,
    "text": "\\text{" * 20_000,
}


@pytest.fixture(params=REWARDS.values(), ids=REWARDS.keys())
def make(request):
    return request.param


def permuted(given: dict, order: list[int]) -> dict:
    return {name: [values[i] for i in order] for name, values in given.items()}


def test_every_registered_name_is_tested():
    assert {name.partition(":")[0] for name in REWARDS} == set(NAMES)


def test_parameters_are_a_frozen_dataclass_with_a_name(make):
    reward = make()
    assert isinstance(reward, Reward)
    assert is_dataclass(reward)
    assert NAMES[reward.name][1] == type(reward).__name__
    assert reward.__name__ == reward.name
    for field in fields(reward)[:1]:
        with pytest.raises(FrozenInstanceError):
            setattr(reward, field.name, 1)
    assert pickle.loads(pickle.dumps(reward)) == reward


def test_one_finite_number_per_completion_in_order(make):
    given = batch()
    paid = make()(**given)
    assert len(paid) == len(given["completions"])
    assert all(type(value) is float and np.isfinite(value) for value in paid)
    assert len(set(paid)) > 1, "this batch tells nothing about the reward"


def test_what_was_given_stays_as_it_was(make):
    given = batch()
    make()(**given)
    assert given == batch()


def test_order_within_and_across_groups_does_not_matter(make):
    given = batch()
    paid = make()(**given)
    order = list(range(len(paid)))
    random.Random(0).shuffle(order)
    assert make()(**permuted(given, order)) == pytest.approx([paid[i] for i in order])


def test_groups_may_be_named_counted_or_told_by_the_prompts(make):
    given = batch()
    paid = make()(**given)
    same = given | {"prompts": ["?"] * len(paid)}
    numbers = [i // 8 for i in range(len(paid))]
    assert make()(**same, group=numbers) == pytest.approx(paid)
    assert make()(**same, group=np.asarray(numbers)) == pytest.approx(paid)
    assert make()(**same, num_generations=8) == pytest.approx(paid)


@pytest.mark.parametrize("kind", [tuple, np.asarray, "torch"])
def test_columns_may_be_lists_arrays_or_tensors(make, kind):
    given = batch()
    longest = max(map(len, given["completion_ids"]))
    lengths = [len(ids) for ids in given["completion_ids"]]
    given.pop("completion_ids")
    given |= {"length": lengths, "reference": [int(r) for r in given["reference"]]}
    paid = make()(**given)
    for name in ("length", "reference"):
        given[name] = torch.tensor(given[name]) if kind == "torch" else kind(given[name])
    if kind is not tuple:
        given["completions"] = np.asarray(given["completions"])
    assert make()(**given) == pytest.approx(paid)
    assert longest == max(lengths)


def test_the_calling_convention_of_trl(make):
    """Conversations, the trainer's state and its loggers beside the columns."""
    given = batch()
    paid = make()(**given)
    logged: list[tuple[str, float]] = []
    talks = given | {
        "prompts": [[{"role": "user", "content": p}] for p in given["prompts"]],
        "completions": [[{"role": "assistant", "content": c}] for c in given["completions"]],
    }
    extra = {
        "trainer_state": SimpleNamespace(global_step=0),
        "log_extra": lambda column, values: None,
        "log_metric": lambda metric, value: logged.append((metric, value)),
        "environments": None,
    }
    assert make()(**talks, **extra) == pytest.approx(paid)
    assert all(np.isfinite(value) for _, value in logged)


def test_ten_thousand_completions_in_seconds(make):
    given, reward = batch(groups=1250), make()
    # All of them different where answers are judged; the others judge in the same way.
    variants = 10_000 if reward.name == "correct" else 7
    given["completions"] = [f"{c} {i % variants}" for i, c in enumerate(given["completions"])]
    begin = time.process_time()
    assert len(reward(**given)) == 10_000
    assert time.process_time() - begin < 8


@pytest.mark.parametrize("which", HOSTILE)
def test_hostile_text_is_answered_in_time(make, which):
    given = batch(groups=1)
    given["completions"] = [HOSTILE[which], *given["completions"][1:]]
    begin = time.process_time()
    paid = make()(**given)
    assert time.process_time() - begin < 3
    assert all(np.isfinite(value) for value in paid)


def test_what_cannot_be_read_is_named(make):
    given = batch()
    cases = {
        "prompts": [given | {"prompts": given["prompts"][:-1]}, given | {"prompts": "text"}],
        "completions": [
            given | {"completions": [*TEXTS[:3], None, *TEXTS[:4]] * 4},
            {name: [] for name in given},
            given | {"completions": "text"},
        ],
    }
    for name, broken in cases.items():
        for one in broken:
            with pytest.raises(InvalidValue, match=name):
                make()(**one)


COLUMNS = ("reference", "box", "completion_ids", "entropies", "logprobs")


@pytest.mark.parametrize("column", COLUMNS)
def test_a_bad_column_is_named(make, column):
    """Whoever reads a column says what is wrong with it; whoever does not is not disturbed."""
    given = batch()
    meta = torch.zeros(len(given["prompts"]), device="meta")
    missing = {name: values for name, values in given.items() if name != column}
    for bad in ("text", 3, given[column][:-1], [], meta):
        given[column] = bad
        try:
            make()(**missing)
        except InvalidValue:
            with pytest.raises(InvalidValue, match=column):
                make()(**given)
        else:
            make()(**given)
