"""Verifiers: how good is a solution after each of its steps?

`TokenConfidence` needs no training and works with any model. `HiddenStateVerifier` is a small head on the
model's own hidden states (``training/step_verifier.py`` trains it). `TextVerifier` takes any function
of texts, such as a process reward model of one's own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from dovetail.core import InvalidValue
from dovetail.decoding.steps import Solutions


class Verifier(ABC):
    """Scores partial solutions.

    Attributes:
        needs: what the model must provide for it ("hidden" has the states kept).
        parameters: weights that a token (or what `reads` counts) passes through.
    """

    needs: frozenset[str] = frozenset()
    parameters: int = 0

    @abstractmethod
    def score(self, solutions: Solutions) -> Sequence[Sequence[float]]:
        """For each solution one score in [0, 1] per step so far."""

    def reads(self, solutions: Solutions) -> Tensor:
        """[R] int64: token equivalents read for this call, times 2 `parameters` operations each."""
        return torch.zeros_like(solutions.counts)


@dataclass(frozen=True)
class TokenConfidence(Verifier):
    """How sure the model was of its own tokens: the geometric mean of their probabilities up to each step.

    It costs nothing, and it measures confidence, not truth: a model that is sure of its mistakes gains
    little.
    """

    def score(self, solutions: Solutions) -> list[list[float]]:
        total = solutions.logprobs.double().cumsum(1)
        at = (solutions.ends - 1).clamp(min=0)
        scores = (total.gather(1, at) / (at + 1)).exp()
        return _lists(scores, solutions.counts)


@dataclass(frozen=True, eq=False)
class HiddenStateVerifier(Verifier):
    """The chance that the answer will be right, read off the model's state at the end of a step.

    A network with one hidden layer on `evidence`, which is all there when the step has been written: a call
    costs as much as the head alone. Made by ``training.step_verifier.train``.

    Attributes:
        weights: "mean" and "scale" [e], "in" [h, e], "bias" [h], "out" [h], "shift" []; float32, where e is
            the model's hidden size + 3.
    """

    weights: Mapping[str, Tensor]

    needs = frozenset({"hidden"})

    @property
    def parameters(self) -> int:  # type: ignore[override]
        return sum(w.numel() for w in self.weights.values())

    def score(self, solutions: Solutions) -> list[list[float]]:
        seen = evidence(solutions)
        size, given = self.weights["mean"].shape[0], seen.shape[-1]
        if size != given:
            raise InvalidValue(
                "verifier", f"made for {size - 3} hidden units", f"for this model's {given - 3}"
            )
        return _lists(torch.sigmoid(head(self.weights, seen)), solutions.counts)

    def reads(self, solutions: Solutions) -> Tensor:
        """One state per step that was not scored before."""
        return solutions.counts - solutions.scored

    def save(self, path: str | Path) -> None:
        """Writes one safetensors file; `load` reads it."""
        from safetensors.torch import save_file

        save_file({name: w.contiguous() for name, w in self.weights.items()}, str(path))

    @classmethod
    def load(cls, path: str | Path) -> HiddenStateVerifier:
        """Raises FileNotFoundError where there is no such file."""
        from safetensors.torch import load_file

        return cls(load_file(str(path)))

    def __repr__(self) -> str:
        parts = (self.weights[name].cpu().numpy().tobytes() for name in sorted(self.weights))
        digest = sha256(b"".join(parts)).hexdigest()
        return f"HiddenStateVerifier({self.parameters} weights, sha256 {digest[:16]})"


def evidence(solutions: Solutions) -> Tensor:
    """[R, S, d + 3] float32: what is known at the end of each step.

    The last layer's output for the step's last token, then log-probabilities of the tokens: their mean so
    far, the least so far, and the step's sum. A sure model's slip is often one token that it was less sure
    of, which the state alone does not keep.

    Raises:
        InvalidValue: the search has not kept hidden states.
    """
    if solutions.hidden is None:
        raise InvalidValue("solutions.hidden", None, "kept: the search must watch hidden states")
    at = (solutions.ends - 1).clamp(min=0)
    total = solutions.logprobs.double().cumsum(1).gather(1, at)
    least = solutions.logprobs.clamp(min=-10).cummin(1).values.gather(1, at)
    before = torch.cat([torch.zeros_like(total[:, :1]), total[:, :-1]], 1)
    numbers = torch.stack([total / (at + 1), least, (total - before).clamp(min=-30, max=0)], -1)
    return torch.cat([solutions.hidden, numbers.to(solutions.hidden.dtype)], -1)


def head(weights: Mapping[str, Tensor], evidence: Tensor) -> Tensor:
    """[..., e] evidence -> [...] logits of "the answer will be right"."""
    w = {name: value.to(evidence.device) for name, value in weights.items()}
    x = (evidence - w["mean"]) / w["scale"]
    return torch.relu(x @ w["in"].T + w["bias"]) @ w["out"] + w["shift"]


@dataclass(frozen=True)
class TextVerifier(Verifier):
    """A function of texts: a process reward model behind any interface, or an exact checker.

    Attributes:
        function: (questions, steps so far) -> one score in [0, 1] per step; ``steps`` are lists of texts.
        parameters: of the model behind it, for the count of operations.
        count: the number of tokens that it reads for a question and its steps; None counts four letters
            as one. The whole text is counted at each call: no prefix cache is assumed.
    """

    function: Callable[[list[str], list[list[str]]], Sequence[Sequence[float]]]
    parameters: int = 0
    count: Callable[[str, list[str]], int] | None = None

    def score(self, solutions: Solutions) -> Sequence[Sequence[float]]:
        return self.function(_questions(solutions), solutions.steps)

    def reads(self, solutions: Solutions) -> Tensor:
        count = self.count or (lambda question, steps: -(-len(question + "".join(steps)) // 4))
        read = [count(q, s) for q, s in zip(_questions(solutions), solutions.steps, strict=True)]
        return torch.tensor(read, device=solutions.counts.device)


def checked(scores: Sequence[Sequence[float]], counts: Sequence[int]) -> list[list[float]]:
    """``scores`` as lists, if there is one in [0, 1] per step of each candidate.

    Raises:
        InvalidValue: names the candidate whose scores are too few, too many or no probabilities.
    """
    if len(scores) != len(counts):
        raise InvalidValue("verifier", f"scores of {len(scores)} candidates", f"scores of {len(counts)}")
    found = [[float(s) for s in row] for row in scores]
    for i, (row, count) in enumerate(zip(found, counts, strict=True)):
        if len(row) != count:
            raise InvalidValue(f"verifier's scores of candidate {i}", row, f"one per step, of {count}")
        if not all(0 <= s <= 1 for s in row):
            raise InvalidValue(f"verifier's scores of candidate {i}", row, "numbers in [0, 1]")
    return found


def _lists(scores: Tensor, counts: Tensor) -> list[list[float]]:
    return [row[:n] for row, n in zip(scores.tolist(), counts.tolist(), strict=True)]


def _questions(solutions: Solutions) -> list[str]:
    asked = ([m.content for m in p.messages if m.role == "user"] for p in solutions.prompts)
    return [said[-1] if said else p.text for said, p in zip(asked, solutions.prompts, strict=True)]
