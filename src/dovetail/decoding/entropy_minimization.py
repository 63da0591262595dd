"""EM-INF: make every next-token distribution more confident by a few gradient steps on its logits.

Agarwal et al., "The Unreasonable Effectiveness of Entropy Minimization in LLM Reasoning", arXiv 2505.15134
(NeurIPS 2025), sect. 4. Nothing enters the model: the logits z alone are optimised, the most probable token
never changes (Proposition 1), so greedy decoding is unaffected. `AdaptiveTemperature` is the paper's
baseline (app. B, Algorithm 1), which reaches a lower entropy by scaling all logits alike.

Costs ``n_grad_steps`` softmaxes of [B, V] per token; rows that are confident already are left alone. The
official code keeps one optimizer and one threshold test for the whole batch, which is right for a single
row only; here both are per row.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dovetail.core import InvalidValue
from dovetail.decoding.base import StepwiseDecoding
from dovetail.decoding.sampling import Sampling, check_filters
from dovetail.engine import Choice, Rows

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8  # Adam's usual constants, as in torch.optim.Adam


@dataclass(frozen=True)
class EntropyMinimization(StepwiseDecoding):
    """Makes every step's distribution more certain before a token is drawn from it (EM-INF).

    Lowers H(softmax z) + kl_weight * KL(p_original || softmax z) until H < threshold (sect. 4). Stacks in
    front of what chooses (``em+soft-thinking``); alone it samples at ``temperature``.

    Attributes:
        threshold: nats; rows below it are not optimised further (paper: 0.1 to 0.5).
        kl_weight: pull towards the original distribution.
        lr: of Adam, whose first steps move a logit by about ``lr`` each.
        n_grad_steps: at most, per token (paper: 5 to 15; released script: 3, the default here).
        temperature: of the sampling that follows (released script: 0.1).
    """

    threshold: float = 0.3
    kl_weight: float = 0.05
    lr: float = 0.1
    n_grad_steps: int = 3
    temperature: float = 0.1

    def __post_init__(self) -> None:
        for name in ("threshold", "kl_weight"):
            if not getattr(self, name) >= 0:
                raise InvalidValue(name, getattr(self, name), ">= 0")
        if not self.lr > 0:
            raise InvalidValue("lr", self.lr, "> 0")
        if int(self.n_grad_steps) != self.n_grad_steps or self.n_grad_steps < 0:
            raise InvalidValue("n_grad_steps", self.n_grad_steps, "a whole number >= 0")
        check_filters(self.temperature, 0, 1.0, 0.0)

    def adjust(self, logits: Tensor, rows: Rows) -> Tensor:
        return minimize_entropy(logits, self.threshold, self.kl_weight, self.lr, self.n_grad_steps)

    def choose(self, logits: Tensor, rows: Rows) -> Choice:
        return Sampling(self.temperature).choose(logits, rows)


@dataclass(frozen=True)
class AdaptiveTemperature(StepwiseDecoding):
    """The temperature, per row and token, at which the entropy falls to ``target_ratio`` of what it was.

    Algorithm 1 of the paper: bisection in [t_min, t_max], at most ``max_iter`` halvings, to within ``tol``
        nats of max(threshold, target_ratio * H). Defaults are those of the released script.

    Attributes:
        t_max, t_min: bounds of the temperature.
        max_iter, tol: when the search ends.
        target_ratio: in (0, 1] (paper: 0.4 to 0.6 works best; script: 0.85).
        threshold: nats; rows at or below it keep temperature 1.
        temperature: of the sampling that follows.
    """

    t_max: float = 1.0
    t_min: float = 0.01
    max_iter: int = 100
    tol: float = 0.1
    target_ratio: float = 0.85
    threshold: float = 1e-5
    temperature: float = 0.1

    def __post_init__(self) -> None:
        if not self.t_min > 0:
            raise InvalidValue("t_min", self.t_min, "> 0")
        if self.t_min > self.t_max:
            raise InvalidValue("t_min", self.t_min, f"at most t_max ({self.t_max})")
        if not 0 < self.target_ratio <= 1:
            raise InvalidValue("target_ratio", self.target_ratio, "in (0, 1]")
        if not self.threshold >= 0:
            raise InvalidValue("threshold", self.threshold, ">= 0")
        if self.max_iter < 1:
            raise InvalidValue("max_iter", self.max_iter, "at least 1")
        if not self.tol > 0:
            raise InvalidValue("tol", self.tol, "> 0")
        check_filters(self.temperature, 0, 1.0, 0.0)

    def adjust(self, logits: Tensor, rows: Rows) -> Tensor:
        return logits / self.temperatures(logits)[:, None]

    def choose(self, logits: Tensor, rows: Rows) -> Choice:
        return Sampling(self.temperature).choose(logits, rows)

    def temperatures(self, logits: Tensor) -> Tensor:
        """[B, V] logits -> [B] temperatures in [t_min, t_max], or 1 where the row is confident already."""
        before = token_entropy(logits)
        target = (self.target_ratio * before).clamp(min=self.threshold)
        low, high = torch.full_like(before, self.t_min), torch.full_like(before, self.t_max)
        found = torch.ones_like(before)
        searching = before > self.threshold
        for _ in range(self.max_iter):
            middle = (low + high) / 2
            found = torch.where(searching, middle, found)
            entropy = token_entropy(logits / found[:, None])
            searching = searching & ((entropy - target).abs() >= self.tol)
            if not bool(searching.any()):
                break
            low = torch.where(entropy < target, found, low)
            high = torch.where(entropy < target, high, found)
        return found


def token_entropy(logits: Tensor) -> Tensor:
    """[..., V] logits -> [...] entropy in nats, in float32 at least; entries of -inf count as probability 0.

    Raises:
        ValueError: a row with NaN or without any finite logit; names the row.
    """
    logprobs = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
    entropy = -torch.where(logprobs == -torch.inf, 0.0, logprobs.exp() * logprobs).sum(-1)
    if bool(entropy.isnan().any()):
        row = int(entropy.isnan().flatten().nonzero()[0, 0])
        raise ValueError(f"logits of row {row} hold NaN or no finite value: the model's output is broken")
    return entropy


def minimize_entropy(
    logits: Tensor, threshold: float, kl_weight: float, lr: float, n_grad_steps: int
) -> Tensor:
    """Adam on the logits alone, row by row; the gradient is written out (paper, Proposition 1).

    dH/dz_i = -p_i (log p_i + H) and dKL(p_original || p)/dz_i = p_i - p_original_i.

    Args:
        logits: [B, V]; -inf entries stay as they are.

    Returns:
        [B, V] float32 at least; rows whose entropy is below ``threshold`` from the start are returned
        unchanged.

    Raises:
        ValueError: a row with NaN or without any finite logit; names the row.
    """
    z = logits.to(torch.promote_types(logits.dtype, torch.float32))
    # Only the rows that are not confident yet are worked on: often a few of many.
    rows = (token_entropy(z) >= threshold).nonzero()[:, 0]
    if n_grad_steps == 0 or len(rows) == 0:
        return z
    z = z.clone()
    active = z[rows]
    original = active.softmax(-1)
    mean, square = torch.zeros_like(active), torch.zeros_like(active)
    running = torch.ones(len(rows), 1, dtype=torch.bool, device=z.device)
    for t in range(1, n_grad_steps + 1):
        logprobs = active.log_softmax(-1)
        p = logprobs.exp()
        information = torch.where(p > 0, p * logprobs, 0.0)  # p log p
        entropy = -information.sum(-1, keepdim=True)
        gradient = kl_weight * (p - original) - information - p * entropy
        mean.lerp_(gradient, 1 - _BETA_1)
        square.lerp_(gradient.square(), 1 - _BETA_2)
        step = (mean / (1 - _BETA_1**t)) / ((square / (1 - _BETA_2**t)).sqrt() + _EPSILON)
        # A row that was stopped once stays stopped, so all running rows have taken equally many steps.
        running = running & (entropy >= threshold)
        active = torch.where(running, active - lr * step, active)
    z[rows] = active
    return z
