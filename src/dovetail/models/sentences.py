"""Vectors of sentences from a published embedding model, through sentence-transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from dovetail.core import MissingExtra


@cache
def sentence_embeddings(name: str) -> Callable[[Sequence[str]], Any]:
    """A function from N texts to [N, D]; loaded once per name.

    Raises:
        MissingExtra: sentence-transformers is not installed.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise MissingExtra("sentence-transformers", "embeddings") from error
    encode: Callable[[Sequence[str]], Any] = SentenceTransformer(name).encode
    return encode
