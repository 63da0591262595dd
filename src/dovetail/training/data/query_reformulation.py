"""ConvSearch-R1's data: how a turn of a conversation is put to a rewriter, and a warm-up without labels.

"ConvSearch-R1: Enhancing Query Reformulation for Conversational Search with Reasoning via Reinforcement
Learning", arXiv 2505.15776 (EMNLP 2025), sections 3.2 and 3.3. The model itself writes rewrites; those that
are well-formed and bring a right passage up first are what it then learns from (`self_distill`), before it is
trained with `rewards.RankIncentive`. No reference rewrites are needed, only which passages are right.

Costs, for the warm-up, one completion and one search per turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dovetail.core import BadData, Example, InvalidValue, Limits, Message
from dovetail.core.seeds import stream
from dovetail.decoding import Sampling
from dovetail.decoding.base import Decoding
from dovetail.models.local import LocalModel
from dovetail.rewards.rank_incentive import Ranker, Rewrite, parse_rewrite
from dovetail.training.data.base import Data

INSTRUCTION = """\
Rewrite the last query of a conversation so that a search engine understands it without the conversation.
First think about what the query refers to and what it leaves out, and resolve both. Keep what is asked, and \
say as much as will help the search engine to find the passage that answers it.
Answer in exactly this form:
<think>your reasoning</think>
<rewrite>the rewritten query</rewrite>"""
EXAMPLE = """\
### Conversation
Q1: Who wrote the opera Fidelio?
A1: Ludwig van Beethoven.
### End of conversation
Query: When was it first performed?
Rewrite:
<think>"it" is the opera Fidelio by Ludwig van Beethoven. The query asks when it was first performed.</think>
<rewrite>When was Ludwig van Beethoven's opera Fidelio first performed? date of its premiere</rewrite>"""
UNANSWERABLE = "UNANSWERABLE"


@dataclass(frozen=True)
class QueryReformulation(Data):
    """Puts each example's question as one message: instruction, conversation so far, query.

    What was said before is the column ``history``: pairs of question and answer, or a flat list of both in
    turns. Without it, it is the example's own earlier messages.

    Attributes:
        instruction: asks for the form that `rewards.RankIncentive` pays.
        example: stands between instruction and conversation; "" for none. Give `EXAMPLE`, or some of your
            own, where the model has not learned the form yet.
        begin, end: lines around the conversation.
        query, cue: stand before the query, and at the end.
    """

    instruction: str = INSTRUCTION
    example: str = ""
    begin: str = "### Conversation"
    end: str = "### End of conversation"
    query: str = "Query: "
    cue: str = "Rewrite:"

    def examples(self, examples: Sequence[Example], seed: int) -> Sequence[Example]:
        """The same ones; an impossible history is told before the first step."""
        for example in examples:
            history(example)
        return examples

    def ask(self, example: Example, messages: Sequence[Message]) -> Sequence[Message]:
        system = [m for m in messages if m.role == "system"]
        return [*system, Message("user", self.prompt(example.question, history(example)))]

    def prompt(self, question: str, told: Sequence[tuple[str, str]]) -> str:
        """The message for a question after ``told``."""
        lines = [self.instruction, self.example, self.begin if told else ""]
        for i, (asked, answered) in enumerate(told, 1):
            lines += [f"Q{i}: {asked}", f"A{i}: {answered}"]
        lines += [self.end if told else "", f"{self.query}{question}", self.cue]
        return "\n".join(line for line in lines if line)


def history(example: Example) -> list[tuple[str, str]]:
    """What was asked and answered before an example's question; a blank answer reads `UNANSWERABLE`.

    Raises:
        BadData: a question without an answer, or no text; names the example and the turn.
    """
    told = example.columns.get("history")
    where = f"example {example.id}: history"
    if told is None:
        said = [m for m in example.messages if m.role != "system"][:-1]
        if [m.role for m in said] != ["user", "assistant"] * (len(said) // 2):
            raise BadData(f"{where}: its messages are not questions and answers in turns")
        told = [m.content for m in said]
    if isinstance(told, str) or not isinstance(told, Sequence):
        raise BadData(f"{where} is {told!r}: give pairs of question and answer, or a list of both in turns")
    pairs: list[Any] = list(told)
    if pairs and all(isinstance(one, str) or one is None for one in pairs):
        if len(pairs) % 2:
            raise BadData(f"{where}, turn {len(pairs) // 2 + 1}: the question {pairs[-1]!r} has no answer")
        pairs = list(zip(pairs[::2], pairs[1::2], strict=True))
    found = []
    for turn, pair in enumerate(pairs, 1):
        if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
            raise BadData(f"{where}, turn {turn}: {pair!r} is no question with its answer")
        asked, answered = pair
        if not isinstance(asked, str) or not asked.strip():
            raise BadData(f"{where}, turn {turn}: the question is {asked!r}, which is no text")
        if answered is not None and not isinstance(answered, str):
            raise BadData(f"{where}, turn {turn}: the answer is {answered!r}, which is no text")
        found.append((asked, answered if answered and answered.strip() else UNANSWERABLE))
    return found


@dataclass(frozen=True)
class Distilled:
    """What `self_distill` kept, and what became of the rest.

    Attributes:
        rows: examples with the column ``completion``, for `training.objectives.Supervised`.
        asked: turns that were rewritten.
        malformed: rewrites that had not the form.
        missed: well-formed ones that did not bring a right passage up first.
    """

    rows: Sequence[Example]
    asked: int
    malformed: int
    missed: int


def self_distill(
    model: LocalModel,
    examples: Sequence[Example],
    ranker: Ranker,
    reformulation: QueryReformulation | None = None,
    *,
    column: str = "id",
    samples: int = 1,
    decoding: Decoding | None = None,
    max_new_tokens: int = 512,
    thinking: bool = True,
    seed: int = 0,
) -> Distilled:
    """Lets the model rewrite every turn, and keeps what is well-formed and finds a right passage at rank 1.

    The rows hold the turns as they were: learned with a `QueryReformulation` without ``example``, the model
    comes to do without one.

    Args:
        ranker: as of `rewards.RankIncentive`; ``column`` is what it is given beside the queries ("id": the
            example's own id).
        reformulation: how turns are put here; None is one with `EXAMPLE`.
        samples: rewrites of each turn; different ones that pass are all kept.
        decoding: None samples at temperature 0.7, as the paper does.

    Raises:
        InvalidValue: no examples or samples; a ranker that miscounts.
        BadData: an impossible history, or an example without the column.
    """
    if not examples:
        raise InvalidValue("examples", examples, "at least one turn")
    if samples < 1:
        raise InvalidValue("samples", samples, "at least 1")
    put = QueryReformulation(example=EXAMPLE) if reformulation is None else reformulation
    golds = [_gold(example, column) for example in examples]
    prompts = [
        model.prompt(put.ask(e, e.messages), thinking=thinking, seed=stream(seed, "self-distill", e.id, k))
        for e in examples
        for k in range(samples)
    ]
    written = (decoding or Sampling(temperature=0.7)).generate(model.engine, prompts, Limits(max_new_tokens))
    # A template may open the thinking itself.
    parsed = [parse_rewrite(p.assistant_prefix + c.text) for p, c in zip(prompts, written, strict=True)]
    good = [i for i, one in enumerate(parsed) if one is not None]
    queries = [one.query for one in parsed if one is not None]
    ranks = list(ranker(queries, [golds[i // samples] for i in good])) if good else []
    if len(ranks) != len(good):
        raise InvalidValue("ranker", f"{len(ranks)} ranks", f"one for each of {len(good)} queries")
    rows: dict[tuple[str, str], Example] = {}
    for i, rank in zip(good, ranks, strict=True):
        rewrite = parsed[i]
        if rank == 1 and rewrite is not None:
            example = examples[i // samples]
            rows.setdefault((example.id, rewrite.query), _row(example, rewrite, i % samples))
    missed = sum(rank != 1 for rank in ranks)
    return Distilled(tuple(rows.values()), len(prompts), len(prompts) - len(good), missed)


def written(rewrite: Rewrite) -> str:
    """A rewrite in the form that is asked for."""
    return f"<think>{rewrite.think}</think>\n<rewrite>{rewrite.query}</rewrite>"


def _row(example: Example, rewrite: Rewrite, sample: int) -> Example:
    columns: Mapping[str, Any] = {**example.columns, "completion": written(rewrite)}
    return replace(example, id=f"{example.id}-distilled-{sample}", columns=columns)


def _gold(example: Example, column: str) -> Any:
    if column == "id":
        return example.id
    if example.columns.get(column) is None:
        raise BadData(f"example {example.id} has no column {column!r}, which the ranker is given")
    return example.columns[column]
