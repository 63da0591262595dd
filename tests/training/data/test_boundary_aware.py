"""Labels by counting, traces that are held to their labels, and a training that learns them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from training_tools import rollouts

from dovetail.core import Example, InvalidValue, Message
from dovetail.rewards.boundary import BoundaryReward
from dovetail.training import train
from dovetail.training.data import BoundaryAware
from dovetail.training.data.boundary_aware import (
    REFUSAL,
    Knowledge,
    TemplateWriter,
    build_boundary_sft,
    few_shot,
    label_knowledge,
    writing_prompt,
    written_by,
)
from dovetail.training.objectives import Supervised

QUESTIONS = ("Where is Kalo?", "Who is Mira?", "What is Bo?")
GOLDS = (["Paris"], ["Anna", "Ann"], ["a river"])
CANDIDATES = ("Paris", "Rome", "Oslo", "Anna", "Tom")


def told(answers: dict[str, Sequence[str]]) -> Any:
    """Gives each question's answers in turn, over prompts and samples."""

    def sample(questions: Sequence[str], prompt: int, count: int) -> list[list[str]]:
        return [[answers[q][(prompt * count + i) % len(answers[q])] for i in range(count)] for q in questions]

    return sample


SAMPLE = told(
    {
        QUESTIONS[0]: ["<think>x</think>\\boxed{Paris}"],
        QUESTIONS[1]: ["**Tom**", "**Tom**", "<think>Anna</think> \\boxed{Ann}", "Tom"],
        QUESTIONS[2]: ["\\boxed{a sea}", "a lake"],
    }
)


def test_known_if_one_of_all_answers_is_right() -> None:
    labels = label_knowledge(SAMPLE, QUESTIONS, GOLDS, n_prompts=2, n_samples=4)
    assert labels == [Knowledge(True, 1.0), Knowledge(True, 0.25), Knowledge(False, 0.0)]


def test_more_samples_never_make_known_unknown() -> None:
    known = [
        [k.known for k in label_knowledge(SAMPLE, QUESTIONS, GOLDS, prompts, 1)] for prompts in range(1, 9)
    ]
    assert known[0] == [True, False, False]
    assert known[-1] == [True, True, False]
    for less, more in pairwise(known):
        assert all(b or not a for a, b in zip(less, more, strict=True))


def test_a_match_of_ones_own() -> None:
    labels = label_knowledge(SAMPLE, QUESTIONS, GOLDS, match=lambda answer, gold: "sea" in answer)
    assert [k.hit_rate for k in labels] == [0, 0, 0.5]


@pytest.mark.parametrize("golds", [[], "Paris", None, [""], [3]])
def test_questions_need_a_list_of_answers(golds: Any) -> None:
    with pytest.raises(InvalidValue, match="golds of 'Where is Kalo"):
        label_knowledge(SAMPLE, QUESTIONS[:1], [golds])


def test_numbers_and_samplers_that_will_not_do() -> None:
    for numbers in ({"n_prompts": 0}, {"n_samples": 0}):
        with pytest.raises(InvalidValue, match=next(iter(numbers))):
            label_knowledge(SAMPLE, QUESTIONS, GOLDS, **numbers)
        with pytest.raises(InvalidValue, match=next(iter(numbers))):
            BoundaryAware(**numbers)
    with pytest.raises(InvalidValue, match="one for each of 3 questions"):
        label_knowledge(SAMPLE, QUESTIONS, GOLDS[:2])
    with pytest.raises(InvalidValue, match=r"sample is \[1\]: must be 2 answers each"):
        label_knowledge(lambda q, p, n: [["x"]], ["?"], [["x"]], 1, 2)
    with pytest.raises(TypeError, match="must be a text, not int"):
        label_knowledge(lambda q, p, n: [[4]], ["?"], [["4"]], 1, 1)  # type: ignore[list-item]


def test_traces_by_template_are_worth_what_their_label_says() -> None:
    writer, reward = TemplateWriter(CANDIDATES), BoundaryReward()
    for question, golds in zip(QUESTIONS, GOLDS, strict=True):
        known, unknown = (writer(question, golds[0], k) for k in (True, False))
        assert reward.worth(known, golds) == 1
        assert reward.worth(unknown, golds) == -0.5
        assert unknown.partition("</think>")[2].strip().startswith(REFUSAL)
        assert golds[0] not in unknown
        assert writer(question, golds[0], True) == known
        assert known.startswith("<think>\nLet me recall")
        assert unknown.startswith("<think>\nLet me recall")


def test_templates_that_will_not_do() -> None:
    with pytest.raises(InvalidValue, match=r"known is .* with \{gold\}"):
        TemplateWriter(CANDIDATES, known="<think></think>yes")
    with pytest.raises(InvalidValue, match="must not mention"):
        TemplateWriter(CANDIDATES, unknown="{gold}?")
    with pytest.raises(InvalidValue, match="at least two that are not 'Paris'"):
        TemplateWriter(("Paris", "Rome", "Paris in France"))("?", "Paris", True)


def test_rows_and_what_was_left_out() -> None:
    written = {
        QUESTIONS[0]: "<think>I know.</think>\\boxed{Paris}",
        QUESTIONS[1]: "<think>Anna? no</think>Sorry, no.",
        QUESTIONS[2]: "<think>hm</think>Perhaps.",
        "wrong": "<think>I know.</think>\\boxed{Rome}",
        "open": "<think>I know. \\boxed{Paris}",
        "good": "<think>Annabel?</think>Sorry, no.",
    }
    labels = [Knowledge(k, float(k)) for k in (True, False, False, True, True, False)]
    golds = [*GOLDS, ["Paris"], ["Paris"], ["Anna"]]
    rows, skipped = build_boundary_sft(list(written), golds, labels, lambda q, g, k: written[q])
    assert rows == [
        {"input": QUESTIONS[0], "output": written[QUESTIONS[0]], "known": True},
        {"input": "good", "output": written["good"], "known": False},
    ]
    assert skipped == {
        "an unknown question's trace mentions the answer": 1,
        "an unknown question's trace does not refuse": 1,
        "a known question's trace does not give the answer": 2,
    }


def test_what_a_language_model_is_asked() -> None:
    known, unknown = (writing_prompt("Where {gold} is?", "Paris {case}", k) for k in (True, False))
    assert "The model knows the answer: Paris {case}." in known
    assert "\\boxed{Paris {case}}" in known
    assert "Question: Where {gold} is?" in known
    assert "not to be mentioned: Paris {case}" in unknown
    assert REFUSAL in unknown
    assert written_by(lambda prompt: prompt[:5])("q", "g", True) == "Write"


def examples() -> list[Example]:
    made = [Example.ask(f"e{i}", q, g[0]) for i, (q, g) in enumerate(zip(QUESTIONS, GOLDS, strict=True))]
    made[1] = Example.ask("e1", QUESTIONS[1], "Anna", accepted_answers=("Anna", "Ann"))
    return made


def test_examples_get_labels_and_traces() -> None:
    part = BoundaryAware(SAMPLE, TemplateWriter(CANDIDATES))
    made = part.examples(examples(), 0)
    assert [(e.columns["known"], e.columns["hit_rate"]) for e in made] == [
        (True, 1.0),
        (True, 0.25),
        (False, 0.0),
    ]
    assert "\\boxed{Anna}" in made[1].columns["completion"]
    assert REFUSAL in made[2].columns["completion"]
    assert part.figures() == {
        "boundary/known": pytest.approx(2 / 3),
        "boundary/hit_rate": pytest.approx(5 / 12),
        "boundary/skipped": 0,
    }


def test_labels_that_are_there_are_kept() -> None:
    given = [Example.ask(f"e{i}", f"q{i}", c, known=i > 0) for i, c in enumerate(CANDIDATES)]
    made = BoundaryAware().examples(given, 0)  # candidates: the other answers
    assert [e.columns["hit_rate"] for e in made] == [0, 1, 1, 1, 1]
    with pytest.raises(InvalidValue, match=r"column 'known' of e1.*few_shot"):
        BoundaryAware().examples([given[0], Example.ask("e1", "q", "a")], 0)
    with pytest.raises(InvalidValue, match="reference of e9"):
        BoundaryAware(SAMPLE).examples([Example.ask("e9", "q")], 0)


def test_a_training_counts_what_it_leaves_out() -> None:
    part = BoundaryAware(SAMPLE, lambda q, g, k: f"<think>.</think>\\boxed{{{g}}}")
    assert [e.id for e in part.examples(examples(), 0)] == ["e0", "e1"]
    assert part.skipped == {"an unknown question's trace does not refuse": 1}
    part.update(rollouts([2, 2]))
    assert part.figures()["boundary/skipped"] == 1


def test_sampling_a_model_and_learning_its_traces(learner: Any) -> None:
    sample = few_shot(
        learner, [[], [Message("user", "Who?"), Message("assistant", "me")]], max_new_tokens=3, seed=1
    )
    first = sample(["a?", "b?"], 1, 3)
    assert [len(given) for given in first] == [3, 3]
    assert sample(["b?"], 1, 2)[0] == first[1][:2]  # more are drawn beside, and no question changes another's
    with pytest.raises(InvalidValue, match="at most 2"):
        sample(["a?"], 2, 1)
    part = BoundaryAware(sample, TemplateWriter(CANDIDATES), n_prompts=2, n_samples=1)
    run = train(learner, examples(), objective=Supervised(), data=part, steps=1, batch=2)
    assert run.history[0]["boundary/hit_rate"] == 0
