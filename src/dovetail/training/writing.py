"""How a step's completions come about: written by the engine, or given as answers.

The engine reads the very weights that are trained (`engine.lean` aliases them), so there is no copy and
nothing to reload; the ids that it wrote are the ids that are learned from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dovetail.core import BadData, Completion, Cost, Example, InvalidValue, Limits, Message, Prompt
from dovetail.core.seeds import stream
from dovetail.decoding.base import Decoding
from dovetail.models.local import LocalModel
from dovetail.training.asking import put
from dovetail.training.objectives.base import Objective
from dovetail.training.processes import ALONE, Processes
from dovetail.training.rollouts import Rollouts
from dovetail.training.settings import Settings

Ask = Callable[[Example], Sequence[Message]]


class Writer:
    """Makes rollouts of one model.

    Args:
        model: the one that is trained.
        objective: says how many completions there are per question, and whether the model writes them.
        decoding: how it writes them.
        settings: limits, thinking mode and seed.
        processes: share the writing.
    """

    def __init__(
        self,
        model: LocalModel,
        objective: Objective,
        decoding: Decoding,
        settings: Settings,
        processes: Processes = ALONE,
    ) -> None:
        self.processes = processes
        self.model, self.objective, self.decoding, self.settings = model, objective, decoding, settings
        self.limits = Limits(settings.max_new_tokens)
        if objective.writes:
            model.engine.max_rows = settings.rows
            decoding.check(model.engine)

    def prompt(self, example: Example, ask: Ask, seed: int = 0) -> Prompt:
        """The example as it is put to the model."""
        return put(self.model, example, ask(example), thinking=self.settings.thinking, seed=seed)

    def fits(self, prompt: Prompt) -> bool:
        """Whether a prompt is short enough for the settings and for the model's context."""
        context = self.model.engine.forward.max_positions
        return 0 < len(prompt.ids) <= min(self.settings.max_prompt_tokens, context - 1)

    def roll(self, step: int, asked: Sequence[tuple[Example, Prompt]]) -> Rollouts:
        """A group of completions for each question, in order."""
        examples, prompts, group = [], [], []
        for number, (example, prompt) in enumerate(asked):
            for sample in range(self.objective.group_size):
                seed = stream(self.settings.seed, example.id, step, number, sample)
                examples.append(example)
                prompts.append(
                    Prompt(prompt.messages, prompt.text, prompt.ids, seed, prompt.assistant_prefix)
                )
                group.append(number)
        if self.objective.writes:
            # Whole groups: the engine reads the prompt of a group once.
            size = self.objective.group_size
            groups = [prompts[i : i + size] for i in range(0, len(prompts), size)]
            mine = [prompt for group in self.processes.share(groups) for prompt in group]
            written = self.decoding.generate(self.model.engine, mine, self.limits) if mine else []
            completions = self.processes.joined_lists(written)
        else:
            completions = [c for example, prompt in asked for c in self._given(example, prompt)]
        return Rollouts.of(step, examples, prompts, completions, group, self.model.network.device)

    def _given(self, example: Example, prompt: Prompt) -> list[Completion]:
        answers = self.objective.answers(example)
        if len(answers) != self.objective.group_size:
            raise InvalidValue(
                f"example {example.id}: answers", len(answers), f"{self.objective.group_size} of them"
            )
        return [self._complete(answer, prompt) for answer in answers]

    def _complete(self, answer: str, prompt: Prompt) -> Completion:
        """An answer as tokens, with the end token unless the limit comes first."""
        ids: list[int] = self.model.tokenizer.encode(answer, add_special_tokens=False)
        ids = [*ids, self.end]
        room = min(self.settings.max_new_tokens, self.model.engine.forward.max_positions - len(prompt.ids))
        cost = Cost(len(prompt.ids), min(len(ids), room))
        return Completion(answer, tuple(ids[:room]), None, cost, "stop" if len(ids) <= room else "length")

    @property
    def end(self) -> int:
        """The token that ends the model's turn."""
        ends = self.model.engine.end_ids
        if not ends:
            raise BadData(f"{self.model.name} has no end token: nothing can be learned to end")
        # The tokenizer's own ends a chat turn; a generation config may list others before it.
        own: Any = self.model.tokenizer.eos_token_id
        return int(own) if own is not None else ends[0]
