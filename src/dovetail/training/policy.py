"""What the network makes of written completions: log-probabilities and entropies, with gradients.

The tokens are those that generation produced. Logits are computed at completion positions only. Rows are
padded on the right, where causal attention does not see it; `batches` keeps that padding small.

Shapes: B rows, T tokens of prompt and completion, L completion tokens, M completion tokens of all rows, V
vocabulary, d hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from dovetail.engine import LeanForward
from dovetail.training.batches import micro_batches
from dovetail.training.processes import ALONE, Processes
from dovetail.training.rollouts import Rollouts


@dataclass
class Reading:
    """A micro-batch as the policy reads it.

    Attributes:
        logits: [M, V] float32, divided by the temperature; row by row, completion tokens in order.
        tokens: [M] int64, what was written there.
        where: [B, L] bool, the places of the M tokens.
    """

    logits: Tensor
    tokens: Tensor
    where: Tensor

    @cached_property
    def logprobs(self) -> Tensor:
        """[B, L], nats; 0 behind a row's end."""
        chosen = self.logits.gather(1, self.tokens[:, None])[:, 0]
        return self.spread(chosen - self.logits.logsumexp(1))

    @cached_property
    def entropy(self) -> Tensor:
        """[B, L], nats, with gradients; 0 behind a row's end."""
        logs = self.logits.log_softmax(1)
        return self.spread(-(logs.exp() * logs).sum(1))

    def spread(self, values: Tensor) -> Tensor:
        """[M] values of completion tokens -> [B, L]."""
        wide = values.new_zeros(self.where.shape)
        return wide.masked_scatter(self.where, values)


class Policy:
    """A network that completions are read with.

    Args:
        network: a causal LM.
        temperature: completions are drawn with; the logits are divided by it, so that ratios and entropies
            are those of the distribution that wrote them.
        micro_batch_tokens: tokens per pass where a whole step is read.
        autocast: compute in bfloat16 what torch holds fit for it.
    """

    def __init__(
        self,
        network: Any,
        temperature: float = 1.0,
        micro_batch_tokens: int = 4096,
        autocast: bool = False,
    ) -> None:
        self.autocast = autocast
        self.network, self.temperature, self.micro_batch_tokens = network, temperature, micro_batch_tokens

    @property
    def device(self) -> torch.device:
        device: torch.device = next(self.network.parameters()).device
        return device

    def __call__(self, rollouts: Rollouts) -> Reading:
        """Reads all rows in one pass."""
        prompts = [len(p.ids) for p in rollouts.prompts]
        lengths = [len(c.token_ids) for c in rollouts.completions]
        longest = max(p + n for p, n in zip(prompts, lengths, strict=True))
        ids = torch.zeros(len(prompts), longest, dtype=torch.int64)
        asked = torch.zeros(len(prompts), longest, dtype=torch.bool)  # positions whose next token was written
        where = torch.zeros(len(prompts), max(lengths), dtype=torch.bool)
        rows = zip(rollouts.prompts, rollouts.completions, strict=True)
        for row, (prompt, completion) in enumerate(rows):
            start, length = len(prompt.ids), len(completion.token_ids)
            ids[row, : start + length] = torch.tensor(prompt.ids + completion.token_ids)
            asked[row, start - 1 : start + length - 1] = True
            where[row, :length] = True
        where = where.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            logits = self._logits(ids.to(self.device), asked.to(self.device))
        logits = wide(logits)
        return Reading(logits / self.temperature, rollouts.tokens[where], where)

    def _logits(self, ids: Tensor, asked: Tensor) -> Tensor:
        """[M, V] at the positions ``asked`` [B, T]."""
        if not LeanForward.supports(self.network):  # heads with something of their own, such as soft caps
            logits: Tensor = self.network(input_ids=ids, use_cache=False).logits
            return logits[asked]
        hidden = self.network.model(input_ids=ids, use_cache=False).last_hidden_state
        logits = self.network.lm_head(hidden[asked])
        return logits

    @torch.no_grad()
    def read(
        self, rollouts: Rollouts, *, entropy: bool = False, processes: Processes = ALONE
    ) -> tuple[Tensor, Tensor | None]:
        """[N, L] log-probabilities, and entropies where asked for, of all rows; without gradients."""
        lengths = row_lengths(rollouts)
        logprobs = torch.zeros(rollouts.mask.shape, device=rollouts.mask.device)
        entropies = torch.zeros_like(logprobs) if entropy else None
        for batch in processes.dealt(micro_batches(lengths, self.micro_batch_tokens)):
            reading = self(rollouts.select(batch))
            length = reading.where.shape[1]
            logprobs[batch, :length] = reading.logprobs.to(logprobs.dtype)
            if entropies is not None:
                entropies[batch, :length] = reading.entropy.to(logprobs.dtype)
        return processes.sum(logprobs), None if entropies is None else processes.sum(entropies)


def row_lengths(rollouts: Rollouts) -> list[int]:
    """Tokens of prompt and completion, row by row."""
    pairs = zip(rollouts.prompts, rollouts.completions, strict=True)
    return [len(p.ids) + len(c.token_ids) for p, c in pairs]


def wide(logits: Tensor) -> Tensor:
    """At least float32."""
    return logits if logits.dtype.itemsize >= 4 else logits.float()
