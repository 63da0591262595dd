"""Searches over partial solutions that a verifier guides: what they share, Best-of-N and DVTS.

A search alternates chunks of steps with calls of the verifier, which say what goes on. The questions of a
wave are searched side by side: all their beams are rows of one batch, forked and pruned with their caches.
What a question's beams write depends on its own random stream only.

Lightman et al., "Let's Verify Step by Step", arXiv 2305.20050 (Best-of-N with a process verifier); Beeching
et al., "Scaling test-time compute with open models", 2024 (beam search and DVTS as compared there).
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from dovetail.core import Completion, Cost, InvalidValue, Limits, Prompt
from dovetail.core.seeds import stream
from dovetail.decoding.base import Decoding, StepwiseDecoding, with_inner
from dovetail.decoding.sampling import Greedy, Sampling
from dovetail.decoding.self_consistency import last_boxed, resampled
from dovetail.decoding.steps import REASONS, StepWriter
from dovetail.decoding.verifiers import HiddenStateVerifier, TokenConfidence, Verifier, checked
from dovetail.engine import Batch

AGGREGATES: Mapping[str, Callable[[Sequence[float]], float]] = {
    "last": lambda scores: scores[-1],
    "min": min,
    "prod": prod,
}
"""A beam's score from the scores of its steps."""


@dataclass(frozen=True)
class VerifiedSearch(Decoding):
    """What the searches have in common.

    Attributes:
        n: beams per question.
        verifier: None is `TokenConfidence`; a path is a saved `HiddenStateVerifier`.
        agg: a beam's score is its "last" step's, the "min" of all, or their "prod".
        pick: among the finished beams take the "naive" best score, or the answer with the largest "weighted"
            sum of scores, or the "majority".
        max_steps: L; the last step is written to the end of the solution.
        delimiter: the text that ends a step ("\\n\\n" in the paper). None: a blank line ends a step, and as
            long as a beam has not written any blank line, so does a line break.
        max_tokens_per_step: a longer step ends its beam.
        inner: how each token is chosen; must be random.
        extract: text -> answer to vote over; None takes what stands in the last ``\\boxed{}``.
    """

    n: int = 4
    verifier: Verifier | str | None = None
    agg: Literal["last", "min", "prod"] = "last"
    pick: Literal["naive", "weighted", "majority"] = "naive"
    max_steps: int = 12
    delimiter: str | None = None
    max_tokens_per_step: int = 2048
    inner: StepwiseDecoding = field(default_factory=lambda: Sampling(temperature=0.8))
    extract: Callable[[str], str] | None = None

    lookahead: ClassVar[int] = 0

    def __post_init__(self) -> None:
        for name in ("n", "max_steps", "max_tokens_per_step"):
            value = getattr(self, name)
            if int(value) != value or value < 1:
                raise InvalidValue(name, value, "a whole number, at least 1")
        if self.agg not in AGGREGATES:
            raise InvalidValue("agg", self.agg, f"one of {', '.join(AGGREGATES)}")
        if self.pick not in ("naive", "weighted", "majority"):
            raise InvalidValue("pick", self.pick, "naive, weighted or majority")
        if self.delimiter == "":
            raise InvalidValue("delimiter", "", "a text, or none for blank lines or line breaks")
        greedy = isinstance(self.inner, Greedy) or getattr(self.inner, "temperature", 1) == 0
        if greedy and self.n > 1:
            raise InvalidValue("inner", self.inner, "random (temperature above 0): equal beams are no search")

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset({"logits", "cache"}) | self.judge.needs

    @property
    def judge(self) -> Verifier:
        """The verifier itself."""
        if isinstance(self.verifier, str):
            if not Path(self.verifier).is_file():
                raise InvalidValue("verifier", self.verifier, "the path of a saved HiddenStateVerifier")
            return HiddenStateVerifier.load(self.verifier)
        return self.verifier or TokenConfidence()

    @abstractmethod
    def chunks(self) -> list[int]:
        """Steps between calls of the verifier; they add up to ``max_steps``."""

    @abstractmethod
    def keep(self, scores: Sequence[float], done: Sequence[bool], slots: Sequence[int]) -> list[int]:
        """Which of a question's candidates, at least one of them unfinished, go on (positions, best first).

        Args:
            scores: of all candidates of this round.
            done: which are finished, so cannot go on.
            slots: each one's number among the ``n`` copies.
        """

    def fork(self, survivors: int) -> list[int]:
        """Which survivor each of the ``n`` copies continues: in turn."""
        return [i % survivors for i in range(self.n)]

    def over(self, modifiers: Sequence[StepwiseDecoding]) -> Decoding:
        stacked: Decoding = with_inner(self, modifiers)
        return stacked

    def generate(self, engine: Any, prompts: Sequence[Prompt], limits: Limits) -> list[Completion]:
        """One completion per prompt. Its cost is that of all beams; ``columns`` hold ``score`` (of what was
        picked), ``finished`` (beams that were), ``steps`` (written by all beams), ``verifier_calls``,
        ``verified`` (texts scored), ``verifier_tokens`` and ``flops``."""
        self.check(engine)
        self.inner.check(engine)
        wave = max(1, engine.max_rows // self.n)
        found: list[Completion] = []
        for at in range(0, len(prompts), wave):
            found += _Wave(self, engine, prompts[at : at + wave], limits).run()
        return found


@dataclass(frozen=True)
class BestOfN(VerifiedSearch):
    """Writes ``n`` whole solutions and takes the one that the verifier likes best.

    Attributes:
        n: solutions per question.
        verifier, agg, pick, max_steps, delimiter, max_tokens_per_step, inner, extract: see `VerifiedSearch`.
    """

    def chunks(self) -> list[int]:
        return [self.max_steps]

    def keep(self, scores: Sequence[float], done: Sequence[bool], slots: Sequence[int]) -> list[int]:
        return []


@dataclass(frozen=True)
class DVTS(VerifiedSearch):
    """Diverse verifier tree search: independent subtrees, each of which keeps its best candidate.

    Attributes:
        n: candidates per step, in n / beam_width subtrees.
        beam_width: candidates of a subtree.
        verifier, agg, pick, max_steps, delimiter, max_tokens_per_step, inner, extract: see `VerifiedSearch`.
    """

    beam_width: int = 4

    def __post_init__(self) -> None:
        VerifiedSearch.__post_init__(self)
        check_width(self.n, self.beam_width)

    def chunks(self) -> list[int]:
        return [1] * self.max_steps

    def keep(self, scores: Sequence[float], done: Sequence[bool], slots: Sequence[int]) -> list[int]:
        best: dict[int, int] = {}
        for i, slot in enumerate(slots):
            tree = slot // self.beam_width
            if tree not in best or scores[i] > scores[best[tree]]:
                best[tree] = i
        return [i for i in best.values() if not done[i]]

    def fork(self, survivors: int) -> list[int]:
        return [i for i in range(survivors) for _ in range(self.beam_width)]


def check_width(n: int, beam_width: int) -> None:
    """Raises InvalidValue unless ``n`` candidates make whole beams of ``beam_width``."""
    if int(beam_width) != beam_width or beam_width < 1:
        raise InvalidValue("beam_width", beam_width, "a whole number, at least 1")
    if n % beam_width:
        raise InvalidValue("n", n, f"a multiple of beam_width, {beam_width}")


def weights_per_token(engine: Any) -> int:
    """Weights that a token passes through: all matrices; an embedding counts where it is also the head."""
    network = engine.network
    matrices = {id(p): p.numel() for p in network.parameters() if p.dim() > 1}
    table, out = network.get_input_embeddings().weight, network.get_output_embeddings().weight
    return sum(matrices.values()) - (0 if table is out else table.numel())


@dataclass
class _Finished:
    completion: Completion
    score: float


class _Wave:
    """The questions that are searched side by side."""

    def __init__(
        self, search: VerifiedSearch, engine: Any, prompts: Sequence[Prompt], limits: Limits
    ) -> None:
        self.search, self.engine, self.prompts, self.limits = search, engine, prompts, limits
        self.verifier = search.judge
        self.writer = StepWriter(
            engine,
            prompts,
            limits,
            search.inner,
            search.max_steps + search.lookahead,
            search.delimiter,
            search.max_tokens_per_step,
            "hidden" in self.verifier.needs,
        )
        questions = len(prompts)
        self.finished: list[list[_Finished]] = [[] for _ in range(questions)]
        self.counts = {name: [0] * questions for name in ("tokens", "steps", "calls", "verified", "read")}
        self.seconds = [0.0] * questions

    def run(self) -> list[Completion]:
        chunks = self.search.chunks()
        batch = self._begin()
        for turn, chunk in enumerate(chunks):
            unpruned = chunk if turn == 0 else 1
            if turn:
                batch = self._branch(self._write(batch, chunk - 1), turn)
            if len(batch) == 0:
                break
            batch = self._write(batch, unpruned, to_end=turn == len(chunks) - 1)
            batch = self._prune(batch)
        return [self._picked(i) for i in range(len(self.prompts))]

    def _begin(self) -> Batch:
        clock = time.perf_counter()
        n = self.search.n
        batch = self.writer.begin(n)
        batch.rows.seeds = self._tensor([s.seed for p in self.prompts for s in resampled(p, n)])
        batch.rows.state["steps.slot"] = self._tensor(list(range(n)) * len(self.prompts))
        for i in range(len(self.prompts)):
            self.seconds[i] += (time.perf_counter() - clock) / len(self.prompts)
        return batch

    def _write(
        self, batch: Batch, steps: int, to_end: bool = False, step: StepwiseDecoding | None = None
    ) -> Batch:
        """More steps of every unfinished row, put to its question's account."""
        if len(batch) == 0 or steps == 0:
            return batch
        clock = time.perf_counter()
        before = self._sums(batch)
        batch = self.writer.write(batch, steps, to_end=to_end, step=step)
        after = self._sums(batch)
        spent = [[b - a for a, b in zip(x, y, strict=True)] for x, y in zip(before, after, strict=True)]
        elapsed, total = time.perf_counter() - clock, max(1, sum(spent[0]))
        for i, (tokens, steps) in enumerate(zip(*spent, strict=True)):
            self.counts["tokens"][i] += tokens
            self.counts["steps"][i] += steps
            self.seconds[i] += elapsed * tokens / total
        return batch

    def _sums(self, batch: Batch) -> tuple[list[int], list[int]]:
        """Tokens and steps of the batch's rows, by question."""
        index = self._tensor(batch.index)
        sums = (torch.zeros(len(self.prompts), dtype=torch.int64, device=index.device) for _ in range(2))
        written = (batch.rows.step, batch.rows.state["steps.count"])
        tokens, steps = (s.index_add(0, index, x).tolist() for s, x in zip(sums, written, strict=True))
        return tokens, steps

    def _scores(self, batch: Batch) -> list[float]:
        """Every row's aggregate score; one call of the verifier for each question that has a row."""
        clock = time.perf_counter()
        if self.search.lookahead:
            ahead = batch.select(torch.arange(len(batch), device=batch.rows.device))
            ahead.rows.state["steps.place"] = torch.arange(len(batch), device=batch.rows.device)
            ahead = self._write(ahead, self.search.lookahead, step=self.writer.over(Greedy()))
            shown = ahead.select(ahead.rows.state["steps.place"].argsort())
        else:
            shown = batch
        solutions = self.writer.solutions(shown)
        scores = checked(self.verifier.score(solutions), solutions.counts.tolist())
        for question, read in zip(shown.index, self.verifier.reads(solutions).tolist(), strict=True):
            self.counts["read"][question] += read
            self.counts["verified"][question] += 1
        for question in set(shown.index):
            self.counts["calls"][question] += 1
            self.seconds[question] += (time.perf_counter() - clock) / len(set(shown.index))
        batch.rows.state["steps.scored"] = batch.rows.state["steps.count"].clone()
        return [AGGREGATES[self.search.agg](row) for row in scores]

    def _branch(self, batch: Batch, turn: int) -> Batch:
        """Takes out what ended while unverified, and forks each question's survivors to ``n`` copies."""
        ended = self._where(batch, done=True)
        if ended:
            part = batch.select(self._tensor(ended))
            self._retire(part, self._scores(part))
        rows: list[int] = []
        seeds: list[int] = []
        slots: list[int] = []
        for question, members in self._by_question(batch, self._where(batch, done=False)).items():
            if len(self.finished[question]) >= self.search.n:
                continue
            copies = self.search.fork(len(members))
            rows += [members[i] for i in copies]
            seeds += [stream(self.prompts[question].seed, "branch", turn, j) for j in range(len(copies))]
            slots += range(len(copies))
        batch = batch.select(self._tensor(rows))
        batch.rows.seeds = self._tensor(seeds)
        batch.rows.state["steps.slot"] = self._tensor(slots)
        return batch

    def _prune(self, batch: Batch) -> Batch:
        """Scores all candidates, takes out the finished ones, and keeps the survivors."""
        scores = self._scores(batch)
        state = batch.rows.state
        done = (state["steps.reason"] > 0).tolist()
        slots = state["steps.slot"].tolist()
        ended = [i for i, d in enumerate(done) if d]
        if ended:
            self._retire(batch.select(self._tensor(ended)), [scores[i] for i in ended])
        rows: list[int] = []
        for question, members in self._by_question(batch, range(len(batch))).items():
            if all(done[i] for i in members) or len(self.finished[question]) >= self.search.n:
                continue
            members.sort(key=lambda i: slots[i])
            members = self._distinct(batch, members)
            kept = self.search.keep(
                [scores[i] for i in members], [done[i] for i in members], [slots[i] for i in members]
            )
            rows += [members[i] for i in kept]
        return batch.select(self._tensor(rows))

    def _distinct(self, batch: Batch, members: list[int]) -> list[int]:
        """Without beams that wrote what another one did, if the search filters these."""
        if not getattr(self.search, "filter_duplicates", False):
            return members
        written = batch.rows.step.tolist()
        first: dict[tuple[int, ...], int] = {}
        for i in members:
            first.setdefault(tuple(batch.tokens[i, : written[i]].tolist()), i)
        return list(first.values())

    def _retire(self, ended: Batch, scores: Sequence[float]) -> None:
        """Notes the completions of finished rows."""
        for row, reason in enumerate(ended.rows.state["steps.reason"].tolist()):
            name = REASONS[reason]
            assert name is not None
            completion = self.engine.finish(ended, row, name, self.prompts, self.limits, self.writer.step)
            self.finished[ended.index[row]].append(_Finished(completion, scores[row]))

    def _picked(self, question: int) -> Completion:
        found, search = self.finished[question], self.search
        best = max(found, key=lambda f: f.score)
        if search.pick != "naive":
            extract = search.extract or last_boxed
            votes: dict[str, float] = {}
            for f in found:
                if answer := extract(f.completion.text):
                    votes[answer] = votes.get(answer, 0.0) + (f.score if search.pick == "weighted" else 1.0)
            if votes:
                winner = max(votes, key=lambda a: votes[a])
                best = max((f for f in found if extract(f.completion.text) == winner), key=lambda f: f.score)
        return self._with_costs(best, question)

    def _with_costs(self, best: _Finished, question: int) -> Completion:
        spent = {name: values[question] for name, values in self.counts.items()}
        prompt = len(self.prompts[question].ids)
        passed = weights_per_token(self.engine) * (prompt + spent["tokens"])
        columns = {
            "score": best.score,
            "finished": len(self.finished[question]),
            "steps": spent["steps"],
            "verifier_calls": spent["calls"],
            "verified": spent["verified"],
            "verifier_tokens": spent["read"],
            "flops": 2.0 * (passed + self.verifier.parameters * spent["read"]),
        }
        return replace(
            best.completion,
            logprobs=best.completion.logprobs if self.limits.logprobs else None,
            cost=Cost(
                tokens_read=prompt * self.search.n,
                tokens_written=spent["tokens"],
                forward_passes=float(spent["tokens"]),
                seconds=self.seconds[question],
            ),
            columns={**best.completion.columns, **columns},
        )

    def _where(self, batch: Batch, done: bool) -> list[int]:
        found: list[int] = ((batch.rows.state["steps.reason"] > 0) == done).nonzero()[:, 0].tolist()
        return found

    def _by_question(self, batch: Batch, rows: Sequence[int]) -> dict[int, list[int]]:
        """Rows of each question, in order of their slots."""
        groups: dict[int, list[int]] = {}
        slots = batch.rows.state["steps.slot"].tolist()
        for i in sorted(rows, key=lambda i: slots[i]):
            groups.setdefault(batch.index[i], []).append(i)
        return groups

    def _tensor(self, values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self.engine.device)
