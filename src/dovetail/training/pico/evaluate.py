"""A quick look at pico while it trains: greedy accuracy on fresh problems of each family.

The figures that count are measured by ``recipes/pico.py`` on the named tasks; these only steer the training.
"""

from __future__ import annotations

import ast
import operator
import random
import re
from fractions import Fraction

import torch
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

from dovetail.tasks.atlas import World, multihop
from dovetail.training.pico.corpus import Problem, chain_sum, countdown, problem

_BOXED = re.compile(r"\\boxed\{([^{}]*)\}")
_OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def fresh_problems(family: str, count: int, seed: int = 10_000) -> list[Problem]:
    """Problems of the default difficulty that are not the corpus's own draws."""
    rng, world = random.Random(f"pico-evaluation-{family}-{seed}"), World(seed=0)
    if family == "chain-sum":
        return [chain_sum(rng, "stepwise", (3, 6), (1, 2)) for _ in range(count)]
    if family == "countdown":
        return [countdown(rng, "stepwise") for _ in range(count)]
    if family == "atlas-multihop":
        items = [multihop(rng, rng.randint(1, 2), rng.randint(2, 5)) for _ in range(count)]
        return [Problem(family, item.question, "", item.answer) for item in items]
    return [problem(rng, family, "stepwise", world) for _ in range(count)]


def boxed(text: str) -> str | None:
    """The content of the last ``\\boxed{}``, None if there is none."""
    found = _BOXED.findall(text)
    return found[-1].strip() if found else None


def solves(answer: str | None, asked: Problem) -> bool:
    """Whether `answer` is right; in countdown, whether it uses all the numbers and makes the target."""
    if answer is None:
        return False
    if asked.family != "countdown":
        return answer == asked.answer
    first_line = asked.question.split("\n")[0]
    [target] = map(int, re.findall(r"(?:equals|make|Calculate) (\d+)", first_line))
    numbers = [int(n) for n in re.findall(r"\d+", first_line)]
    numbers.remove(target)
    return sorted(int(n) for n in re.findall(r"\d+", answer)) == sorted(numbers) and _value(answer) == target


def _value(expression: str) -> Fraction | None:
    """The exact value of an expression of numbers and + - * /; None if it is anything else."""

    def walk(node: ast.expr) -> Fraction:
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return Fraction(node.value)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -walk(node.operand)
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](walk(node.left), walk(node.right))
        raise ValueError(expression)

    try:
        return walk(ast.parse(expression, mode="eval").body)
    except (ValueError, SyntaxError, ZeroDivisionError, RecursionError):
        return None


@torch.inference_mode()
def answer(
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    questions: list[str],
    thinking: bool = True,
    max_new_tokens: int = 256,
    batch_size: int = 64,
) -> list[str]:
    """One greedy completion per question, through transformers' own ``generate``."""
    prompts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": q}],
            add_generation_prompt=True,
            enable_thinking=thinking,
            tokenize=False,
        )
        for q in questions
    ]
    texts: list[str] = []
    for first in range(0, len(prompts), batch_size):
        inputs = tokenizer(prompts[first : first + batch_size], return_tensors="pt", padding=True)
        inputs.pop("token_type_ids", None)
        out = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)  # type: ignore[misc]
        texts += tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return texts


def quick_accuracy(
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    families: tuple[str, ...] = ("chain-sum", "countdown", "atlas-multihop"),
    count: int = 64,
) -> dict[str, float]:
    """Greedy thinking accuracy by family, and the share of all completions that hold a box (`parsed`)."""
    figures, parsed = {}, []
    for family in families:
        problems = fresh_problems(family, count)
        boxes = [boxed(text) for text in answer(model, tokenizer, [p.question for p in problems])]
        figures[family] = sum(map(solves, boxes, problems)) / count
        parsed += [box is not None for box in boxes]
    return {**figures, "parsed": sum(parsed) / len(parsed)}
