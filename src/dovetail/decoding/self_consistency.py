"""Self-consistency: sample n completions and keep the answer that most of them give.

Wang et al., "Self-Consistency Improves Chain of Thought Reasoning in Language Models", arXiv 2203.11171.
Costs n completions; the question is read once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dovetail.core import Completion, Cost, InvalidValue, Limits, Prompt
from dovetail.core.seeds import stream
from dovetail.decoding.base import Decoding, StepwiseDecoding, with_inner
from dovetail.decoding.sampling import Sampling


@dataclass(frozen=True)
class SelfConsistency(Decoding):
    """Majority vote over ``n`` samples; ties go to the answer that was given first.

    Attributes:
        n: samples per question.
        inner: how each sample is written.
        extract: text -> answer to vote over ("" is no vote); None takes what stands in the last
            ``\\boxed{}``. A comparison sets it to its task's extraction.
    """

    n: int = 8
    inner: StepwiseDecoding = field(default_factory=Sampling)
    extract: Callable[[str], str] | None = None

    needs = frozenset({"text"})

    def __post_init__(self) -> None:
        if self.n < 1:
            raise InvalidValue("n", self.n, "at least 1")

    def generate(self, engine: Any, prompts: Sequence[Prompt], limits: Limits) -> list[Completion]:
        self.check(engine)
        self.inner.check(engine)
        samples = engine.generate([s for p in prompts for s in resampled(p, self.n)], limits, self.inner)
        return [self._vote(samples[i * self.n : (i + 1) * self.n]) for i in range(len(prompts))]

    def over(self, modifiers: Sequence[StepwiseDecoding]) -> Decoding:
        return with_inner(self, modifiers)

    def _vote(self, samples: Sequence[Completion]) -> Completion:
        extract = self.extract or last_boxed
        answers = [extract(s.text) for s in samples]
        votes = Counter(a for a in answers if a)  # insertion order breaks ties
        winner = votes.most_common(1)[0][0] if votes else ""
        chosen = samples[answers.index(winner)]
        return Completion(
            chosen.text,
            chosen.token_ids,
            chosen.logprobs,
            sum((s.cost for s in samples), Cost()),
            chosen.finish_reason,
            {**chosen.columns, "votes": dict(votes.most_common()), "samples": len(samples)},
        )


def resampled(prompt: Prompt, n: int) -> list[Prompt]:
    """``n`` copies of a prompt with independent streams; the first keeps the prompt's own."""
    from dataclasses import replace

    return [prompt, *(replace(prompt, seed=stream(prompt.seed, "sample", i)) for i in range(1, n))]


def last_boxed(text: str) -> str:
    """What stands in the last complete ``\\boxed{...}`` after thinking ended, "" if nothing does."""
    text = text.rpartition("</think>")[2]
    start = text.rfind("\\boxed{")
    if start < 0:
        return ""
    depth, begin = 1, start + len("\\boxed{")
    for at in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return text[begin:at].strip()
    return ""
