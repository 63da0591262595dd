"""The loop of masked diffusion: a canvas of ``[MASK]`` tokens behind each prompt is filled in, step by step.

Blocks are written from left to right, the tokens of a block in any order (Nie et al., LLaDA, arXiv
2502.09992). The engine knows nothing about methods: at every step it asks one `Unmasking` which positions
need logits, which must go through the layers, and what to commit. All rows take the same steps and commit
equally many tokens, so what a step computes is dense: [B, R] positions, whatever they are in each row.

Shapes: B rows, P columns of prompts (padded on the left), L of canvas, C = P + L, R positions that a step
computes, W whose logits it needs, n tokens that it commits, V vocabulary.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dovetail.core import Completion, Cost, InvalidValue, Limits, Prompt, Unsupported


@dataclass(slots=True)
class Canvas:
    """Rows in flight.

    Attributes:
        ids: [B, C] int64, prompts and what is written so far.
        start: P, the first column of the canvas.
        masked: [B, C] bool, not committed yet.
        fresh: [B, n] int64, columns that the last step committed.
        seeds: [B] int64, the random stream of each row.
        positions: [B, C] int64, each column's position in its row (0 for padding).
        real: [B, C] bool, False for padding; None if there is none.
        index: B positions in the caller's list of prompts.
        cache: keys and values of all columns, for methods that keep them.
        passes: steps taken.
        computed: columns per row that went through the layers so far, padding left out; [B] int64.
        seconds: wall-clock share of each row.
    """

    ids: Tensor
    start: int
    masked: Tensor
    fresh: Tensor
    seeds: Tensor
    positions: Tensor
    real: Tensor | None
    index: list[int]
    cache: Any = None
    passes: int = 0
    computed: Tensor | None = None
    seconds: float = 0.0

    def __len__(self) -> int:
        return self.ids.shape[0]

    def select(self, index: Tensor) -> Canvas:
        """The rows at ``index`` [B']."""
        return Canvas(
            self.ids[index],
            self.start,
            self.masked[index],
            self.fresh[index],
            self.seeds[index],
            self.positions[index],
            None if self.real is None else self.real[index],
            [self.index[i] for i in index.tolist()],
            None if self.cache is None else self.cache.select(index),
            self.passes,
            None if self.computed is None else self.computed[index],
            self.seconds,
        )


@dataclass(frozen=True, slots=True)
class Moment:
    """Where the writing stands: step ``step`` (from 0) of the block of columns ``begin`` to ``end``, at which
    every row commits ``commits`` tokens."""

    begin: int
    end: int
    step: int
    commits: int


class Unmasking:
    """How a canvas is filled in. Override what the method changes; the default is LLaDA's greedy sampler:
    a step commits the tokens that the model is most confident of.

    Attributes:
        steps: passes for the whole canvas; None for one per token.
        block_length: tokens of a block; a canvas that is shorter is one block.
        stop_at_end: leave out the blocks behind an end token.
        caches: whether the engine keeps keys and values from pass to pass.
    """

    steps: int | None = None
    block_length: int = 32
    stop_at_end: bool = True
    caches: bool = False

    @property
    def own_columns(self) -> bool:
        """Whether a pass, where logits come from the column before, also computes the columns themselves."""
        return False

    def plan(self, length: int) -> list[list[int]]:
        """For each block, how many tokens each of its steps commits: differing by at most 1, more first.

        Raises:
            InvalidValue: blocks do not divide the canvas, or the steps.
        """
        block = min(self.block_length, length)
        blocks = length // block
        if length % block:
            raise InvalidValue(
                "block_length", self.block_length, f"a divisor of the canvas ({length} tokens)"
            )
        steps = length if self.steps is None else self.steps
        if steps % blocks:
            raise InvalidValue("steps", steps, f"a multiple of the number of blocks ({blocks})")
        each = steps // blocks
        if each > block:
            warnings.warn(
                f"{steps} steps for {length} tokens: those beyond one per token would commit nothing and are "
                "left out",
                stacklevel=2,
            )
            each = block
        return [[block // each + (i < block % each) for i in range(each)] for _ in range(blocks)]

    def target(self, canvas: Canvas, moment: Moment) -> Tensor:
        """[B, W] columns, ascending, whose logits the step needs: here those of the block still masked."""
        block = canvas.masked[:, moment.begin : moment.end]
        return block.nonzero()[:, 1].view(len(canvas), -1) + moment.begin

    def recompute(self, canvas: Canvas, moment: Moment, target: Tensor) -> Tensor | None:
        """[B, R] columns, ascending, that go through the layers (``target`` among them); None for all.

        Those left out are seen through the keys and values that they had when last computed.
        """
        return None

    def choose(self, logits: Tensor, target: Tensor, canvas: Canvas, moment: Moment) -> tuple[Tensor, Tensor]:
        """[B, W, V] logits of ``target`` -> tokens and columns to commit, both [B, ``moment.commits``]."""
        best, tokens = logits.max(-1)
        return commit(tokens, target, confidence(best, logits), moment.commits)


def confidence(chosen: Tensor, logits: Tensor) -> Tensor:
    """[B, W] log-probability (float64) of the tokens whose logits are ``chosen`` [B, W]."""
    return chosen.double() - logits.double().logsumexp(-1)


def commit(tokens: Tensor, target: Tensor, scores: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The ``n`` columns of ``target`` with the highest scores and their tokens; all arguments [B, W]."""
    at = scores.topk(n, -1).indices
    return tokens.gather(1, at), target.gather(1, at)


def _with_own(columns: Tensor, shift: int) -> Tensor:
    """The sorted columns [B, W] and those ``shift`` before them, each once; rows with fewer repeat their
    last, which changes nothing."""
    both = torch.cat([columns - shift, columns], 1).sort(-1).values
    again = torch.zeros_like(both, dtype=torch.bool)
    again[:, 1:] = both[:, 1:] == both[:, :-1]
    width = int((~again).sum(1).max())
    return torch.where(again, both[:, -1:], both).sort(-1).values[:, :width].contiguous()


class DiffusionEngine:
    """Produces tokens from a masked diffusion model (`models.masked_diffusion.MaskedDiffusionLM`).

    Args:
        network: see above.
        tokenizer: its tokenizer.
        name: for error messages.
        max_rows: rows written side by side at most.
    """

    provides = frozenset({"diffusion"})
    way_out = (
        "it is a masked diffusion model, which does not write from left to right: use diffusion or dkv-cache"
    )

    def __init__(
        self,
        network: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str = "model",
        max_rows: int = 64,
    ) -> None:
        if max_rows < 1:
            raise InvalidValue("max_rows", max_rows, "at least 1")
        self.network, self.tokenizer, self.name, self.max_rows = network, tokenizer, name, max_rows
        config = network.config
        self.mask_id, self.shift = int(config.mask_token_id), int(config.logit_shift)
        configured = getattr(config, "eos_token_id", None)
        ends = configured if isinstance(configured, list) else [configured]
        self.end_ids = tuple({int(i) for i in (*ends, tokenizer.eos_token_id) if i is not None})
        special = {
            i for i, t in tokenizer.added_tokens_decoder.items() if t.special and "think" not in t.content
        }
        self._silent = special | {*self.end_ids, self.mask_id}

    @property
    def device(self) -> torch.device:
        return self.network.device

    def generate(
        self, prompts: Sequence[Prompt], limits: Limits, step: Unmasking | None = None
    ) -> list[Completion]:
        """One completion per prompt, in order: the canvas up to its first end token.

        Args:
            prompts: rendered for this engine's model; ``seed`` is the row's stream.
            limits: ``max_new_tokens`` is the length of the canvas (at most what the model was trained for).
            step: the decoding; LLaDA's greedy sampler if None.

        Raises:
            Unsupported: a decoding for causal models, or log-probabilities asked for.
            InvalidValue: a prompt without tokens, with a mask, or too long; steps or blocks that do not fit.
        """
        step = Unmasking() if step is None else step
        if not isinstance(step, Unmasking):
            raise Unsupported(f"{type(step).__name__} does not fit {self.name}: {self.way_out}")
        if limits.logprobs:
            raise Unsupported(
                f"{self.name} gives no log-probabilities of its tokens: they hang on the order of writing"
            )
        length = limits.max_new_tokens
        if self.network.config.canvas_length is not None:
            length = min(length, self.network.config.canvas_length)
        plan = step.plan(length)
        self._check(prompts, length)
        done: dict[int, Completion] = {}
        for at in range(0, len(prompts), self.max_rows):
            chosen = range(at, min(at + self.max_rows, len(prompts)))
            for canvas, row in self._write(self._begin(prompts, chosen, length, step), plan, step):
                done[canvas.index[row]] = self._finish(canvas, row, prompts, limits)
        return [done[i] for i in range(len(prompts))]

    def stream(
        self, prompts: Sequence[Prompt], limits: Limits, step: Unmasking | None = None
    ) -> Iterator[tuple[int, int | Completion]]:
        """Yields (prompt index, Completion); tokens come in no order that could be streamed."""
        yield from enumerate(self.generate(prompts, limits, step))

    def _check(self, prompts: Sequence[Prompt], length: int) -> None:
        context = self.network.config.max_position_embeddings
        for i, prompt in enumerate(prompts):
            if not prompt.ids:
                raise InvalidValue(f"prompts[{i}]", prompt.text[:80], "a prompt with at least one token")
            if self.mask_id in prompt.ids:
                raise InvalidValue(
                    f"prompts[{i}]", prompt.text[:80], f"without the mask token (id {self.mask_id})"
                )
            if len(prompt.ids) + length > context:
                raise InvalidValue(
                    f"prompts[{i}] ({len(prompt.ids)} tokens)",
                    prompt.text[:80] + "...",
                    f"at most {context - length} tokens, to leave room for {length} of {context}",
                )

    def _begin(self, prompts: Sequence[Prompt], chosen: range, length: int, step: Unmasking) -> Canvas:
        device, rows = self.device, [prompts[i] for i in chosen]
        lengths = torch.tensor([len(p.ids) for p in rows], device=device)
        start = int(lengths.max())
        padded = [[0] * (start - len(p.ids)) + list(p.ids) + [self.mask_id] * length for p in rows]
        ids = torch.tensor(padded, dtype=torch.int64, device=device)
        columns = torch.arange(start + length, device=device)
        positions = columns - (start - lengths)[:, None]
        real = positions >= 0
        masked = (columns >= start).expand(len(rows), -1).clone()
        return Canvas(
            ids,
            start,
            masked,
            fresh=ids.new_empty((len(rows), 0)),
            seeds=torch.tensor([p.seed for p in rows], dtype=torch.int64, device=device),
            positions=positions.clamp(min=0),
            real=None if bool(real.all()) else real,
            index=list(chosen),
            cache=cast(Any, self.network).cache(len(rows), start + length) if step.caches else None,
            computed=torch.zeros_like(lengths),
        )

    def _write(
        self, canvas: Canvas, plan: Sequence[Sequence[int]], step: Unmasking
    ) -> Iterator[tuple[Canvas, int]]:
        """Fills the canvas in; gives each row, with the canvas that it stands in, when it is done."""
        end = canvas.start
        for number, commits in enumerate(plan):
            begin, end = end, end + sum(commits)
            for i, n in enumerate(commits):
                clock = time.perf_counter()
                self._step(canvas, Moment(begin, end, i, n), step)
                canvas.passes += 1
                canvas.seconds += (time.perf_counter() - clock) / len(canvas)
            last = number == len(plan) - 1
            over = torch.ones(len(canvas), dtype=torch.bool, device=self.device)
            if not last:
                over = self._ended(canvas.ids[:, begin:end]) & step.stop_at_end
            yield from ((canvas, row) for row in over.nonzero()[:, 0].tolist())
            if bool(over.all()):
                return
            if bool(over.any()):
                canvas = canvas.select((~over).nonzero()[:, 0])

    @torch.inference_mode()
    def _step(self, canvas: Canvas, moment: Moment, step: Unmasking) -> None:
        assert canvas.computed is not None
        target = step.target(canvas, moment)
        columns = step.recompute(canvas, moment, target)
        if columns is None:
            ids, positions, wanted = canvas.ids, canvas.positions, target - self.shift
            canvas.computed += canvas.positions[:, -1] + 1
        else:
            # With a shifted head a position's logits come from the column before.
            columns = columns - self.shift if not step.own_columns else _with_own(columns, self.shift)
            wanted = torch.searchsorted(columns, target - self.shift)
            ids, positions = canvas.ids.gather(1, columns), canvas.positions.gather(1, columns)
            canvas.computed += columns.shape[1]
        logits = self.network(
            ids,
            positions,
            canvas.cache,
            columns=columns,
            attention_mask=canvas.real,
            wanted=wanted,
        )
        if bool(logits[:, 0, 0].isnan().any()):
            row = canvas.index[int(logits[:, 0, 0].isnan().nonzero()[0, 0])]
            raise ValueError(
                f"{self.name} gave NaN logits for prompts[{row}]: its weights are broken, or its dtype "
                "is too narrow"
            )
        logits[..., self.mask_id] = float("-inf")
        tokens, at = step.choose(logits, target, canvas, moment)
        canvas.ids.scatter_(1, at, tokens)
        canvas.masked.scatter_(1, at, False)
        canvas.fresh = at

    def _ended(self, ids: Tensor) -> Tensor:
        """[B] bool: an end token is among [B, N] ids."""
        ended = torch.zeros_like(ids, dtype=torch.bool)
        for end in self.end_ids:
            ended |= ids == end
        return ended.any(1)

    def _finish(self, canvas: Canvas, row: int, prompts: Sequence[Prompt], limits: Limits) -> Completion:
        assert canvas.computed is not None
        prompt = prompts[canvas.index[row]]
        written = canvas.ids[row, canvas.start :][~canvas.masked[row, canvas.start :]].tolist()
        ends = [i for i, token in enumerate(written) if token in self.end_ids]
        ids = written[: ends[0] + 1] if ends else written
        text, stopped = self._text(ids, limits.stop)
        computed = int(canvas.computed[row])
        whole = canvas.passes * (len(prompt.ids) + canvas.ids.shape[1] - canvas.start)
        return Completion(
            text,
            tuple(ids),
            None,
            Cost(
                tokens_read=len(prompt.ids),
                tokens_written=len(written),
                forward_passes=float(canvas.passes),
                seconds=canvas.seconds,
            ),
            "stop" if ends or stopped else "length",
            {"computed_positions": computed, "cache_ratio": 1 - computed / whole},
        )

    def _text(self, ids: Sequence[int], stop: Sequence[str]) -> tuple[str, bool]:
        """Text without control tokens, cut at a stop string, and whether there was one."""
        shown = [i for i in ids if i not in self._silent]
        text = cast(str, self.tokenizer.decode(shown, skip_special_tokens=False))
        cuts = [at for at in (text.find(s) for s in stop) if at >= 0]
        return (text[: min(cuts)], True) if cuts else (text, False)
