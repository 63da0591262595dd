"""`load`: from a name to a model. Says where a model comes from; `checkpoint` reads it, `remote` asks it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dovetail.core import DovetailError, InvalidValue, Model, NotReachable, UnknownName

if TYPE_CHECKING:
    import torch

_EMBEDDED = Path(__file__).parent / "embedded"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_PROBE_SECONDS = 10.0
_WAYS_OUT = (
    "without a network, use an embedded model ({embedded}), or copy the model's folder here "
    "(`hf download {name} --local-dir FOLDER` where there is one) and load that folder"
)


def embedded() -> dict[str, Path]:
    """The models inside the package: name -> folder."""
    return {p.parent.name: p.parent for p in sorted(_EMBEDDED.glob("*/config.json"))}


def load(
    name: str | os.PathLike[str],
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    int8: bool = False,
    trust_remote_code: bool = False,
    revision: str | None = None,
    template: str | None = None,
    concurrency: int = 16,
    timeout: float = 600.0,
    retries: int = 4,
) -> Model:
    """Loads a model.

    Args:
        name: the first of these that fits: ``openai/NAME@URL`` (a model behind an OpenAI-compatible
            server), an embedded model (``pico``; write ``./pico`` for a folder of that name), a local
            Hugging Face folder, a hub id ``ORG/NAME``.
        device: "cpu", "cuda" or "cuda:N"; None: the first GPU if there is one, else the CPU.
        dtype: "float32", "bfloat16", "float16", or "auto" for the checkpoint's own; None: bfloat16 on
            a GPU that has it, else float32.
        int8: keep the weights of linear layers in eight bits: less memory, not more speed (`int8`).
        trust_remote_code: run Python code that comes with the checkpoint.
        revision: branch, tag or commit on the hub.
        template: a chat template (Jinja) in place of the model's own; "plain" for the role-less one
            that models without a template get (see `template.Template`).
        concurrency: requests to a server at a time.
        timeout: seconds that one request to a server may take.
        retries: of a request that a server did not answer, or answered with 408, 409, 429 or 5xx.

    Returns:
        `local.LocalModel` or `remote.RemoteModel`.

    Raises:
        UnknownName: none of the four kinds of name.
        NotReachable: the hub is not reachable and the model not in its cache; or the hub does not know it.
        BadData: a file is missing or damaged; says which.
        Unsupported: not a causal language model, pickled weights, or code of its own.
        InvalidValue: an argument that this machine or this kind of model cannot have.
        MissingExtra: the ``openai`` client is not installed (``dovetail[remote]``).
    """
    name = os.fspath(name)
    if name.startswith("openai/") and "@" in name:
        _only_local(device=device, dtype=dtype, int8=int8 or None, revision=revision, template=template)
        return _remote(name, concurrency=concurrency, timeout=timeout, retries=retries)

    from dovetail.models.placement import choose_device, choose_dtype

    known = embedded()
    folder = known.get(name, Path(name).expanduser())
    if not name or not (folder.is_dir() or _HUB_ID.fullmatch(name)):
        raise UnknownName(
            "model (neither embedded, nor a folder, nor ORG/NAME on the hub, nor openai/NAME@URL)",
            name,
            known,
        )
    chosen_device = choose_device(device)
    placed = {"device": chosen_device, "dtype": choose_dtype(dtype, chosen_device), "int8": int8}
    if not folder.is_dir():
        return _from_hub(name, revision, trust_remote_code, template, placed)
    if revision is not None:
        raise InvalidValue("revision", revision, f"None for a folder: {name} has no revisions")
    return _from_folder(name, folder, name in known, trust_remote_code, template, placed)


def _only_local(**arguments: object) -> None:
    for argument, value in arguments.items():
        if value is not None:
            raise InvalidValue(argument, value, "left out for a remote model: its server decides that")


def _remote(name: str, **options: Any) -> Model:
    served, at, rest = name.removeprefix("openai/").partition("@http")
    url = urlsplit("http" + rest)
    if not (served and at and url.scheme in ("http", "https") and url.hostname):
        raise InvalidValue("name", name, "openai/NAME@URL, such as openai/qwen3@http://127.0.0.1:8000/v1")
    if url.username or url.password:
        raise InvalidValue(
            "name",
            name.replace(url.netloc.rpartition("@")[0], "***"),
            "without a key in the URL, since names are written into reports: set DOVETAIL_API_KEY",
        )
    from dovetail.models.remote import RemoteModel

    return RemoteModel(name, served, url.geturl(), **options)


def _from_folder(
    name: str, folder: Path, is_embedded: bool, trust: bool, template: str | None, placed: dict[str, Any]
) -> Model:
    from dovetail.models import checkpoint, masked_diffusion_checkpoint
    from dovetail.models.local import LocalModel

    checkpoint.check_folder(folder, name)
    if masked_diffusion_checkpoint.knows(folder):
        network: Any
        network, tokenizer = masked_diffusion_checkpoint.read(folder, name, **placed)
    else:
        network, tokenizer = checkpoint.read(str(folder), name, trust_remote_code=trust, **placed)
    return LocalModel(
        network,
        tokenizer,
        name=name,
        template=template,
        folder=folder,
        source="embedded" if is_embedded else "folder",
    )


def _from_hub(
    name: str, revision: str | None, trust: bool, template: str | None, placed: dict[str, Any]
) -> Model:
    from dovetail.models import checkpoint
    from dovetail.models.local import LocalModel

    commit, offline = _find_on_hub(name, revision)
    # By the name of the revision, not its commit: so the cache learns what "main" is, and has it offline.
    network, tokenizer = checkpoint.read(
        name,
        name,
        trust_remote_code=trust,
        revision=revision,
        local_files_only=offline,
        from_hub=True,
        **placed,
    )
    commit = getattr(network.config, "_commit_hash", None) or commit
    return LocalModel(network, tokenizer, name=name, template=template, source="hub", revision=commit)


def _find_on_hub(name: str, revision: str | None) -> tuple[str, bool]:
    """The commit that ``revision`` stands for, and whether only the cache has it.

    One request with a short time limit, before anything is downloaded: transformers' own download
    retries every file for half a minute before it says that there is no network.
    """
    from huggingface_hub import HfApi, constants, try_to_load_from_cache
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    from dovetail.models.checkpoint import check_files

    try:
        info = HfApi().model_info(name, revision=revision, timeout=_PROBE_SECONDS)
    except GatedRepoError as error:
        raise NotReachable(
            f"{name} is gated: accept its conditions at {constants.ENDPOINT}/{name}, then `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise NotReachable(
            f"{name} is neither a folder here nor a model on {constants.ENDPOINT} that you may see: check "
            "the spelling; for a private model `hf auth login`; for a model behind a server, "
            "openai/NAME@URL"
        ) from error
    except RevisionNotFoundError as error:
        raise NotReachable(f"{name} has no revision {revision!r} on {constants.ENDPOINT}") from error
    except Exception as error:  # the hub's client has changed its HTTP library, and its errors, twice
        cached = try_to_load_from_cache(name, "config.json", revision=revision)
        if isinstance(cached, str):
            return Path(cached).parent.name, True
        if constants.HF_HUB_OFFLINE:
            why = "HF_HUB_OFFLINE is set"
        elif isinstance(error, HfHubHTTPError):
            why = f"{constants.ENDPOINT} answered {error.response.status_code} ({_first_line(error)})"
        else:
            why = f"{constants.ENDPOINT} is not reachable ({_first_line(error)})"
        out = _WAYS_OUT.format(embedded=", ".join(embedded()) or "none in this installation", name=name)
        raise NotReachable(f"{name} is not in the cache and {why}: {out}") from error
    if info.siblings is not None:
        check_files({s.rfilename for s in info.siblings}, name)
    if info.sha is None:
        raise DovetailError(f"{constants.ENDPOINT} gives no commit for {name}")
    return info.sha, False


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
