"""How a model learns: one trainer, whose slots the systems fill.

| part | file |
|---|---|
| the verb | verb.py |
| settings, checked by name | settings.py |
| the loop | trainer.py |
| completions and their rewards | rollouts.py, writing.py, judging.py |
| log-probabilities with gradients, without padding waste | policy.py, batches.py |
| LoRA, gradient checkpointing | adapters.py |
| several processes | processes.py |
| a run's folder, resumed after a kill | checkpoints.py |
| what a run is, for the record | describing.py |
| optimizers and rates | optimisers.py, muon.py |
| accuracy on held-out questions | evaluation.py |
| a run as a TOML file | plan.py |
| what is shown meanwhile | progress.py, tensorboard.py |
| what is returned | run.py |
| two models in turn | tango.py |
| the slots | objectives/, data/, monitors/ (rewards are a floor below, in ``dovetail.rewards``) |

``pico/`` trains the embedded models from nothing, and `step_verifier` a verifier for searches.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Public name -> module that holds it; imported when first used.
_HOMES = {
    "Evaluation": "evaluation",
    "Policy": "policy",
    "Rollouts": "rollouts",
    "Run": "run",
    "Settings": "settings",
    "Trainer": "trainer",
    "evaluate": "evaluation",
    "train": "verb",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"dovetail.training.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'dovetail.training' has no attribute {name!r}")
