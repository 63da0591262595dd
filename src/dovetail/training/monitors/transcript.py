"""Keeps all completions of a run with their rewards, a JSON line each: what `RewardHackingAudit` reads."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dovetail.training.monitors.base import Monitor
from dovetail.training.rollouts import Rollouts


@dataclass
class Transcript(Monitor):
    """Writes ``step``, ``id``, ``prompt``, ``response``, ``length``, ``reward`` (the weighted sum) and every
    reward by its name. A resumed run goes on with the lines that its checkpoint knows.

    Attributes:
        path: of the file; its folder is made if need be. A new run replaces it.
    """

    path: str | os.PathLike[str]
    _written: int = field(default=0, init=False, repr=False)  # bytes

    def update(self, rollouts: Rollouts) -> None:
        file = Path(self.path)
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("r+b" if self._written else "wb") as out:
            out.truncate(self._written)
            out.seek(self._written)
            for row in range(len(rollouts)):
                out.write((json.dumps(_entry(rollouts, row)) + "\n").encode())
            self._written = out.tell()

    def see(self, figures: Mapping[str, float]) -> None:
        return None

    def state_dict(self) -> dict[str, Any]:
        return {"written": self._written}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._written = int(state["written"])


def _entry(rollouts: Rollouts, row: int) -> dict[str, Any]:
    completion = rollouts.completions[row]
    values = rollouts.rewards[row].tolist()
    paid = {name: None if v != v else v for name, v in zip(rollouts.names, values, strict=True)}
    return {
        "step": rollouts.step,
        "id": rollouts.examples[row].id,
        "prompt": rollouts.examples[row].question,
        "response": completion.text,
        "length": len(completion.token_ids),
        **paid,
        "reward": float(rollouts.reward[row]) if rollouts.names else None,
    }
