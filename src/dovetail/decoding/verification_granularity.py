"""VG-Search: one search that becomes beam search or Best-of-N by choosing how often the verifier is called.

"Rethinking Optimal Verification Granularity for Compute-Efficient Test-Time Scaling", arXiv 2505.11730
(NeurIPS 2025). Of n candidates the best n / beam_width are kept; they run g - 1 steps unverified, then branch
into n candidates for one more step, and the verifier is called again. g = 1 is beam search. Per round the
beams write n / beam_width * (g - 1) + n steps, so a larger g saves branches as well as calls of the verifier.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from dovetail.core import Completion, InvalidValue, Limits, Prompt
from dovetail.decoding.base import Decoding, StepwiseDecoding, with_inner
from dovetail.decoding.verified_search import VerifiedSearch, check_width

Profile = Mapping[tuple[Any, ...], tuple[float, float]]
"""(g, n) or (g, n, difficulty) -> (accuracy, operations per question), measured on a validation set."""


@dataclass(frozen=True)
class VGSearch(VerifiedSearch):
    """Verifier-guided search that calls the verifier every ``g`` steps.

    Attributes:
        n: candidates per round; a multiple of ``beam_width``.
        beam_width: B2, branches of a kept beam; n / beam_width beams are kept.
        g: the granularity: steps between two calls of the verifier. Above ``max_steps`` it counts as that.
        first_chunk: whether the first call comes after one "step", as in the official code, or after "g";
            with "g" and g = max_steps the search is exactly Best-of-N.
        filter_duplicates: candidates of equal tokens count once when the best are kept.
        lookahead: greedy steps that are written to score a candidate, and then forgotten.
        verifier, agg, pick, max_steps, delimiter, max_tokens_per_step, inner, extract: see `VerifiedSearch`.
    """

    beam_width: int = 4
    g: int = 1
    first_chunk: Literal["step", "g"] = "step"
    filter_duplicates: bool = True
    lookahead: int = 0  # type: ignore[misc]

    def __post_init__(self) -> None:
        VerifiedSearch.__post_init__(self)
        check_width(self.n, self.beam_width)
        if int(self.g) != self.g or self.g < 1:
            raise InvalidValue("g", self.g, "a whole number, at least 1")
        if self.first_chunk not in ("step", "g"):
            raise InvalidValue("first_chunk", self.first_chunk, "step or g")
        if int(self.lookahead) != self.lookahead or self.lookahead < 0:
            raise InvalidValue("lookahead", self.lookahead, "a whole number, at least 0")
        if self.g > self.max_steps:
            warnings.warn(f"g = {self.g} counts as max_steps = {self.max_steps}", stacklevel=3)

    def chunks(self) -> list[int]:
        g = min(self.g, self.max_steps)
        first = g if self.first_chunk == "g" else 1
        rest = self.max_steps - first
        return [first] + [g] * (rest // g) + ([rest % g] if rest % g else [])

    def keep(self, scores: Sequence[float], done: Sequence[bool], slots: Sequence[int]) -> list[int]:
        unfinished = [i for i, d in enumerate(done) if not d]
        return sorted(unfinished, key=lambda i: -scores[i])[: self.n // self.beam_width]


@dataclass(frozen=True)
class AdaptiveVGSearch(Decoding):
    """VG-Search whose granularity (and number of candidates) was chosen on a validation set.

    Attributes:
        profile: rows (g, n, accuracy, operations per question), as `measure` finds them.
        mode: "CM" takes the largest g that is as accurate as g = 1 to ``tolerance``; "AM" the most accurate
            one under ``budget``. See `choose_g`.
        tolerance, budget: of these rules.
        search: everything else about the search.
    """

    profile: tuple[tuple[int, int, float, float], ...]
    mode: Literal["CM", "AM"] = "CM"
    tolerance: float = 0.005
    budget: float | None = None
    search: VGSearch = field(default_factory=VGSearch)

    def __post_init__(self) -> None:
        self.chosen  # noqa: B018 (a profile without a choice is an error now, not when it is used)

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        return self.search.needs

    @property
    def chosen(self) -> VGSearch:
        """The search with the chosen g and n."""
        table = {(g, n): (accuracy, flops) for g, n, accuracy, flops in self.profile}
        g, n = choose_g(table, self.mode, self.tolerance, self.budget)
        return replace(self.search, g=g, n=n)

    def over(self, modifiers: Sequence[StepwiseDecoding]) -> Decoding:
        return replace(self, search=with_inner(self.search, modifiers))

    def generate(self, engine: Any, prompts: Sequence[Prompt], limits: Limits) -> list[Completion]:
        """As `VGSearch` does with the chosen g and n, which become columns."""
        chosen = self.chosen
        return [
            replace(c, columns={**c.columns, "g": chosen.g, "n": chosen.n})
            for c in chosen.generate(engine, prompts, limits)
        ]


def flops(B1: int, B2: int, L: int, g: int, T: float, P_g: float, P_v: float, alpha: float) -> float:
    """The paper's cost of one search: 2 B1 (L / g) (T (g - 1 + B2) P_g + alpha B2 P_v) operations.

    Args:
        B1: beams kept.
        B2: branches of each.
        L: steps of a solution.
        g: steps between calls of the verifier.
        T: tokens of a step.
        P_g, P_v: weights of generator and verifier.
        alpha: tokens that the verifier reads for a candidate: g * T new ones with a prefix cache, or the
            whole text without; 1 for a head on states that generation has computed already.
    """
    return 2 * B1 * (L / g) * (T * (g - 1 + B2) * P_g + alpha * B2 * P_v)


def choose_g(
    profile: Profile,
    mode: Literal["CM", "AM"] = "CM",
    tolerance: float = 0.005,
    budget: float | None = None,
    difficulty: Any = None,
) -> tuple[int, int]:
    """The (g, n) to search with, by one of the paper's two rules. Ties go to the cheaper one.

    Args:
        profile: see `Profile`.
        mode: "CM" (compute-minimizing): the largest g whose accuracy is at most ``tolerance`` below that of
            g = 1 with as many candidates; of several n, the n whose g = 1 is the most accurate.
            "AM" (accuracy-maximizing): the most accurate of all.
        tolerance: 0.005 is half a point.
        budget: operations per question that are allowed.
        difficulty: the group of questions to choose for, where the profile has groups.

    Raises:
        InvalidValue: a profile without entries (of this group, under this budget: it says what the cheapest
            costs), or without g = 1 for "CM".
    """
    if mode not in ("CM", "AM"):
        raise InvalidValue("mode", mode, "CM or AM")
    table = {key[:2]: value for key, value in profile.items() if (key[2:] or (None,)) == (difficulty,)}
    if not table:
        raise InvalidValue("profile", dict(profile), f"not empty (difficulty {difficulty!r})")
    within = {key: v for key, v in table.items() if budget is None or v[1] <= budget}
    if not within:
        raise InvalidValue(
            "budget", budget, f"at least the cheapest cost, {min(f for _, f in table.values())}"
        )
    if mode == "AM":
        return max(within, key=lambda key: (within[key][0], -within[key][1]))
    base = {n: accuracy for (g, n), (accuracy, _) in table.items() if g == 1}
    if not base:
        raise InvalidValue("profile", dict(profile), "one with g = 1, which CM compares with")
    n = max(base, key=lambda n: (base[n], -n))
    near = [g for (g, m), (a, _) in within.items() if m == n and a >= base[n] - tolerance - 1e-12]
    if not near:
        raise InvalidValue("budget", budget, f"enough for some g at n = {n} that is as accurate as g = 1")
    return max(near), n


def measure(
    search: VGSearch,
    engine: Any,
    prompts: Sequence[Prompt],
    limits: Limits,
    right: Callable[[int, Completion], float],
    grid: Sequence[tuple[int, int]],
) -> dict[tuple[int, int], tuple[float, float]]:
    """The profile of ``search`` on a validation set, for `choose_g`.

    Args:
        right: (position in ``prompts``, completion) -> its score.
        grid: the (g, n) to try.
    """
    found = {}
    for g, n in grid:
        written = replace(search, g=g, n=n).generate(engine, prompts, limits)
        accuracy = sum(right(i, c) for i, c in enumerate(written)) / len(written)
        found[g, n] = (accuracy, sum(float(c.columns["flops"]) for c in written) / len(written))
    return found
