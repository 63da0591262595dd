"""The loop: draw questions, write, judge, assign, update, watch. It knows no method by name.

Figures of a step (`Run.history`, monitors, the log):

| figure | meaning |
|---|---|
| ``step`` | counted from 0 |
| ``loss``, ``gradient``, ``rate`` | of the last update; the gradient's norm is that before clipping |
| ``reward``, ``reward_deviation`` | mean and spread of the weighted sum |
| ``reward/NAME`` | mean of one reward, before weights |
| ``length``, ``truncated`` | mean tokens of completions; share that the limit ended |
| ``padding`` | share of the tokens in forward and backward passes that was padding |
| ``read`` | share of the completions that the update had to read |
| ``seconds``, ``seconds/writing``, ``seconds/judging``, ``seconds/learning`` | wall clock |
| ``completions_per_second`` | of the whole step |
| ``held_out/accuracy``, ``held_out/length`` | at steps after which the held-out examples were asked |
| ``skipped/REASON`` | how much was left out so far |

and those of the objective (``entropy``, ``kl``, ``zero_variance``, ...) and of the data's parts.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from dovetail.core import BadData, DovetailError, Example, InvalidValue, Message, Prompt, Scorer
from dovetail.decoding.base import Decoding
from dovetail.models.local import LocalModel
from dovetail.training.adapters import adapt
from dovetail.training.batches import micro_batches, padding_share
from dovetail.training.checkpoints import generators, restore_generators, restore_run, run_state
from dovetail.training.data.base import Data
from dovetail.training.data.draws import Draws
from dovetail.training.evaluation import evaluate
from dovetail.training.judging import Reward, judge, reward_names
from dovetail.training.monitors.base import Alarm, Monitor
from dovetail.training.objectives.base import Objective
from dovetail.training.optimisers import Optimisers
from dovetail.training.policy import Policy, row_lengths
from dovetail.training.processes import ALONE, Processes
from dovetail.training.rollouts import Rollouts, totals_of
from dovetail.training.run import Run, Sample
from dovetail.training.settings import Settings
from dovetail.training.sharding import ShardedOptimisers
from dovetail.training.writing import Writer

_SAMPLES = 4  # completions kept of a step


class NotFinite(DovetailError):
    """Losses or gradients were not finite, several updates in a row."""


class Trainer:
    """One run. `train` builds it; whoever trains two models in turn calls `advance` of each.

    Args:
        model: trained in place.
        examples: what is learned from, before the data's parts.
        objective, rewards, weights, data, monitors, decoding: what fills the slots.
        settings: see `Settings`.
        held_out: examples that are evaluated, and
        scorer: what judges them.
        processes: that share the work.
    """

    def __init__(
        self,
        model: LocalModel,
        examples: Sequence[Example],
        objective: Objective,
        *,
        rewards: Sequence[Reward] = (),
        weights: Sequence[float] | None = None,
        data: Sequence[Data] = (),
        monitors: Sequence[Monitor] = (),
        decoding: Decoding,
        settings: Settings,
        held_out: Sequence[Example] = (),
        scorer: Scorer | None = None,
        processes: Processes = ALONE,
    ) -> None:
        size = objective.group_size
        if settings.batch % (size * objective.minibatches):
            expected = f"a multiple of group_size x minibatches = {size * objective.minibatches}"
            raise InvalidValue("batch", settings.batch, expected)
        self.model, self.objective, self.settings = model, objective, settings
        # Parts with state are the run's own: the caller's can be used for another run.
        self.rewards, self.data, self.monitors = (_own(part) for part in (rewards, data, monitors))
        self.names = reward_names(self.rewards)
        self.weights = torch.tensor(_weights(weights, self.names), dtype=torch.float64)
        self.held_out, self.scorer = list(held_out), scorer
        self.processes = processes
        self.adapter = adapt(model, settings)
        self.writer = Writer(model, objective, decoding, settings, processes)
        # Completions drawn at a temperature are learned from under that temperature.
        temperature = float(getattr(decoding, "temperature", 1.0)) if objective.writes else 1.0
        reading = (temperature or 1.0, settings.micro_batch_tokens, settings.precision == "bfloat16")
        self.policy = Policy(model.network, *reading)
        kind = ShardedOptimisers if processes.sharded else Optimisers
        self.optimisers = kind(model.network, settings, processes)
        self.reference: Policy | None = None
        if "reference" in objective.reads:
            frozen = copy.deepcopy(model.network).requires_grad_(False).eval()
            self.reference = Policy(frozen, *reading)
        self.draws = Draws(settings.seed)
        self.step = 0
        self.bad_updates = 0  # in a row
        self.skipped: dict[str, int] = {}
        self.run = Run(
            model, data=self.data, rewards=self.rewards, monitors=self.monitors, skipped=self.skipped
        )
        self.pool = self._pool(examples)
        for monitor in self.monitors:
            monitor.begin(self)

    # --- the loop -----------------------------------------------------------------------------------

    @property
    def done(self) -> bool:
        return self.step >= self.settings.steps or bool(self.run.stopped)

    def advance(self) -> dict[str, float]:
        """One step; returns its figures."""
        if self.step == 0 and not self.run.evaluations:
            self.evaluate()
        clock = time.perf_counter()
        rollouts = self.roll()
        written = time.perf_counter()
        self.judge(rollouts)
        judged = time.perf_counter()
        figures: dict[str, float] = {"step": self.step, **self._described(rollouts)}
        figures |= self.learn(rollouts)
        end = time.perf_counter()
        figures |= {
            "seconds": end - clock,
            "seconds/writing": written - clock,
            "seconds/judging": judged - written,
            "seconds/learning": end - judged,
            "completions_per_second": len(rollouts) / (end - clock),
        }
        for part in (*self.data, *self.rewards, *self.monitors):
            if hasattr(part, "update"):
                part.update(rollouts)
            if hasattr(part, "figures"):
                figures |= part.figures()
        figures = self.processes.from_first(lambda: figures)  # seconds differ; what monitors see must not
        self._keep_samples(rollouts)
        self.step += 1
        every = self.settings.evaluate_every
        if self.step >= self.settings.steps or (every and self.step % every == 0):
            figures |= self.evaluate()
        figures |= {f"skipped/{reason}": float(count) for reason, count in self.skipped.items()}
        self.run.history.append(figures)
        self._watch(figures)
        if self.run.stopped:
            # A brake may have brought former weights back: the last evaluation is of what the run leaves.
            if self.run.evaluations and self.run.evaluations[-1].step == self.step:
                self.run.evaluations.pop()
            figures |= self.evaluate()
        return figures

    def roll(self) -> Rollouts:
        """This step's questions and their completions, not judged yet."""
        pool: Sequence[Example] = self.pool
        for part in self.data:
            pool = part.draw(self.step, pool)
            if not pool:
                raise BadData(f"{type(part).__name__} leaves no example to draw from at step {self.step}")
        count = self.settings.batch // self.objective.group_size
        asked: list[tuple[Example, Prompt]] = []
        # A part may ask at greater length than before; whoever does not fit is replaced, not squeezed in.
        for _ in range(10):
            for example in self.draws.draw(pool, count - len(asked)):
                prompt = self.writer.prompt(example, self.ask)
                if self.writer.fits(prompt):
                    asked.append((example, prompt))
                else:
                    self._skip("prompts too long")
            if len(asked) == count:
                return self.writer.roll(self.step, asked)
        raise BadData(
            f"step {self.step}: too few prompts of at most {self.settings.max_prompt_tokens} tokens; "
            "raise max_prompt_tokens"
        )

    def ask(self, example: Example) -> Sequence[Message]:
        """The messages that an example is put with, after all data parts."""
        messages: Sequence[Message] = example.messages
        for part in self.data:
            messages = part.ask(example, messages)
        return messages

    def judge(self, rollouts: Rollouts) -> None:
        """Fills in what the objective and the rewards read, rewards, and advantages."""
        reads = self.objective.reads.union(*(getattr(r, "reads", ()) for r in self.rewards))
        if reads & {"logprobs", "entropies"}:
            rollouts.logprobs, rollouts.entropies = self.policy.read(
                rollouts, entropy="entropies" in reads, processes=self.processes
            )
        if self.reference is not None:
            rollouts.reference, _ = self.reference.read(rollouts, processes=self.processes)
        if self.objective.writes:
            rollouts.names = self.names
            rollouts.weights = self.weights.to(rollouts.group.device)
            rollouts.rewards = judge(rollouts, self.rewards, self.names)
            nobody = int((~rollouts.judged).sum()) if self.names else 0
            if nobody:
                self._skip("completions that no reward applies to", nobody)
        worth = self.objective.assign(rollouts)
        if worth is not None:
            worth = worth.to(torch.float32)
            wide = worth[:, None] if worth.ndim == 1 else worth
            rollouts.advantages = wide.expand(rollouts.mask.shape)

    def learn(self, rollouts: Rollouts) -> dict[str, float]:
        """All updates on a step's rollouts; the figures of the last."""
        figures: dict[str, float] = {}
        groups = rollouts.group.tolist()
        questions = list(dict.fromkeys(groups))
        share = -(-len(questions) // self.objective.minibatches)
        for turn in range(self.objective.passes):
            order = torch.randperm(len(questions), generator=self._generator(turn)).tolist()
            for at in range(0, len(questions), share):
                chosen = {questions[i] for i in order[at : at + share]}
                figures = self.update(rollouts.select([i for i, g in enumerate(groups) if g in chosen]))
        figures |= dict(self.objective.figures(rollouts))
        return figures

    def update(self, rollouts: Rollouts) -> dict[str, float]:
        """One optimizer step on these rows: micro-batches add up their shares of the loss."""
        rollouts.totals = totals_of(rollouts, self.settings.max_new_tokens)
        idle = self.objective.idle(rollouts).tolist()
        rows = [i for i, rests in enumerate(idle) if not rests]
        lengths = row_lengths(rollouts)
        kept = [lengths[i] for i in rows]
        batches = micro_batches(kept, self.settings.micro_batch_tokens)
        sums: dict[str, float] = {"loss": 0.0}
        self.model.network.train()
        for batch in self.processes.dealt(batches):
            loss, figures = self.objective.loss(self.policy, rollouts.select([rows[i] for i in batch]))
            loss.backward()
            for name, value in ({"loss": loss.detach()} | dict(figures)).items():
                sums[name] = sums.get(name, 0.0) + float(value)
        self.model.network.eval()
        sums = self.processes.sum_numbers(sums, self.model.network.device)
        read = float(rollouts.mask[rows].sum()) / max(1.0, float(rollouts.mask.sum()))
        # The loss is over all rows, as idle ones add nothing; other figures are over those that were read.
        sums = {name: value if name == "loss" else value / (read or 1.0) for name, value in sums.items()}
        sums |= {"read": len(rows) / max(1, len(idle)), "padding": padding_share(kept, batches)}
        sums["rate"] = self.settings.learning_rate * self.settings.rate(self.step)
        if not rows:
            self._skip("updates without a completion to learn from")
            return sums
        self.optimisers.collect()
        sums["gradient"] = self.optimisers.clip()
        if math.isfinite(sums["loss"]) and math.isfinite(sums["gradient"]):
            self.bad_updates = 0
            self.optimisers.step(self.step)
            return sums
        self.optimisers.forget()
        self.bad_updates += 1
        self._skip("updates that were not finite")
        if self.bad_updates > self.settings.patience:
            raise NotFinite(
                f"step {self.step}: loss {sums['loss']}, gradient norm {sums['gradient']}; "
                f"{self.bad_updates} updates in a row were not finite: lower learning_rate"
            )
        return sums

    def evaluate(self) -> dict[str, float]:
        """Asks the held-out examples; {} where there are none."""
        if not self.held_out or self.scorer is None:
            return {}
        asked, scorer, settings = self.held_out, self.scorer, self.settings
        found = self.processes.from_first(
            lambda: evaluate(
                self.model,
                asked,
                scorer,
                max_new_tokens=settings.evaluation_tokens or settings.max_new_tokens,
                thinking=settings.thinking,
                step=self.step,
            )
        )
        self.run.evaluations.append(found)
        n = len(found.values)
        return {"held_out/accuracy": sum(found.values) / n, "held_out/length": sum(found.lengths) / n}

    # --- what a resumed run needs -------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on, and everything recorded so far."""
        return {
            "step": self.step,
            "bad_updates": self.bad_updates,
            "network": self.model.network.state_dict(),
            "optimisers": self.optimisers.state_dict(),
            "draws": self.draws.state_dict(),
            "parts": [p.state_dict() if hasattr(p, "state_dict") else {} for p in self._parts],
            "generators": generators(),
            "run": run_state(self.run),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up `state_dict`'s; the trainer must have been built with the same parts and settings."""
        self.step, self.bad_updates = int(state["step"]), int(state["bad_updates"])
        self.model.network.load_state_dict(state["network"])
        self.optimisers.load_state_dict(state["optimisers"])
        self.draws.load_state_dict(state["draws"])
        for part, held in zip(self._parts, state["parts"], strict=True):
            if hasattr(part, "load_state_dict"):
                part.load_state_dict(held)
        restore_run(self.run, state["run"])
        restore_generators(state["generators"])

    @property
    def _parts(self) -> list[Any]:
        return [self.objective, *self.rewards, *self.data, *self.monitors]

    # --- what stands around it ----------------------------------------------------------------------

    def _pool(self, examples: Sequence[Example]) -> list[Example]:
        for part in self.data:
            examples = part.examples(examples, self.settings.seed)
        pool = [e for e in examples if self.writer.fits(self.writer.prompt(e, lambda e: e.messages))]
        if len(pool) < len(examples):
            self._skip("prompts too long", len(examples) - len(pool))
        if not pool:
            raise BadData(
                f"no example to learn from: {len(examples)} examples, none with a prompt of at most "
                f"{self.settings.max_prompt_tokens} tokens"
            )
        repeated = len(pool) - len({e.id for e in pool})
        if repeated:
            raise BadData(f"{repeated} examples have the id of another one: give each its own")
        return pool

    def _described(self, rollouts: Rollouts) -> dict[str, float]:
        """The figures that every step has, before anything is learned from it."""
        lengths = rollouts.lengths.double()
        figures = {"length": float(lengths.mean()), "truncated": float(rollouts.truncated.double().mean())}
        if not len(rollouts.names):
            return figures
        reward = rollouts.reward[rollouts.judged] if bool(rollouts.judged.any()) else rollouts.reward
        figures |= {"reward": float(reward.mean()), "reward_deviation": float(reward.std(correction=0))}
        for name in rollouts.names:
            values = rollouts.of_reward(name)
            if not bool(values.isnan().all()):
                figures[f"reward/{name}"] = float(values.nanmean())
        return figures

    def _keep_samples(self, rollouts: Rollouts) -> None:
        every = self.settings.samples_every
        last = self.step + 1 == self.settings.steps
        if not every or (self.step % every and not last):
            return
        for row in range(0, len(rollouts), max(1, len(rollouts) // _SAMPLES)):
            paid = (
                {}
                if not rollouts.names
                else dict(zip(rollouts.names, rollouts.rewards[row].tolist(), strict=True))
            )
            self.run.samples.append(
                Sample(
                    self.step,
                    rollouts.examples[row].id,
                    rollouts.examples[row].question,
                    rollouts.completions[row].text,
                    float(rollouts.reward[row]) if rollouts.names else math.nan,
                    paid,
                )
            )

    def _watch(self, figures: Mapping[str, float]) -> None:
        for monitor in self.monitors:
            alarm = monitor.see(figures)
            if alarm is None:
                continue
            name = type(monitor).__name__
            self.run.alarms.append(Alarm(alarm.text, alarm.stop, int(figures["step"]), name))
            if alarm.stop:
                self.run.stopped = f"{name}: {alarm.text}"

    def _skip(self, reason: str, count: int = 1) -> None:
        self.skipped[reason] = self.skipped.get(reason, 0) + count

    def _generator(self, turn: int) -> torch.Generator:
        from dovetail.core.seeds import stream

        return torch.Generator().manual_seed(stream(self.settings.seed, "order", self.step, turn))


def _own(parts: Sequence[Any]) -> list[Any]:
    return [copy.deepcopy(p) if hasattr(p, "state_dict") else p for p in parts]


def _weights(weights: Sequence[float] | None, names: Sequence[str]) -> list[float]:
    if weights is None:
        return [1.0] * len(names)
    if len(weights) != len(names) or not all(math.isfinite(w) for w in weights):
        raise InvalidValue("weights", weights, f"a finite number for each of the {len(names)} rewards")
    return [float(w) for w in weights]
