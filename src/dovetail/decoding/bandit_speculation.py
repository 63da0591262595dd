"""BanditSpec: speculative decoding whose drafter and draft length a bandit chooses anew in every round.

Hou et al., "BanditSpec: Adaptive Speculative Decoding via Bandit Algorithms", arXiv 2505.15141 (ICML 2025),
Algorithm 3. A round drafts with one arm, verifies in one pass of the target, and rewards the arm with the
tokens it brought: the accepted ones and one of the target's own. Policies: `bandits`; arms: `drafters`.

Verification here asks what the inner decoding itself would have written at every drafted place, with the
random numbers of that place, and accepts while the draft says the same. For a draft without probabilities
this is Algorithm 6 (accepted with probability P(draft), else a token from P without the draft); beyond the
paper it makes the output, token for token, that of the inner decoding with the same seed: whatever was
drafted, and whichever arms were played. Costs a pass over 1 + n tokens in place of one token.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import median
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from dovetail.core import Completion, Cost, InvalidValue, Limits, Prompt, Unsupported, seeds
from dovetail.core.completion import FinishReason
from dovetail.decoding.bandits import Bandits, EXP3Spec, Policy, UCBSpec
from dovetail.decoding.base import Chain, Decoding, StepwiseDecoding, with_inner
from dovetail.decoding.drafters import (
    Draft,
    Drafter,
    DraftModel,
    NoDraft,
    PromptLookup,
    Proposer,
    Texts,
    argmax_only,
)
from dovetail.decoding.sampling import Greedy
from dovetail.engine import Batch, Rows, Stepwise

Ints = NDArray[np.int64]

_POLICIES: dict[str, type[Policy]] = {"ucb": UCBSpec, "exp3": EXP3Spec}


@dataclass(frozen=True)
class BanditSpeculation(Decoding):
    """Writes what ``inner`` writes, in fewer passes of the model.

    Attributes:
        policy: "ucb" (UCBSpec), "exp3" (EXP3Spec) or a policy of `bandits` with its parameters.
        drafters: the arms; None: prompt lookup of every length in ``lengths``.
        drafter: the name of a draft model, which adds an arm for every length in ``lengths``.
        lengths: of drafts, in tokens.
        inner: what is written: any stepwise decoding that mixes no inputs and remembers nothing.
        shared: False, as in the paper: every text has a bandit of its own, which starts anew with it. True:
            one bandit for all texts of a call; each round plays one arm for all rows, whose mean is its
            reward.
        reward: "tokens" per round, or "speed": tokens per second (sect. 6.2), where the arms' measured
            seconds per round count as well. Needs ``shared``; adds the arm that drafts nothing.
    """

    policy: Literal["ucb", "exp3"] | Policy = "ucb"
    drafters: tuple[Drafter, ...] | None = None
    drafter: str | None = None
    lengths: tuple[int, ...] = (2, 4, 8)
    inner: StepwiseDecoding = field(default_factory=Greedy)
    shared: bool = False
    reward: Literal["tokens", "speed"] = "tokens"

    needs = frozenset({"logits", "cache"})

    def __post_init__(self) -> None:
        if not isinstance(self.policy, Policy) and self.policy not in _POLICIES:
            raise InvalidValue("policy", self.policy, "'ucb', 'exp3' or a Policy")
        if self.reward not in ("tokens", "speed"):
            raise InvalidValue("reward", self.reward, "'tokens' or 'speed'")
        if self.reward == "speed" and not self.shared:
            raise InvalidValue(
                "reward", self.reward, "'tokens' unless shared: rows in one round share its seconds"
            )
        if self.drafters is not None:
            object.__setattr__(self, "drafters", tuple(self.drafters))  # a list would not be frozen
        if not self.arms or all(arm.n == 0 for arm in self.arms):
            raise InvalidValue("drafters", self.drafters, "at least one that drafts")
        Bandits(self.chooser, 1, len(self.arms), 1).select(np.zeros(1, dtype=np.int64), np.array([0.5]))
        _check_inner(self.inner)

    @property
    def chooser(self) -> Policy:
        return self.policy if isinstance(self.policy, Policy) else _POLICIES[self.policy]()

    @cached_property
    def arms(self) -> tuple[Drafter, ...]:
        """All arms, in order."""
        lookups = tuple(PromptLookup(n) for n in self.lengths) if self.drafters is None else self.drafters
        models = tuple(DraftModel(self.drafter, n) for n in self.lengths) if self.drafter else ()
        idle = (NoDraft(),) if self.reward == "speed" and self.drafters is None else ()
        return (*idle, *lookups, *models)

    def generate(self, engine: Any, prompts: Sequence[Prompt], limits: Limits) -> list[Completion]:
        """See `Decoding.generate`; ``columns`` tell rounds, tokens per round and pulls of each arm.

        Raises:
            InvalidValue: a draft model of another vocabulary; an empty prompt.
        """
        done = dict(self.stream(engine, prompts, limits))
        return [done[i] for i in range(len(prompts))]

    def stream(
        self, engine: Any, prompts: Sequence[Prompt], limits: Limits
    ) -> Iterator[tuple[int, Completion]]:
        """`generate`, giving each prompt's index and completion as soon as it is written."""
        self.check(engine)
        yield from _Speculation(self, engine, prompts, limits).run()

    def over(self, modifiers: Sequence[StepwiseDecoding]) -> Decoding:
        return with_inner(self, modifiers)

    def check(self, engine: Any) -> None:
        super().check(engine)
        for arm in self.arms:
            arm.check(engine)


def _check_inner(inner: StepwiseDecoding) -> None:
    """What is drafted ahead must not depend on what a method remembers or feeds back."""
    for part in inner.parts if isinstance(inner, Chain) else (inner,):
        kind = type(part)
        if "embeddings" in part.needs:
            why = "feeds mixtures of tokens back, which no drafter can guess"
        elif kind.begin is not Stepwise.begin or kind.stop is not Stepwise.stop:
            why = "remembers what was written from step to step, and drafts are verified all at once"
        elif kind.hook is not Stepwise.hook:
            why = "changes layers step by step, and drafts are verified all at once"
        else:
            continue
        raise Unsupported(f"{kind.__name__} {why}: it cannot be written speculatively")


class _Speculation:
    """One call: its texts, its bandits, and the rows in flight.

    What decides a round is small and lives on the host, by prompt (P of them); the device is asked once per
    round. B rows of the batch, K arms, n drafted tokens, T = 1 + n tokens per pass, V vocabulary.
    """

    def __init__(
        self, method: BanditSpeculation, engine: Any, prompts: Sequence[Prompt], limits: Limits
    ) -> None:
        self.engine, self.prompts, self.limits, self.inner = engine, prompts, limits, method.inner
        self.device: torch.device = engine.device
        self.plain = argmax_only(method.inner)
        self.arms, self.shared, self.timed = method.arms, method.shared, method.reward == "speed"
        count, longest = len(prompts), max(arm.n for arm in self.arms)
        self.bandits = Bandits(method.chooser, 1 if self.shared else count, len(self.arms), longest)
        self.streams = torch.tensor([seeds.stream(p.seed, "bandit") for p in prompts])
        self.drafters = list({arm.source: arm for arm in self.arms}.values())
        sources = [drafter.source for drafter in self.drafters]
        self.source = np.array([sources.index(arm.source) for arm in self.arms])  # [K]
        self.longest = np.array([arm.n for arm in self.arms])  # [K]
        self.proposers: list[Proposer] = []  # one for each drafter
        # By token; the last is for -1, which is none.
        self.ends = np.zeros(max(engine.forward.vocab_size, *engine.end_ids, 0) + 2, dtype=bool)
        self.ends[list(engine.end_ids)] = True
        self.prompt_lengths = np.array([len(p.ids) for p in prompts])
        width = int(self.prompt_lengths.max(initial=0)) + limits.max_new_tokens
        self.texts: Ints = np.zeros((count, width), dtype=np.int64)
        self.logprobs = np.zeros((count, width))
        self.lengths = self.prompt_lengths.copy()
        self.room = np.zeros(count, dtype=np.int64)
        self.pulls = np.zeros((count, len(self.arms)), dtype=np.int64)
        self.clocks = [deque[float](maxlen=15) for _ in self.arms]
        self.taken = np.full(len(self.arms), np.inf)  # median seconds of a round; inf before the first
        self.seconds = np.zeros(count)
        self.reasons: dict[int, FinishReason] = {}

    def run(self) -> Iterator[tuple[int, Completion]]:
        self.engine.check_prompts(self.prompts)
        self.engine.forward.refresh()
        waiting = list(range(len(self.prompts)))[::-1]
        batch: Batch | None = None
        most, given = self.engine.max_rows, 0
        while waiting or batch is not None:
            # inference_mode must not stay open across a yield, where the caller's code runs.
            with torch.inference_mode():
                free = most - (0 if batch is None else len(batch))
                # Joining copies the caches, so rows join several at a time.
                if waiting and (batch is None or free >= min(len(waiting), max(1, most // 4))):
                    batch = self._admit(batch, [waiting.pop() for _ in range(min(free, len(waiting)))])
                assert batch is not None
                clock = time.perf_counter()  # reading prompts is on the account of those that were read
                alive = [i for i in batch.index if i not in self.reasons]
                if alive:
                    self._round(batch)
                    self.seconds[alive] += (time.perf_counter() - clock) / len(alive)
                batch = self._thin(batch)
            for i in list(self.reasons)[given:]:
                yield i, self._completion(i)
            given = len(self.reasons)

    # --- rows come and go ---------------------------------------------------------------------------------

    def _admit(self, batch: Batch | None, index: list[int]) -> Batch:
        """Reads prompts and writes their first tokens."""
        clock = time.perf_counter()
        prompts = [self.prompts[i] for i in index]
        fresh: Batch = self.engine.begin(prompts, self.limits, self.inner, index)
        for i, prompt in zip(index, prompts, strict=True):
            self.texts[i, : len(prompt.ids)] = prompt.ids
        where = np.array(index)
        self.room[where] = fresh.room.cpu().numpy()
        chosen, logprobs = self._choose(fresh.rows, fresh.logits[:, None])
        self._keep(where, chosen.cpu().numpy(), np.zeros(len(index), dtype=np.int64), logprobs)
        ids = [prompt.ids for prompt in prompts]
        opened = [drafter.open(self.engine, self.inner).begin(ids) for drafter in self.drafters]
        if batch is None:
            self.proposers, batch = opened, fresh
        else:
            self.proposers = [p.join(new) for p, new in zip(self.proposers, opened, strict=True)]
            batch = batch.join(fresh)
        self.seconds[where] += (time.perf_counter() - clock) / len(index)
        return batch

    def _thin(self, batch: Batch) -> Batch | None:
        """Takes finished rows out, several at a time: a few idle rows cost less than copying the caches."""
        alive = [i not in self.reasons for i in batch.index]
        gone = len(batch) - sum(alive)
        if gone == len(batch):
            return None
        if gone < (len(batch) + 7) // 8:
            return batch
        staying = torch.tensor(alive, device=self.device).nonzero()[:, 0]
        self.proposers = [proposer.select(staying) for proposer in self.proposers]
        return batch.select(staying)

    def _completion(self, i: int) -> Completion:
        start, end = int(self.prompt_lengths[i]), int(self.lengths[i])
        ids = self.texts[i, start:end].tolist()
        rounds = int(self.pulls[i].sum())
        return Completion(
            self.engine.text(ids, self.limits.stop),
            tuple(ids),
            tuple(self.logprobs[i, start:end].tolist()) if self.limits.logprobs else None,
            Cost(
                tokens_read=start,
                tokens_written=len(ids),
                forward_passes=1.0 + rounds,
                seconds=float(self.seconds[i]),
            ),
            self.reasons[i],
            {
                "rounds": rounds,
                "tokens_per_round": (len(ids) - 1) / rounds if rounds else None,
                "pulls": {a.label: n for a, n in zip(self.arms, self.pulls[i].tolist(), strict=True)},
            },
        )

    # --- a round ------------------------------------------------------------------------------------------

    def _round(self, batch: Batch) -> None:
        """Every row drafts with its arm, verifies, and keeps what was accepted and one token more."""
        clock = time.perf_counter()
        where, cache = np.array(batch.index), batch.cache
        alive = np.array([i not in self.reasons for i in batch.index])
        batch.rows.step = self._sent(self.lengths[where] - self.prompt_lengths[where])
        arms = self._select(where)
        draft = self._draft(batch.rows, where, arms, alive)
        n = draft.tokens.shape[1]
        pending = self._sent(self.texts[where, self.lengths[where] - 1])
        valid = None
        if (draft.counts < n).any():
            valid = self._sent(np.arange(n + 1) <= draft.counts[:, None])
        ids = torch.cat([pending[:, None], draft.tokens], 1)
        logits = self.engine.forward(cache, ids, valid=valid, all_logits=True).logits
        chosen, logprobs = self._choose(batch.rows, logits)
        # The one time that the device is asked.
        told = torch.cat([chosen, draft.tokens], 1).cpu().numpy()
        written, drafted = told[:, : n + 1], told[:, n + 1 :]
        agree = (written[:, :n] == drafted) & (np.arange(n) < draft.counts[:, None])
        accepted = np.logical_and.accumulate(agree, axis=1).sum(1)
        brought = self._keep(where, written, np.where(alive, accepted, -1), logprobs)
        # The last token written is read in the next round, so as many columns stay as tokens came.
        cache.retract(n + 1, self._sent(self.lengths[where] - 1), int(brought.max()))
        drawn = self.source[arms]
        for place, proposer in enumerate(self.proposers):
            proposer.settle(np.where(drawn == place, np.maximum(brought - 1, 0), 0))
        self.pulls[where[alive], arms[alive]] += 1
        self._reward(where[alive], arms[alive], brought[alive], time.perf_counter() - clock)

    def _select(self, where: Ints) -> Ints:
        """[B] the arms that the rows play."""
        runs = np.zeros(1, dtype=np.int64) if self.shared else where
        uniforms = np.full(len(runs), 0.5)
        if self.bandits.policy.random:
            rounds = torch.from_numpy(self.bandits.seen.rounds[runs].astype(np.int64))
            uniforms = seeds.uniform(self.streams[torch.from_numpy(runs)], rounds).numpy()
        arms = self.bandits.select(runs, uniforms)
        return arms.repeat(len(where)) if self.shared else arms

    def _reward(self, where: Ints, arms: Ints, brought: Ints, seconds: float) -> None:
        if not self.shared:
            self.bandits.update(where, arms, brought.astype(np.float64))
            return
        arm = int(arms[0])
        self.bandits.update(np.zeros(1, dtype=np.int64), arms[:1], brought.mean(keepdims=True))
        if self.timed:
            self.clocks[arm].append(seconds)
            self.taken[arm] = median(self.clocks[arm])
            self.bandits.seen.cost = self.taken / self.taken.min()

    def _draft(self, rows: Rows, where: Ints, arms: Ints, alive: Ints) -> Draft:
        """Every row's draft by its own arm, no longer than its room."""
        left = self.room[where] - (self.lengths[where] - self.prompt_lengths[where]) - 1
        wanted = np.where(alive, np.minimum(self.longest[arms], left), 0)
        texts, drawn = Texts(self.texts[where], self.lengths[where], rows), self.source[arms]
        tokens: Tensor | None = None
        counts = np.zeros_like(wanted)
        for place, proposer in enumerate(self.proposers):
            own = drawn == place
            n = int((own * wanted).max())
            if n == 0:
                continue
            draft = proposer.propose(texts, n)
            counts += own * np.minimum(draft.counts, wanted)
            if tokens is None:
                tokens = draft.tokens
            else:
                more = max(tokens.shape[1], n)
                new, old = (pad(t, (0, more - t.shape[1])) for t in (draft.tokens, tokens))
                tokens = torch.where(self._sent(own)[:, None], new, old)
        if tokens is None:
            tokens = torch.empty(len(where), 0, dtype=torch.int64, device=self.device)
        return Draft(tokens[:, : int(counts.max())], counts)

    def _choose(self, rows: Rows, logits: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the inner decoding writes at T places of each row: [B, T] tokens from [B, T, V] logits.

        A place whose logits are not numbers gets -1. The second is [B, T] log-probabilities, if asked for.
        """
        count, places = logits.shape[:2]
        if places > 1 and not self.plain:
            flat = rows.select(torch.arange(count, device=rows.device).repeat_interleave(places))
            flat.step = (rows.step[:, None] + torch.arange(places, device=rows.device)).flatten()
            rows = flat
        wide = logits.flatten(0, 1).to(torch.promote_types(logits.dtype, torch.float32))
        tokens = self.inner.choose(self.inner.adjust(wide, rows), rows).tokens
        logprobs = None
        if self.limits.logprobs:
            logprobs = wide.log_softmax(-1).gather(1, tokens[:, None]).view(count, places)
        return tokens.masked_fill(wide[:, 0].isnan(), -1).view(count, places), logprobs

    def _keep(self, where: Ints, chosen: Ints, accepted: Ints, logprobs: Tensor | None) -> Ints:
        """Writes down [B] ``accepted`` + 1 of the ``chosen`` [B, T] tokens, or less where a text ends.

        Args:
            accepted: -1 for rows that are done already.

        Returns:
            [B] the tokens written.
        """
        places = np.arange(chosen.shape[1])
        ended = self.ends[chosen]
        first_end = np.where(ended.any(1), ended.argmax(1), len(places))
        left = self.room[where] - (self.lengths[where] - self.prompt_lengths[where])
        brought = np.minimum(np.minimum(accepted, first_end) + 1, left)
        row, place = (places < brought[:, None]).nonzero()
        new = chosen[row, place]
        if (new < 0).any():
            bad = int(where[row[new < 0][0]])
            raise ValueError(
                f"{self.engine.name} gave NaN logits for prompts[{bad}]: its weights are broken, or its "
                "dtype is too narrow"
            )
        text, at = where[row], self.lengths[where[row]] + place
        self.texts[text, at] = new
        if logprobs is not None:
            self.logprobs[text, at] = logprobs.cpu().numpy()[row, place]
        stopped = first_end < brought
        if self.limits.stop:
            brought, hit = self._cut_at_stop(where, brought)
            stopped = hit | (first_end < brought)
        self.lengths[where] += brought
        for b in (stopped | (brought == left)).nonzero()[0]:
            if accepted[b] >= 0:
                self.reasons[int(where[b])] = "stop" if stopped[b] else "length"
        return brought

    def _cut_at_stop(self, where: Ints, brought: Ints) -> tuple[Ints, Ints]:
        """[B] tokens up to the first at which a stop string is complete, and [B] whether there is one."""
        stop, cut, hit = self.limits.stop, brought.copy(), np.zeros(len(brought), dtype=bool)
        # A token is at least one byte, so a stop string spans at most as many tokens as it has bytes.
        reach = max(len(s.encode()) for s in stop) + 1
        for b, i in enumerate(where):
            start, end = int(self.prompt_lengths[i]), int(self.lengths[i])
            ends = range(end + 1, end + int(brought[b]) + 1)
            tails = [self.texts[i, max(start, e - reach) : e].tolist() for e in ends]
            texts = self.engine.tokenizer.batch_decode(tails, skip_special_tokens=False)
            hits = [any(s in text for s in stop) for text in texts]
            if any(hits):
                cut[b], hit[b] = hits.index(True) + 1, True
        return cut, hit

    def _sent(self, values: NDArray[Any]) -> Tensor:
        tensor = torch.from_numpy(values)
        return tensor if self.device.type == "cpu" else tensor.to(self.device)
