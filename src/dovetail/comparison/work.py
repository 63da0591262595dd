"""The work itself: one arm writes one chunk of examples, and the answers are judged."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

from dovetail.comparison import memory
from dovetail.comparison.arms import ArmSpec
from dovetail.core import (
    Completion,
    Cost,
    Example,
    Limits,
    MissingExtra,
    Model,
    NotReachable,
    Outcome,
    Prompt,
    Score,
    Scorer,
    Unsupported,
    seeds,
)
from dovetail.decoding.base import StepwiseDecoding

# The fault is outside: the run must stop and be resumed, rather than count these as wrong answers.
_STOPS_THE_RUN = (NotReachable, MissingExtra)


@dataclass(frozen=True)
class Work:
    """What an outcome depends on beside the arm and the example.

    Attributes:
        model: loaded.
        scorer: judges completions.
        limits: where writing ends.
        seed: a row's stream is ``core.seeds.stream(seed, example.id)``, the same under every arm.
        thinking: the template's thinking mode for arms that do not say.
    """

    model: Model
    scorer: Scorer
    limits: Limits = field(default_factory=Limits)
    seed: int = 0
    thinking: bool = True

    def check(self, arms: Sequence[ArmSpec], example: Example) -> None:
        """Rehearses every arm with two tokens of ``example``; these are not counted.

        Shows what does not fit before anything is generated, and lets no arm pay for what is done once
        (kernels, buffers). A remote model is only asked what it provides: it would charge for tokens.

        Raises:
            Unsupported: names every arm that does not fit the model, and why.
        """
        problems = []
        for arm in arms:
            try:
                self._fits(arm)
                if {"logits", "diffusion"} & self.model.engine.provides:
                    self._rehearse(arm, example)
            except Unsupported as error:
                problems.append(f"{arm.label}: {error}")
        if problems:
            raise Unsupported("; ".join(problems))

    def _fits(self, arm: ArmSpec) -> None:
        engine = self.model.engine
        self._prompting(arm)
        if self._by_likelihood:
            if "logits" not in engine.provides:
                raise Unsupported(
                    f"{self.scorer.name} needs log-likelihoods of given text, not what {engine.name} gives"
                )
            return
        for decoding in _within(arm.decoding):
            decoding.check(engine)
            remote = "logits" not in engine.provides
            if remote and isinstance(decoding, StepwiseDecoding) and decoding.api_parameters() is None:
                raise Unsupported(
                    f"{type(decoding).__name__} cannot be said in request parameters, and {engine.name} "
                    "takes nothing else: load the model locally (dovetail.load of a folder or hub id)"
                )

    def _prompting(self, arm: ArmSpec) -> Any | None:
        """The arm's prompting, which may read the model itself (its hidden states, say)."""
        bind = getattr(arm.prompting, "bound", None)
        return arm.prompting if bind is None else bind(self.model)

    @property
    def _by_likelihood(self) -> bool:
        """Whether nothing is generated: the scorer ranks given choices."""
        return hasattr(self.scorer, "continuations")

    def _rehearse(self, arm: ArmSpec, example: Example) -> None:
        if self._by_likelihood:
            return
        prompt = self._prompt(arm, example)
        if isinstance(prompt, Unsupported):
            raise prompt
        if isinstance(prompt, Prompt):
            try:
                arm.decoding.generate(self.model.engine, [prompt], Limits(max_new_tokens=2))
            except Unsupported:
                raise
            except Exception:  # of this example perhaps: shows again, and is reported, when it is asked
                return

    def outcomes(self, arm: ArmSpec, examples: Sequence[Example]) -> list[Outcome]:
        """One outcome per example, in order. An example that fails gives an outcome that says why.

        Raises:
            NotReachable, MissingExtra: nothing is wrong with the example; the run can be resumed.
        """
        prompts = [self._prompt(arm, example) for example in examples]
        asked = [i for i, p in enumerate(prompts) if isinstance(p, Prompt)]
        with memory.watch() as peak:
            if self._by_likelihood:
                written = {i: self._rank(examples[i], prompts[i]) for i in asked}
            else:
                written = dict(zip(asked, self._write(arm, [prompts[i] for i in asked]), strict=True))
        outcomes = []
        for i, (example, prompt) in enumerate(zip(examples, prompts, strict=True)):
            answer: Any = written.get(i, prompt)
            if isinstance(answer, Completion):
                cost = replace(answer.cost, peak_memory=max(answer.cost.peak_memory, peak.bytes))
                answer = self._judge(example, replace(answer, cost=cost))
            outcomes.append(_outcome(arm.label, example, prompt, answer))
        return outcomes

    def _prompt(self, arm: ArmSpec, example: Example) -> Prompt | Exception:
        try:
            prompting = self._prompting(arm)
            messages = example.messages if prompting is None else prompting.messages(example)
            thinking = self.thinking if arm.thinking is None else arm.thinking
            return self.model.prompt(messages, thinking=thinking, seed=seeds.stream(self.seed, example.id))
        except _STOPS_THE_RUN:
            raise
        except Exception as error:
            return error

    def _write(self, arm: ArmSpec, prompts: Sequence[Any]) -> list[Completion | Exception]:
        """Completions; where a batch fails, its halves are tried, down to the rows that are to blame."""
        if not prompts:
            return []
        decoding = voting_by(self.scorer, arm.decoding)
        try:
            completions = decoding.generate(self.model.engine, prompts, self.limits)
            if len(completions) != len(prompts):
                raise RuntimeError(f"{len(completions)} completions for {len(prompts)} prompts")
            return list(completions)
        except _STOPS_THE_RUN:
            raise
        except Exception as error:
            if len(prompts) == 1:
                return [error]
            # A server that refused some of the rows has answered, and charged for, the others.
            answers = getattr(error, "answers", ())
            if len(answers) == len(prompts) and isinstance(arm.decoding, StepwiseDecoding):
                return list(answers)
        half = (len(prompts) + 1) // 2
        return self._write(arm, prompts[:half]) + self._write(arm, prompts[half:])

    def _rank(self, example: Example, prompt: Any) -> Completion | Exception:
        """The likeliest of the example's choices, in place of a written answer."""
        scorer: Any = self.scorer
        clock = time.perf_counter()
        try:
            texts = scorer.continuations(example)
            found = self.model.engine.loglikelihood([prompt] * len(texts), texts)
            seconds = time.perf_counter() - clock
            read = len(prompt.ids) * len(texts)
            cost = Cost(tokens_read=read, forward_passes=float(len(texts)), seconds=seconds)
            chosen: Completion = scorer.choose(example, found, cost)
            return chosen
        except _STOPS_THE_RUN:
            raise
        except Exception as error:
            return error

    def _judge(self, example: Example, completion: Completion) -> tuple[Completion, Score] | Exception:
        try:
            return completion, self.scorer(example, completion)
        except Exception as error:
            return error


def voting_by(scorer: Scorer, decoding: Any) -> Any:
    """``decoding`` with every open ``extract``, however deep, set to the task's own extraction."""
    changed: dict[str, Any] = {}
    for f in fields(decoding) if is_dataclass(decoding) else ():
        value = getattr(decoding, f.name)
        if f.name == "extract" and value is None:
            changed[f.name] = scorer.extract
        elif is_dataclass(value):
            inner = voting_by(scorer, value)
            if inner is not value:
                changed[f.name] = inner
        elif isinstance(value, tuple) and any(is_dataclass(v) for v in value):
            parts = tuple(voting_by(scorer, v) for v in value)
            if any(a is not b for a, b in zip(parts, value, strict=True)):
                changed[f.name] = parts
    return replace(decoding, **changed) if changed else decoding


def _within(decoding: Any) -> Iterator[Any]:
    """The decoding and those that it writes through."""
    yield decoding
    for f in fields(decoding) if is_dataclass(decoding) else ():
        value = getattr(decoding, f.name)
        for inner in value if isinstance(value, tuple) else (value,):
            if callable(getattr(inner, "generate", None)) and callable(getattr(inner, "check", None)):
                yield from _within(inner)


def _outcome(label: str, example: Example, prompt: Prompt | Exception, answer: Any) -> Outcome:
    shown = _shown(prompt) if isinstance(prompt, Prompt) else ""
    if isinstance(answer, Exception):
        return Outcome(
            arm=label,
            example_id=example.id,
            prompt=shown,
            completion="",
            reference=example.reference,
            answer="",
            value=0.0,
            strict=0.0,
            parsed=False,
            finish_reason="error",
            cost=Cost(),
            error=f"{type(answer).__name__}: {answer}",
        )
    completion, score = answer
    return Outcome(
        arm=label,
        example_id=example.id,
        prompt=shown,
        completion=completion.text,
        reference=example.reference,
        answer=score.answer,
        value=float(score.value),
        strict=float(score.strict),
        parsed=bool(score.parsed),
        finish_reason=completion.finish_reason,
        cost=completion.cost,
        figures=dict(score.figures),
        columns=dict(completion.columns),
    )


def _shown(prompt: Prompt) -> str:
    """What the model was given: the rendered template, or the messages where the server renders."""
    return prompt.text or "\n".join(f"{m.role}: {m.content}" for m in prompt.messages)
