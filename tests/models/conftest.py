from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from models_checkpoints import build_network, build_tokenizer


@pytest.fixture
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="session")
def qwen3(tmp_path_factory) -> Path:
    """A whole checkpoint; copy it before you damage it."""
    folder = tmp_path_factory.mktemp("checkpoints") / "qwen3"
    build_network("qwen3").save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def copy(qwen3, tmp_path) -> Path:
    """A checkpoint of one's own to damage."""
    return Path(shutil.copytree(qwen3, tmp_path / "copy"))
