"""Boundary-aware data: what does this model know, and how should it reason where it does and where not?

"BARREL: Boundary-Aware Reasoning for Factual and Reliable LRMs", arXiv 2505.13529 (ICLR 2026). Every question
is labelled by asking the *original* model K * L times: known if one answer is right. Known questions get a
trace that recalls, rejects what else it might be, and answers; unknown ones a trace that finds no support for
any candidate and says so. `Supervised` learns these; training with `rewards.BoundaryReward` follows, without
labels. Costs K * L answers per question, once.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dovetail.core import Example, InvalidValue, Limits, Message
from dovetail.core.seeds import stream
from dovetail.decoding.base import Decoding
from dovetail.decoding.sampling import Sampling
from dovetail.models.local import LocalModel
from dovetail.rewards.boundary import CLOSING, BoundaryReward, contained, extract_answer
from dovetail.tasks.scorers.answer import references
from dovetail.training.data.base import Data

#: (questions, number of the prompt, how many answers each) -> the answers to each question.
Sample = Callable[[Sequence[str], int, int], Sequence[Sequence[str]]]
#: (question, accepted answer, known) -> a trace with its closing mark, and the answer after it.
Writer = Callable[[str, str, bool], str]
Match = Callable[[str, str], bool]

REFUSAL = "Sorry, I must say that I do not clearly know the answer to your question."


@dataclass(frozen=True)
class Knowledge:
    """What a model knows of a question.

    Attributes:
        known: at least one sampled answer was right.
        hit_rate: share of the sampled answers that were.
    """

    known: bool
    hit_rate: float


def label_knowledge(
    sample: Sample,
    questions: Sequence[str],
    golds: Sequence[Sequence[str]],
    n_prompts: int = 4,
    n_samples: int = 4,
    match: Match = contained,
) -> list[Knowledge]:
    """What is known of each question, by ``n_samples`` answers under each of ``n_prompts`` prompts.

    More samples of `few_shot` are drawn in addition to the fewer, so they never turn known into unknown. The
    paper's K and L were not found; 4 and 4 are a choice after Gekhman et al.

    Args:
        sample: asks the model; `few_shot` makes one.
        golds: accepted answers of each question, at least one.

    Raises:
        InvalidValue: no prompts or samples; a question without a list of accepted answers; a sampler that
            gives another number of answers.
        TypeError: an answer that is no text.
    """
    for name, value in (("n_prompts", n_prompts), ("n_samples", n_samples)):
        if value < 1:
            raise InvalidValue(name, value, "at least 1")
    if len(golds) != len(questions):
        raise InvalidValue("golds", f"{len(golds)} lists", f"one for each of {len(questions)} questions")
    for question, accepted in zip(questions, golds, strict=True):
        _check_golds(question, accepted)
    hits = [0] * len(questions)
    for prompt in range(n_prompts):
        answers = sample(questions, prompt, n_samples)
        if len(answers) != len(questions) or any(len(given) != n_samples for given in answers):
            raise InvalidValue("sample", [len(given) for given in answers], f"{n_samples} answers each")
        for row, given in enumerate(answers):
            hits[row] += sum(_right(text, golds[row], match) for text in given)
    total = n_prompts * n_samples
    return [Knowledge(n > 0, n / total) for n in hits]


def few_shot(
    model: LocalModel,
    prompts: Sequence[Sequence[Message]],
    *,
    decoding: Decoding | None = None,
    max_new_tokens: int = 256,
    thinking: bool = True,
    seed: int = 0,
) -> Sample:
    """Asks a model, with other turns before the question in each prompt.

    Args:
        prompts: the messages before the question: worked questions (a user's and an assistant's turn each), a
            system message, or none at all.
        decoding: `Sampling()` (temperature 1) if None.
    """

    def sample(questions: Sequence[str], prompt: int, count: int) -> list[list[str]]:
        if not 0 <= prompt < len(prompts):
            raise InvalidValue("n_prompts", prompt + 1, f"at most {len(prompts)}, the prompts there are")
        asked = [
            model.prompt(
                [*prompts[prompt], Message("user", q)],
                thinking=thinking,
                seed=stream(seed, "knowledge", prompt, i, q),
            )
            for q in questions
            for i in range(count)
        ]
        written = (decoding or Sampling()).generate(model.engine, asked, Limits(max_new_tokens))
        texts = [c.text for c in written]
        return [texts[i : i + count] for i in range(0, len(texts), count)]

    return sample


# --- traces ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TemplateWriter:
    """Traces by template: for tests, and for models too small for prose.

    Attributes:
        candidates: what a wrong answer may be; those that resemble the accepted one are left out.
        known, unknown: ``{gold}``, ``{first}`` and ``{second}`` are replaced by the accepted answer and by
            two candidates; ``{gold}`` must not stand in the second.
        seed: of the choice of candidates.
    """

    candidates: tuple[str, ...]
    known: str = (
        "<think>\nLet me recall what I know of this. I clearly remember {gold}.\nCould it be {first}? I know "
        "nothing that supports it.\nCould it be {second}? Nothing supports it either.\nSo it is {gold}.\n"
        "</think>\n\nThe answer is \\boxed{{gold}}, which I clearly remember."
    )
    unknown: str = (
        "<think>\nLet me recall what I know of this.\nCould it be {first}? I know nothing that supports it.\n"
        "Could it be {second}? Nothing supports it either.\nI am not certain of any answer.\n</think>\n\n"
        f"{REFUSAL} I found no evidence for any candidate."
    )
    seed: int = 0

    def __post_init__(self) -> None:
        if "{gold}" not in self.known:
            raise InvalidValue("known", self.known, "a text with {gold}")
        if "{gold}" in self.unknown:
            raise InvalidValue("unknown", self.unknown, "without {gold}, which it must not mention")

    def __call__(self, question: str, gold: str, known: bool) -> str:
        others = [
            c for c in dict.fromkeys(self.candidates) if not _mentions(c, gold) and not _mentions(gold, c)
        ]
        if len(others) < 2:
            raise InvalidValue("candidates", self.candidates, f"at least two that are not {gold!r}")
        first, second = random.Random(stream(self.seed, "candidates", question)).sample(others, 2)
        text = self.known if known else self.unknown
        for name, value in (("gold", gold), ("first", first), ("second", second)):
            text = text.replace(f"{{{name}}}", value)
        return text


_PROMPT = """Write the thoughts of a careful model that answers a question from memory, then its answer.

{case}

Begin by recalling what is known about the subject. For every candidate ask what specific evidence supports
it, and criticise it. Write the thoughts between <think> and </think>, and the answer after them.

Question: {question}
{reference}"""
_CASES = {
    True: "The model knows the answer: {gold}. First recall the strong evidence for it; then weigh other "
    "candidates and reject them for want of evidence; then confirm. The answer restates the question, gives "
    "\\boxed{{gold}}, and supports it briefly.",
    False: "The model does not know. Weigh several plausible candidates, none of them the reference answer "
    "below, which must not be mentioned; reject each for want of evidence; admit that none is certain. "
    'The answer begins "{refusal}" and gives a short reason.',
}


def writing_prompt(question: str, gold: str, known: bool) -> str:
    """What a language model is asked that writes traces; own words for the two prompts of the paper."""
    case = _CASES[known].replace("{gold}", gold).replace("{refusal}", REFUSAL)
    reference = "" if known else f"Reference answer, not to be mentioned: {gold}"
    filled = {"{case}": case, "{question}": question, "{reference}": reference}
    return re.sub(r"\{(?:case|question|reference)\}", lambda m: filled[m[0]], _PROMPT)


def written_by(model: Callable[[str], str]) -> Writer:
    """A writer that asks a language model (the paper's is GPT-4): prompt -> reply."""
    return lambda question, gold, known: model(writing_prompt(question, gold, known))


def build_boundary_sft(
    questions: Sequence[str],
    golds: Sequence[Sequence[str]],
    labels: Sequence[Knowledge],
    writer: Writer,
    match: Match = contained,
) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Rows ``{"input", "output", "known"}`` to learn from, and how many questions gave none, by reason.

    A trace must be worth what its label says: the right answer of a known question; a refusal, which nowhere
    mentions an accepted answer, of another.
    """
    rows: list[dict[str, Any]] = []
    skipped = Counter[str]()
    for question, accepted, label in zip(questions, golds, labels, strict=True):
        _check_golds(question, accepted)
        output = writer(question, accepted[0], label.known)
        reason = _fault(output, accepted, label.known, match)
        if reason:
            skipped[reason] += 1
        else:
            rows.append({"input": question, "output": output, "known": label.known})
    return rows, skipped


def _fault(output: str, golds: Sequence[str], known: bool, match: Match) -> str:
    """Why a trace will not do; "" if it will."""
    reward = BoundaryReward(match=match)
    worth = reward.worth(output, golds)
    if known:
        return "" if worth == reward.right else "a known question's trace does not give the answer"
    if worth != reward.refusal:
        return "an unknown question's trace does not refuse"
    mentioned = any(_mentions(output, gold) for gold in golds)
    return "an unknown question's trace mentions the answer" if mentioned else ""


def _mentions(text: str, gold: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(gold.strip())}(?!\w)", text, re.IGNORECASE) is not None


def _right(text: str, golds: Sequence[str], match: Match) -> bool:
    if not isinstance(text, str):
        raise TypeError(f"an answer must be a text, not {type(text).__name__}")
    said = text.rpartition(CLOSING)[2]
    answer = extract_answer(said) or said
    return any(match(answer, gold) for gold in golds)


def _check_golds(question: str, golds: Any) -> None:
    if isinstance(golds, str) or not isinstance(golds, Sequence) or not golds:
        raise InvalidValue(f"golds of {question!r}", golds, "a list of accepted answers, at least one")
    if not all(isinstance(gold, str) and gold.strip() for gold in golds):
        raise InvalidValue(f"golds of {question!r}", golds, "texts that are not blank")


# --- as a part of a training ----------------------------------------------------------------------------


@dataclass
class BoundaryAware(Data):
    """Labels every example as known or not, and gives it the trace that `Supervised` learns.

    The examples get columns ``known``, ``hit_rate`` and ``completion``; those whose trace will not do are
    left out and counted in `skipped`. Labels that examples have already (column ``known``) are kept.

    Attributes:
        sample: asks the original model (`few_shot`); not needed where all examples have labels.
        writer: writes traces (`written_by` a language model); None takes a `TemplateWriter` whose candidates
            are the accepted answers of the other examples.
        n_prompts, n_samples: K and L of `label_knowledge`.
        match: whether an answer is the accepted one; the official rule by default.
    """

    sample: Sample | None = None
    writer: Writer | None = None
    n_prompts: int = 4
    n_samples: int = 4
    match: Match = contained
    skipped: dict[str, int] = field(default_factory=dict, init=False)
    _figures: dict[str, float] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("n_prompts", "n_samples"):
            if getattr(self, name) < 1:
                raise InvalidValue(name, getattr(self, name), "at least 1")

    def examples(self, examples: Sequence[Example], seed: int) -> Sequence[Example]:
        labelled = self.labelled(examples)
        golds = [list(references(e)) for e in labelled]
        writer = self.writer or TemplateWriter(tuple(g[0] for g in golds), seed=seed)
        made, skipped = [], Counter[str]()
        for example, accepted in zip(labelled, golds, strict=True):
            label = Knowledge(bool(example.columns["known"]), float(example.columns["hit_rate"]))
            rows, fault = build_boundary_sft([example.question], [accepted], [label], writer, self.match)
            skipped += fault
            made += [
                replace(example, columns={**example.columns, "completion": row["output"]}) for row in rows
            ]
        self.skipped = dict(skipped)
        count = max(1, len(made))
        self._figures = {
            "boundary/known": sum(bool(e.columns["known"]) for e in made) / count,
            "boundary/hit_rate": sum(float(e.columns["hit_rate"]) for e in made) / count,
            "boundary/skipped": float(sum(skipped.values())),
        }
        return made

    def labelled(self, examples: Sequence[Example]) -> list[Example]:
        """The examples with columns ``known`` and ``hit_rate`` (where it is not given, 1 or 0).

        Raises:
            InvalidValue: an example has no accepted answer, or no label while there is no ``sample``; names
                it.
        """
        for example in examples:
            if not references(example):
                raise InvalidValue(f"reference of {example.id}", example.reference, "an accepted answer")
        asked = [e for e in examples if e.columns.get("known") is None]
        if asked and self.sample is None:
            raise InvalidValue(
                f"column 'known' of {asked[0].id}",
                None,
                "given, or BoundaryAware(sample=few_shot(model, ...))",
            )
        found: Mapping[str, Knowledge] = {}
        if asked and self.sample is not None:
            labels = label_knowledge(
                self.sample,
                [e.question for e in asked],
                [list(references(e)) for e in asked],
                self.n_prompts,
                self.n_samples,
                self.match,
            )
            found = {e.id: label for e, label in zip(asked, labels, strict=True)}
        made = []
        for e in examples:
            known = found[e.id].known if e.id in found else bool(e.columns["known"])
            rate = found[e.id].hit_rate if e.id in found else e.columns.get("hit_rate", float(known))
            made.append(replace(e, columns={**e.columns, "known": known, "hit_rate": rate}))
        return made

    def figures(self) -> Mapping[str, float]:
        return self._figures
