"""The verb: ``dt.train(model, task, ...) -> Run``."""

from __future__ import annotations

import copy
import os
import random
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import torch

from dovetail.core import BadData, Example, InvalidValue, Scorer, Task, Unsupported
from dovetail.decoding.base import Decoding, chain
from dovetail.decoding.sampling import Sampling
from dovetail.models import load
from dovetail.models.local import LocalModel
from dovetail.training.checkpoints import Folder
from dovetail.training.data.base import Data
from dovetail.training.describing import describe
from dovetail.training.judging import ByScorer, Reward
from dovetail.training.monitors.base import Monitor
from dovetail.training.objectives.base import Objective
from dovetail.training.objectives.policy_gradient import PolicyGradient
from dovetail.training.processes import Processes
from dovetail.training.progress import Silent, choose
from dovetail.training.run import Run
from dovetail.training.settings import Settings
from dovetail.training.tensorboard import TensorBoard
from dovetail.training.trainer import Trainer

Questions = str | os.PathLike[str] | Task | Sequence[Example]


def train(
    model: str | os.PathLike[str] | LocalModel,
    task: Questions,
    *,
    objective: Objective | None = None,
    rewards: Sequence[Reward] | None = None,
    weights: Sequence[float] | None = None,
    data: Data | Sequence[Data] = (),
    monitors: Monitor | Sequence[Monitor] = (),
    decoding: Decoding | Sequence[Decoding] | None = None,
    held_out: Questions | int | None = None,
    scorer: Scorer | None = None,
    settings: Settings | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool | Silent | None = None,
    tensorboard: bool = False,
    in_place: bool = False,
    **options: Any,
) -> Run:
    """Trains a model on a task's examples.

    Args:
        model: a loaded model, whose weights stay as they are, or a name for `dovetail.load`.
        task: what is learned from: a task, its name or path, or examples.
        objective: what is learned (`training.objectives`); `PolicyGradient()` if None.
        rewards: what completions are paid (`training.judging` tells what they are given); None: the task's
            own scorer. Not asked where the objective's answers are given.
        weights: of the rewards; 1 each if None. A reward of weight 0 is logged and changes nothing.
        data: which examples when, and how they are asked; parts are chained in order.
        monitors: watch the figures; may warn or stop.
        decoding: how completions are written; `Sampling()` (temperature 1) if None.
        held_out: what is evaluated: a task or its name (what is also trained on is left out), examples (taken
            as they are), or how many examples of ``task`` to keep for it (None: ``settings.held_out``).
        scorer: judges held-out answers; the task's own if None.
        settings: how long, how fast, how large; and
        options: single fields of `Settings`, such as ``steps=50``.
        out: folder for checkpoints, the log and the trained model (`training.checkpoints`); None keeps
            everything in memory.
        resume: go on with the run in ``out`` (or begin it): ends in the same weights, bit for bit.
        overwrite: forget the run in ``out``.
        progress: a bar, or lines; None shows it where stderr is a terminal.
        tensorboard: also write the figures for TensorBoard, into ``out``/tensorboard.
        in_place: train the given model's own weights.

    Raises:
        InvalidValue, UnknownName: an impossible setting; names it.
        BadData: no example to learn from.
        Unsupported: ``out`` holds a run already, or one that was begun with other settings.
        RewardFailed: a reward raised, or returned what is no list of numbers.
        NotFinite: several updates in a row had no finite loss or gradient.
    """
    if isinstance(held_out, int):
        options["held_out"], held_out = held_out, None
    chosen = (settings or Settings()).changed(**options)
    processes = Processes.joined()
    folder = None if out is None else processes.from_first(lambda: Folder(out, resume, overwrite))
    if folder is None and tensorboard:
        raise InvalidValue("tensorboard", tensorboard, "given with out, the folder to write to")
    if folder is None and resume:
        raise InvalidValue("resume", resume, "given with out, the folder of the run to resume")
    objective = objective or PolicyGradient()
    examples, own = _examples(task, chosen.examples or None, chosen.seed)
    asked, judge = held_out_examples(task, held_out, examples, own, chosen)
    judge = scorer or judge
    if asked and judge is None:
        raise InvalidValue("scorer", None, "given, as the held-out examples come without a task")
    if rewards is None:
        if own is None and objective.writes:
            raise InvalidValue("rewards", None, "given, as the examples come without a task")
        rewards = [ByScorer(own)] if own is not None and objective.writes else []
    decoding = Sampling() if decoding is None else decoding
    for seeded in (torch.manual_seed, random.seed, np.random.seed):  # adapters, dropout, rewards that draw
        seeded(chosen.seed)
    trainer = Trainer(
        _loaded(model, in_place, processes.device),
        examples,
        objective,
        rewards=rewards,
        weights=weights,
        data=_listed(data),
        monitors=_listed(monitors),
        decoding=decoding if isinstance(decoding, Decoding) else chain(decoding),
        settings=chosen,
        held_out=asked,
        scorer=judge,
        processes=processes,
    )
    trainer.run.settings = describe(trainer, task)
    go(trainer, folder, choose(progress), tensorboard)
    return trainer.run


def go(
    trainer: Trainer, folder: Folder | None = None, display: Silent | None = None, tensorboard: bool = False
) -> None:
    """Advances to the end; in a folder, from its checkpoint and with new ones on the way."""
    every, first, keeps = trainer.settings.save_every, trainer.processes.first, folder is not None
    if folder is not None:
        trainer.run.folder = folder.path
        state = folder.load()
        if first:
            folder.begin(trainer.run.settings)
        if state is not None:
            trainer.load_state_dict(state)
        if first:
            folder.rewrite(trainer.run.history)
        trainer.processes.wait()
    if not first:  # one process writes and shows
        folder, display, tensorboard = None, None, False
    board = TensorBoard(folder.path / "tensorboard", trainer.step) if folder and tensorboard else None
    with display or Silent() as shown:
        shown.begin(trainer.step, trainer.settings.steps)
        while not trainer.done:
            alarms = len(trainer.run.alarms)
            figures = trainer.advance()
            if folder is not None:
                folder.note(figures)
            if keeps and (trainer.done or (every and trainer.step % every == 0)):
                state = trainer.state_dict()  # a state may be in parts, one in each process
                if folder is not None:
                    folder.save(state)
            if board is not None:
                board.write(figures)
            shown.advance(figures)
            for alarm in trainer.run.alarms[alarms:]:
                shown.say(f"step {alarm.step + 1}: {alarm.monitor}: {alarm.text}")
    if board is not None:
        board.close()
    if folder is not None:
        folder.export(trainer.model, trainer.adapter)
        # Rendering lives above training; it is looked up by name, as `core.Report.save` does.
        import_module("dovetail.report.training").save(trainer.run, folder.path)


def held_out_examples(
    task: Questions,
    held_out: Questions | None,
    examples: list[Example],
    own: Scorer | None,
    settings: Settings,
) -> tuple[list[Example], Scorer | None]:
    """The examples that are evaluated, and what judges them; takes them out of ``examples`` where both come
    from one list."""
    if held_out is not None:
        # Another seed, so that a procedural task gives other questions than those that are trained on.
        found, judge = _examples(held_out, settings.held_out or None, settings.seed + 1_000_003)
        if judge is None:
            return found, own  # the caller's own list stays as it is
        trained = {_asked(e) for e in examples}
        kept = [e for e in found if _asked(e) not in trained]
        if not kept:
            raise BadData("every held-out question is also trained on: give other ones")
        return kept, judge
    if not settings.held_out:
        return [], own
    if settings.held_out >= len(examples):
        raise InvalidValue(
            "held_out", settings.held_out, f"fewer than the {len(examples)} examples there are"
        )
    apart = examples[-settings.held_out :]
    del examples[-settings.held_out :]
    questions = {_asked(e) for e in apart}
    examples[:] = [e for e in examples if _asked(e) not in questions]
    return apart, own


def _asked(example: Example) -> tuple[str, ...]:
    return tuple(m.content for m in example.messages)


def _examples(task: Questions, limit: int | None, seed: int) -> tuple[list[Example], Scorer | None]:
    if isinstance(task, Sequence) and not isinstance(task, str):
        return list(task)[:limit], None
    from dovetail.tasks import task as named

    made = named(task)
    examples, bad = made.examples(limit, seed)
    if not examples:
        raise BadData(f"{made.name} has no readable example" + "".join(f"; {row}" for row in bad[:5]))
    # Procedural tasks number their examples, so two seeds have the same ids.
    return [replace(e) for e in examples], made.scorer


def _loaded(model: str | os.PathLike[str] | LocalModel, in_place: bool, device: str | None) -> LocalModel:
    found = model if isinstance(model, LocalModel) else load(model, device=device)
    if not isinstance(found, LocalModel):
        raise Unsupported(f"{found.name} is behind a server: only a local model can be trained")
    if in_place or found is not model:
        return found
    made = LocalModel(copy.deepcopy(found.network), found.tokenizer, name=f"{found.name} (trained)")
    made.template = found.template
    return made


def _listed(parts: Any) -> list[Any]:
    return list(parts) if isinstance(parts, list | tuple) else [parts]
