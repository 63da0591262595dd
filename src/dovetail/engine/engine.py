"""One loop produces all tokens: for comparisons, for rollouts in training, for the server.

Rows are written side by side; a finished row leaves, a waiting prompt joins. What a row writes depends on its
prompt, its seed and the decoding, not on its neighbours: every row draws from its own random stream. Prompts
that are equal (n samples of one question) are read once and forked.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dovetail.core import Completion, Cost, InvalidValue, Limits, Prompt
from dovetail.core.completion import FinishReason
from dovetail.engine.fallback import TransformersForward
from dovetail.engine.forward import Cache, Forward
from dovetail.engine.lean import LeanForward
from dovetail.engine.stepwise import Choice, Rows, Stepwise

THINK_END = "</think>"


@dataclass(slots=True)
class Batch:
    """Rows in flight; what search and speculation fork, crop and move on.

    Attributes:
        cache, rows: of the B rows.
        logits: [B, V] float32 (float64 if the network is), for each row's next token.
        tokens: [B, N + 1] int64, what was written; row b has ``rows.step[b]`` of them.
        logprobs: [B, N + 1] float32, or None where not asked for.
        index: B positions in the caller's list of prompts.
        room: [B] int64, how many tokens each row may write.
        seconds: [B] float64, wall-clock shares so far.
        countdown: steps until some row may have used up its room.
    """

    cache: Cache
    rows: Rows
    logits: Tensor
    tokens: Tensor
    logprobs: Tensor | None
    index: list[int]
    room: Tensor
    seconds: Tensor
    countdown: int

    def __len__(self) -> int:
        return len(self.index)

    def select(self, index: Tensor) -> Batch:
        """The rows at ``index`` [B']: to leave rows out, or (repeats) to fork them. Copies."""
        return self._at(self.cache.select(index), index)

    def leave(self, staying: Tensor) -> tuple[Batch, Tensor]:
        """The rows ``staying`` [B'] (ascending), in the same memory: this batch is not to be used again.

        Returns:
            the batch, in another order if that saves copying, and [B'] which old row stands at each place.
        """
        order = self.cache.leave(staying)
        return self._at(self.cache, order), order

    def _at(self, cache: Cache, index: Tensor) -> Batch:
        return Batch(
            cache,
            self.rows.select(index),
            self.logits[index],
            self.tokens[index],
            None if self.logprobs is None else self.logprobs[index],
            [self.index[i] for i in index.tolist()],
            self.room[index],
            self.seconds[index],
            self.countdown,
        )

    def join(self, *others: Batch) -> Batch:
        """These rows followed by the others'."""
        parts = (self, *others)
        logprobs = [p.logprobs for p in parts if p.logprobs is not None]
        return Batch(
            self.cache.join(*(p.cache for p in others)),
            self.rows.join(*(p.rows for p in others)),
            torch.cat([p.logits for p in parts]),
            torch.cat([p.tokens for p in parts]),
            torch.cat(logprobs) if len(logprobs) == len(parts) else None,
            [i for p in parts for i in p.index],
            torch.cat([p.room for p in parts]),
            torch.cat([p.seconds for p in parts]),
            min(p.countdown for p in parts),
        )


class Engine:
    """Produces tokens from one network.

    Args:
        network: a causal LM.
        tokenizer: its tokenizer.
        name: for error messages.
        forward: how the network is run; chosen by its family if None.
        max_rows: rows written side by side at most; more wait.
        template: the model's chat template (`models.template.Template`), for methods that put the question
            anew; None where the engine stands alone.
    """

    provides = frozenset({"text", "logprobs", "logits", "embeddings", "hidden", "cache"})

    def __init__(
        self,
        network: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str = "model",
        forward: Forward | None = None,
        max_rows: int = 64,
        template: Any = None,
    ) -> None:
        if max_rows < 1:
            raise InvalidValue("max_rows", max_rows, "at least 1")
        self.name, self.tokenizer, self.max_rows = name, tokenizer, max_rows
        self.template = template
        self.network = network
        if forward is None:
            forward = (LeanForward if LeanForward.supports(network) else TransformersForward)(network)
        self.forward = forward
        self.think_end = _single_token(tokenizer, THINK_END)
        self.end_ids = _end_ids(network, tokenizer)
        self._silent = frozenset(
            i for i, t in tokenizer.added_tokens_decoder.items() if t.special and "think" not in t.content
        ) | frozenset(self.end_ids)

    @property
    def device(self) -> torch.device:
        return self.forward.device

    def generate(
        self, prompts: Sequence[Prompt], limits: Limits, step: Stepwise | None = None
    ) -> list[Completion]:
        """One completion per prompt, in order.

        Args:
            prompts: rendered for this engine's model (``model.prompt``); ``seed`` is the row's stream.
            limits: where writing ends.
            step: the decoding; greedy if None.

        Raises:
            InvalidValue: a prompt without tokens, or one that does not leave room in the context.
        """
        done: dict[int, Completion] = {}
        for index, event in self._write(prompts, limits, step or Stepwise(), tokens=False):
            if isinstance(event, Completion):
                done[index] = event
        return [done[i] for i in range(len(prompts))]

    def stream(
        self, prompts: Sequence[Prompt], limits: Limits, step: Stepwise | None = None
    ) -> Iterator[tuple[int, int | Completion]]:
        """Yields (prompt index, token id) as tokens come, and (prompt index, Completion) when one is done."""
        yield from self._write(prompts, limits, step or Stepwise(), tokens=True)

    @torch.inference_mode()
    def loglikelihood(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[float]:
        """Log-probability in nats of each continuation (tokenized alone) after its prompt."""
        self.forward.refresh()
        scores: list[float] = []
        for at in range(0, len(prompts), self.max_rows):
            pairs = list(zip(prompts, continuations, strict=True))[at : at + self.max_rows]
            tails = [self.tokenizer.encode(text, add_special_tokens=False) for _, text in pairs]
            ids, valid = self._pad([[*p.ids, *tail] for (p, _), tail in zip(pairs, tails, strict=True)])
            out = self.forward(self.forward.cache(len(pairs)), ids, valid=valid, all_logits=True)
            logprobs = out.logits[:, :-1].float().log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
            scores.extend(
                float(logprobs[row, -len(tail) :].sum()) if tail else 0.0 for row, tail in enumerate(tails)
            )
        return scores

    def _write(
        self, prompts: Sequence[Prompt], limits: Limits, step: Stepwise, tokens: bool
    ) -> Iterator[tuple[int, int | Completion]]:
        self.check_prompts(prompts)
        self.forward.refresh()
        waiting = list(range(len(prompts)))[::-1]
        batch: Batch | None = None
        writing = 0  # rows of the batch that are not done; these share its seconds
        while waiting or batch is not None:
            # inference_mode must not stay open across a yield, where the caller's code runs.
            with torch.inference_mode():
                free = self.max_rows - (0 if batch is None else len(batch))
                # Joining copies the cache, so rows join several at a time.
                if waiting and (batch is None or free >= min(len(waiting), max(1, self.max_rows // 4))):
                    chosen = [waiting.pop() for _ in range(min(free, len(waiting)))]
                    fresh = self.begin([prompts[i] for i in chosen], limits, step, chosen)
                    batch = fresh if batch is None else batch.join(fresh)
                    writing += len(chosen)
                assert batch is not None
                clock = time.perf_counter()  # `begin` has shared out its own seconds
                choice = self.choose(batch, step)
                ended = self._ended(batch, choice, limits, step)
                events: list[tuple[int, int | Completion]] = []
                if tokens:
                    events += zip(batch.index, choice.tokens.tolist(), strict=True)
                    events = [e for e, a in zip(events, batch.rows.alive.tolist(), strict=True) if a]
                if ended:
                    clock = _share(batch, clock, writing)
                for row, reason in ended:
                    completion = self.finish(batch, row, reason, prompts, limits, step)
                    events.append((batch.index[row], completion))
                if ended:
                    batch.rows.alive[[row for row, _ in ended]] = 0
                    writing -= len(ended)
                    batch, choice = self._thin(batch, choice, pressed=bool(waiting))
                if batch is not None:
                    self.feed(batch, choice, step)
                    _share(batch, clock, writing)
            yield from events

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Raises InvalidValue for a prompt without tokens, or one that leaves no room in the context."""
        for i, prompt in enumerate(prompts):
            if not prompt.ids:
                raise InvalidValue(f"prompts[{i}]", prompt.text[:80], "a prompt with at least one token")
            if len(prompt.ids) >= self.forward.max_positions:
                raise InvalidValue(
                    f"prompts[{i}] ({len(prompt.ids)} tokens)",
                    prompt.text[:80] + "...",
                    f"shorter than the model's context of {self.forward.max_positions} tokens",
                )

    @torch.inference_mode()
    def begin(
        self, prompts: Sequence[Prompt], limits: Limits, step: Stepwise, index: Sequence[int] | None = None
    ) -> Batch:
        """Reads prompts (equal ones once) and gives the batch whose next tokens can be chosen."""
        clock = time.perf_counter()
        device, n = self.device, len(prompts)
        rows = Rows(
            torch.tensor([p.seed for p in prompts], dtype=torch.int64, device=device),
            torch.zeros(n, dtype=torch.int64, device=device),
            torch.ones(n, dtype=torch.int64, device=device),
            torch.tensor([THINK_END not in p.assistant_prefix for p in prompts], device=device),
            self.think_end,
        )
        step.begin(rows)
        cache, logits = self._read(prompts, rows, step)
        room = (self.forward.max_positions - cache.positions).clamp(max=limits.max_new_tokens)
        width = limits.max_new_tokens + 1
        share = (time.perf_counter() - clock) / n
        return Batch(
            cache,
            rows,
            logits,
            torch.zeros(n, width, dtype=torch.int64, device=device),
            torch.zeros(n, width, device=device) if limits.logprobs else None,
            list(range(n)) if index is None else list(index),
            room,
            torch.full((n,), share, dtype=torch.float64, device=device),
            int(room.min()),
        )

    def _read(self, prompts: Sequence[Prompt], rows: Rows, step: Stepwise) -> tuple[Cache, Tensor]:
        """The cache of the prompts' rows and their last tokens' logits [B, V]."""
        different = list(dict.fromkeys(p.ids for p in prompts))
        ids, valid = self._pad([p.ids for p in prompts])
        hook = step.hook(rows, self.forward.layers, valid)
        # What a hook does may depend on the row, so equal prompts are then read once each.
        if hook is not None or len(different) == len(prompts):
            cache = self.forward.cache(len(prompts))
            return cache, _wide(self.forward(cache, ids, valid=valid, hook=hook).logits)
        ids, valid = self._pad(different)
        cache = self.forward.cache(len(different))
        logits = _wide(self.forward(cache, ids, valid=valid).logits)
        if len(different) == 1:
            return cache.fork(len(prompts)), logits.expand(len(prompts), -1)
        place = {ids: i for i, ids in enumerate(different)}
        fork = torch.tensor([place[p.ids] for p in prompts], device=self.device)
        return cache.select(fork), logits[fork]

    @torch.inference_mode()
    def choose(self, batch: Batch, step: Stepwise) -> Choice:
        """Asks the decoding for the next tokens and writes them down.

        Raises:
            ValueError: the network's output is not a number.
        """
        # One column tells: a hidden state that is not a number spoils the whole row.
        first = batch.logits.select(1, 0)
        if math.isnan(first.sum().item()) and bool(first.isnan().any()):
            row = batch.index[int(batch.logits[:, 0].isnan().nonzero()[0, 0])]
            raise ValueError(
                f"{self.name} gave NaN logits for prompts[{row}] after {int(batch.rows.step.max())} tokens: "
                "its weights are broken, or its dtype is too narrow"
            )
        choice = step.choose(step.adjust(batch.logits, batch.rows), batch.rows)
        at = batch.rows.step[:, None]
        batch.tokens.scatter_(1, at, choice.tokens[:, None])
        if batch.logprobs is not None:
            logprobs = batch.logits.log_softmax(-1).gather(1, choice.tokens[:, None])
            batch.logprobs.scatter_(1, at, logprobs.float())
        # Out of place: methods may have kept the old counts.
        batch.rows.step = batch.rows.step + batch.rows.alive
        batch.countdown -= 1
        return choice

    @torch.inference_mode()
    def feed(self, batch: Batch, choice: Choice, step: Stepwise | None = None) -> None:
        """Reads the chosen tokens (or mixtures), which gives the logits for the next ones.

        Rows that are done read too, but stay at their position, which is thus never beyond the context.

        Args:
            step: the decoding, for its `hook`; None lets nothing watch the layers.
        """
        hook = None if step is None else step.hook(batch.rows, self.forward.layers, None)
        positions = batch.cache.positions
        if choice.weights is not None:
            embeds = self.forward.mix(choice.weights, choice.ids)
            batch.logits = _wide(self.forward(batch.cache, embeds=embeds, hook=hook).logits)
        else:
            batch.logits = _wide(self.forward(batch.cache, choice.tokens[:, None], hook=hook).logits)
        batch.cache.positions = positions + batch.rows.alive

    def finish(
        self,
        batch: Batch,
        row: int,
        reason: FinishReason,
        prompts: Sequence[Prompt],
        limits: Limits,
        step: Stepwise,
    ) -> Completion:
        """The completion of a row that is done."""
        written = int(batch.rows.step[row])
        ids = batch.tokens[row, :written].tolist()
        return Completion(
            self.text(ids, limits.stop),
            tuple(ids),
            None if batch.logprobs is None else tuple(batch.logprobs[row, :written].tolist()),
            Cost(
                tokens_read=len(prompts[batch.index[row]].ids),
                tokens_written=written,
                forward_passes=float(written),
                seconds=float(batch.seconds[row]),
            ),
            reason,
            step.columns(batch.rows, row),
        )

    def text(self, ids: Sequence[int], stop: Sequence[str] = ()) -> str:
        """Text of generated ids: no end or control tokens, thinking marks kept, cut at a stop string."""
        shown = [i for i in ids if i not in self._silent]
        text = cast(str, self.tokenizer.decode(shown, skip_special_tokens=False))
        cuts = [at for at in (text.find(s) for s in stop) if at >= 0]
        return text[: min(cuts)] if cuts else text

    def _ended(
        self, batch: Batch, choice: Choice, limits: Limits, step: Stepwise
    ) -> list[tuple[int, FinishReason]]:
        """The rows that are done after ``choice``, with the reason."""
        # Lists: the tokens come to the host once, and a step in which no row ends costs no tensor operation.
        stopped = [token in self.end_ids for token in choice.tokens.tolist()]
        if limits.stop:
            stopped = [a or b for a, b in zip(stopped, self._hits_stop(batch, limits.stop), strict=True)]
        told = step.stop(choice, batch.rows)
        aborted = [False] * len(batch) if told is None else told.tolist()
        full = [False] * len(batch)
        if batch.countdown <= 0:
            left = batch.room - batch.rows.step
            staying = left[(left > 0) & (batch.rows.alive > 0)]
            batch.countdown = int(staying.min()) if len(staying) else 0
            full = (left <= 0).tolist()
        if not (any(stopped) or any(aborted) or any(full)):
            return []
        ended: list[tuple[int, FinishReason]] = []
        for row, alive in enumerate(batch.rows.alive.tolist()):
            if not alive:
                continue
            if stopped[row]:
                ended.append((row, "stop"))
            elif aborted[row]:
                ended.append((row, "aborted"))
            elif full[row]:
                ended.append((row, "length"))
        return ended

    def _hits_stop(self, batch: Batch, stop: Sequence[str]) -> list[bool]:
        """For each row: a stop string stands at the end of what a row wrote."""
        # A token is at least one byte, so a stop string spans at most as many tokens as it has bytes.
        reach = max(len(s.encode()) for s in stop) + 1
        steps = batch.rows.step.tolist()
        tails = [batch.tokens[row, max(0, n - reach) : n].tolist() for row, n in enumerate(steps)]
        texts = self.tokenizer.batch_decode(tails, skip_special_tokens=False)
        return [any(s in text for s in stop) for text in texts]

    def _thin(self, batch: Batch, choice: Choice, pressed: bool) -> tuple[Batch | None, Choice]:
        """Takes finished rows out, a few at a time in large batches: one idle row costs less than moving."""
        staying = batch.rows.alive.nonzero()[:, 0]
        gone = len(batch) - len(staying)
        if len(staying) == 0:
            return None, choice
        if 16 * gone < len(batch) and not (pressed and gone >= self.max_rows // 4):
            return batch, choice
        batch, order = batch.leave(staying)
        weights = None if choice.weights is None else choice.weights[order]
        ids = None if choice.ids is None else choice.ids[order]
        return batch, Choice(choice.tokens[order], weights, ids)

    def _pad(self, sequences: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor | None]:
        """[B, T] ids padded on the left, and which are real (None where all are)."""
        longest = max(map(len, sequences))
        rows = [[0] * (longest - len(s)) + list(s) for s in sequences]
        ids = torch.tensor(rows, dtype=torch.int64, device=self.device)
        lengths = torch.tensor([len(s) for s in sequences], device=self.device)
        if int(lengths.min()) == longest:
            return ids, None
        return ids, torch.arange(longest, device=self.device) >= longest - lengths[:, None]


def _share(batch: Batch, clock: float, writing: int) -> float:
    """Shares the seconds since ``clock`` among the ``writing`` rows; returns the time now."""
    now = time.perf_counter()
    batch.seconds += (now - clock) / writing
    return now


def _wide(logits: Tensor) -> Tensor:
    """At least float32: filters and entropies of half-precision logits would be coarse."""
    return logits if logits.dtype.itemsize >= 4 else logits.float()


def _single_token(tokenizer: PreTrainedTokenizerBase, text: str) -> int | None:
    """The id of a text that is one token of the vocabulary, else None."""
    ids = tokenizer.encode(text, add_special_tokens=False)
    return int(ids[0]) if len(ids) == 1 else None


def _end_ids(network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The ids that end a completion: the generation config's and the tokenizer's."""
    configured = network.generation_config.eos_token_id if network.generation_config is not None else None
    ends = configured if isinstance(configured, list) else [configured]
    return tuple(dict.fromkeys(int(i) for i in (*ends, tokenizer.eos_token_id) if i is not None))
