"""Lines of text become arms, or errors that say what was wrong with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from comparison_fakes import NeedsMore
from hypothesis import given
from hypothesis import strategies as st

from dovetail.comparison.arms import known, name_of, parse, resolve
from dovetail.core import InvalidValue, UnknownName, Unsupported
from dovetail.decoding import Greedy, Sampling, SelfConsistency, SoftThinking
from dovetail.decoding.base import Chain, StepwiseDecoding


def test_a_name_alone_has_the_defaults() -> None:
    arm = parse("soft-thinking")
    assert arm.decoding == SoftThinking()
    assert (arm.label, arm.thinking, arm.prompting, arm.named) == ("soft-thinking", None, None, False)


def test_parameters_take_the_types_of_their_fields() -> None:
    assert parse("sampling:temperature=0.6,top_k=20").decoding == Sampling(temperature=0.6, top_k=20)
    assert parse("sampling:temperature=1e+0").decoding == Sampling(temperature=1.0)
    soft = parse("soft-thinking:noise=gumbel,abort_answer=false,max_topk=5").decoding
    assert soft == SoftThinking(noise="gumbel", abort_answer=False, max_topk=5)
    assert parse("soft-thinking:noise=none").decoding == SoftThinking()


def test_a_method_within_a_method() -> None:
    voted = parse("self-consistency:n=3,inner=(sampling:temperature=0.7,top_p=0.9)").decoding
    assert voted == SelfConsistency(n=3, inner=Sampling(temperature=0.7, top_p=0.9))


def test_thinking_belongs_to_the_question() -> None:
    arm = parse("sampling:thinking=false,temperature=0.5")
    assert arm.thinking is False
    assert arm.decoding == Sampling(temperature=0.5)
    assert "no thinking" in arm.description
    assert parse("em:thinking=false+sampling").thinking is False
    assert parse("em+sampling:thinking=false").thinking is False


def test_a_label_of_ones_own() -> None:
    arm = parse("cold=sampling:temperature=0.3")
    assert (arm.label, arm.decoding, arm.named) == ("cold", Sampling(temperature=0.3), True)
    assert "sampling:temperature=0.3" in arm.description


@dataclass(frozen=True)
class Says(StepwiseDecoding):
    """Has fields of other kinds than the methods that are there."""

    text: str = "one"
    table: Any = None
    knowledge: object = None


@dataclass(frozen=True)
class Knowledge:
    weights: object = field(default_factory=lambda: np.zeros(2))
    more: tuple = ()


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    import types

    import dovetail.decoding as decoding

    module = types.ModuleType("dovetail.decoding.says")
    module.Says = Says  # type: ignore[attr-defined]
    monkeypatch.setattr(Says, "__module__", module.__name__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(decoding.NAMES, "says", ("says", "Says"))


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("says:text=Think,  then answer", "Think,  then answer"),
        ("says:text= a ,b, c ,table=3", "a ,b, c"),
        ("says:text='Let x=1, y=2 + z'", "Let x=1, y=2 + z"),
        ('says:text="a)",table=3', "a)"),
        ("says:text=don't, say 'no'", "don't, say 'no'"),
        ("says:text='only one", "'only one"),
        ("says:text=''", ""),
    ],
)
def test_texts_keep_their_spaces_commas_and_marks(says: None, spec: str, text: str) -> None:
    assert parse(spec).decoding.text == text
    assert parse(f"{spec}+sampling").decoding.parts[0].text == text
    assert parse(name_of(Says(text))).decoding == Says(text)


def test_arrays_deep_within_a_method_are_named_and_told_apart(says: None) -> None:
    """Arrays have no truth value, and their repr leaves out what is in the middle."""
    one, other = np.zeros(5000), np.zeros(5000)
    other[2500] = 1
    methods = [Says(knowledge=Knowledge(a, (a, {"b": a}))) for a in (one, other)]
    assert name_of(methods[0]) == (
        "says:knowledge=(Knowledge:weights=<5000 float64>,more=[<5000 float64>,{b: <5000 float64>}])"
    )
    first, second = (resolve([m])[0].settings() for m in methods)
    assert first != second
    assert first == resolve([Says(knowledge=Knowledge(one.copy(), (one, {"b": one})))])[0].settings()
    assert name_of(Says(knowledge=Knowledge())) == "says:knowledge=(Knowledge)"
    assert name_of(Says(table=torch.ones(2, 3))) == "says:table=<2x3 torch.float32>"


def test_functions_are_recorded_without_their_address(says: None) -> None:
    recorded = resolve([Says(table=test_a_name_alone_has_the_defaults)])[0].settings()["decoding"]["table"]
    assert recorded == f"{__name__}.test_a_name_alone_has_the_defaults"


@pytest.fixture
def shift(monkeypatch: pytest.MonkeyPatch) -> type:
    """A modifier under the name `shift` in the decoding table."""
    import sys
    import types

    import dovetail.decoding as decoding

    @dataclass(frozen=True)
    class Shift(StepwiseDecoding):
        """Shifts the logits."""

        by: tuple[float, ...] = (1.0,)
        must: int | None = None

    module = types.ModuleType("dovetail.decoding.shift")
    Shift.__module__ = module.__name__
    module.Shift = Shift  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(decoding.NAMES, "shift", ("shift", "Shift"))
    return Shift


def test_stacks_pass_through_chain(shift: type) -> None:
    arm = parse("shift:by=1,2.5+sampling:temperature=0.5")
    assert isinstance(arm.decoding, Chain)
    assert arm.decoding.parts == (shift(by=(1.0, 2.5)), Sampling(temperature=0.5))
    assert parse("shift:by=[3,4],must=7+self-consistency:n=2").decoding == SelfConsistency(
        n=2, inner=Chain((shift(by=(3.0, 4.0), must=7), Sampling()))
    )


def test_two_that_choose_cannot_be_stacked() -> None:
    with pytest.raises(Unsupported, match="Sampling and SoftThinking both choose"):
        parse("sampling+soft-thinking")


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        ("gredy", UnknownName, "did you mean greedy"),
        ("zzz", UnknownName, "known: .*greedy, .*soft-thinking, "),
        ("", InvalidValue, "name:key=value"),
        ("greedy+", InvalidValue, "name:key=value"),
        (
            "sampling:temprature=0.6",
            UnknownName,
            "parameter of sampling 'temprature': did you mean temperature",
        ),
        ("sampling:temperature=warm", InvalidValue, "sampling:temperature is 'warm': must be a number"),
        (
            "sampling:temperature=-1",
            InvalidValue,
            r"sampling:temperature is -1.0: must be a finite number >= 0",
        ),
        ("sampling:top_k=2.5", InvalidValue, "sampling:top_k is '2.5': must be an integer"),
        ("sampling:top_k=1,top_k=2", InvalidValue, "given once"),
        ("sampling:0.6", InvalidValue, "key=value"),
        ("greedy:thinking=maybe", InvalidValue, "greedy:thinking is 'maybe': must be true or false"),
        ("soft-thinking:noise=pink", InvalidValue, "must be gumbel or dirichlet or none"),
        ("self-consistency:inner=smpling", UnknownName, "did you mean sampling"),
    ],
)
def test_errors_name_the_field_and_the_way_out(spec: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        parse(spec)


def test_arms_keep_their_order_and_labels() -> None:
    arms = resolve(["greedy", Sampling(temperature=0.5), "b=greedy"])
    assert [a.label for a in arms] == ["greedy", "sampling:temperature=0.5", "b"]
    named = resolve({"x": "greedy", "y": [Greedy()], "z": Sampling()})
    assert [(a.label, a.decoding) for a in named] == [("x", Greedy()), ("y", Greedy()), ("z", Sampling())]


@pytest.mark.parametrize("twice", [["greedy", "greedy"], ["greedy", Greedy()], ["a=greedy", "a=sampling"]])
def test_one_label_twice_is_refused(twice: list[str]) -> None:
    with pytest.raises(InvalidValue, match="label"):
        resolve(twice)


def test_one_arm_in_two_spellings_is_refused() -> None:
    with pytest.raises(InvalidValue, match="another arm than"):
        resolve(["sampling:temperature=0.6", "sampling:temperature=0.60"])
    assert len(resolve(["a=sampling", "b=sampling"])) == 2
    assert len(resolve(["greedy", "greedy:thinking=false"])) == 2


def test_what_is_no_arm_is_refused() -> None:
    with pytest.raises(InvalidValue, match="at least one arm"):
        resolve([])
    with pytest.raises(InvalidValue, match="decodings"):
        resolve([3])  # type: ignore[list-item]
    bare = type("Bare", (), {"generate": lambda self: None})()
    with pytest.raises(InvalidValue, match="decodings"):  # no dataclass: its parameters could not be recorded
        resolve([bare])


def test_a_class_outside_the_table_is_called_by_its_name() -> None:
    (arm,) = resolve([NeedsMore(depth=4)])
    assert arm.label == "NeedsMore:depth=4"


def test_known_lists_every_decoding_with_its_module() -> None:
    assert known()["greedy"] == ("decoding", "dovetail.decoding.sampling", "Greedy")


@given(
    temperature=st.floats(0, 10, allow_subnormal=False).map(lambda x: float(f"{x:.12g}")),
    top_k=st.integers(0, 10**6),
    n=st.integers(1, 100),
)
def test_names_read_back_as_the_same_method(temperature: float, top_k: int, n: int) -> None:
    for method in (Sampling(temperature, top_k), SelfConsistency(n, Sampling(temperature, top_k))):
        assert parse(name_of(method)).decoding == method
