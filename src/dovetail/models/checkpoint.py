"""Reads a checkpoint: config, tokenizer and safetensors, through transformers' own Auto classes.

What transformers would pass over (weights that are missing and drawn at random, a tokenizer made up from
nothing, an encoder run as a decoder) is an error here, since every later figure would be about that instead.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING
from transformers.utils import logging as transformers_logging

from dovetail.core import BadData, InvalidValue, NotReachable, Unsupported
from dovetail.models.int8 import to_int8_

_TOKENIZER_FILES = {
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "tekken.json",
}
_PICKLED = (".bin", ".pt", ".pth", ".ckpt")
_CAUSAL = ("ForCausalLM", "LMHeadModel", "LMHead", "Decoder", "ForConditionalGeneration")
_CONVERT = (
    "weights are loaded from safetensors only, since unpickling runs code. If you trust them, convert once: "
    'python -c "from transformers import AutoModelForCausalLM as M, AutoTokenizer as T; a, b = {name!r}, '
    "'converted'; M.from_pretrained(a, use_safetensors=False).save_pretrained(b); "
    'T.from_pretrained(a).save_pretrained(b)"'
)


def check_files(files: set[str], name: str) -> None:
    """Raises where a checkpoint of these file names cannot be loaded; says what is missing.

    Args:
        files: names at the top of the folder or repository.
        name: of the model, for the message.
    """
    if "config.json" not in files:
        if "adapter_config.json" in files:
            raise Unsupported(
                f"{name} is an adapter (adapter_config.json), not a model: merge it into its base model with "
                "peft's merge_and_unload() and save that"
            )
        raise BadData(f"{name} has no config.json: not a Hugging Face model (its files: {_some(files)})")
    if not any(f.endswith(".safetensors") for f in files):
        pickled = sorted(f for f in files if f.endswith(_PICKLED) and f != "training_args.bin")
        if pickled:
            raise Unsupported(f"{name} has its weights in {pickled[0]}: {_CONVERT.format(name=name)}")
        raise BadData(f"{name} has no weights (*.safetensors; its files: {_some(files)})")


def check_folder(folder: Path, name: str) -> None:
    """`check_files`, and what only the files' contents tell.

    Raises:
        BadData: a missing or damaged file; names it.
        Unsupported: pickled weights, an adapter.
    """
    files = {p.name for p in folder.iterdir()}
    check_files(files, name)
    config = _read_json(folder / "config.json", name)
    if "model_type" not in config and "auto_map" not in config:
        raise BadData(f"{name}/config.json names no model_type: not the config of a Hugging Face model")
    if not files & _TOKENIZER_FILES and not any(f.endswith(".tiktoken") for f in files):
        raise BadData(
            f"{name} has no tokenizer (no tokenizer.json): save the one it was trained with there, "
            "AutoTokenizer.from_pretrained(...).save_pretrained(folder)"
        )
    for file in sorted(files):
        if file.endswith(".safetensors"):
            _check_safetensors(folder / file, f"{name}/{file}")
        elif file.endswith(".safetensors.index.json"):
            index = _read_json(folder / file, name)
            shards = set(index.get("weight_map", {}).values())
            if missing := sorted(shards - files):
                raise BadData(f"{name} lacks {len(missing)} of {len(shards)} shards: {_some(set(missing))}")


def read(
    where: str,
    name: str,
    *,
    device: torch.device,
    dtype: torch.dtype | str,
    int8: bool = False,
    trust_remote_code: bool = False,
    revision: str | None = None,
    local_files_only: bool = False,
    from_hub: bool = False,
) -> tuple[transformers.PreTrainedModel, transformers.PreTrainedTokenizerBase]:
    """The network (in evaluation mode, on ``device``) and the tokenizer of a checkpoint.

    Args:
        where: folder or hub id.
        name: of the model, for error messages.
        int8: keep the weights of linear layers in eight bits.
        from_hub: ``where`` is a hub id; shows progress bars, which for files at hand would only hide the
            lines around them.

    Raises:
        BadData, Unsupported, NotReachable: see `load.load`.
    """
    options: dict[str, Any] = {
        "trust_remote_code": trust_remote_code,
        "revision": revision or "main",
        "local_files_only": local_files_only,
    }
    with _explained(name, from_hub):
        _check_code(where, name, options)
        config = AutoConfig.from_pretrained(where, **options)
        _check_causal(config, name, trust_remote_code)
        tokenizer = AutoTokenizer.from_pretrained(where, **options)
        with _progress_bars(from_hub):
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                where, config=config, dtype=dtype, use_safetensors=True, output_loading_info=True, **options
            )
    network, info = loaded
    if missing := set(info["missing_keys"]):
        raise BadData(
            f"{name} lacks {len(missing)} weights of its {type(network).__name__}: {_some(missing)}; "
            "transformers would draw them at random"
        )
    rows = network.get_input_embeddings().weight.shape[0]
    # Added tokens beyond the embeddings (a padding token, mostly) are common and never reach the network.
    if tokenizer.vocab_size > rows:
        raise BadData(
            f"{name}'s tokenizer has {tokenizer.vocab_size} tokens and its network {rows} embeddings: "
            "they are not of the same model"
        )
    if int8:
        to_int8_(network)  # before it moves: the device need not hold the wide weights
    return network.to(device).eval(), tokenizer


@contextmanager
def _explained(name: str, from_hub: bool) -> Iterator[None]:
    """Turns what transformers, safetensors and tokenizers raise into errors that name the model."""
    try:
        yield
    except (BadData, Unsupported, InvalidValue, torch.OutOfMemoryError):
        raise
    except OSError as error:
        if from_hub:
            raise NotReachable(
                f"{name} could not be read from the hub or its cache: {_short(error)}"
            ) from error
        raise BadData(f"{name} could not be read: {_short(error)}") from error
    except ImportError as error:
        raise Unsupported(f"{name} needs a package that is not installed: {_short(error)}") from error
    except Exception as error:  # tokenizers and safetensors raise bare Exceptions
        raise BadData(f"{name} could not be read: {type(error).__name__}: {_short(error)}") from error


def _check_code(where: str, name: str, options: dict[str, Any]) -> None:
    """Raises Unsupported for an architecture that only the checkpoint's own code knows."""
    reading = {k: v for k, v in options.items() if k != "trust_remote_code"}
    raw, _ = transformers.PreTrainedConfig.get_config_dict(where, **reading)
    kind = raw.get("model_type")
    if kind in CONFIG_MAPPING or options["trust_remote_code"]:
        return
    if "auto_map" in raw:
        raise Unsupported(
            f"{name} ({kind}) runs Python code of its own: read it, and if you trust it load(..., "
            "trust_remote_code=True)"
        )
    raise Unsupported(
        f"{name}: model_type {kind!r} is not known to transformers {transformers.__version__}: upgrade it"
    )


def _check_causal(config: transformers.PreTrainedConfig, name: str, trust_remote_code: bool) -> None:
    """Raises Unsupported for what is not a causal language model; names its class."""
    classes = list(getattr(config, "architectures", None) or [])
    label = ", ".join(classes) or type(config).__name__.removesuffix("Config")
    if getattr(config, "is_encoder_decoder", False):
        raise Unsupported(
            f"{name} is a {label}, an encoder-decoder model: only causal language models are supported"
        )
    if trust_remote_code and "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {}):
        return
    # BERT and its like are in the mapping too (as decoders), so the checkpoint's own class must agree.
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING or not any(
        c.endswith(_CAUSAL) for c in classes or _CAUSAL
    ):
        raise Unsupported(f"{name} is a {label}, not a causal language model")


def _check_safetensors(path: Path, label: str) -> None:
    """Raises BadData for a file that is not whole; reads its header only."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if start == b"version ":
            raise BadData(f"{label} is a Git LFS pointer, not the weights: git lfs pull")
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if 8 + length > size:
            raise BadData(
                f"{label} is not a whole safetensors file ({size} bytes): copy or download it again"
            )
        try:
            header = json.loads(file.read(length))
            spans = [entry["data_offsets"] for key, entry in header.items() if key != "__metadata__"]
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            raise BadData(f"{label} is not a safetensors file: {_short(error)}") from error
    expected = 8 + length + max((end for _, end in spans), default=0)
    if size != expected:
        raise BadData(
            f"{label} holds {size} bytes where its header announces {expected}: copy or download it again"
        )


def _read_json(path: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadData(f"{name}/{path.name} is not readable JSON: {_short(error)}") from error
    if not isinstance(content, dict):
        raise BadData(f"{name}/{path.name} is not a JSON object")
    return content


@contextmanager
def _progress_bars(shown: bool) -> Iterator[None]:
    bars: Any = transformers_logging
    if shown or not bars.is_progress_bar_enabled():
        yield
        return
    bars.disable_progress_bar()
    try:
        yield
    finally:
        bars.enable_progress_bar()


def _some(names: set[str], shown: int = 4) -> str:
    first = sorted(names)[:shown]
    return (
        ", ".join(first) + (f" and {len(names) - shown} more" if len(names) > shown else "")
        if names
        else "none"
    )


def _short(error: BaseException, limit: int = 300) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= limit else text[:limit] + " ..."
