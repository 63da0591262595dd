"""Pico's making: the corpus is right, the tokenizer loses nothing, training repeats itself."""

import random
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from dovetail.tasks.atlas import World, every_name
from dovetail.training.pico import corpus, evaluate, tokenizer, train

EMBEDDED = Path(train.__file__).parents[2] / "models" / "embedded"


@pytest.fixture(scope="module")
def tok():
    return tokenizer.build()


# --- corpus


@pytest.mark.parametrize("family", ["chain-sum", "arithmetic", "word-problem"])
@pytest.mark.parametrize("style", corpus.STYLES)
def test_every_written_equation_holds_and_ends_in_the_answer(family, style):
    rng = random.Random(1)
    for _ in range(50):
        made = corpus.problem(rng, family, style, World(0))
        # a terse sum chains its totals: "17+45=62-23=39"
        equations = re.findall(r"(?=(?<![\d=-])(-?\d+[-+*/]\d+=-?\d+))", made.reasoning)
        chained = re.findall(r"(?<==)(-?\d+)(?=([-+]\d+)=(-?\d+))", made.reasoning)
        assert equations
        for equation in equations + [f"{a}{step}={b}" for a, step, b in chained]:
            left, right = equation.split("=")
            assert evaluate._value(left) == int(right), made
        assert re.findall(r"-?\d+", made.reasoning.rsplit("=", 1)[1])[0] == made.answer


@pytest.mark.parametrize("style", corpus.STYLES)
def test_countdown_solves_its_problem_unless_it_gives_up(style):
    rng = random.Random(2)
    gave_up = 0
    for _ in range(300):
        made = corpus.countdown(rng, style)
        if "I give up." in made.reasoning:
            gave_up += 1
            assert made.reasoning.count("\n") == 8
            assert not evaluate.solves(made.answer, made)
        else:
            assert evaluate.solves(made.answer, made), made
    assert 1 <= gave_up <= 45


def test_the_second_lessons_searches_come_nearer_and_nearer():
    documents = corpus.documents(0, 400, corpus.SECOND)
    searches = [d for d in documents if d.family == "countdown" and " no\n" in d.completion]
    assert len(searches) > 20
    for document in searches:
        target = int(re.search(r"(?:equals|make|Calculate) (\d+)", document.messages[-1]["content"])[1])
        values = [int(v) for v in re.findall(r"=(\d+) (?:no|yes)", document.completion)]
        misses = [abs(value - target) for value in values]
        assert misses == sorted(misses, reverse=True)


def test_countdown_expressions_need_no_more_parentheses_than_they_have():
    for attempt in corpus._attempts([8, 3, 2]):
        assert evaluate._value(attempt.expression) == attempt.value, attempt


def test_a_logic_answer_follows_from_its_rules():
    rng = random.Random(3)
    for _ in range(200):
        made = corpus.logic(rng, "stepwise")
        known = {re.search(r"(\w) is true\. Is", made.question)[1]: True}
        asked = re.search(r"Is (\w) true", made.question)[1]
        rules = re.findall(r"If (\w) then (not )?(\w)", made.question)
        for _ in rules:
            known |= {b: not no for a, no, b in rules if known.get(a)}
        assert {True: "yes", False: "no", None: "unknown"}[known.get(asked)] == made.answer, made


def test_hops_are_written_in_order_and_end_in_the_answer():
    rng = random.Random(4)
    for _ in range(100):
        made = corpus.atlas_multihop(rng, "stepwise")
        lines = made.reasoning.split("\n")
        if made.answer != "I don't know":
            assert lines[-1].endswith(f"is {made.answer}.")
        for before, after in pairwise(lines):
            assert before.rstrip(".").split()[-1] in after.rstrip(".").split()


def test_no_held_out_question_is_in_the_corpus():
    asked = [d for d in corpus.documents(0, 3000) if d.family in ("countdown", "chain-sum", "atlas-multihop")]
    questions = [d.messages[-1]["content"] for d in asked]
    # an instruction may follow the question; the held-out rule is about the question itself
    bare = [q for q in questions if not q.rstrip().endswith(corpus.INSTRUCTIONS)]
    assert len(bare) > 1500
    assert not any(corpus.held_out(q) for q in bare)


def test_documents_repeat_and_vary():
    first = list(corpus.documents(0, 400))
    assert first == list(corpus.documents(0, 400))
    assert first != list(corpus.documents(1, 400))
    assert {d.family for d in first} == set(corpus.FIRST.mixture)
    assert all("\\boxed{" in d.completion for d in first)
    assert all(("<think>\n" in d.completion) == d.thinking for d in first)


def test_asked_to_answer_twice_it_answers_thinks_and_answers_again():
    twice = [d for d in corpus.documents(0, 2000) if d.messages[0]["content"] == corpus.TWICE_PROMPT]
    assert 50 < len(twice) < 200
    for document in twice:
        first, rest = document.completion.split("\n", 1)
        assert rest.startswith("<think>\n")
        assert first in rest.split("</think>\n\n")[1]


# --- tokenizer


@pytest.mark.parametrize(
    "text",
    [
        "17+45=62",
        "héllo, 中文 🙂\t \x00\r\n\n  end ",
        "<think>\nx\n</think>\n\n\\boxed{-12}",
        " 1000 Kalo's",
        "",
    ],
)
def test_any_text_round_trips(tok, text):
    assert tok.decode(tok.encode(text)) == text


def test_digits_names_and_markers_are_the_tokens_they_should_be(tok):
    assert len(tok.encode("1234567890")) == 10
    assert all(len(tok.encode(lead + name)) == 2 for name in every_name() for lead in ("", " "))
    for marker in (*tokenizer.SPECIAL_TOKENS, *tokenizer.MARKER_TOKENS):
        assert len(tok.encode(marker)) == 1
    assert tok.eos_token == "<|im_end|>"
    assert (
        tok.decode(tok.encode("<think>a</think><|im_end|>"), skip_special_tokens=True) == "<think>a</think>"
    )


def _chat(tok, messages, **options):
    return tok.apply_chat_template(messages, tokenize=False, **options)


def test_template_is_qwen3s(tok):
    user = {"role": "user", "content": "q"}
    asked = "<|im_start|>user\nq<|im_end|>\n"
    opened = f"{asked}<|im_start|>assistant\n"
    assert _chat(tok, [user], add_generation_prompt=True) == opened
    assert _chat(tok, [user], add_generation_prompt=True, enable_thinking=True) == opened
    closed = _chat(tok, [user], add_generation_prompt=True, enable_thinking=False)
    assert closed == f"{opened}<think>\n\n</think>\n\n"
    system = {"role": "system", "content": "s"}
    assert _chat(tok, [system, user]) == f"<|im_start|>system\ns<|im_end|>\n{asked}"
    thought = {"role": "assistant", "content": "<think>\nlong\n</think>\n\na"}
    kept = f"{asked}<|im_start|>assistant\n<think>\nlong\n</think>\n\na<|im_end|>\n"
    assert _chat(tok, [user, thought]) == kept
    stripped = f"{asked}<|im_start|>assistant\na<|im_end|>\n{opened}"
    assert _chat(tok, [user, thought, user], add_generation_prompt=True) == stripped


def test_training_sees_what_the_template_writes(tok):
    for document in corpus.documents(5, 150):
        messages, options = list(document.messages), {"enable_thinking": document.thinking}
        written = _chat(tok, messages, add_generation_prompt=True, **options)
        assert train.prompt_text(document) == written


# --- training

TINY = train.Shape(layers=1, width=32, heads=2, key_value_heads=1, head_width=16, mlp_width=32)
SHORT = train.Schedule(steps=4, documents_per_step=8, micro_batches=2, warmup=1)


def _weights(folder):
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


def test_a_resumed_run_equals_an_undisturbed_one(tmp_path):
    options = {"shape": TINY, "workers": 1, "checkpoint_every": 2, "report": lambda line: None}
    train.train(tmp_path / "whole", schedule=SHORT, **options)

    def stop(line):  # stands for a kill between the checkpoint of step 2 and the end
        raise KeyboardInterrupt

    interrupted = {**options, "export_every": 2, "evaluate": lambda model, tok: stop("")}
    with pytest.raises(KeyboardInterrupt):
        train.train(tmp_path / "cut", schedule=SHORT, **interrupted)
    train.train(tmp_path / "cut", schedule=SHORT, **options)
    whole, cut = _weights(tmp_path / "whole"), _weights(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_the_second_lesson_goes_on_from_the_first(tmp_path, monkeypatch):
    tiny = train.Shape(layers=1, width=32, heads=1, key_value_heads=1, head_width=32, mlp_width=32)
    short = train.Schedule(steps=2, documents_per_step=16, micro_batches=2, warmup=1)
    still = train.Schedule(steps=1, documents_per_step=16, micro_batches=2, muon_rate=0.0, adam_rate=0.0)
    monkeypatch.setattr(train, "PICO", tiny)
    monkeypatch.setattr(train, "PICO_SCHEDULES", (short, still))
    out = train.train_pico(tmp_path / "model", workers=1, report=lambda line: None)
    first, last = (
        AutoModelForCausalLM.from_pretrained(f).state_dict() for f in (tmp_path / "model.work/first", out)
    )
    assert all(torch.equal(first[name], last[name]) for name in last)


def test_micro_batches_deal_every_document_once_and_resume_in_place(tok):
    schedule = train.Schedule(steps=32, documents_per_step=8, micro_batches=2)
    documents = train.build_corpus(tok, 0, 256)
    steps = list(train.micro_batches(documents, schedule, seed=0))
    assert sorted(np.concatenate([rows for step in steps for rows in step])) == list(range(256))
    late = list(train.micro_batches(documents, schedule, seed=0, start=19))
    assert len(late) == 13
    assert all(
        np.array_equal(a, b) for s, t in zip(steps[19:], late, strict=True) for a, b in zip(s, t, strict=True)
    )


def test_only_the_assistants_turn_is_learned(tok):
    documents = train.build_corpus(tok, 0, 8)
    ids, labels = documents.batch(np.arange(8))
    for row in range(8):
        learned = labels[row][labels[row] != -100]
        text = tok.decode(learned)
        assert text.endswith("<|im_end|>")
        assert "<|im_start|>" not in text
        # labels are the ids one place on
        where = (labels[row] != -100).nonzero()[:, 0]
        assert torch.equal(learned[:-1], ids[row][where[:-1] + 1])


def test_schedule_rises_stays_and_falls():
    schedule = train.Schedule(steps=100, warmup=10, decay=0.3)
    rates = [schedule.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10:70] == [1.0] * 60
    assert rates[-1] == pytest.approx(1 / 30)


# --- the embedded models


@pytest.mark.parametrize("name", ["pico", "pico-draft"])
def test_embedded_folders_load_without_dovetail_and_answer(name, tok):
    folder = EMBEDDED / name
    model, loaded = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert type(model).__name__ == "Qwen3ForCausalLM"
    assert model.dtype == torch.float32
    assert (folder / "model.safetensors").stat().st_size < 6e6
    assert loaded.get_vocab() == tok.get_vocab()
    assert loaded.chat_template == tokenizer.chat_template()
    assert model.generation_config.eos_token_id == loaded.eos_token_id


def test_embedded_pico_solves_easy_sums():
    folder = EMBEDDED / "pico"
    model, loaded = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    rng = random.Random(0)
    problems = [corpus.chain_sum(rng, "stepwise", (2, 3), (1, 1)) for _ in range(16)]
    texts = evaluate.answer(model, loaded, [p.question for p in problems], max_new_tokens=120)
    right = sum(evaluate.solves(evaluate.boxed(t), p) for t, p in zip(texts, problems, strict=True))
    assert right >= 12
