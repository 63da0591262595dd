"""Answer, think, answer again: parsing, confidence by hand, and the gate on scripted rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
import torch

from dovetail.core import InvalidValue, Limits, Message, Prompt, Unsupported
from dovetail.decoding import Greedy, ThinkOnceAnswerTwice, chain, describe
from dovetail.decoding.answer_twice import FALLBACK, INSTRUCTIONS, first_answer_confidence, parse_twice
from dovetail.decoding.asking import begin_turn, render, with_instruction
from dovetail.decoding.base import StepwiseDecoding
from dovetail.decoding.entropy_minimization import EntropyMinimization
from dovetail.engine import Engine
from dovetail.models.template import Template

END = 94  # <eos> of the tiny tokenizer
TEMPLATE = (
    "{% for m in messages %}{{ m.role[0] }}:{{ m.content }};{% endfor %}"
    "{% if add_generation_prompt %}a:{% if not enable_thinking %}<think></think>{% endif %}{% endif %}"
)


@dataclass(frozen=True)
class Scripted(StepwiseDecoding):
    """Writes texts by the row's seed; every token of them has the given probability, so greedy takes it."""

    ids: tuple[tuple[int, tuple[int, ...]], ...]
    probability: tuple[tuple[int, float], ...]

    def adjust(self, logits, rows):
        out = torch.empty_like(logits)
        for row, (seed, at) in enumerate(zip(rows.seeds.tolist(), rows.step.tolist(), strict=True)):
            token, p = dict(self.ids)[seed][at], dict(self.probability)[seed]
            out[row] = math.log((1 - p) / (logits.shape[1] - 1))
            out[row, token] = math.log(p)
        return out


def scripted(engine, texts: list[str], probabilities: list[float]):
    """Prompts and the decoding that writes ``texts`` to them."""
    ids = [(*engine.tokenizer.encode(t, add_special_tokens=False), *[END] * 200) for t in texts]
    prompts = [Prompt((Message("user", "q"),), "q", (5 + i,), i) for i in range(len(texts))]
    inner = Scripted(tuple(enumerate(ids)), tuple(enumerate(probabilities)))
    return prompts, inner


LONG = r"\boxed{7}<think>3+4=8</think>\boxed{8}"


def write(engine, texts, probabilities, limits=None, **options):
    prompts, inner = scripted(engine, texts, probabilities)
    method = ThinkOnceAnswerTwice(instruction="none", inner=inner, **options)
    return method.generate(engine, prompts, limits or Limits(60))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\boxed{1}<think>x</think>\boxed{2}", ("1", "x", "2", True)),
        (" \\boxed{1}\n<think>\nx\n</think>\n\n\\boxed{2} ", ("1", "x", "2", True)),
        (r"\boxed{\frac{1}{2}}<think>x</think>\boxed{b}", (r"\frac{1}{2}", "x", "b", True)),
        (
            r"\boxed{1}<think> </think>\boxed{2}",
            ("1", "", "2", True),
        ),  # blank: the official rule lets it pass
        (r"\boxed{1}<think>x</think>\boxed{2}.", ("1", "x", "2", False)),  # text behind
        (r"\boxed{1}\boxed{3}<think>x</think>\boxed{2}", ("", "x", "2", False)),  # two first boxes
        (r"\boxed{1}<think>x</think>\boxed{2}\boxed{2}", ("1", "x", "", False)),
        (r"\boxed{1}<think>x</think><think>y</think>\boxed{2}", ("1", "x", "2", False)),
        (r"<think>x</think>\boxed{2}", ("", "x", "2", False)),
        (r"\boxed{1}<think>never ends \boxed{2}", ("1", r"never ends \boxed{2}", "", False)),
        (r"\boxed{1}", ("1", "", "1", False)),
        ("", ("", "", "", False)),
    ],
)
def test_parsing(text, expected):
    assert parse_twice(text) == expected


def confidence(tokenizer, text, **by_character):
    """Every token has probability 1/2, those of the given characters another."""
    ids = tokenizer.encode(text, add_special_tokens=False)
    names = tokenizer.convert_ids_to_tokens(ids)
    return first_answer_confidence(ids, [math.log(by_character.get(n, 0.5)) for n in names], tokenizer)


def test_confidence_by_hand(tiny_tokenizer):
    # only what stands inside counts: the geometric mean of 0.9 and 0.4
    value = confidence(tiny_tokenizer, r"\boxed{AZ}<think>", A=0.9, Z=0.4)
    assert value == pytest.approx(math.sqrt(0.9 * 0.4))
    assert confidence(tiny_tokenizer, r"Z\boxed{A}Z", A=0.9, Z=0.1) == pytest.approx(0.9)
    assert confidence(tiny_tokenizer, r"\boxed{{A}}", A=0.8, **{"{": 0.5, "}": 0.5}) == pytest.approx(
        (0.8 * 0.25) ** (1 / 3)
    )


def test_of_an_option_only_the_letter_counts():
    tokenizer = Words()
    assert confidence(tokenizer, r"\boxed{ B. Q }", B=0.9, Q=0.1) == pytest.approx(0.9)
    assert confidence(tokenizer, r"\boxed{(B) Q}", B=0.9, Q=0.1) == pytest.approx(0.9)
    assert confidence(tokenizer, r"\boxed{B.}", B=0.9) == pytest.approx(math.sqrt(0.45))


class Words:
    """A tokenizer of single characters that knows spaces, as the tiny one does not."""

    def encode(self, text, add_special_tokens=False):
        return [ord(c) for c in text]

    def decode(self, ids, skip_special_tokens=False):
        return "".join(map(chr, ids))

    def convert_ids_to_tokens(self, ids):
        return [chr(i) for i in ids]


def test_a_token_across_the_brace_counts():
    class Merged(Words):
        def decode(self, ids, skip_special_tokens=False):
            return "".join("{4" if i == 1 else chr(i) for i in ids)

    ids = [*map(ord, "\\boxed"), 1, ord("2"), ord("}")]
    logprobs = [math.log(p) for p in [0.01] * 6 + [0.6, 0.9, 0.01]]
    assert first_answer_confidence(ids, logprobs, Merged()) == pytest.approx(math.sqrt(0.54))


@pytest.mark.parametrize(
    "text",
    [
        "no box at all",
        r"\boxed{}",
        r"\boxed{  }",
        rf"\boxed{{{FALLBACK} the problem step by step.}}",
        r"<think>a</think>\boxed{5}",
        r"\boxed{5",
    ],
)
def test_nothing_to_measure_means_think(text):
    assert confidence(Words(), text) == -1


def test_missing_logprobs_warn():
    with pytest.warns(UserWarning, match="missing"):
        assert first_answer_confidence(Words().encode(r"\boxed{5}"), [-0.1] * 7, Words()) == -1


def test_the_gate_ends_confident_rows_only(tiny_engine):
    sure, unsure, never = write(
        tiny_engine, [LONG, LONG, "<think>3+4=7</think>" + LONG], [0.99, 0.9, 0.99], threshold=0.97
    )
    assert sure.text == r"\boxed{7}"
    assert sure.finish_reason == "stop"
    assert len(sure.token_ids) == sure.cost.tokens_written == 9
    assert sure.columns == {
        "confidence": pytest.approx(0.99, abs=1e-6),
        "thought": False,
        "first_tokens": 9,
        "first": "7",
        "second": None,
    }
    assert unsure.text == LONG
    assert unsure.columns["confidence"] == pytest.approx(0.9, abs=1e-6)
    assert (unsure.columns["first"], unsure.columns["second"]) == ("7", "8")
    assert unsure.columns["thought"]
    assert never.columns["confidence"] == -1
    assert never.columns["thought"]


def test_rows_go_on_from_their_own_ids(tiny_engine, tiny_prompts):
    """A row that thinks writes what it would have written without the gate, whoever left beside it."""
    texts = [LONG, r"\boxed{12}<think>...</think>\boxed{13}", LONG, r"\boxed{9}"]
    prompts, inner = scripted(tiny_engine, texts, [0.99, 0.5, 0.6, 0.99])
    gated = ThinkOnceAnswerTwice(instruction="none", inner=inner).generate(tiny_engine, prompts, Limits(60))
    alone = tiny_engine.generate(prompts, Limits(60), inner)
    for i in (1, 2):
        assert gated[i].token_ids == alone[i].token_ids
    for i in (0, 3):
        assert gated[i].token_ids == alone[i].token_ids[: len(gated[i].token_ids)]
    # and on a random network, where nothing is ever boxed, the gate changes no token
    prompts = tiny_prompts(5)
    method = ThinkOnceAnswerTwice(instruction="none")
    free = method.generate(tiny_engine, prompts, Limits(20))
    assert [c.token_ids for c in free] == [
        c.token_ids for c in Greedy().generate(tiny_engine, prompts, Limits(20))
    ]
    assert all(c.columns["confidence"] == -1 and c.columns["thought"] for c in free)


def test_modes_and_extreme_thresholds(tiny_engine):
    texts = [LONG, LONG, rf"\boxed{{{FALLBACK.replace(' ', '!')}}}<think>x</think>\boxed{{8}}"]
    probabilities = [0.99, 0.3, 0.99]

    def thought(**options):
        return [c.columns["thought"] for c in write(tiny_engine, texts, probabilities, **options)]

    assert thought(mode="first") == [False, False, False]
    assert thought(mode="second") == [True, True, True]
    assert thought(threshold=math.inf) == [True, True, True]
    assert thought(threshold=0.0)[:2] == [False, False]
    rates = [sum(thought(threshold=t)) for t in (0.0, 0.2, 0.5, 0.97, 0.999, math.inf)]
    assert rates == sorted(rates)
    assert rates[0] < rates[-1]


def test_the_fallback_sentence_always_thinks():
    method = ThinkOnceAnswerTwice(threshold=0.0)
    assert not method.answers_at_once(-1.0)
    assert method.answers_at_once(0.0)
    assert ThinkOnceAnswerTwice(mode="first").answers_at_once(-1.0)
    assert not ThinkOnceAnswerTwice(mode="second", threshold=0.0).answers_at_once(1.0)


def test_an_answer_that_comes_too_late_is_not_measured(tiny_engine):
    text = "xxxxxx" + LONG
    assert not write(tiny_engine, [text], [0.99], max_first_tokens=15)[0].columns["thought"]
    late = write(tiny_engine, [text], [0.99], max_first_tokens=14)[0]
    assert late.columns["thought"]
    assert late.columns["confidence"] == -1


def test_limits_cut_the_second_answer(tiny_engine):
    cut = write(tiny_engine, [LONG], [0.5], Limits(14))[0]
    assert cut.finish_reason == "length"
    assert len(cut.token_ids) == 14
    assert cut.columns["second"] == ""


def test_the_inner_decoding_is_asked(tiny_engine, tiny_prompts):
    prompts = tiny_prompts(3)
    stacked = chain([EntropyMinimization(), ThinkOnceAnswerTwice(instruction="none")])
    assert describe(stacked)["inner"]["class"] == "Chain"
    assert len(stacked.generate(tiny_engine, prompts, Limits(6))) == 3


def with_template(tiny_engine) -> Engine:
    template = Template(tiny_engine.tokenizer, TEMPLATE)
    return Engine(tiny_engine.network, tiny_engine.tokenizer, template=template)


def test_the_instruction_becomes_the_system_message(tiny_engine):
    engine = with_template(tiny_engine)
    for thinking in (True, False):  # in either mode the turn begins with the box
        prompt = engine.template.prompt([Message("user", "q")], thinking=thinking, seed=7)
        asked = ThinkOnceAnswerTwice(instruction="Twice!")._asked(engine, prompt)
        assert asked.text == "s:Twice!;u:q;a:"
        assert list(asked.ids) == engine.tokenizer.encode(asked.text)
        assert (asked.seed, asked.assistant_prefix) == (7, "")
        plain = ThinkOnceAnswerTwice(instruction="none")._asked(engine, prompt)
        assert plain.text == "u:q;a:"
        assert list(plain.ids) == engine.tokenizer.encode(plain.text)
    own = engine.template.prompt([Message("system", "Be_kind."), Message("user", "q")])
    assert "Be_kind." in ThinkOnceAnswerTwice(instruction="pico")._asked(engine, own).messages[0].content
    named = ThinkOnceAnswerTwice(instruction="pico")._asked(engine, own).messages[0].content
    assert named.startswith(INSTRUCTIONS["pico"])


def test_pico_is_asked_as_it_was_trained():
    from dovetail.training.pico.corpus import TWICE_PROMPT

    assert INSTRUCTIONS["pico"] == TWICE_PROMPT


def test_asking_anew(tiny_engine):
    engine = with_template(tiny_engine)
    prompt = engine.template.prompt([Message("user", "q")], thinking=True, seed=3)
    closed = render(engine, prompt, thinking=False)
    assert closed.text == "u:q;a:<think></think>"
    assert closed.assistant_prefix == "<think></think>"
    assert closed.seed == 3
    given = begin_turn(engine, closed, "<think>x</think>")
    assert given.text == "u:q;a:<think>x</think>"
    assert list(given.ids) == engine.tokenizer.encode(given.text)
    assert given.assistant_prefix == "<think>x</think>"
    assert begin_turn(engine, replace(prompt, text="", ids=(1, 2))).ids == (1, 2)
    assert with_instruction((), "I")[0].role == "system"
    with pytest.raises(Unsupported, match="messages"):
        render(engine, replace(prompt, messages=()))
    # an engine that stands alone takes its tokenizer's template
    assert render(tiny_engine, prompt).text == "q\n\n"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"threshold": -0.1}, "threshold is -0.1"),
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"threshold": math.nan}, "threshold is nan"),
        ({"mode": "both"}, "mode is 'both'"),
        ({"max_first_tokens": 0}, "max_first_tokens is 0"),
    ],
)
def test_bad_parameters_are_named(parameters, message):
    with pytest.raises(InvalidValue, match=message):
        ThinkOnceAnswerTwice(**parameters)


def test_defaults_are_the_papers():
    assert describe(ThinkOnceAnswerTwice()) == {
        "class": "ThinkOnceAnswerTwice",
        "threshold": 0.97,
        "mode": "auto",
        "instruction": "paper",
        "max_first_tokens": 256,
        "inner": {"class": "Greedy"},
    }
