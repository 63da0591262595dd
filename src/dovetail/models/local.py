"""`LocalModel`: a Hugging Face network and its tokenizer, in this process."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dovetail.core import Message, Model, Prompt
from dovetail.engine import DiffusionEngine, Engine
from dovetail.models.int8 import is_int8
from dovetail.models.masked_diffusion import MaskedDiffusionLM
from dovetail.models.template import Template

_WHOLE = 4 << 30  # bytes of a file that are all read for its digest; takes a few seconds
_BLOCK = 1 << 20


class LocalModel(Model):
    """A network of yours, or one that `load` read.

    Args:
        network: a causal language model or a `masked_diffusion.MaskedDiffusionLM`, in evaluation mode.
        tokenizer: its tokenizer.
        name: for reports; None takes the one in the network's config.
        template: see `load`.
        source, folder, revision: where it comes from; `load` fills them in.
    """

    def __init__(
        self,
        network: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str | None = None,
        template: str | None = None,
        source: str = "object",
        folder: Path | None = None,
        revision: str | None = None,
    ) -> None:
        self.network, self.tokenizer = network, tokenizer
        self.name = name or getattr(network.config, "name_or_path", "") or type(network).__name__
        self.template = Template(tokenizer, template)
        self.source, self.folder, self.revision = source, folder, revision

    @cached_property
    def engine(self) -> Engine:
        """Produces this model's tokens; built when first asked for (masked diffusion has its own kind)."""
        if isinstance(self.network, MaskedDiffusionLM):
            diffusing: Any = DiffusionEngine(self.network, self.tokenizer, name=self.name)
            return cast(Engine, diffusing)
        return Engine(self.network, self.tokenizer, name=self.name, template=self.template)

    @property
    def provides(self) -> frozenset[str]:  # type: ignore[override]
        diffuses = isinstance(self.network, MaskedDiffusionLM)
        return DiffusionEngine.provides if diffuses else Engine.provides

    def prompt(
        self, messages: Sequence[Message], *, thinking: bool = True, prefix: str = "", seed: int = 0
    ) -> Prompt:
        """Renders messages with the chat template: see `template.Template.prompt`."""
        return self.template.prompt(messages, thinking=thinking, prefix=prefix, seed=seed)

    def describe(self) -> dict[str, Any]:
        """What the record says of it.

        Returns:
            ``name``, ``source`` ("embedded", "folder", "hub", "object"), ``revision`` (the hub's commit),
            ``digest`` (of the folder, see `folder_digest`), ``class``, ``parameters`` (a number, tied ones
            once), ``dtype``, ``device``, ``context`` (tokens, None if the config does not say),
            ``template`` ("tokenizer", "given" or "plain"), ``template_sha256``, ``thinking_modes``,
            ``system_role`` ("template", or "folded" into the first user message).
        """
        return {
            "name": self.name,
            "source": self.source,
            "revision": self.revision,
            "digest": self._digest,
            "class": type(self.network).__name__,
            "parameters": sum(p.numel() for p in self.network.parameters()),
            "dtype": str(self.network.dtype).removeprefix("torch.")
            + (", int8 weights" if is_int8(self.network) else ""),
            "device": str(self.network.device),
            "context": getattr(self.network.config.get_text_config(), "max_position_embeddings", None),
            "template": self.template.origin,
            "template_sha256": self.template.digest,
            "thinking_modes": self.template.thinking_modes,
            "system_role": "folded" if self.template.folds_system else "template",
        }

    @cached_property
    def _digest(self) -> str | None:
        return None if self.folder is None else folder_digest(self.folder)


def folder_digest(folder: Path) -> str:
    """A digest of a checkpoint: "sha256:" over the names and contents of its JSON, template and weight
    files. Of files beyond 4 GiB 1,024 evenly spaced MiB are read, and it says "sha256-sampled:".
    """
    whole, digest = True, hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix not in (".json", ".safetensors", ".jinja", ".model", ".txt", ".tiktoken"):
            continue
        size = file.stat().st_size
        digest.update(f"{file.name}\0{size}\0".encode())
        with file.open("rb") as content:
            if size <= _WHOLE:
                digest.update(hashlib.file_digest(content, "sha256").digest())
                continue
            whole = False
            for i in range(1024):
                content.seek(i * (size - _BLOCK) // 1023)
                digest.update(content.read(_BLOCK))
    return f"{'sha256' if whole else 'sha256-sampled'}:{digest.hexdigest()}"
