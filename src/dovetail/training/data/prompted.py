"""Puts every training question by a prompting method: what is trained is then also what is asked for.

Any method of `dovetail.prompting` will do. With `PriorPrompt` it is the prior prompt of "Prior Prompt
Engineering for Reinforcement Fine-Tuning" (arXiv 2505.14157).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

from dovetail.core import Example, InvalidValue, Message, UnknownName
from dovetail.prompting import NAMES, Prompting
from dovetail.training.data.base import Data


@dataclass
class Prompted(Data):
    """Asks every question as a prompting method puts it.

    Held-out questions are asked as they are: put them with `prompting.asked` first.

    Attributes:
        prompting: the method; its name; or a table of its name and parameters, as a file has it
            (``{name = "prior-prompt", style = "plan"}``).
    """

    prompting: Prompting | str | Mapping[str, Any]

    def __post_init__(self) -> None:
        if not isinstance(self.prompting, Prompting):
            self.prompting = _named(self.prompting)

    def ask(self, example: Example, messages: Sequence[Message]) -> Sequence[Message]:
        assert isinstance(self.prompting, Prompting)
        return self.prompting.messages(replace(example, messages=tuple(messages)))


def _named(given: Any) -> Prompting:
    from dovetail.training.plan import build

    table = {"name": given} if isinstance(given, str) else given
    if not isinstance(table, Mapping) or not isinstance(table.get("name"), str):
        raise InvalidValue("prompting", given, "a prompting method, its name, or a table with its name")
    if table["name"] not in NAMES:
        raise UnknownName("prompting", table["name"], NAMES)
    module, cls = NAMES[table["name"]]
    parameters = {key: value for key, value in table.items() if key != "name"}
    made = build(getattr(import_module(f"dovetail.prompting.{module}"), cls), parameters, "prompting")
    assert isinstance(made, Prompting)
    return made
