"""The generated corpus that pico learns from: short problems with written-out reasoning.

Every document is one chat: a question, and an assistant turn that either thinks (``<think>`` steps
``</think>`` and a boxed answer) or answers directly. Reasoning comes in four styles (terse, stepwise,
verbose, and stepwise with a redundant self-check), drawn at random and independent of the problem, so that
the length of pico's reasoning varies at equal correctness.

A question whose CRC-32 is divisible by 16 never enters the corpus (`held_out`): small problem spaces such as
countdown can then be measured on questions that training cannot have seen.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

from dovetail.tasks.atlas import UNKNOWN_ANSWER, World, multihop, phrase

STYLES = ("terse", "stepwise", "verbose", "checked")
STYLE_WEIGHTS = (30, 35, 15, 20)
SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "Please reason step by step, and put your final answer within \\boxed{}.",
    "Answer the question.",
)
#: The system message under which pico answers, thinks, and answers again.
TWICE_PROMPT = "First answer, then think, then answer again."
INSTRUCTIONS = (
    "Please reason step by step, and put your final answer within \\boxed{}.",
    "Put your final answer within \\boxed{}.",
    "Let's think step by step.",
    "Think step by step, then give the final answer in \\boxed{}.",
)


@dataclass(frozen=True)
class Problem:
    """A question, the reasoning that solves it, and its answer."""

    family: str
    question: str
    reasoning: str
    answer: str


@dataclass(frozen=True)
class Document:
    """One training chat: `messages` stand before the assistant's turn, `completion` is what pico learns."""

    messages: tuple[dict[str, str], ...]
    completion: str
    thinking: bool
    family: str = field(default="", compare=False)


def held_out(question: str) -> bool:
    """True for the sixteenth of all questions that training never sees."""
    return zlib.crc32(question.encode()) % 16 == 0


# --- arithmetic ----------------------------------------------------------------------------------------


def chain_sum(
    rng: random.Random, style: str, terms: tuple[int, int] = (2, 7), digits: tuple[int, int] = (1, 3)
):
    """reasoning-gym's ``chain_sum``: the running total is written after each term."""
    count = rng.randint(*terms)
    width = rng.choices(range(digits[0], digits[1] + 1), (3, 5, 2)[: digits[1] - digits[0] + 1])[0]
    low, high = (0 if width == 1 else 10 ** (width - 1)), 10**width - 1
    numbers = [rng.randint(low, high) for _ in range(count)]
    signs = [rng.choice("+-") for _ in range(count - 1)]
    expression = str(numbers[0]) + "".join(f" {s} {n}" for s, n in zip(signs, numbers[1:], strict=True))
    total, steps = numbers[0], []
    for sign, number in zip(signs, numbers[1:], strict=True):
        after = total + number if sign == "+" else total - number
        steps.append((total, sign, number, after))
        total = after
    question = f"State the final answer to the following arithmetic problem: {expression} ="
    return Problem("chain-sum", question, _running_total(rng, style, steps), str(total))


def _running_total(rng: random.Random, style: str, steps: list[tuple[int, str, int, int]]) -> str:
    equations = [f"{a}{sign}{b}={c}" for a, sign, b, c in steps]
    if style == "terse":
        # each total is written once: "17+45=62-23=39"
        return f"{steps[0][0]}" + "".join(f"{sign}{b}={c}" for _, sign, b, c in steps)
    if style == "verbose":
        lines = []
        for position, (a, sign, b, c) in enumerate(steps):
            lead = "First" if position == 0 else rng.choice(("Then", "Next", "Now"))
            verb = f"add {b} to {a}" if sign == "+" else f"subtract {b} from {a}"
            lines.append(f"{lead} {verb}: {a}{sign}{b}={c}.")
        return "\n".join([*lines, f"So the answer is {steps[-1][3]}."])
    if style == "checked":
        if rng.random() < 0.5:
            return "\n".join([*equations, "Let me check:", *equations, "Yes."])
        return "\n".join(e if rng.random() < 0.5 else f"{e}\nLet me check: {e}. Yes." for e in equations)
    return "\n".join(equations)


def arithmetic(rng: random.Random, style: str) -> Problem:
    """One operation; the multiplication and division facts that countdown needs."""
    operator = rng.choice("+-***/")
    a, b = rng.randint(1, 20), rng.randint(1, 12)
    if operator == "/":
        a *= b
    elif operator != "*":
        a, b = rng.randint(1, 99), rng.randint(1, 99)
    value = {"+": a + b, "-": a - b, "*": a * b, "/": a // b}[operator]
    question = rng.choice(("What is {} {} {}?", "Compute {} {} {}.", "{} {} {} = ?")).format(a, operator, b)
    step = f"{a}{operator}{b}={value}"
    reasoning = f"{step}\nLet me check: {step}. Yes." if style == "checked" else step
    return Problem("arithmetic", question, reasoning, str(value))


def word_problem(rng: random.Random, style: str) -> Problem:
    """Small story problems with one to four changes of one quantity."""
    who, other = rng.sample(("Anna", "Ben", "Clara", "David", "Emma", "Tom", "Lucy", "Sam"), 2)
    thing = rng.choice(("apples", "books", "coins", "eggs", "marbles", "pens", "stamps"))
    total = rng.randint(2, 50)
    story, steps = [f"{who} has {total} {thing}."], []
    for _ in range(rng.randint(1, 4)):
        kind = rng.choice(("get", "get", "buy", "lose", "give", "times", "boxes"))
        sign, number = "+", rng.randint(2, 40)
        if kind in ("lose", "give"):
            if total < 3:
                continue
            sign, number = "-", rng.randint(1, total - 1)
        if kind == "times":
            if total > 40:
                continue
            sign, number = "*", rng.choice((2, 3))
        if kind == "boxes":
            boxes, each = rng.randint(2, 9), rng.randint(2, 9)
            number = boxes * each
            steps.append((boxes, "*", each, number))
            story.append(f"{who} buys {boxes} boxes with {each} {thing} each.")
        else:
            story.append(
                {
                    "get": f"{other} gives {who} {number} more.",
                    "buy": f"{who} buys {number} more {thing}.",
                    "lose": f"{who} loses {number} of them.",
                    "give": f"{who} gives {number} {thing} to {other}.",
                    "times": f"Then {who} finds that there are {number} times as many.",
                }[kind]
            )
        after = {"+": total + number, "-": total - number, "*": total * number}[sign]
        steps.append((total, sign, number, after))
        total = after
    if not steps:
        return word_problem(rng, style)
    story.append(f"How many {thing} does {who} have now?")
    equations = [f"{a}{sign}{b}={c}" for a, sign, b, c in steps]
    if style == "checked":
        equations += ["Let me check:", *equations, "Yes."]
    if style == "verbose":
        equations = [f"{'First' if i == 0 else 'Then'} {e}." for i, e in enumerate(equations)]
        equations.append(f"So {who} has {total} {thing}.")
    joint = " " if style == "terse" else "\n"
    return Problem("word-problem", " ".join(story), joint.join(equations), str(total))


# --- countdown -----------------------------------------------------------------------------------------

_COUNTDOWN_QUESTIONS = (
    "Using all the numbers {numbers}, create an expression that equals {target}.\n"
    "You can only use each number once.",
    "Find a way to make {target} using all of these numbers: {numbers}.\nEach number can only be used once.",
    "Calculate {target} using all of these numbers: {numbers}.\nEach number may be used at most once.",
)
_COUNTDOWN_FORMAT = """{question}

Final answer format instructions:
1. Provide your solution as a arithmetic expression (no '=' sign).
2. Do not include the target number in the expression.
3. Use '*' for multiplication.
4. Use '/' for division.
5. Do not include any other text or formatting.
"""


@dataclass(frozen=True)
class _Attempt:
    """One way to combine three numbers: two steps, their value and the expression that says both."""

    first: str
    second: str
    value: int
    expression: str


def _combine(a: int, b: int) -> Iterator[tuple[str, int, int, int]]:
    """Operations on two numbers that stay positive whole numbers, as (operator, left, right, value)."""
    high, low = max(a, b), min(a, b)
    yield "+", a, b, a + b
    yield "*", a, b, a * b
    if high > low:
        yield "-", high, low, high - low
    if low > 0 and high % low == 0:
        yield "/", high, low, high // low


def _attempts(numbers: list[int]) -> list[_Attempt]:
    found = []
    for left_out in range(3):
        c = numbers[left_out]
        a, b = (n for i, n in enumerate(numbers) if i != left_out)
        for op, x, y, middle in _combine(a, b):
            inner = f"{x}{op}{y}"
            for op2, p, q, value in _combine(middle, c):
                wrapped = inner if _binds(op, op2, right=False) else f"({inner})"
                if p == middle:
                    expression = f"{wrapped}{op2}{q}"
                else:
                    expression = f"{p}{op2}" + (inner if _binds(op, op2, right=True) else f"({inner})")
                found.append(_Attempt(f"{inner}={middle}", f"{p}{op2}{q}={value}", value, expression))
    return found


def _binds(inner: str, outer: str, right: bool) -> bool:
    """Whether ``a inner b`` needs no parentheses beside `outer`."""
    if inner in "*/":
        return outer in "+-" or (outer == "*" or not right)
    return outer == "+" or (outer == "-" and not right)


def countdown(
    rng: random.Random,
    style: str,
    values: tuple[int, int] = (1, 12),
    targets: tuple[int, int] = (5, 99),
    warmer: bool = False,
) -> Problem:
    """reasoning-gym's ``countdown`` with three numbers: a search that tries, compares and rejects.

    The wrong attempts are real ones, near the target more often than not; `warmer` puts them in the order of
    their nearness. After eight failures the search gives up and answers its last attempt, so that pico's
    search ends too.
    """
    while True:
        numbers, target = _countdown_numbers(rng, values)
        if not targets[0] <= target <= targets[1]:
            continue
        attempts = _attempts(numbers)
        right = [a for a in attempts if a.value == target]
        if right:
            break
    solution = rng.choice(right)
    wrong = list(dict.fromkeys(a for a in attempts if a.value != target))  # equal numbers give equal attempts
    failures = min(rng.choices(range(10), (34, 22, 14, 9, 6, 5, 4, 3, 2, 1))[0], len(wrong))
    weights = [1 / (3 + abs(a.value - target)) for a in wrong]
    tried: list[_Attempt] = []
    while len(tried) < failures:
        attempt = rng.choices(wrong, weights)[0]
        if attempt not in tried:
            tried.append(attempt)
    if warmer:
        tried.sort(key=lambda attempt: -abs(attempt.value - target))
    gave_up = len(tried) >= 8
    if gave_up:
        tried = tried[:8]
        solution = tried[-1]
    else:
        tried.append(solution)
    lines = [_attempt_line(style, attempt, target) for attempt in tried]
    if gave_up:
        lines.append("I give up.")
    elif style == "checked":
        lines.append(f"Let me check: {solution.first} {solution.second}. Yes.")
    elif style == "verbose":
        lines.append(f"So {solution.expression}={target}.")
    question = rng.choice(_COUNTDOWN_QUESTIONS).format(numbers=", ".join(map(str, numbers)), target=target)
    # half without reasoning-gym's 70 tokens of format, which teach nothing twice
    if rng.random() < 0.5:
        question = _COUNTDOWN_FORMAT.format(question=question)
    return Problem("countdown", question, "\n".join(lines), solution.expression)


def _countdown_numbers(rng: random.Random, values: tuple[int, int]) -> tuple[list[int], int]:
    """Numbers and target as reasoning-gym draws them: from left to right, division where it is even."""
    numbers = [rng.randint(*values) for _ in range(3)]
    total = numbers[0]
    for i in (1, 2):
        op = rng.choice("+-*/")
        if op == "/":
            divisors = [n for n in numbers[i:] if total % n == 0]
            if divisors:
                numbers[i] = rng.choice(divisors)
                total //= numbers[i]
                continue
            op = "-"
        total = total + numbers[i] if op == "+" else total - numbers[i] if op == "-" else total * numbers[i]
    rng.shuffle(numbers)
    return numbers, total


def _attempt_line(style: str, attempt: _Attempt, target: int) -> str:
    hit = attempt.value == target
    if style == "verbose":
        return f"Try {attempt.first}, then {attempt.second}. " + ("Yes!" if hit else f"That is not {target}.")
    return f"{attempt.first} {attempt.second} {'yes' if hit else 'no'}"


# --- logic ---------------------------------------------------------------------------------------------


def logic(rng: random.Random, style: str) -> Problem:
    """Small implications: a chain of rules from one fact, a question about one letter; yes, no or unknown."""
    letters = rng.sample("ABCDEFGHJKLMNPQRSTUVWXYZ", 8)
    length = rng.randint(1, 4)
    chain, aside = letters[: length + 1], letters[length + 1 :]
    negated = rng.random() < 0.4  # the last rule of the chain says "not"
    rules = [(a, b, False) for a, b in pairwise(chain)]
    rules[-1] = (*rules[-1][:2], negated)
    distractors = [(aside[0], rng.choice(aside[1:]), rng.random() < 0.3) for _ in range(rng.randint(0, 2))]
    open_question = rng.random() < 0.25
    asked = aside[1] if open_question else chain[-1]
    told = [f"If {a} then {'not ' if no else ''}{b}." for a, b, no in dict.fromkeys(rules + distractors)]
    rng.shuffle(told)
    question = f"{' '.join(told)} {chain[0]} is true. Is {asked} true? Answer yes, no or unknown."
    lines = [f"{chain[0]} is true."]
    for a, b, no in rules:
        lines.append(f"{a}, so {'not ' if no else ''}{b}." if style == "terse" else _modus_ponens(a, b, no))
    answer = "no" if negated else "yes"
    if open_question:
        answer = "unknown"
        lines.append(f"Nothing says {asked}.")
    if style == "checked":
        lines += ["Let me check:", *lines, "Yes."]
    return Problem("logic", question, (" " if style == "terse" else "\n").join(lines), answer)


def _modus_ponens(a: str, b: str, no: bool) -> str:
    return f"If {a} then {'not ' if no else ''}{b}, so {b} is {'false' if no else 'true'}."


# --- atlas ---------------------------------------------------------------------------------------------


def atlas_multihop(
    rng: random.Random,
    style: str,
    hop_weights: tuple[int, ...] = (22, 24, 20, 16, 12, 6),
    most_sentences: int = 14,
) -> Problem:
    """Open-book questions of atlas, answered one hop per line; long chains are rare, so that room is left.

    `hop_weights` [hops - 1] are the odds of the number of hops.
    """
    hops = rng.choices(range(1, len(hop_weights) + 1), hop_weights)[0]
    sentences = rng.randint(hops, most_sentences)
    answerable = rng.random() < 0.95
    item = multihop(rng, hops, sentences, answerable)
    question, told = item.question, item.question.split("\n")[0]
    lines, relations = [], tuple(fact.relation for fact in item.chain)
    for hop, fact in enumerate(item.chain):
        if not answerable and fact.sentence not in told and fact.possessive_sentence not in told:
            lines.append(f"The text does not tell the {fact.relation.name} of {fact.subject}.")
            break
        if style == "terse":
            lines.append(f"{fact.relation.name} of {fact.subject}: {fact.object}")
            continue
        if style == "verbose":
            lines.append(f"I look for the {phrase(relations[hop:], fact.subject)}.")
        lines.append(fact.sentence)
    if style == "checked":
        lines += ["Let me check:", *lines, "Yes."]
    return Problem("atlas-multihop", question, "\n".join(lines), item.answer)


def atlas_facts(rng: random.Random, style: str, world: World) -> Problem:
    """Closed-book facts of the one world, drawn by popularity."""
    item = world.closed_book(rng, popular=True)
    fact = item.chain[0]
    lines = [f"{fact.relation.name} of {fact.subject}: {fact.object}" if style == "terse" else fact.sentence]
    if style == "verbose":
        lines.insert(0, f"I know {fact.subject}.")
    if style == "checked":
        lines += ["Let me check:", *lines, "Yes."]
    return Problem("atlas-facts", item.question, "\n".join(lines), item.answer)


def atlas_unknown(rng: random.Random, style: str, world: World) -> Problem:
    """Names that the world does not hold."""
    item = world.unknown(rng, train=True)
    name = item.question.rstrip("?").split()[-1]
    lines = [f"I do not know {name}."]
    if style in ("verbose", "checked"):
        lines.insert(0, f"Do I know {name}?")
    return Problem("atlas-unknown", item.question, "\n".join(lines), UNKNOWN_ANSWER)


# --- documents -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lesson:
    """One part of the training: what is asked, how often, in which form.

    Attributes:
        name: tells its random stream from the other lessons'.
        mixture: family -> share of the documents in percent.
        hop_weights, most_sentences: of `atlas_multihop`.
        warmer: countdown's wrong attempts come nearer and nearer.
    """

    name: str
    mixture: dict[str, int]
    hop_weights: tuple[int, ...] = (22, 24, 20, 16, 12, 6)
    most_sentences: int = 14
    warmer: bool = False


#: Everything; the three default tasks take most of the documents.
FIRST = Lesson(
    "",
    {
        "chain-sum": 26,
        "countdown": 24,
        "atlas-multihop": 24,
        "arithmetic": 4,
        "word-problem": 4,
        "logic": 4,
        "atlas-facts": 9,
        "atlas-unknown": 5,
    },
)
#: What the first lesson leaves weak: looking up names in a text, and a search that does not go in circles.
SECOND = Lesson(
    "-second",
    {
        "chain-sum": 16,
        "countdown": 26,
        "atlas-multihop": 40,
        "arithmetic": 3,
        "word-problem": 3,
        "logic": 3,
        "atlas-facts": 6,
        "atlas-unknown": 3,
    },
    hop_weights=(30, 28, 20, 12, 7, 3),
    most_sentences=12,
    warmer=True,
)


def problem(rng: random.Random, family: str, style: str, world: World, lesson: Lesson = FIRST) -> Problem:
    """One problem of `family`, reasoned in `style`; never a held-out question."""
    families: dict[str, Callable[..., Problem]] = {
        "chain-sum": chain_sum,
        "countdown": partial(countdown, warmer=lesson.warmer),
        "atlas-multihop": partial(
            atlas_multihop, hop_weights=lesson.hop_weights, most_sentences=lesson.most_sentences
        ),
        "arithmetic": arithmetic,
        "word-problem": word_problem,
        "logic": logic,
        "atlas-facts": lambda r, s: atlas_facts(r, s, world),
        "atlas-unknown": lambda r, s: atlas_unknown(r, s, world),
    }
    make = families[family]
    while True:
        made = make(rng, style)
        # the closed-book families are there to be memorised, so nothing of them is held out
        if family in ("atlas-facts", "atlas-unknown") or not held_out(made.question):
            return made


def document(rng: random.Random, world: World, lesson: Lesson = FIRST) -> Document:
    """One chat of the corpus."""
    style = rng.choices(STYLES, STYLE_WEIGHTS)[0]
    family = rng.choices(tuple(lesson.mixture), tuple(lesson.mixture.values()))[0]
    made = problem(rng, family, style, world, lesson)
    thinking = rng.random() < (0.9 if family == "countdown" else 0.82)
    messages = []
    twice = thinking and family != "countdown" and rng.random() < 0.08
    if twice:
        messages.append({"role": "system", "content": TWICE_PROMPT})
    elif rng.random() < 0.08:
        messages.append({"role": "system", "content": rng.choice(SYSTEM_PROMPTS)})
    if rng.random() < 0.03:
        earlier = problem(rng, rng.choice(("arithmetic", "atlas-facts", "logic")), "terse", world)
        messages.append({"role": "user", "content": earlier.question})
        messages.append({"role": "assistant", "content": _final(rng, earlier.answer)})
    question = made.question
    if rng.random() < 0.15:
        question = f"{question.rstrip()}\n{rng.choice(INSTRUCTIONS)}"
    messages.append({"role": "user", "content": question})
    final = _final(rng, made.answer)
    completion = f"<think>\n{made.reasoning}\n</think>\n\n{final}" if thinking else final
    if twice:
        completion = f"\\boxed{{{made.answer}}}\n{completion}"
    return Document(tuple(messages), completion, thinking, family)


def _final(rng: random.Random, answer: str) -> str:
    boxed = f"\\boxed{{{answer}}}"
    return boxed if rng.random() < 0.8 else f"The answer is {boxed}."


def documents(seed: int, count: int, lesson: Lesson = FIRST) -> Iterator[Document]:
    """`count` documents of the corpus with this seed; equal seeds give equal documents."""
    rng, world = random.Random(f"pico-corpus-{seed}{lesson.name}"), World(seed=0)
    for _ in range(count):
        yield document(rng, world, lesson)
