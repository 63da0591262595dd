"""What a decoding may decide at each step, and the rows it decides for.

The engine knows nothing about methods: at every step it asks one `Stepwise` to adjust the logits, to
choose tokens (or input mixtures), and whether a row should stop. Everything a method remembers lives in
`Rows.state`, tensors with the rows in front, so that it moves with its rows when others leave or join.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dovetail.core import seeds
from dovetail.engine.forward import LayerHook


@dataclass(slots=True)
class Choice:
    """What was chosen at a step.

    Attributes:
        tokens: [B] int64, what is emitted, tested against end tokens and shown.
        weights: [B, K] rows that sum to 1, or None where every input is the plain token.
        ids: [B, K] int64, the tokens that ``weights`` mix into the next input embedding; None where
            ``weights`` [B, V] are over the whole vocabulary.
    """

    tokens: Tensor
    weights: Tensor | None = None
    ids: Tensor | None = None


@dataclass(slots=True)
class Rows:
    """The rows being written, one per active completion.

    Attributes:
        seeds: [B] int64, the random stream of each row.
        step: [B] int64, tokens written so far.
        alive: [B] int64, 0 for rows that are done and wait to be taken out, else 1.
        thinking: [B] bool, whether the prompt leaves the model to think (its template did not close the
            thinking block); not updated as rows write.
        think_end: the id of ``</think>``, None for models without it.
        state: what methods remember; every tensor has the rows in front. Names are prefixed by the
            method (``"soft.low"``), so that chained methods do not collide.
    """

    seeds: Tensor
    step: Tensor
    alive: Tensor
    thinking: Tensor
    think_end: int | None = None
    state: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.seeds.shape[0]

    @property
    def device(self) -> torch.device:
        return self.seeds.device

    def uniform(self, n: int = 1, purpose: int = 0) -> Tensor:
        """[B, n] float64 uniform numbers in (0, 1); fresh at every step, the same in any batch.

        Args:
            n: numbers per row.
            purpose: draws with different purposes at one step are independent.
        """
        base = (self.step << 24) + (purpose << 20)
        counters = base[:, None] + torch.arange(n, device=self.device)
        return seeds.uniform(self.seeds[:, None], counters)

    def select(self, index: Tensor) -> Rows:
        """Rows at ``index`` [B'] (repeats fork a row)."""
        return Rows(
            self.seeds[index],
            self.step[index],
            self.alive[index],
            self.thinking[index],
            self.think_end,
            {name: value[index] for name, value in self.state.items()},
        )

    def join(self, *others: Rows) -> Rows:
        """These rows followed by the others'."""
        parts = (self, *others)
        return Rows(
            torch.cat([p.seeds for p in parts]),
            torch.cat([p.step for p in parts]),
            torch.cat([p.alive for p in parts]),
            torch.cat([p.thinking for p in parts]),
            self.think_end,
            {name: torch.cat([p.state[name] for p in parts]) for name in self.state},
        )


class Stepwise:
    """One token at a time. Override what the method changes; the default is greedy.

    Attributes:
        needs: what the model must provide ("logits" always; "embeddings" for mixtures, "hidden").
        chooses: whether `choose` is overridden: a chain has at most one method that chooses.
    """

    needs: frozenset[str] = frozenset({"logits"})
    chooses: bool = False

    def begin(self, rows: Rows) -> None:
        """Puts this method's state for new rows into ``rows.state``."""

    def adjust(self, logits: Tensor, rows: Rows) -> Tensor:
        """[B, V] float32 logits -> the logits that are chosen from. Must not write in place."""
        return logits

    def choose(self, logits: Tensor, rows: Rows) -> Choice:
        """Adjusted [B, V] logits -> the next tokens."""
        return Choice(logits.argmax(-1))

    def stop(self, choice: Choice, rows: Rows) -> Tensor | None:
        """[B] bool, rows to abort after this token; None means none."""
        return None

    def hook(self, rows: Rows, layers: int, valid: Tensor | None) -> LayerHook | None:
        """What watches, and may replace, the layers' outputs in the next pass; None for nothing.

        Asked before every pass: for the prompts (``rows.step`` is 0), after `begin`, and then for each token.
        What it remembers goes into ``rows.state``, as everything does.

        Args:
            layers: of the network.
            valid: [B, T] bool, False where a prompt is padded (on the left); None where no token is padding.
        """
        return None

    def columns(self, rows: Rows, index: int) -> dict[str, Any]:
        """What the finished row ``index`` reports beside its text (JSON values)."""
        return {}

    def api_parameters(self) -> Mapping[str, Any] | None:
        """The OpenAI chat-completions parameters that mean the same; None where a server cannot do it."""
        return None
