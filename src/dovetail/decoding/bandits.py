"""Bandits that choose among K arms by the tokens that a round brings: UCBSpec and EXP3Spec.

Hou et al., "BanditSpec: Adaptive Speculative Decoding via Bandit Algorithms", arXiv 2505.15141 (ICML 2025),
Algorithms 4 and 5. A round on any arm brings 1 to L + 1 tokens; L is the longest draft of all arms. Quality
is the stopping-time regret: how many rounds more than the best fixed arm a text takes.

A policy is a pure function from what was seen to the chances of the arms. Everything is numpy on the host,
many independent runs at a time: R runs, K arms.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dovetail.core import InvalidValue

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass
class Seen:
    """What R runs have seen of their K arms.

    Attributes:
        pulls: [R, K], how often each arm was played.
        tokens: [R, K], the tokens that it brought in all.
        losses: [R, K], sums of EXP3's estimated losses Z.
        rounds: [R], rounds so far.
        longest: L.
        cost: [K], what a round of each arm costs, in rounds of the cheapest (>= 1); all 1 in the paper.
    """

    pulls: Floats
    tokens: Floats
    losses: Floats
    rounds: Floats
    longest: int
    cost: Floats

    @property
    def arms(self) -> int:
        return self.pulls.shape[1]


class Policy(ABC):
    """How an arm is chosen. Subclasses are frozen dataclasses.

    Attributes:
        random: whether the chances are ever other than 0 and 1.
    """

    random: bool = False

    @abstractmethod
    def chances(self, seen: Seen) -> Floats:
        """[R, K], the probability that each run plays each arm in its next round; rows sum to 1."""


@dataclass(frozen=True)
class UCBSpec(Policy):
    """Algorithm 4, for a stationary mean: every arm once, then the largest upper confidence bound.

    With n pulls of an arm after t rounds its bound is the mean of its tokens plus the radius
    (L / 2) sqrt((1 + n) / n^2 (1 + 2 log(K t^2 sqrt(1 + n) / delta))). The published text lost the root;
    it follows from the self-normalised bound of Abbasi-Yadkori et al. (2011) that the proof uses.

    Attributes:
        delta: the bounds fail with at most this probability (the proof ends with 1/2).
        exploration: factor on the radius, 1 in the paper. The proof assumes the widest spread that tokens
            per round can have, so that short texts end before the radii separate the arms.
        bonus: "confidence", or "code" for sqrt(6 log t / n), what the released code means to add.
        shared_bonus: with "code", n is the sum over all arms, as in the released code: the bonus is then
            the same for all arms, and the choice greedy.
    """

    delta: float = 0.5
    exploration: float = 1.0
    bonus: str = "confidence"
    shared_bonus: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.delta < 1:
            raise InvalidValue("delta", self.delta, "in (0, 1)")
        if not self.exploration >= 0:
            raise InvalidValue("exploration", self.exploration, ">= 0")
        if self.bonus not in ("confidence", "code"):
            raise InvalidValue("bonus", self.bonus, "'confidence' or 'code'")

    def chances(self, seen: Seen) -> Floats:
        n = np.maximum(seen.pulls, 1)
        bounds = (seen.tokens / n + self.exploration * self.radius(seen)) / seen.cost
        bounds[seen.pulls == 0] = np.inf  # argmax takes the first of them
        chosen = np.zeros_like(bounds)
        chosen[np.arange(len(bounds)), bounds.argmax(1)] = 1
        return chosen

    def radius(self, seen: Seen) -> Floats:
        """[R, K] in tokens; that of an arm never played is given as if it was played once."""
        n, t = np.maximum(seen.pulls, 1), np.maximum(seen.rounds, 1)[:, None]
        if self.bonus == "code":
            n = np.broadcast_to(n.sum(1, keepdims=True), n.shape) if self.shared_bonus else n
            return np.asarray(np.sqrt(6 * np.log(t) / n))
        deviation = 1 + 2 * np.log(seen.arms * t**2 * np.sqrt(1 + n) / self.delta)
        return np.asarray(seen.longest / 2 * np.sqrt((1 + n) / n**2 * deviation))


@dataclass(frozen=True)
class EXP3Spec(Policy):
    """Algorithm 5, for any sequence of tokens: chances proportional to exp(-eta_t * summed losses).

    eta_t = sqrt(log K / (t K)); the loss of the arm played is (L + 1 - tokens) / (L * its chance).
    """

    random = True

    def chances(self, seen: Seen) -> Floats:
        eta = np.sqrt(np.log(seen.arms) / ((seen.rounds + 1) * seen.arms))
        weights = np.exp(-eta[:, None] * (seen.losses - seen.losses.min(1, keepdims=True)))
        return np.asarray(weights / weights.sum(1, keepdims=True))


@dataclass(frozen=True)
class FixedArm(Policy):
    """Always the same arm: a baseline."""

    arm: int = 0

    def chances(self, seen: Seen) -> Floats:
        if not 0 <= self.arm < seen.arms:
            raise InvalidValue("arm", self.arm, f"one of the {seen.arms} arms, 0 to {seen.arms - 1}")
        return np.tile(np.eye(seen.arms)[self.arm], (len(seen.rounds), 1))


@dataclass(frozen=True)
class RandomArm(Policy):
    """Every arm alike: a baseline."""

    random = True

    def chances(self, seen: Seen) -> Floats:
        return np.full(seen.pulls.shape, 1 / seen.arms)


class Bandits:
    """R independent runs of a policy.

    Args:
        policy: chooses.
        runs: R.
        arms: K.
        longest: L, the longest draft of any arm.

    Raises:
        InvalidValue: no arms, or L < 1.
    """

    def __init__(self, policy: Policy, runs: int, arms: int, longest: int) -> None:
        if arms < 1:
            raise InvalidValue("arms", arms, "at least 1")
        if longest < 1:
            raise InvalidValue("longest", longest, "at least 1 token")
        self.policy = policy
        shape = (runs, arms)
        self.seen = Seen(
            np.zeros(shape), np.zeros(shape), np.zeros(shape), np.zeros(runs), longest, np.ones(arms)
        )
        self._chance = np.full(runs, np.nan)  # of the arm that each run drew last

    def select(self, runs: Ints, uniforms: Floats) -> Ints:
        """[B] arms for the runs at ``runs`` [B]; ``uniforms`` [B] in (0, 1) decide where there is chance."""
        chances = self.policy.chances(self._at(runs))
        below = chances.cumsum(1) < uniforms[:, None] * chances.sum(1, keepdims=True)
        arms = np.minimum(below.sum(1), self.seen.arms - 1)
        self._chance[runs] = chances[np.arange(len(runs)), arms]
        return arms

    def update(self, runs: Ints, arms: Ints, tokens: Floats) -> None:
        """Counts a round of each of ``runs`` [B] (all different): its arm brought so many tokens.

        Raises:
            IndexError: an arm that does not exist.
            ValueError: tokens outside [1, L + 1].
            RuntimeError: a random policy's arm that was not drawn by `select`, so that its chance is unknown.
        """
        seen, longest = self.seen, self.seen.longest
        if (arms < 0).any() or (arms >= seen.arms).any():
            raise IndexError(f"arm {int(arms.max())} of {seen.arms} (counted from 0)")
        if (tokens < 1).any() or (tokens > longest + 1).any():
            raise InvalidValue("tokens", tokens.tolist(), f"1 to {longest + 1} per round")
        if self.policy.random:
            chance = self._chance[runs]
            if np.isnan(chance).any():
                raise RuntimeError("update without select: the chance of the arm played is not known")
            worth = tokens / seen.cost[arms]
            seen.losses[runs, arms] += (longest + 1 - worth) / (longest * chance)
            self._chance[runs] = np.nan
        seen.pulls[runs, arms] += 1
        seen.tokens[runs, arms] += tokens
        seen.rounds[runs] += 1

    def _at(self, runs: Ints) -> Seen:
        s = self.seen
        if len(runs) == len(s.rounds) == 1:
            return s
        return Seen(s.pulls[runs], s.tokens[runs], s.losses[runs], s.rounds[runs], s.longest, s.cost)


def rounds_to_write(
    policy: Policy, acceptance: Floats, longest: int, length: int, runs: int, rng: np.random.Generator
) -> Floats:
    """[R] rounds that texts of ``length`` tokens take in the model of the theory (sect. 4).

    Tokens per round are truncated geometric: one more is accepted with the arm's probability p, up to L.

    Args:
        acceptance: [K] the arms' p; or [S, K] for S equally long stretches of the text.
    """
    stretches = np.atleast_2d(acceptance)
    bandits = Bandits(policy, runs, stretches.shape[1], longest)
    written, rounds = np.zeros(runs), np.zeros(runs)
    while len(going := (written < length).nonzero()[0]):
        arms = bandits.select(going, rng.random(len(going)))
        stretch = (written[going] * len(stretches) / length).astype(np.int64)
        p = stretches[stretch, arms]
        # P(accepted >= k) = p^k, so that accepted = floor(log u / log p).
        accepted = np.floor(np.log(1 - rng.random(len(going))) / np.log(p))
        tokens = np.minimum(accepted, longest) + 1
        bandits.update(going, arms, tokens)
        written[going] += tokens
        rounds[going] += 1
    return rounds


def stopping_time_regret(rounds: Floats, per_arm: Floats) -> float:
    """Mean rounds of the algorithm [N] less those of the best fixed arm, whose rounds are a row of [K, N]."""
    return float(np.mean(rounds) - np.mean(per_arm, 1).min())
