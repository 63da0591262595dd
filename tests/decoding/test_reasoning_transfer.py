"""Reasoning transfer: routes on scripted models, what is transferred, costs; and the real engine."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest

from dovetail.core import Completion, Cost, InvalidValue, Limits, Message, Model, Prompt, Unsupported
from dovetail.decoding import ReasoningTransfer, Sampling, chain, describe
from dovetail.decoding.entropy_minimization import EntropyMinimization
from dovetail.decoding.reasoning_transfer import reasoning_in, sentences, without_answer
from dovetail.engine import Engine
from dovetail.models.local import LocalModel
from dovetail.models.template import Template

THINK_END = 96
TEMPLATE = (
    "{% for m in messages %}{{ m.role[0] }}:{{ m.content }};{% endfor %}"
    "{% if add_generation_prompt %}a:{% if not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
    "{% endif %}"
)


class ScriptedEngine:
    """Answers by what the prompt ends with: shortly, in thought, or with a given reasoning."""

    provides = frozenset({"text", "logits"})
    think_end = THINK_END
    device = "cpu"

    def __init__(self, name, tokenizer, short, thought="", given=None, probability=0.99, context=128):
        self.name, self.tokenizer, self.template = name, tokenizer, Template(tokenizer, TEMPLATE)
        self.answers = {"short": short, "thought": thought, "given": short if given is None else given}
        self.probability = probability
        self.forward = SimpleNamespace(max_positions=context)
        self.asked: list[tuple[str, Prompt, Limits]] = []

    def generate(self, prompts, limits, step):
        return [self._one(p, limits) for p in prompts]

    def _one(self, prompt, limits):
        kind = "thought"
        if prompt.assistant_prefix:
            kind = "short" if prompt.assistant_prefix == "<think>\n\n</think>\n\n" else "given"
        self.asked.append((kind, prompt, limits))
        text = self.answers[kind]
        text = text(prompt) if callable(text) else text
        ids = tuple(self.tokenizer.encode(text, add_special_tokens=False))
        logprobs = (math.log(self.probability),) * len(ids)
        return Completion(text, ids, logprobs, Cost(len(prompt.ids), len(ids), float(len(ids)), 0.5))

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _, _ in self.asked]


class ScriptedModel(Model):
    def __init__(self, engine):
        self.engine, self.name, self.provides = engine, engine.name, engine.provides

    def prompt(self, messages, *, thinking=True, prefix="", seed=0):
        return self.engine.template.prompt(messages, thinking=thinking, prefix=prefix, seed=seed)

    def describe(self):
        return {}


@pytest.fixture
def pair(tiny_tokenizer):
    """``pair(large answer, small answer, ...)`` -> the two engines and a function that asks both."""

    def build(large_short, small_short, given=r"\boxed{9}", thought="<think>\n4+5=9\n</think>", **options):
        large = ScriptedEngine(
            "large",
            tiny_tokenizer,
            large_short,
            r"<think>own</think>\boxed{7}",
            given,
            options.pop("probability", 0.99),
            options.pop("context", 128),
        )
        small = ScriptedEngine("small", tiny_tokenizer, small_short, thought)
        prompt = large.template.prompt([Message("user", "q")], seed=5)
        method = ReasoningTransfer(ScriptedModel(small), **options)
        [completion] = method.generate(large, [prompt], Limits(20))
        return large, small, completion

    return build


def test_agreement_ends_it(pair):
    large, small, completion = pair(r"\boxed{ Yes}", r"so \boxed{yes}")
    assert completion.columns["route"] == "agree"
    assert completion.text == r"\boxed{ Yes}"
    assert (large.kinds, small.kinds) == (["short"], ["short"]), "nothing was reasoned"


@pytest.mark.parametrize("small_short", [r"\boxed{8}", "", "no box"])
def test_disagreement_transfers(pair, small_short):
    large, small, completion = pair(r"\boxed{7}", small_short)
    assert completion.columns["route"] == "transfer"
    assert completion.text == r"\boxed{9}"
    assert large.kinds == ["short", "given"]
    assert small.kinds == ["short", "thought"]
    assert completion.columns["reasoning"] == "4+5=9"


def test_two_missing_answers_are_no_agreement(pair):
    assert pair("", "")[2].columns["route"] == "transfer"


def test_the_large_model_reads_the_thought_as_its_own(pair):
    large, _, _ = pair(r"\boxed{7}", r"\boxed{8}")
    _, prompt, limits = large.asked[-1]
    assert prompt.text == "u:q;a:<think>\n4+5=9\n</think>\n\n".replace("\n", "!")  # "!" is the unknown token
    assert list(prompt.ids) == large.tokenizer.encode("u:q;a:<think>\n4+5=9\n</think>\n\n")
    assert limits.max_new_tokens == 20
    large, _, _ = pair(r"\boxed{7}", r"\boxed{8}", max_short=3)
    assert [a[2].max_new_tokens for a in large.asked] == [3, 3]


def test_quoted_it_stands_in_the_question(pair):
    large, _, _ = pair(r"\boxed{7}", r"\boxed{8}", place="quote")
    _, prompt, _ = large.asked[-1]
    assert prompt.messages[-1].content == "q\nReference reasoning (it may be wrong):\n4+5=9"
    assert prompt.assistant_prefix == "<think>\n\n</think>\n\n"


def test_costs_sum_over_both_models_and_all_stages(pair):
    large, small, completion = pair(r"\boxed{7}", r"\boxed{8}")
    asked = [*large.asked, *small.asked]
    assert completion.cost.tokens_read == sum(len(p.ids) for _, p, _ in asked)
    assert completion.columns["tokens_large"] == 9 + 9
    thought = len(small.tokenizer.encode("<think>\n4+5=9\n</think>"))
    assert completion.columns["tokens_small"] == 9 + thought
    assert completion.cost.tokens_written == 27 + thought
    assert completion.cost.seconds == 4 * 0.5
    assert completion.columns["seconds_parallel"] == 3 * 0.5
    assert set(completion.columns["seconds_by_stage"]) == {
        "large_short",
        "small_short",
        "small_reasoning",
        "transfer",
    }
    assert completion.logprobs is None, "not asked for"


def test_policies(pair):
    large, small, completion = pair(r"\boxed{7}", r"\boxed{7}", policy="always_transfer")
    assert (large.kinds, small.kinds) == (["given"], ["thought"])
    assert completion.columns["route"] == "transfer"
    large, small, completion = pair(r"\boxed{7}", r"\boxed{8}", policy="never_transfer")
    assert (large.kinds, small.kinds) == (["short"], [])
    assert (completion.text, completion.columns["route"]) == (r"\boxed{7}", "short")
    for probability, kinds in ((0.8, ["short", "given"]), (0.95, ["short"])):
        large, _, _ = pair(r"\boxed{7}", "", policy="confidence", threshold=0.9, probability=probability)
        assert large.kinds == kinds


def test_an_unsure_answer_after_the_transfer_is_thought_over(pair):
    large, _, completion = pair(r"\boxed{7}", r"\boxed{8}", own_reasoning_below=0.95, probability=0.9)
    assert large.kinds == ["short", "given", "thought"]
    assert completion.columns["route"] == "large_reason"
    assert completion.text == r"<think>own</think>\boxed{7}"
    assert large.asked[-1][1].text == "u:q;a:", "it thinks afresh, without what was transferred"
    assert pair(r"\boxed{7}", "", own_reasoning_below=0.95)[2].columns["route"] == "transfer"


def test_without_thinking_modes_a_request_is_made(tiny_tokenizer):
    plain = "{% for m in messages %}{{ m.content }};{% endfor %}"
    engine = ScriptedEngine("large", tiny_tokenizer, "x")
    engine.template = Template(tiny_tokenizer, plain)
    prompt = engine.template.prompt([Message("user", "q")])
    ReasoningTransfer("unused", policy="never_transfer").generate(engine, [prompt], Limits(5))
    assert engine.asked[0][1].messages[-1].content == "q\nGive only the final answer, in \\boxed{}."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("17+45=62\nSo the answer is 62.", "17+45=62"),
        ("1+1=2. The answer is 2. So \\boxed{2}.", "1+1=2."),
        ("1+1=2\n2+2=4", "1+1=2\n2+2=4"),
        ("The answer is 2.\nBut wait: 3.", "The answer is 2.\nBut wait: 3."),  # only the end is cut
        ("The answer is 2.", ""),
        ("", ""),
    ],
)
def test_the_final_statement_is_left_out(text, expected):
    assert without_answer(text) == expected


def test_selections():
    text = "One is 1.5 long.\nTwo? Three!\nThe answer is 4."
    assert "".join(sentences(text)) == text
    assert len(sentences(text)) == 4
    for select, expected in {
        "all": text,
        "no_answer": "One is 1.5 long.\nTwo? Three!",
        "last": "Three!\nThe answer is 4.",
    }.items():
        chosen = ReasoningTransfer("s", select=select, keep=2).selected(text)
        assert chosen == expected
        assert len(chosen) <= len(text)
    assert ReasoningTransfer("s", select=str.lower).selected("A") == "a"
    with pytest.raises(InvalidValue, match="select"):
        ReasoningTransfer("s", select=lambda t: t + "!").selected("A")


def test_reasoning_is_found():
    assert reasoning_in("<think>\na\nb\n</think>\n\nc") == "a\nb"
    assert reasoning_in("<think>\na\nb") == "a\nb"
    assert reasoning_in("a, so b") == "a, so b"


def test_a_long_reasoning_loses_its_beginning(pair):
    thought = "<think>\n" + "x" * 40 + "123\n</think>"
    # question 6, marks 2 + 4, a short answer of 14: 6 of 32 positions are left
    with pytest.warns(UserWarning, match="its last 6 are kept"):
        large, _, _ = pair("", "", thought=thought, context=32, max_short=14)
    prompt = large.asked[-1][1]
    assert prompt.text == "u:q;a:<think>!xxx123!</think>!!"  # "!" is the unknown token, here a line's end
    assert len(prompt.ids) + 14 == 32


def test_never_is_the_short_answer_and_an_empty_thought_too(tiny_engine):
    """On the real engine: token for token."""
    engine = Engine(
        tiny_engine.network, tiny_engine.tokenizer, template=Template(tiny_engine.tokenizer, TEMPLATE)
    )
    prompts = [
        engine.template.prompt([Message("user", q)], thinking=False, seed=i) for i, q in enumerate("abc")
    ]
    plain = [c.token_ids for c in engine.generate(prompts, Limits(10))]
    asked = [replace(engine.template.prompt([Message("user", q)]), seed=i) for i, q in enumerate("abc")]
    never = ReasoningTransfer("unused", policy="never_transfer").generate(engine, asked, Limits(10))
    assert [c.token_ids for c in never] == plain
    small = LocalModel(tiny_engine.network, tiny_engine.tokenizer, template=TEMPLATE)
    empty = ReasoningTransfer(small, policy="always_transfer", select=lambda text: "")
    assert [c.token_ids for c in empty.generate(engine, asked, Limits(10))] == plain


def test_the_same_model_twice_always_agrees_or_transfers_its_own_ids(tiny_engine, tiny_network):
    engine = Engine(
        tiny_engine.network, tiny_engine.tokenizer, template=Template(tiny_engine.tokenizer, TEMPLATE)
    )
    twin = LocalModel(tiny_engine.network, tiny_engine.tokenizer, template=TEMPLATE)
    prompts = [engine.template.prompt([Message("user", q)], seed=i) for i, q in enumerate("abcd")]
    method = ReasoningTransfer(twin, extract=lambda text: text)
    assert {c.columns["route"] for c in method.generate(engine, prompts, Limits(6))} == {"agree"}
    other = LocalModel(tiny_network("qwen3", seed=1).double(), tiny_engine.tokenizer, template=TEMPLATE)
    differ = replace(method, small=other, select="all").generate(engine, prompts, Limits(6))
    assert {c.columns["route"] for c in differ} == {"transfer"}
    assert all(len(c.token_ids) <= 6 for c in differ)


def test_written_ids_are_handed_on_where_the_tokenizer_is_shared(tiny_tokenizer):
    """A thought that its text would not give back: two tokens that the tokenizer would join."""
    large = ScriptedEngine("large", tiny_tokenizer, "", given="x")
    small = ScriptedEngine("small", tiny_tokenizer, "", "<think>ab</think>")
    odd = (95, 77, 78, THINK_END)
    small._one = lambda prompt, limits: Completion("<think>ab</think>", odd, (0.0,) * 4)  # type: ignore[method-assign]
    prompt = large.template.prompt([Message("user", "q")])
    for select, kept in (("all", True), ("no_answer", True), (lambda t: t[:1], False)):
        method = ReasoningTransfer(ScriptedModel(small), policy="always_transfer", select=select)
        method.generate(large, [prompt], Limits(5))
        ids = large.asked[-1][1].ids
        assert (odd in zip(*(ids[i:] for i in range(4)), strict=False)) == kept


def test_modifiers_reach_both_models(tiny_engine):
    stacked = chain([EntropyMinimization(), ReasoningTransfer("pico-draft", inner=Sampling())])
    assert describe(stacked)["inner"]["class"] == "Chain"
    assert describe(stacked)["small"] == "pico-draft"


def test_a_remote_model_is_refused(tiny_engine, tiny_tokenizer):
    small = ScriptedModel(ScriptedEngine("far", tiny_tokenizer, "x"))
    small.provides = frozenset({"text"})
    prompt = Prompt((Message("user", "q"),), "q", (1,))
    with pytest.raises(Unsupported, match=r"small: far does not give logits"):
        ReasoningTransfer(small).generate(tiny_engine, [prompt], Limits(4))


def test_a_model_without_thinking_marks_must_be_quoted_to(tiny_tokenizer):
    large = ScriptedEngine("large", tiny_tokenizer, "x")
    large.think_end = None
    small = ScriptedModel(ScriptedEngine("small", tiny_tokenizer, "y", "z"))
    prompt = large.template.prompt([Message("user", "q")])
    with pytest.raises(Unsupported, match='place="quote"'):
        ReasoningTransfer(small).generate(large, [prompt], Limits(4))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"small": ""}, "small is ''"),
        ({"small": None}, "small is None"),
        ({"policy": "sometimes"}, "policy is 'sometimes'"),
        ({"select": "first"}, "select is 'first'"),
        ({"place": "system"}, "place is 'system'"),
        ({"keep": 0}, "keep is 0"),
        ({"max_short": 0}, "max_short is 0"),
        ({"threshold": 1.1}, "threshold is 1.1"),
        ({"own_reasoning_below": -1.0}, "own_reasoning_below is -1.0"),
    ],
)
def test_bad_parameters_are_named(parameters, message):
    with pytest.raises(InvalidValue, match=message):
        ReasoningTransfer(**({"small": "pico-draft"} | parameters))
