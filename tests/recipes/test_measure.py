"""What recipes about decoding share: samples are averaged per example, counts and bounds are right."""

from __future__ import annotations

import pytest

from dovetail.core import Completion, Cost, Example, Message, Score, Task
from dovetail.decoding import Greedy, Sampling
from dovetail.models.local import LocalModel
from dovetail.recipes.measure import (
    Answers,
    accuracy_claim,
    answer,
    differing,
    exact,
    overhead_claim,
    step_seconds,
    thinking_tokens,
)
from dovetail.training.pico.tokenizer import chat_template

END = 96


@pytest.fixture(scope="module")
def model(tiny_network, tiny_tokenizer) -> LocalModel:
    return LocalModel(tiny_network("qwen3").double(), tiny_tokenizer, name="tiny", template=chat_template())


class LongIsRight:
    name, extraction = "long", "none"

    def __call__(self, example, completion):
        return Score(float(len(completion.token_ids) > 3), 0.0)

    def extract(self, text):
        return text


EXAMPLES = [Example(str(i), (Message("user", "ab" * (i + 1)),)) for i in range(4)]
TASK = Task("toy", lambda limit, seed: (EXAMPLES, []), LongIsRight())


def completion(*ids: int) -> Completion:
    return Completion("", ids, cost=Cost(tokens_written=len(ids), forward_passes=len(ids)))


def answers(*samples: list[tuple[Completion, float]]) -> Answers:
    return Answers(
        [[c for c, _ in sample] for sample in samples],
        [[Score(v, v) for _, v in sample] for sample in samples],
        END,
    )


def test_thinking_ends_with_its_mark():
    assert thinking_tokens(completion(1, 2, END, 4), END) == 3
    assert thinking_tokens(completion(1, 2), END) == 2
    assert thinking_tokens(completion(1, 2), None) == 2


def test_samples_are_averaged_per_example():
    found = answers([(completion(1, END, 2), 1.0), (completion(1), 0.0)], [(completion(END), 0.0)] * 2)
    assert found.right == [0.5, 0.0]
    assert found.thinking == [1.5, 1.0]
    figures = found.arm("a", "described").figures
    assert figures["accuracy"].value == 0.25
    assert figures["tokens_written"].value == pytest.approx((3 + 1 + 1 + 1) / 4)


def test_samples_have_their_own_streams_and_the_first_is_the_examples_own(model):
    one = answer(model, TASK, EXAMPLES, Sampling(2.0), seed=3)
    three = answer(model, TASK, EXAMPLES, Sampling(2.0), seed=3, samples=3)
    assert differing(one, three) == 0
    ids = [[c.token_ids for c in sample] for sample in three.completions]
    assert ids[0] != ids[1] != ids[2]
    assert three.scores[0][0].value == float(len(ids[0][0]) > 3)
    assert differing(one, answer(model, TASK, EXAMPLES, Greedy(), seed=3)) == 4


def test_claims():
    good, bad = answers([(completion(1), 1.0)] * 20), answers([(completion(1), 0.0)] * 20)
    assert accuracy_claim("t", "p", good, bad, at_least=0.5, seed=0).verdict == "holds"
    assert accuracy_claim("t", "p", bad, good, at_least=0.0, seed=0).verdict == "fails"
    assert accuracy_claim("t", "p", bad, good, at_least=0.0, seed=0).baseline == 1.0
    assert [exact("t", n).verdict for n in (0, 1)] == ["holds", "fails"]
    taken = {"a": [1.0, 1.1] * 4, "b": [1.0, 1.0] * 4}
    assert overhead_claim("t", "p", taken, "a", "b", 1.2).verdict == "holds"
    assert overhead_claim("t", "p", taken, "a", "b", 1.01).measured == pytest.approx(1.05)


def test_seconds_are_taken_in_turns(model):
    prompts = [model.prompt(e.messages) for e in EXAMPLES]
    taken = step_seconds(model, {"g": Greedy(), "s": Sampling()}, prompts, rounds=2, steps=3)
    assert set(taken) == {"g", "s"}
    assert all(len(rounds) == 2 and min(rounds) > 0 for rounds in taken.values())
