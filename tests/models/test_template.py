from __future__ import annotations

import hashlib

import pytest
from models_checkpoints import CHATML, build_tokenizer

from dovetail.core import InvalidValue, Message, Unsupported
from dovetail.models import Template, embedded

TALK = [Message("system", "Be brief."), Message("user", "What is 17 + 25?")]
TURN = "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
END = "{% endfor %}{% if add_generation_prompt %}<|im_start|>model\n{% endif %}"
DROPS_SYSTEM = "{% for m in messages if m.role != 'system' %}" + TURN + END
REFUSES_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}" + TURN + END
)


@pytest.mark.parametrize("thinking", [True, False])
def test_ids_are_those_of_apply_chat_template(tokenizer, thinking):
    prompt = Template(tokenizer).prompt(TALK, thinking=thinking, seed=7)
    asked = {"add_generation_prompt": True, "enable_thinking": thinking}
    messages = [m.as_dict() for m in TALK]
    assert prompt.text == tokenizer.apply_chat_template(messages, tokenize=False, **asked)
    expected = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False, **asked)
    assert prompt.ids == tuple(expected)
    assert (prompt.messages, prompt.seed) == (tuple(TALK), 7)


def test_special_tokens_are_not_added_twice():
    tokenizer = build_tokenizer("{{ bos_token }}" + CHATML, bos=True)
    ids = Template(tokenizer).prompt(TALK).ids
    assert ids.count(tokenizer.bos_token_id) == 1
    messages = [m.as_dict() for m in TALK]
    expected = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert ids == tuple(expected)


def test_what_the_template_put_into_the_models_mouth(tokenizer):
    template = Template(tokenizer)
    assert template.thinking_modes
    assert template.prompt(TALK).assistant_prefix == ""
    assert template.prompt(TALK, thinking=False).assistant_prefix == "<think>\n\n</think>\n\n"
    begun = template.prompt(TALK, thinking=False, prefix="The sum")
    assert begun.assistant_prefix == "<think>\n\n</think>\n\nThe sum"
    assert begun.text.endswith("<|im_start|>assistant\n" + begun.assistant_prefix)
    # A model that always thinks, as DeepSeek-R1 does.
    always = Template(tokenizer, CHATML.replace("assistant\\n'", "assistant\\n<think>\\n'"))
    assert always.prompt(TALK).assistant_prefix == "<think>\n"


def test_thinking_marks_of_the_question_are_not_the_models(tokenizer):
    assert Template(tokenizer).prompt([Message("user", "What does <think> mean?")]).assistant_prefix == ""


@pytest.mark.parametrize("prefix", ["17 + 25", "\n\n17 + 25 = 42, so", " <think>\nLet me", "é\n"])
def test_a_longer_prefix_never_changes_the_ids_before_it(tokenizer, prefix):
    template = Template(tokenizer)
    bare = template.prompt(TALK)
    longer = template.prompt(TALK, prefix=prefix)
    assert longer.text == bare.text + prefix
    assert longer.ids[: len(bare.ids)] == bare.ids
    assert len(longer.ids) > len(bare.ids)
    assert tokenizer.decode(longer.ids) == longer.text


def test_a_prefix_that_would_merge_with_the_template_is_kept_apart(tokenizer):
    # "\n\n" is one token of this tokenizer, so the template's last "\n" would be swallowed.
    double = tokenizer.encode("\n\n", add_special_tokens=False)
    assert len(double) == 1
    ids = Template(tokenizer).prompt(TALK, prefix="\nSo").ids
    assert double[0] not in ids
    assert tokenizer.decode(ids).endswith("assistant\n\nSo")


def test_no_template_means_the_plain_one():
    plain = Template(build_tokenizer(None))
    assert plain.origin == "plain"
    assert not plain.thinking_modes
    assert plain.prompt(TALK).text == "Be brief.\n\nWhat is 17 + 25?\n\n"
    assert plain.prompt(TALK).assistant_prefix == ""
    tokenizer = build_tokenizer(None, bos=True)
    prompt = Template(tokenizer).prompt(TALK)
    assert prompt.text == "<|endoftext|>Be brief.\n\nWhat is 17 + 25?\n\n"
    assert prompt.ids == tuple(tokenizer.encode("Be brief.\n\nWhat is 17 + 25?\n\n"))


def test_the_record_can_tell_templates_apart(tokenizer):
    own, plain = Template(tokenizer), Template(tokenizer, "plain")
    given = Template(tokenizer, "{{ messages[-1].content }}")
    assert [t.origin for t in (own, plain, given)] == ["tokenizer", "plain", "given"]
    assert own.digest == hashlib.sha256(CHATML.encode()).hexdigest()
    assert len({t.digest for t in (own, plain, given)}) == 3
    assert given.prompt(TALK[1:]).text == "What is 17 + 25?"


@pytest.mark.parametrize("template", [REFUSES_SYSTEM, DROPS_SYSTEM])
def test_a_system_message_that_would_be_lost_is_put_in_front_of_the_question(tokenizer, template):
    folding = Template(tokenizer, template)
    assert folding.folds_system
    assert not Template(tokenizer).folds_system
    prompt = folding.prompt(TALK)
    assert prompt.text == "<|im_start|>user\nBe brief.\n\nWhat is 17 + 25?<|im_end|>\n<|im_start|>model\n"
    assert prompt.messages == tuple(TALK)


def test_conversations_that_do_not_fit_are_named(tokenizer):
    template = Template(tokenizer)
    with pytest.raises(InvalidValue, match="at least one message"):
        template.prompt([])
    with pytest.raises(InvalidValue, match="give the begun answer as prefix"):
        template.prompt([*TALK, Message("assistant", "It is")])
    strict = Template(
        tokenizer, "{% if messages|length > 1 %}{{ raise_exception('one at most') }}{% endif %}x"
    )
    with pytest.raises(
        Unsupported, match=r"refuses this conversation \(user, assistant, user\): one at most"
    ):
        strict.prompt([Message("user", "a"), Message("assistant", "b"), Message("user", "c")])


@pytest.mark.parametrize("name", sorted(embedded()))
@pytest.mark.parametrize("thinking", [True, False])
def test_embedded_models_read_what_their_template_writes(name, thinking):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(embedded()[name])
    template = Template(tokenizer)
    assert (template.origin, template.thinking_modes, template.folds_system) == ("tokenizer", True, False)
    prompt = template.prompt(TALK, thinking=thinking)
    expected = tokenizer.apply_chat_template(
        [m.as_dict() for m in TALK], add_generation_prompt=True, enable_thinking=thinking, return_dict=False
    )
    assert prompt.ids == tuple(expected)
    assert bool(prompt.assistant_prefix) is not thinking
