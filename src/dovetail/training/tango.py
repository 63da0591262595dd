"""RL Tango: a generator that solves step by step and a verifier that judges every step, trained in turn.

Zha et al., "RL Tango: Reinforcing Generator and Verifier Together for Language Reasoning", arXiv 2505.15034
(NeurIPS 2025), eq. 2 to 9 and algorithm 1. The generator's advantage mixes its outcome with the verifier's
sampled judgments of its steps; the verifier is paid for the final verdict alone, so nobody labels steps. Each
has its own `training.Trainer`, optimizer and reference. Formulas that the text only describes are marked
"reading".

A generator step costs, beside a step of GRPO, one verification of every solution; a verifier step writes one
solution and ``group`` verifications of it per question.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from dovetail.core import Example, InvalidValue, Limits, Message, Prompt, Scorer
from dovetail.core.seeds import stream
from dovetail.decoding.base import Decoding
from dovetail.decoding.sampling import Sampling
from dovetail.models.local import LocalModel
from dovetail.rewards.verification import Layout, VerifierReward
from dovetail.training.data.base import Data
from dovetail.training.data.draws import Draws
from dovetail.training.judging import Reward
from dovetail.training.judging import judge as judged_by
from dovetail.training.objectives.policy_gradient import PolicyGradient
from dovetail.training.rollouts import Rollouts
from dovetail.training.run import Run
from dovetail.training.settings import Settings
from dovetail.training.trainer import Trainer

Advantage = Literal["grpo", "rloo", "reinforce++"]
# How a value is compared with the others of its pool, in the fields of `PolicyGradient`.
_WAYS: dict[str, dict[str, Any]] = {
    "grpo": {"baseline": "group", "scale": "group"},
    "rloo": {"baseline": "leave-one-out", "scale": "none"},
    "reinforce++": {"baseline": "group", "scale": "group"},  # with the whole batch as one group
}
Judgments = Sequence[Sequence[int | None]]
Ends = Sequence[Sequence[int]]


@dataclass(frozen=True)
class AlphaSchedule:
    """The step judgments' share of the generator's advantage, falling exponentially over training.

    Attributes:
        start: at the first step (paper: 0.1; 0.5 with REINFORCE++).
        end: at the last.
        steps: generator steps, at least 1.
    """

    start: float = 0.1
    end: float = 1e-3
    steps: int = 200

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidValue(name, getattr(self, name), "a share in [0, 1]")
        if self.end > self.start or (self.start and not self.end):
            raise InvalidValue("end", self.end, f"above 0 and at most start = {self.start} (both 0: GRPO)")
        if self.steps < 1:
            raise InvalidValue("steps", self.steps, "at least 1")

    def __call__(self, step: int) -> float:
        """At a generator step, counted from 0."""
        if not self.start:
            return 0.0
        return float(self.start * (self.end / self.start) ** (min(step, self.steps) / self.steps))


def generator_advantages(
    outcome: Tensor,
    judgments: Judgments,
    ends: Ends,
    lengths: Sequence[int],
    alpha: float,
    group: Tensor | None = None,
    advantage: Advantage = "grpo",
    strict: bool = False,
) -> list[Tensor]:
    """Eq. 3 to 7: what each token of each solution is worth.

    Args:
        outcome: [N] float, 1 where the answer is right.
        judgments: per solution, +1 or -1 for each step, None where there is none. Missing ones count 0,
            superfluous ones are dropped.
        ends: per solution, the token that ends each step, ascending.
        lengths: tokens per solution.
        alpha: the judgments' share (reading of eq. 7: the outcome has the rest).
        group: [N] equal for solutions of one question; None: all of one.
        advantage: how values are normalised; outcomes and steps apart.
        strict: refuse a number of judgments that is not that of the steps.

    Returns:
        per solution [length] float64: the same for all tokens from the outcome; from the judgments, the sum
        over the steps that end at this token or later (0 behind the last).

    Raises:
        InvalidValue: alpha outside [0, 1], judgments that are not +1 or -1, a step that ends outside of its
            solution, fewer than two solutions.
    """
    n = len(lengths)
    if not 0 <= alpha <= 1:
        raise InvalidValue("alpha", alpha, "a share in [0, 1]")
    if n < 2 or len(outcome) != n or len(judgments) != n or len(ends) != n:
        counts = (len(outcome), len(judgments), len(ends), n)
        raise InvalidValue("outcome, judgments, ends, lengths", counts, "equally many, at least 2")
    group = torch.zeros(n, dtype=torch.int64) if group is None else group.cpu()
    outcome = outcome.detach().cpu().double()
    overall = normalised(outcome, group, advantage)
    paid, owner = [], []
    for row, (said, places, length) in enumerate(zip(judgments, ends, lengths, strict=True)):
        _check_steps(row, said, places, length, strict)
        for k in range(len(places)):
            paid.append((said[k] or 0) / len(places) if k < len(said) else 0.0)
            owner.append(row)
    rows = torch.tensor(owner, dtype=torch.int64)
    steps = normalised(torch.tensor(paid, dtype=torch.float64), group[rows], advantage)
    made, at = [], 0
    for row, (places, length) in enumerate(zip(ends, lengths, strict=True)):
        following = torch.zeros(length, dtype=torch.float64)
        for k, place in enumerate(places):
            following[: place + 1] += steps[at + k]
        at += len(places)
        made.append(alpha * following + (1 - alpha) * overall[row])
    return made


def _check_steps(
    row: int, said: Sequence[int | None], places: Sequence[int], length: int, strict: bool
) -> None:
    if any(j not in (1, -1, None) for j in said):
        raise InvalidValue(f"judgments[{row}]", list(said), "+1 or -1 each")
    if list(places) != sorted(places) or any(not 0 <= p < length for p in places):
        raise InvalidValue(f"ends[{row}]", list(places), f"ascending, within the {length} tokens")
    if strict and (len(said) != len(places) or None in said):
        raise InvalidValue(
            f"judgments[{row}]", f"{len(said)} of them", f"one for each of {len(places)} steps"
        )


def normalised(values: Tensor, group: Tensor, advantage: Advantage = "grpo") -> Tensor:
    """[N] values compared with the others of their group (or, "reinforce++", of the batch); exactly 0 where
    all of these are equal."""
    if not len(values):
        return values
    pool = torch.zeros_like(group) if advantage == "reinforce++" else group
    relative = PolicyGradient(group_size=2, **_WAYS[advantage]).relative(values, pool)
    # Means of equal numbers are not always equal to them.
    for one in pool.unique():
        members = values[pool == one]
        if bool((members == members[0]).all()):
            relative = torch.where(pool == one, 0.0, relative)
    return relative


@dataclass
class ClassBalancer:
    """Weights of right and wrong solutions in the verifier's advantages: the rarer class weighs more.

    Attributes:
        decay: of the running counts per batch.
        right, wrong: the running counts; -1 before the first batch.
    """

    decay: float = 0.8
    right: float = -1.0
    wrong: float = -1.0

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise InvalidValue("decay", self.decay, "in [0, 1)")

    def update(self, right: float, wrong: float) -> None:
        """A batch's counts."""
        if self.right < 0:
            self.right, self.wrong = float(right), float(wrong)
        else:
            self.right = self.decay * self.right + (1 - self.decay) * right
            self.wrong = self.decay * self.wrong + (1 - self.decay) * wrong

    @property
    def weights(self) -> tuple[float, float]:
        """(s+, s-): as 1 / sqrt(count), scaled (reading) so that their mean over solutions is 1."""
        if self.right < 0:
            return 1.0, 1.0
        # A class that has not been seen yet counts as one solution.
        right, wrong = max(self.right, 1.0), max(self.wrong, 1.0)
        plus, minus = right**-0.5, wrong**-0.5
        scale = (right + wrong) / (right * plus + wrong * minus)
        return plus * scale, minus * scale

    def state_dict(self) -> dict[str, Any]:
        return {"right": self.right, "wrong": self.wrong}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.right, self.wrong = float(state["right"]), float(state["wrong"])


def verifier_advantages(
    rewards: Tensor, gold_correct: Sequence[bool], s_plus: float, s_minus: float, group: Tensor | None = None
) -> Tensor:
    """Eq. 9: [N] rewards of verifications, normalised within those of one solution, times its class's weight.

    Raises:
        InvalidValue: fewer than two verifications, or weights that are not above 0.
    """
    if len(rewards) < 2 or len(gold_correct) != len(rewards):
        counts = (len(rewards), len(gold_correct))
        raise InvalidValue("rewards, gold_correct", counts, "equally many, at least 2")
    if not (s_plus > 0 and s_minus > 0):
        raise InvalidValue("s_plus, s_minus", (s_plus, s_minus), "above 0")
    group = torch.zeros(len(rewards), dtype=torch.int64) if group is None else group
    weights = torch.tensor([s_plus if right else s_minus for right in gold_correct], dtype=torch.float64)
    return weights.to(rewards.device) * normalised(rewards.double(), group)


# --- the two sides as the trainer's slots ------------------------------------------------------------------

#: Sees written solutions; gives the judgments and the token ends of their steps.
Judge = Callable[[Rollouts], tuple[Judgments, Ends]]


@dataclass(frozen=True)
class GeneratorObjective(PolicyGradient):
    """The policy gradient whose advantages also hear a verifier.

    Attributes:
        judge: asks the verifier; None: the outcome alone, plain GRPO.
        alpha: the judgments' share by step.
        advantage: how values are normalised.
    """

    judge: Judge | None = None
    alpha: AlphaSchedule = AlphaSchedule()
    advantage: Advantage = "grpo"

    def assign(self, rollouts: Rollouts) -> Tensor:
        outcome = rollouts.reward
        alpha = self.alpha(rollouts.step) if self.judge is not None else 0.0
        if not alpha or self.judge is None:
            return normalised(outcome, rollouts.group, self.advantage)
        judgments, ends = self.judge(rollouts)
        lengths = [len(c.token_ids) for c in rollouts.completions]
        worth = generator_advantages(outcome, judgments, ends, lengths, alpha, rollouts.group, self.advantage)
        made = torch.zeros(rollouts.mask.shape, dtype=torch.float64)
        for row, values in enumerate(worth):
            made[row, : len(values)] = values
        return made.to(rollouts.mask.device)


@dataclass(frozen=True)
class VerifierObjective(PolicyGradient):
    """The policy gradient over verifications of one solution, weighted by its class.

    Attributes:
        balancer: the weights; None: 1 for both. Counts are taken in after the weights were used, so the
            first step is unweighted (algorithm 1).
    """

    balancer: ClassBalancer | None = None

    def assign(self, rollouts: Rollouts) -> Tensor:
        right = [bool(e.columns["gold_correct"]) for e in rollouts.examples]
        plus, minus = self.balancer.weights if self.balancer is not None else (1.0, 1.0)
        worth = verifier_advantages(rollouts.reward, right, plus, minus, rollouts.group)
        if self.balancer is not None:
            solutions = right[:: self.group_size]
            self.balancer.update(sum(solutions), len(solutions) - sum(solutions))
        return worth

    def state_dict(self) -> dict[str, Any]:
        return {} if self.balancer is None else self.balancer.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self.balancer is not None:
            self.balancer.load_state_dict(state)


@dataclass
class _Solutions(Data):
    """The verifier's examples: in every step, new solutions of the generator."""

    write: Callable[[int, Sequence[Example]], Sequence[Example]]
    draws: Draws
    count: int

    def __deepcopy__(self, memo: dict[int, Any]) -> _Solutions:
        return self  # trainers copy their parts; this one writes with the models themselves

    def draw(self, step: int, pool: Sequence[Example]) -> Sequence[Example]:
        return self.write(step, self.draws.draw(pool, self.count))

    def state_dict(self) -> dict[str, Any]:
        return {"draws": self.draws.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.draws.load_state_dict(state["draws"])


@dataclass
class Tango:
    """Trains both, in place: ``Tango(generator, verifier, problems, outcome).run()``.

    The problems' ``reference`` is the answer; nothing else is labelled.

    Attributes:
        generator, verifier: two models, which may have different tokenizers.
        problems: what is learned from.
        outcome: the rule that says whether an answer is right, as a reward of 1 or 0.
        layout: how solutions and verifications are written.
        n_generator, n_verifier: N_g and N_v, steps of each in turn (paper: 3 and 1).
        group: M, solutions of a problem and verifications of a solution (paper: 5).
        warmup: steps of the verifier before the generator's first (paper: 40).
        alpha_start, alpha_end: the step judgments' share (`AlphaSchedule`), over the generator's steps.
        gamma: weight of the verifier's format score.
        decay: of the class counts; None: no weights.
        advantage: "grpo", "rloo" or "reinforce++".
        kl: weight of the divergence from the models that training began with.
        settings: of the generator's trainer; ``steps`` are its own (paper: 200), ``batch`` its solutions.
        verifier_settings: of the verifier's; ``steps`` is ignored. None: the generator's.
        decoding: of both; temperature 1 by default.
        train_generator, train_verifier: False freezes one of them.
        held_out, scorer: evaluated by the generator's trainer.
    """

    generator: LocalModel
    verifier: LocalModel
    problems: Sequence[Example]
    outcome: Reward
    layout: Layout = field(default_factory=Layout)
    n_generator: int = 3
    n_verifier: int = 1
    group: int = 5
    warmup: int = 40
    alpha_start: float = 0.1
    alpha_end: float = 1e-3
    gamma: float = 0.8
    decay: float | None = 0.8
    advantage: Advantage = "grpo"
    kl: float = 0.001
    settings: Settings = field(
        default_factory=lambda: Settings(
            steps=200, batch=255, learning_rate=1e-6
        )  # the paper's 256, in fives
    )
    verifier_settings: Settings | None = None
    decoding: Decoding = field(default_factory=Sampling)
    train_generator: bool = True
    train_verifier: bool = True
    held_out: Sequence[Example] = ()
    scorer: Scorer | None = None

    def __post_init__(self) -> None:
        for name, least in (("n_generator", 1), ("n_verifier", 1), ("group", 2), ("warmup", 0)):
            if getattr(self, name) < least:
                raise InvalidValue(name, getattr(self, name), f"at least {least}")
        if self.advantage not in _WAYS:
            raise InvalidValue("advantage", self.advantage, f"one of {', '.join(_WAYS)}")
        if not (self.train_generator or self.train_verifier):
            raise InvalidValue("train_generator, train_verifier", False, "True for at least one")
        if self.generator.network is self.verifier.network:
            raise InvalidValue("verifier", self.verifier.name, "another copy than the generator's")
        common: dict[str, Any] = {"kl": self.kl, "group_size": self.group}
        alpha = AlphaSchedule(self.alpha_start, self.alpha_end, self.settings.steps)
        self.generating = Trainer(
            self.generator,
            self.problems,
            GeneratorObjective(**common, judge=self.judge, alpha=alpha, advantage=self.advantage),
            rewards=[self.outcome],
            decoding=self.decoding,
            settings=self.settings,
            held_out=self.held_out,
            scorer=self.scorer,
        )
        own = self.verifier_settings or self.settings
        rounds = math.ceil(self.settings.steps / self.n_generator)
        own = replace(own, steps=max(1, self.warmup + rounds * self.n_verifier))
        draws = Draws(stream(self.settings.seed, "verified"))
        balancer = None if self.decay is None else ClassBalancer(self.decay)
        self.verifying = Trainer(
            self.verifier,
            self.problems,
            VerifierObjective(**common, balancer=balancer),
            rewards=[VerifierReward(self.gamma, self.layout)],
            data=[_Solutions(self.solved, draws, own.batch // self.group)],
            decoding=self.decoding,
            settings=own,
        )

    def run(self, report: Callable[[str, Mapping[str, float]], None] | None = None) -> tuple[Run, Run]:
        """Algorithm 1 to the end of the generator's steps; the generator's run and the verifier's.

        ``report`` is told every step: "generator" or "verifier", and its figures.
        """
        for who in self.order()[self.generating.step + self.verifying.step :]:
            figures = (self.generating if who == "generator" else self.verifying).advance()
            if report is not None:
                report(who, figures)
        return self.generating.run, self.verifying.run

    def order(self) -> list[str]:
        """Whose turn it is: the verifier's warm-up, then N_g and N_v steps in turn. A frozen generator still
        counts its steps, so that a verifier beside one gets as many as beside a learning one."""
        made = ["verifier"] * self.warmup
        for step in range(self.settings.steps):
            made.append("generator")
            if (step + 1) % self.n_generator == 0:
                made += ["verifier"] * self.n_verifier
        kept = {"generator": self.train_generator, "verifier": self.train_verifier}
        return [who for who in made if kept[who]]

    def judge(self, rollouts: Rollouts) -> tuple[Judgments, Ends]:
        """One verification of every solution: step judgments (those the verifier wrote) and token ends."""
        ends = [
            step_ends(c.token_ids, c.text, self.layout, self.generator.tokenizer.decode)
            for c in rollouts.completions
        ]
        asked = [
            self._asked(e, c.text, f"{e.id} {n}")
            for n, (e, c) in enumerate(zip(rollouts.examples, rollouts.completions, strict=True))
        ]
        wanted = [i for i, places in enumerate(ends) if places]
        prompts = [self._prompt(asked[i], rollouts.step) for i in wanted]
        judgments: list[Sequence[int | None]] = [()] * len(ends)
        if prompts:
            limits = Limits(self.verifying.settings.max_new_tokens)
            written = self.decoding.generate(self.verifier.engine, prompts, limits)
            for i, completion in zip(wanted, written, strict=True):
                said = str(completion.columns.get("assistant_prefix", "")) + completion.text
                judgments[i] = self.layout.verification(said).steps
        return judgments, ends

    def solved(self, step: int, problems: Sequence[Example]) -> list[Example]:
        """One solution of each problem, as the verifier is asked about it; ``gold_correct`` by the rule."""
        settings = self.generating.settings
        writer, ask = self.generating.writer, self.generating.ask
        seeds = [stream(settings.seed, "verified", e.id, step, i) for i, e in enumerate(problems)]
        prompts = [replace(writer.prompt(e, ask), seed=s) for e, s in zip(problems, seeds, strict=True)]
        written = self.decoding.generate(self.generator.engine, prompts, Limits(settings.max_new_tokens))
        solutions = Rollouts.of(step, problems, prompts, written, range(len(problems)))
        right = judged_by(solutions, [self.outcome], ["outcome"])[:, 0] == 1
        return [
            self._asked(e, c.text, f"{e.id} at {step} {i}", gold_correct=bool(r))
            for i, (e, c, r) in enumerate(zip(problems, written, right, strict=True))
        ]

    def _asked(self, problem: Example, solution: str, id: str, **columns: Any) -> Example:
        steps = len(self.layout.solution(solution).steps)
        text = self.layout.ask(problem.question, solution)
        return Example(id, (Message("user", text),), columns={**columns, "n_steps": steps})

    def _prompt(self, asked: Example, step: int) -> Prompt:
        prompt = self.verifying.writer.prompt(asked, lambda e: e.messages)
        return replace(prompt, seed=stream(self.settings.seed, "judged", asked.id, step))

    def state_dict(self) -> dict[str, Any]:
        """Both trainers; a Tango that is built alike and takes it up goes on with `run` where this one is."""
        return {"generating": self.generating.state_dict(), "verifying": self.verifying.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up `state_dict`'s."""
        self.generating.load_state_dict(state["generating"])
        self.verifying.load_state_dict(state["verifying"])


def step_ends(ids: Sequence[int], text: str, layout: Layout, decode: Callable[..., Any]) -> list[int]:
    """The token that ends each step of a solution, found in the tokens as they were written.

    Args:
        ids, text: what was written, as tokens and decoded.
        layout: what a step is.
        decode: of the tokenizer that wrote it.
    """
    steps = layout.solution(text).steps
    if not steps:
        return []
    written = [len(decode(ids[: n + 1], skip_special_tokens=False)) for n in range(len(ids))]
    last = len(ids) - 1
    return [next((n for n, length in enumerate(written) if length >= end), last) for _, end in steps]
