"""A generator and a verifier that are only numbers: each step is right with probability q.

Every token is one step, and a solution is right if all of its steps are. The search that runs over it is the
real one; only the network behind the engine is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import torch

from dovetail.core import Limits, Prompt
from dovetail.decoding import Verifier, VGSearch
from dovetail.decoding.base import StepwiseDecoding
from dovetail.decoding.sampling import draw
from dovetail.engine import Choice, Engine
from dovetail.engine.forward import Forward, Output, next_positions

RIGHT, WRONG, END = 0, 1, 2
WORDS = {RIGHT: "right.", WRONG: "wrong.", END: ""}


class Tokenizer:
    added_tokens_decoder: dict = {}  # noqa: RUF012
    eos_token_id = END

    def encode(self, text, add_special_tokens=False):
        return []

    def decode(self, ids, skip_special_tokens=False):
        return "".join(WORDS[i] for i in ids)


class Nothing(Forward):
    """A network without layers, whose cache only counts positions."""

    layers, hidden_size, vocab_size, max_positions = 0, 1, 3, 1000
    device, dtype = torch.device("cpu"), torch.float32

    def embed(self, ids):
        raise NotImplementedError

    table = embed

    def __call__(self, cache, ids=None, embeds=None, *, valid=None, hook=None, **_):
        where = next_positions(cache, ids.shape[1], valid)
        cache.reserve(ids.shape[1])
        cache.advance(where, ragged=valid is not None)
        return Output(torch.zeros(len(ids), 3))


@dataclass(frozen=True)
class Coin(StepwiseDecoding):
    """RIGHT with probability ``q``, else WRONG."""

    q: float

    chooses = True

    def choose(self, logits, rows):
        return Choice(draw(torch.tensor([[self.q, 1 - self.q]]).expand(len(logits), 2), rows))


class Noisy(Verifier):
    """[all steps right] + a normal error, squeezed into [0, 1]."""

    def __init__(self, sigma, seed=0):
        self.sigma, self.rng = sigma, torch.Generator().manual_seed(seed)

    def score(self, solutions):
        steps = torch.arange(solutions.tokens.shape[1])
        wrong = (solutions.tokens == WRONG) & (steps < solutions.counts[:, None])
        noise = torch.randn(len(solutions), generator=self.rng) * self.sigma
        last = torch.sigmoid((~wrong.any(1)).float() + noise).tolist()
        return [[0.5] * (n - 1) + [s] for n, s in zip(solutions.counts.tolist(), last, strict=True)]


def engine(max_rows=4096):
    weight = torch.zeros(3, 1)
    table = SimpleNamespace(weight=weight)
    network = SimpleNamespace(
        generation_config=None,
        parameters=lambda: [weight],
        get_input_embeddings=lambda: table,
        get_output_embeddings=lambda: table,
    )
    return Engine(network, Tokenizer(), forward=Nothing(), max_rows=max_rows)


def run(q, sigma, g, n=16, runs=200, seed=0, kind=VGSearch, **options):
    """Accuracy, and the completions, of ``runs`` searches over 12 steps."""
    # Equal texts are different solutions here, of which many a right one is made.
    options = {"g": g, "filter_duplicates": False} | options if kind is VGSearch else options
    search = kind(n=n, verifier=Noisy(sigma, seed), delimiter=".", inner=Coin(q), **options)
    prompts = [Prompt((), "?", (RIGHT,), 1000 * seed + i) for i in range(runs)]
    found = search.generate(engine(), prompts, Limits(max_new_tokens=search.max_steps))
    return sum(WRONG not in c.token_ids for c in found) / runs, found
