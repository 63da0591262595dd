"""A tiny model to train; this folder's helpers become importable from its subfolders too."""

from __future__ import annotations

from typing import Any

import pytest
from training_tools import tiny_model


@pytest.fixture
def learner(tiny_network: Any, tiny_tokenizer: Any) -> Any:
    """A local model over a random Qwen3 of 100 tokens."""
    return tiny_model(tiny_network("qwen3"), tiny_tokenizer)
