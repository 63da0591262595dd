"""DiffEmbed: text embeddings from a masked diffusion language model, by one pass over the clean text.

Zhang et al., "Diffusion vs. Autoregressive Language Models: A Text Embedding Perspective", arXiv 2505.15045
(EMNLP 2025). A diffusion model was trained to look to both sides, so nothing has to be unlearned: no token
is masked, there is no time step, and the embedding is the mean of the last hidden states over the text's
tokens (text format and pooling are LLM2Vec's, arXiv 2404.05961). Any other Hugging Face network serves too, a
causal one with its mask opened, as in the paper's baselines. `training.contrastive` tunes what is built here.

Costs one forward pass per text, with full attention: O(T^2) in its T tokens, and a [B, 1, T, T] mask.
"""

from __future__ import annotations

import copy
import inspect
import json
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from dovetail.core import BadData, InvalidValue, MissingExtra, NotReachable, Unsupported
from dovetail.models import checkpoint, masked_diffusion_checkpoint
from dovetail.models.load import embedded
from dovetail.models.load import load as load_model
from dovetail.models.local import LocalModel
from dovetail.models.masked_diffusion import MaskedDiffusionLM
from dovetail.models.placement import choose_device, choose_dtype

Pooling = Literal["mean", "weighted_mean", "last"]
Attention = Literal["bidirectional", "causal"]
Text = str | tuple[str, str] | list[str]

#: What the authors put around instruction and text of Dream, Qwen2 and other models with ChatML.
CHATML = "<|im_start|>user\n{}<|im_end|>"
_SETTINGS = "dovetail_embedder.json"


class DiffusionEmbedder(nn.Module):
    """Embeds texts with any Hugging Face network, a masked diffusion model first of all.

    It is also a module for ``SentenceTransformer(modules=[embedder])``: its ``encode``, ``save`` and trainer
    then work on it, and `as_sentence_transformer` builds just that.

    Args:
        model: `masked_diffusion.MaskedDiffusionLM`, a causal language model, or an encoder.
        tokenizer: its tokenizer; one without padding token is fine, since padding is never looked at.
        pooling: "mean" (the paper), "weighted_mean" (by position, for causal models) or "last" token.
        max_length: tokens of a whole input, template and instruction included (paper: 4096); never more than
            the network has positions for.
        doc_max_length: tokens of the text alone (paper: 4096).
        skip_instruction: leave template and instruction out of the pooling, as the paper does. They are read.
        attention: "bidirectional", or "causal" (the paper's ablation at test time; E5-Mistral with "last").
        normalize: give embeddings of length 1. The losses and the evaluation use cosines either way.
        template: put around instruction and text in place of its ``{}``; what follows the text is pooled with
            it. The authors use `CHATML` for Dream.
        allow_empty: embed a text without tokens as zeros, instead of refusing it.

    Raises:
        InvalidValue: an impossible argument; names it.
        Unsupported: the network cannot look to both sides (or only to one): a probe of eight tokens sees it.
    """

    # What sentence-transformers asks of a module.
    save_in_root = True
    forward_kwargs: frozenset[str] = frozenset()
    modalities: tuple[str, ...] = ("text",)

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        pooling: Pooling = "mean",
        max_length: int = 4096,
        doc_max_length: int = 4096,
        skip_instruction: bool = True,
        attention: Attention = "bidirectional",
        normalize: bool = False,
        template: str = "{}",
        allow_empty: bool = False,
    ) -> None:
        super().__init__()
        if pooling not in ("mean", "weighted_mean", "last"):
            raise InvalidValue("pooling", pooling, "'mean', 'weighted_mean' or 'last'")
        if attention not in ("bidirectional", "causal"):
            raise InvalidValue("attention", attention, "'bidirectional' or 'causal'")
        for name, length in (("max_length", max_length), ("doc_max_length", doc_max_length)):
            if length < 1:
                raise InvalidValue(name, length, "at least 1")
        if template.count("{}") != 1:
            raise InvalidValue("template", template, "a text with one {} where the input goes")
        self.model, self.tokenizer = model, tokenizer
        self.training = model.training
        self.pooling, self.attention, self.normalize = pooling, attention, normalize
        self.skip_instruction, self.template, self.allow_empty = skip_instruction, template, allow_empty
        config = model.config.get_text_config()
        self.max_length = min(max_length, getattr(config, "max_position_embeddings", None) or max_length)
        self.doc_max_length = doc_max_length
        self.size: int = config.hidden_size
        self._before, self._after = _special_tokens(tokenizer)
        self._takes_positions = "position_ids" in inspect.signature(self._body().forward).parameters
        self._check_attention()

    # -- texts in, vectors out ---------------------------------------------------------------------------

    def encode(
        self, texts: Sequence[Text], batch_size: int = 32, *, instruction: str = ""
    ) -> NDArray[np.float32]:
        """Embeddings, float32 ``[n, d]``, in the order of the texts; dropout is off while it runs.

        Args:
            texts: strings, or pairs (instruction, text).
            batch_size: texts per forward pass; texts of about equal length share one.
            instruction: of the strings.
        """
        if isinstance(texts, str):
            raise InvalidValue("texts", texts, "a list of texts, even for one")
        order = sorted(range(len(texts)), key=lambda i: -sum(map(len, _pair(texts[i]))))
        made = np.zeros((len(texts), self.size), dtype=np.float32)
        training = self.training
        self.eval()
        try:
            with torch.no_grad():
                for start in range(0, len(order), batch_size):
                    rows = order[start : start + batch_size]
                    features = self.preprocess([texts[i] for i in rows], prompt=instruction)
                    made[rows] = self(features)["sentence_embedding"].float().cpu().numpy()
        finally:
            self.train(training)
        return made

    def preprocess(
        self, inputs: Sequence[Text], prompt: str | None = None, **unused: Any
    ) -> dict[str, Tensor]:
        """Token ids of a batch, padded on the right: what `forward` takes.

        Args:
            inputs: strings, or pairs (instruction, text).
            prompt: the instruction of the strings.

        Returns:
            ``input_ids``, ``attention_mask`` (1 for real tokens) and ``embed_mask`` (1 for tokens that are
            pooled), all int64 ``[B, T]``.

        Raises:
            InvalidValue: a text without tokens (unless ``allow_empty``), an instruction as long as
                ``max_length``; gives its position.
        """
        rows: list[tuple[list[int], int]] = []
        cut = 0
        for position, each in enumerate(inputs):
            instruction, text = _pair(each, prompt or "")
            row, skipped, lost = self._ids(instruction, text, position)
            rows.append((row, skipped))
            cut += lost > 0
        if cut:
            warnings.warn(
                f"{cut} of {len(inputs)} texts were cut at max_length = {self.max_length} (doc_max_length = "
                f"{self.doc_max_length}) tokens",
                stacklevel=2,
            )
        width = max((len(row) for row, _ in rows), default=0)
        ids = torch.full((len(rows), width), self._padding, dtype=torch.int64)
        real, pooled = torch.zeros_like(ids), torch.zeros_like(ids)
        for i, (row, skipped) in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row, dtype=torch.int64)
            real[i, : len(row)] = 1
            pooled[i, skipped if self.skip_instruction else 0 : len(row)] = 1
        return {"input_ids": ids, "attention_mask": real, "embed_mask": pooled}

    def tokenize(self, texts: Sequence[Text], **options: Any) -> dict[str, Tensor]:
        """`preprocess`, under the name that sentence-transformers had for it before 6.0."""
        return self.preprocess(texts, **options)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Adds ``token_embeddings`` [B, T, d] and ``sentence_embedding`` [B, d] to a batch's features.

        Without ``embed_mask`` all real tokens are pooled. Padding may stand on either side.
        """
        features = {name: value.to(self.device) for name, value in features.items()}
        real = features["attention_mask"].bool()
        pooled = features.get("embed_mask", features["attention_mask"]).bool()
        hidden = self.hidden(features["input_ids"], real)
        embedding = pool(hidden, pooled, self.pooling)
        if self.normalize:
            embedding = nn.functional.normalize(embedding, dim=-1)
        return {**features, "token_embeddings": hidden, "sentence_embedding": embedding}

    def hidden(self, ids: Tensor, real: Tensor) -> Tensor:
        """Last hidden states [B, T, d] of ids [B, T]; ``real`` [B, T] bool is False at padding."""
        positions = (real.long().cumsum(1) - 1).clamp(min=0)
        causal = self.attention == "causal"
        if isinstance(self.model, MaskedDiffusionLM):
            sees = _sees(real, causal) if causal else (None if bool(real.all()) else real)
            return self.model.hidden(ids, positions, attention_mask=sees)
        # An additive mask: with a boolean one, eager attention would add its ones and zeros to the scores.
        dtype = self.model.dtype
        mask = torch.zeros((), dtype=dtype, device=ids.device).where(
            _sees(real, causal)[:, None], torch.finfo(dtype).min
        )
        given = {"position_ids": positions} if self._takes_positions else {}
        out = self._body()(input_ids=ids, attention_mask=mask, **given)
        hidden: Tensor = out.last_hidden_state
        return hidden

    def with_attention(self, attention: Attention) -> DiffusionEmbedder:
        """The same weights under another mask: the ablation of the paper's sect. 5."""
        made = copy.copy(self)
        made.attention = attention
        made._check_attention()
        return made

    # -- files -------------------------------------------------------------------------------------------

    def save(self, output_path: str | os.PathLike[str], *_: Any, **unused: Any) -> None:
        """Writes network, tokenizer and settings as one Hugging Face folder that `load` reads.

        Raises:
            Unsupported: the network is a PEFT adapter over another: merge it first.
        """
        if hasattr(self.model, "merge_and_unload"):
            raise Unsupported(
                "the network is wrapped by PEFT: embedder.model = model.merge_and_unload() first"
            )
        folder = Path(output_path)
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        (folder / _SETTINGS).write_text(json.dumps(self.settings(), indent=2) + "\n", encoding="utf-8")

    def settings(self) -> dict[str, Any]:
        """The constructor's arguments beside network and tokenizer, as JSON values."""
        names = list(inspect.signature(type(self).__init__).parameters)[3:]
        return {name: getattr(self, name) for name in names}

    @classmethod
    def load(
        cls,
        model_name_or_path: str | os.PathLike[str],
        subfolder: str = "",
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        trust_remote_code: bool = False,
        revision: str | None = None,
        token: bool | str | None = None,
        cache_folder: str | None = None,
        local_files_only: bool = False,
        model_kwargs: dict[str, Any] | None = None,
        processor_kwargs: dict[str, Any] | None = None,
        config_kwargs: dict[str, Any] | None = None,
        backend: str = "torch",
        **settings: Any,
    ) -> DiffusionEmbedder:
        """An embedder that was saved, or a new one around a network: LLaDA, Dream, causal models, encoders.

        Args:
            model_name_or_path: an embedded model (``pico``), a local folder, or a hub id.
            device, dtype: as for `dovetail.load`.
            settings: the constructor's arguments; they go before those that were saved.
            subfolder, revision, token, cache_folder, local_files_only, trust_remote_code: as in
                sentence-transformers, which calls this.
            model_kwargs: of these only ``dtype`` is used.

        Raises:
            BadData, NotReachable, Unsupported: as `dovetail.load`.
        """
        if backend != "torch":
            raise InvalidValue("backend", backend, "'torch'")
        known = set(inspect.signature(cls.__init__).parameters) - {"self", "model", "tokenizer"}
        for name in settings:
            if name not in known:
                raise InvalidValue(
                    name, settings[name], f"left out; the settings are {', '.join(sorted(known))}"
                )
        name = os.fspath(model_name_or_path)
        folder = embedded().get(name, Path(name).expanduser())
        if not folder.is_dir():
            folder = _download(name, revision, token, cache_folder, local_files_only)
        folder = folder / subfolder
        if dtype is None and model_kwargs:
            dtype = model_kwargs.get("dtype", model_kwargs.get("torch_dtype"))
        network, tokenizer = _read(folder, name, device, dtype, trust_remote_code)
        saved = folder / _SETTINGS
        if saved.is_file():
            settings = {**json.loads(saved.read_text(encoding="utf-8")), **settings}
        return cls(network, tokenizer, **settings)

    def as_sentence_transformer(self, **options: Any) -> Any:
        """``SentenceTransformer(modules=[self])``; what it saves loads with ``trust_remote_code=True``.

        Raises:
            MissingExtra: sentence-transformers is not installed (``dovetail[embeddings]``).
        """
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise MissingExtra("sentence-transformers", "embeddings") from error
        return SentenceTransformer(modules=[self], **{"device": str(self.device), **options})

    # -- what sentence-transformers asks -----------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the network lives."""
        return self.model.device

    @property
    def max_seq_length(self) -> int:
        """`max_length`, under sentence-transformers' name."""
        return self.max_length

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        self.max_length = value

    def get_embedding_dimension(self) -> int:
        """d, the numbers in one embedding."""
        return self.size

    def get_sentence_embedding_dimension(self) -> int:
        """`get_embedding_dimension`, under the name that it had before sentence-transformers 6.0."""
        return self.size

    # -- inside ------------------------------------------------------------------------------------------

    def _body(self) -> nn.Module:
        """The network without its language-modelling head."""
        if isinstance(self.model, MaskedDiffusionLM):
            return self.model
        model: Any = self.model
        wrapped = model.get_base_model() if hasattr(model, "get_base_model") else model
        return cast(nn.Module, getattr(wrapped, "base_model", wrapped))

    @property
    def _padding(self) -> int:
        for token in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id):
            if token is not None:
                return int(token)
        return 0  # never looked at: any id in the vocabulary does

    def _ids(self, instruction: str, text: str, position: int) -> tuple[list[int], int, int]:
        """Ids of one input, how many of them come before the text, and how many of the text were cut."""
        opening, closing = self.template.split("{}")
        head = opening + (f"{instruction.strip()} " if instruction.strip() else "")
        before, body, after = (self._tokens(part) for part in (head, text, closing))
        before, after = [*self._before, *before], [*after, *self._after]
        if not body and not self.allow_empty:
            raise InvalidValue(
                f"text {position}", text, "a text with tokens (or allow_empty=True, which gives zeros)"
            )
        room = self.max_length - len(before) - len(after)
        if room < 1:
            raise InvalidValue(
                f"the instruction of text {position}",
                instruction,
                f"shorter than max_length = {self.max_length} tokens, with room for the text",
            )
        kept = body[: min(room, self.doc_max_length)]
        if not body:  # nothing to pool, whatever the template adds
            return [*before, *after] or [self._padding], len(before) + len(after) or 1, 0
        return [*before, *kept, *after], len(before), len(body) - len(kept)

    def _tokens(self, text: str) -> list[int]:
        return (
            list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]) if text else []
        )

    @torch.no_grad()
    def _check_attention(self) -> None:
        """Whether the first token's state depends on the last token, as it must (or must not)."""
        kind = type(self.model).__name__
        used = getattr(self.model.config, "_attn_implementation", None)
        if not isinstance(self.model, MaskedDiffusionLM) and used not in (None, "sdpa", "eager"):
            raise Unsupported(
                f"{kind} runs with {used}, which takes no mask of its own: load it with "
                "attn_implementation='sdpa'"
            )
        vocabulary = cast(nn.Embedding, self.model.get_input_embeddings()).num_embeddings
        ids = torch.arange(8, device=self.device).repeat(2, 1) % vocabulary
        ids[1, -1] = (ids[1, -1] + 1) % vocabulary
        training = self.training
        self.eval()
        try:
            first = self.hidden(ids, torch.ones_like(ids, dtype=torch.bool))[:, 0].float()
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            raise Unsupported(
                f"{kind} could not be run with a mask of one row per token, which embedding needs: {error}"
            ) from error
        finally:
            self.train(training)
        moved = float((first[0] - first[1]).abs().max())
        seen = moved > 1e-6 * float(first.abs().max())
        if seen and self.attention == "causal":
            raise Unsupported(f"{kind} looks ahead whatever its mask says: use attention='bidirectional'")
        if not seen and self.attention == "bidirectional":
            raise Unsupported(
                f"{kind} does not look ahead whatever its mask says, so it cannot embed as a "
                "diffusion model does: use attention='causal', or a network whose attention takes a mask"
            )


def pool(hidden: Tensor, pooled: Tensor, pooling: Pooling = "mean") -> Tensor:
    """[B, d] from hidden states [B, T, d] at the tokens of ``pooled`` [B, T] bool; zeros for no tokens.

    "weighted_mean" weighs the i-th pooled token by i, "last" takes the last one.
    """
    order = pooled.long().cumsum(1) * pooled
    if pooling == "last":
        weights = (order == order.amax(1, keepdim=True)) & pooled
    else:
        weights = order if pooling == "weighted_mean" else pooled
    weights = weights.to(hidden.dtype)
    weights = weights / weights.sum(1, keepdim=True).clamp(min=1)
    # A product would turn a padding row's NaN into the embedding's.
    return torch.einsum("bt,btd->bd", weights, hidden.masked_fill(~pooled[:, :, None], 0))


def _sees(real: Tensor, causal: bool) -> Tensor:
    """[B, T, T] bool: which keys a query sees. Each sees itself, so that no row of scores is empty."""
    rows, tokens = real.shape
    itself = torch.eye(tokens, dtype=torch.bool, device=real.device)
    sees = real[:, None, :].expand(rows, tokens, tokens)
    if causal:
        sees = sees & torch.ones_like(itself).tril()
    return sees | itself


def _pair(text: Text, instruction: str = "") -> tuple[str, str]:
    if isinstance(text, str):
        return instruction, text
    if len(text) == 2 and all(isinstance(part, str) for part in text):
        return text[0], text[1]
    raise InvalidValue("text", text, "a string, or a pair of strings (instruction, text)")


def _special_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """What the tokenizer puts before and after a text by itself (Llama's first token, BERT's two)."""
    plain = list(tokenizer("a", add_special_tokens=False)["input_ids"])
    whole = list(tokenizer("a")["input_ids"])
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return whole[:start], whole[start + len(plain) :]
    return [], []


def _download(
    name: str, revision: str | None, token: bool | str | None, cache: str | None, offline: bool
) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(name, revision=revision, token=token, cache_dir=cache, local_files_only=offline)
        )
    except Exception as error:  # the hub's client has changed its errors twice
        raise NotReachable(
            f"{name} is neither embedded ({', '.join(embedded())}) nor a folder, and the hub did not give it "
            f"({(str(error).strip() or type(error).__name__).splitlines()[0]})"
        ) from error


def _read(
    folder: Path, name: str, device: str | torch.device | None, dtype: Any, trust: bool
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Network and tokenizer of a folder; what is no language model is read as the encoder that it is."""
    checkpoint.check_folder(folder, name)
    if masked_diffusion_checkpoint.knows(folder) or _is_causal(folder, trust):
        loaded = load_model(folder, device=device, dtype=dtype, trust_remote_code=trust)
        assert isinstance(loaded, LocalModel)
        return loaded.network, loaded.tokenizer
    place = choose_device(device)
    try:
        network = AutoModel.from_pretrained(
            folder, dtype=choose_dtype(dtype, place), trust_remote_code=trust, use_safetensors=True
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust)
    except Exception as error:  # transformers raises ValueError, OSError, KeyError and more
        raise BadData(f"{name} could not be read: {str(error).splitlines()[0]}") from error
    return network.to(place).eval(), tokenizer


def _is_causal(folder: Path, trust: bool) -> bool:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if "architectures" in config:
        return any("ForCausalLM" in kind or "LMHead" in kind for kind in config["architectures"] or ())
    return getattr(AutoConfig.from_pretrained(folder, trust_remote_code=trust), "is_decoder", False)
