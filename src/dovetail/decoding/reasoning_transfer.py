"""Reasoning transfer: the large model answers briefly; where that is not safe a small one reasons for it.

"Rethinking Model Efficiency: Multi-Agent Inference with Large Models", arXiv 2604.04929 (April 2026). Latency
is mostly output tokens, so a large model should write few. Both models answer briefly; where they agree, the
large one's answer stands (mutual verification). Otherwise the small model writes its reasoning, the large one
reads it (a single parallel pass) and again answers briefly. Prompts, verification rule and thresholds of the
paper could not be read: these are ours. `dovetail.decoding.latency` holds the latency model.

Costs, per question: two short answers; and where they differ a thought of the small model, one more prompt
and one more short answer of the large one. Both models' tokens, passes and seconds are counted.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal

from torch import Tensor

from dovetail.core import Completion, Cost, InvalidValue, Limits, Model, Prompt, Unsupported
from dovetail.core.seeds import stream
from dovetail.decoding.answer_twice import first_answer_confidence
from dovetail.decoding.asking import begin_turn, encode, render, template, with_request
from dovetail.decoding.base import Decoding, StepwiseDecoding, with_inner
from dovetail.decoding.sampling import Greedy
from dovetail.decoding.self_consistency import last_boxed
from dovetail.engine import Choice, Rows, Stepwise
from dovetail.engine.forward import LayerHook

POLICIES = ("mutual_verification", "always_transfer", "never_transfer", "confidence")
SELECTIONS = ("no_answer", "all", "last")
BRIEF = "Give only the final answer, in \\boxed{}."
AT_LENGTH = "Think step by step, then give the final answer in \\boxed{}."
"""Requests to models whose template has no thinking modes."""

_STATEMENT = re.compile(r"\\boxed|\banswer\b", re.IGNORECASE)
_SENTENCE = re.compile(r".+?(?:(?<=[.!?])\s+|\n\s*|$)", re.DOTALL)


@dataclass(frozen=True)
class ReasoningTransfer(Decoding):
    """Short answers of the large model, with a small model's reasoning where the two do not agree.

    The large model is the one that decodes; it must be local, and so must the small one.

    Attributes:
        small: an embedded model's name, a folder or a hub id, loaded when first used; or a loaded model.
        policy: "mutual_verification" transfers where the two short answers differ (or one is missing),
            "confidence" where the large model's is less probable than ``threshold``, "always_transfer",
            "never_transfer" (the large model's short answer, and nothing else).
        threshold: of "confidence": geometric mean probability of the answer's tokens.
        select: what is transferred: the reasoning without a final statement of the answer ("no_answer",
            which would anchor the large model), "all" of it, the "last" ``keep`` sentences, or a function
            from the reasoning to a part of it.
        keep: sentences of "last".
        place: "think" puts it where the large model would think, "quote" into the question.
        max_short: tokens of a short answer.
        own_reasoning_below: where the answer after a transfer is less probable than this, the large model
            reasons by itself after all; None never.
        inner: how both models choose tokens.
        extract: text -> answer to compare ("" is none); None takes what stands in the last ``\\boxed{}``. A
            comparison sets it to its task's extraction.
    """

    small: str | Model
    policy: Literal["mutual_verification", "always_transfer", "never_transfer", "confidence"] = (
        "mutual_verification"
    )
    threshold: float = 0.9
    select: Literal["no_answer", "all", "last"] | Callable[[str], str] = "no_answer"
    keep: int = 3
    place: Literal["think", "quote"] = "think"
    max_short: int = 64
    own_reasoning_below: float | None = None
    inner: StepwiseDecoding = field(default_factory=Greedy)
    extract: Callable[[str], str] | None = None

    needs = frozenset({"logits"})

    def __post_init__(self) -> None:
        if not (isinstance(self.small, Model) or (isinstance(self.small, str) and self.small)):
            raise InvalidValue("small", self.small, "a model, or the name of one")
        if self.policy not in POLICIES:
            raise InvalidValue("policy", self.policy, f"one of {', '.join(POLICIES)}")
        if not callable(self.select) and self.select not in SELECTIONS:
            raise InvalidValue("select", self.select, f"one of {', '.join(SELECTIONS)}, or a function")
        if self.place not in ("think", "quote"):
            raise InvalidValue("place", self.place, "think or quote")
        for name in ("keep", "max_short"):
            if getattr(self, name) < 1:
                raise InvalidValue(name, getattr(self, name), "at least 1")
        for name in ("threshold", "own_reasoning_below"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise InvalidValue(name, value, "in [0, 1]")

    def generate(self, engine: Any, prompts: Sequence[Prompt], limits: Limits) -> list[Completion]:
        """One completion per prompt: the large model's last answer to it, at the cost of all stages.

        Columns: ``route`` ("short", "agree", "transfer" or "large_reason"), ``tokens_large`` and
        ``tokens_small`` written, ``seconds_by_stage``, ``seconds_parallel`` (the sum, but with the two short
        answers side by side), and ``reasoning`` (what was transferred) where there was a transfer.
        """
        self.check(engine)
        self.inner.check(engine)
        large = Agent(engine, self)
        small = None if self.policy == "never_transfer" else self._small(engine)
        stories = [_Story(prompt) for prompt in prompts]
        if self.policy != "always_transfer":
            _stage("large_short", large.short, stories, limits)
        doubtful = [] if small is None else self._doubtful(large, small, stories, limits)
        if small is not None and doubtful:
            _stage("small_reasoning", small.reason, doubtful, limits)
            for story in doubtful:
                thought = story.stages["small_reasoning"]
                story.given, story.reasoning = large.given(story.prompt, thought, small, limits)
            _stage("transfer", large.answer_given, doubtful, limits, given=True)
        if self.own_reasoning_below is not None:
            unsure = [s for s in doubtful if large.confidence(s.answer) < self.own_reasoning_below]
            _stage("large_reasoning", large.reason_and_answer, unsure, limits)
        return [story.told(self.policy, keep_logprobs=limits.logprobs) for story in stories]

    def _doubtful(self, large: Agent, small: Agent, stories: list[_Story], limits: Limits) -> list[_Story]:
        """Those whose short answer is not to be relied on."""
        if self.policy == "mutual_verification":
            _stage("small_short", small.short, stories, limits)
            return [s for s in stories if not self._agree(s)]
        if self.policy == "confidence":
            return [s for s in stories if large.confidence(s.answer) < self.threshold]
        return stories

    def over(self, modifiers: Sequence[StepwiseDecoding]) -> Decoding:
        return with_inner(self, modifiers)

    def selected(self, reasoning: str) -> str:
        """The part of a reasoning that is transferred."""
        if callable(self.select):
            chosen = self.select(reasoning)
            if len(chosen) > len(reasoning):
                raise InvalidValue("select", self.select, "a function that gives a part of the reasoning")
            return chosen
        if self.select == "last":
            return "".join(sentences(reasoning)[-self.keep :])
        return without_answer(reasoning) if self.select == "no_answer" else reasoning

    def _agree(self, story: _Story) -> bool:
        extract = self.extract or last_boxed
        large, small = (extract(story.stages[name].text) for name in ("large_short", "small_short"))
        return bool(large) and " ".join(large.casefold().split()) == " ".join(small.casefold().split())

    def _small(self, engine: Any) -> Agent:
        model = self.small if isinstance(self.small, Model) else _loaded(self.small, str(engine.device))
        missing = sorted(self.needs - model.provides)
        if missing:
            raise Unsupported(f"small: {model.name} does not give {', '.join(missing)}: it must be local")
        return Agent(model.engine, self, purpose="small")


class Agent:
    """One of the two models, as it is asked here.

    Args:
        engine: of the model.
        method: whose settings count.
        purpose: "" keeps each prompt's random stream; another name derives its own.
    """

    def __init__(self, engine: Any, method: ReasoningTransfer, purpose: str = "") -> None:
        self.engine, self.method, self.purpose = engine, method, purpose
        self.modes = template(engine).thinking_modes

    def short(self, prompts: Sequence[Prompt], limits: Limits) -> list[Completion]:
        """Answers without reasoning: the template's no-thinking mode, or a request where it has none."""
        return self.answer_given([self._asked(p, thinking=False) for p in prompts], limits)

    def reason(self, prompts: Sequence[Prompt], limits: Limits) -> list[Completion]:
        """Reasoning alone: it ends with ``</think>``, where the model has it."""
        asked = [self._asked(p, thinking=True) for p in prompts]
        return self._write(asked, Limits(limits.max_new_tokens), _Thought(self.method.inner))

    def reason_and_answer(self, prompts: Sequence[Prompt], limits: Limits) -> list[Completion]:
        """Reasoning and the answer."""
        asked = [self._asked(p, thinking=True) for p in prompts]
        return self._write(asked, replace(limits, logprobs=True), self.method.inner)

    def given(self, prompt: Prompt, thought: Completion, by: Agent, limits: Limits) -> tuple[Prompt, str]:
        """``prompt`` with another agent's reasoning, and what was transferred of it.

        A reasoning that the context has no room for loses its beginning, with a warning.
        """
        reasoning = reasoning_in(thought.text)
        text = self.method.selected(reasoning)
        if self.method.place == "quote":
            request = f"Reference reasoning (it may be wrong):\n{text}"
            return self._asked(prompt, thinking=False, request=request), text
        if self.engine.think_end is None:
            raise Unsupported(f'{self.engine.name} does not think in <think></think>: use place="quote"')
        head = begin_turn(self.engine, self._asked(prompt, thinking=True))
        room = self.engine.forward.max_positions - len(head.ids) - self._short(limits)
        begun = (*thought.token_ids, *encode(self.engine, "\n\n"))  # as written, never tokenized anew
        as_written = self._same_tokens(by) and text == reasoning and thought.text.endswith("</think>")
        if not as_written or len(begun) > room:
            begun = self._thought_of(encode(self.engine, text), room)
        prefix = self.engine.tokenizer.decode(begun, skip_special_tokens=False)
        return replace(head, ids=(*head.ids, *begun), text=head.text + prefix, assistant_prefix=prefix), text

    def answer_given(self, prompts: Sequence[Prompt], limits: Limits) -> list[Completion]:
        """Short answers to prompts that are ready."""
        short = replace(limits, max_new_tokens=self._short(limits), logprobs=True)
        return self._write(prompts, short, self.method.inner)

    def confidence(self, completion: Completion) -> float:
        """Geometric mean probability of the boxed answer's tokens, of all tokens where nothing is boxed."""
        logprobs = completion.logprobs or ()
        boxed = first_answer_confidence(completion.token_ids, logprobs, self.engine.tokenizer)
        return boxed if boxed >= 0 else math.exp(sum(logprobs) / max(1, len(logprobs)))

    def _thought_of(self, body: tuple[int, ...], room: int) -> tuple[int, ...]:
        """A closed thought of at most ``room`` tokens."""
        opening, closing = encode(self.engine, "<think>\n"), encode(self.engine, "\n</think>\n\n")
        left = max(0, room - len(opening) - len(closing))
        if len(body) > left:
            warnings.warn(
                f"a reasoning of {len(body)} tokens does not fit: its last {left} are kept", stacklevel=2
            )
            body = body[len(body) - left :]
        return (*opening, *body, *closing)

    def _write(self, prompts: Sequence[Prompt], limits: Limits, step: Stepwise) -> list[Completion]:
        written: list[Completion] = self.engine.generate(prompts, limits, step)
        return written

    def _short(self, limits: Limits) -> int:
        return min(self.method.max_short, limits.max_new_tokens)

    def _asked(self, prompt: Prompt, *, thinking: bool, request: str = "") -> Prompt:
        messages = prompt.messages
        requests = [request] if request else []
        if not self.modes:
            requests.append(AT_LENGTH if thinking else BRIEF)
        if requests:
            messages = with_request(messages, "\n".join(requests))
        asked = render(self.engine, prompt, messages, thinking=thinking)
        return replace(asked, seed=stream(prompt.seed, self.purpose)) if self.purpose else asked

    def _same_tokens(self, other: Agent) -> bool:
        return _vocabulary(self.engine.tokenizer) == _vocabulary(other.engine.tokenizer)


@dataclass
class _Story:
    """What happened to one prompt.

    Attributes:
        stages: stage -> completion, in order.
        given: the prompt with the small model's reasoning, and
        reasoning: what was transferred.
    """

    prompt: Prompt
    stages: dict[str, Completion] = field(default_factory=dict)
    given: Prompt | None = None
    reasoning: str | None = None

    @property
    def answer(self) -> Completion:
        """The large model's last answer so far."""
        answers = ("large_reasoning", "transfer", "large_short")
        return next(self.stages[name] for name in answers if name in self.stages)

    def told(self, policy: str, keep_logprobs: bool) -> Completion:
        """That answer, at the cost of everything."""
        spent = {name: c.cost for name, c in self.stages.items()}
        written = {
            who: sum(
                c.tokens_written for name, c in spent.items() if name.startswith("small") == (who == "small")
            )
            for who in ("large", "small")
        }
        seconds = {name: c.seconds for name, c in spent.items()}
        short = [seconds[name] for name in ("large_short", "small_short") if name in seconds]
        alone = "short" if policy in ("never_transfer", "confidence") else "agree"
        routes = {"large_reasoning": "large_reason", "transfer": "transfer"}
        route = next((r for name, r in routes.items() if name in self.stages), alone)
        columns = {
            **self.answer.columns,
            "route": route,
            "tokens_large": written["large"],
            "tokens_small": written["small"],
            "seconds_by_stage": seconds,
            "seconds_parallel": sum(seconds.values()) - (min(short) if len(short) == 2 else 0.0),
        }
        if self.reasoning is not None:
            columns["reasoning"] = self.reasoning
        return replace(
            self.answer,
            cost=sum(spent.values(), Cost()),
            columns=columns,
            logprobs=self.answer.logprobs if keep_logprobs else None,
        )


def _stage(
    name: str,
    write: Callable[[Sequence[Prompt], Limits], list[Completion]],
    stories: Sequence[_Story],
    limits: Limits,
    given: bool = False,
) -> None:
    """Lets one agent write to all of these at once: to the question, or to what it was ``given``."""
    if stories:
        prompts = [s.given if given and s.given is not None else s.prompt for s in stories]
        for story, completion in zip(stories, write(prompts, limits), strict=True):
            story.stages[name] = completion


class _Thought(Stepwise):
    """``inner`` until the thought ends."""

    chooses = True

    def __init__(self, inner: StepwiseDecoding) -> None:
        self.inner = inner

    def begin(self, rows: Rows) -> None:
        self.inner.begin(rows)

    def adjust(self, logits: Tensor, rows: Rows) -> Tensor:
        return self.inner.adjust(logits, rows)

    def hook(self, rows: Rows, layers: int, valid: Tensor | None) -> LayerHook | None:
        return self.inner.hook(rows, layers, valid)

    def choose(self, logits: Tensor, rows: Rows) -> Choice:
        return self.inner.choose(logits, rows)

    def stop(self, choice: Choice, rows: Rows) -> Tensor | None:
        inner = self.inner.stop(choice, rows)
        if rows.think_end is None:
            return inner
        ended = choice.tokens == rows.think_end
        return ended if inner is None else ended | inner


def reasoning_in(text: str) -> str:
    """What stands between the thinking marks, closed or not; all of the text where there are none."""
    thought = text.partition("<think>")[2] if "<think>" in text else text
    return thought.partition("</think>")[0].strip("\n")


def sentences(text: str) -> list[str]:
    """The text cut after line ends and full stops; joined, they are the text again."""
    return _SENTENCE.findall(text)


def without_answer(reasoning: str) -> str:
    """The reasoning without the sentences at its end that state the answer.

    >>> without_answer("17+45=62\\nSo the answer is 62.")
    '17+45=62'
    """
    kept = sentences(reasoning)
    while kept and _STATEMENT.search(kept[-1]):
        kept.pop()
    return "".join(kept).rstrip()


@lru_cache(maxsize=2)
def _loaded(name: str, device: str) -> Model:
    from dovetail.models import load

    return load(name, device=device)


@lru_cache(maxsize=4)
def _vocabulary(tokenizer: Any) -> frozenset[tuple[str, int]]:
    return frozenset(tokenizer.get_vocab().items())
