"""Any causal LM of transformers through its own forward. All knowledge of transformers' caches is here."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import Cache as HFCache
from transformers import PreTrainedModel

from dovetail.core import Unsupported
from dovetail.engine.forward import Cache, Forward, LayerHook, Output, next_positions, visible


class _Adapter(HFCache):
    """Our cache under transformers' interface, for the length of one forward pass."""

    def __init__(self, cache: Cache, tokens: int) -> None:
        self.store, self.tokens = cache, tokens
        self.layers: list[Any] = []

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any) -> Any:
        return self.store.write(layer_idx, key_states, value_states)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.store.used

    def get_mask_sizes(self, query_length: Any, layer_idx: int = 0) -> tuple[int, int]:
        return self.store.used + self.tokens, 0

    def get_max_cache_shape(self, layer_idx: int = 0) -> int:
        return -1

    @property
    def is_compileable(self) -> bool:
        return False


class TransformersForward(Forward):
    """The general path: slower than `LeanForward`, the same results.

    Args:
        network: a causal LM whose layers keep keys and values (no recurrent or hybrid state).

    Raises:
        Unsupported: the network keeps another kind of state, or does not take input embeddings.
    """

    def __init__(self, network: PreTrainedModel) -> None:
        self.network: Any = network
        config = network.config.get_text_config(decoder=True)
        kinds = set(getattr(config, "layer_types", None) or ())
        if getattr(network, "_is_stateful", False) or kinds - {"full_attention", "sliding_attention"}:
            raise Unsupported(
                f"{type(network).__name__} keeps a recurrent state, which cannot be forked or cropped: "
                "Dovetail runs networks with key-value caches"
            )
        self._window = getattr(config, "sliding_window", None)
        if getattr(config, "use_sliding_window", True) is False:
            self._window = None
        self._mixed = "sliding_attention" in kinds
        self.layers = config.num_hidden_layers
        self.hidden_size = config.hidden_size
        self.vocab_size = self.network.get_output_embeddings().weight.shape[0]  # type: ignore[no-untyped-call]
        self.max_positions = getattr(config, "max_position_embeddings", None) or 1 << 30
        self._blocks = _blocks(network, self.layers)
        self._table: Tensor | None = None

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        device: torch.device = self.network.get_input_embeddings().weight.device
        return device

    @property
    def dtype(self) -> torch.dtype:  # type: ignore[override]
        dtype: torch.dtype = self.network.get_input_embeddings().weight.dtype
        return dtype

    def embed(self, ids: Tensor) -> Tensor:
        embeddings: Tensor = self.network.get_input_embeddings()(ids)
        return embeddings

    def refresh(self) -> None:
        self._table = None

    def table(self) -> Tensor:
        module = self.network.get_input_embeddings()
        if type(module) is torch.nn.Embedding:
            return module.weight
        # Families that scale their embeddings (Gemma): computed once per generation.
        if self._table is None:
            self._table = module(torch.arange(module.weight.shape[0], device=self.device))
        return self._table

    def __call__(
        self,
        cache: Cache,
        ids: Tensor | None = None,
        embeds: Tensor | None = None,
        *,
        valid: Tensor | None = None,
        all_logits: bool = False,
        hidden: bool = False,
        hook: LayerHook | None = None,
    ) -> Output:
        given = ids if ids is not None else embeds
        assert given is not None
        tokens = given.shape[1]
        where = next_positions(cache, tokens, valid)
        cache.reserve(tokens)
        handles = self._hooked(hook)
        try:
            out = self.network(
                input_ids=ids,
                inputs_embeds=embeds,
                attention_mask=self._mask(cache, where),
                position_ids=where.clamp(min=0),
                past_key_values=_Adapter(cache, tokens),
                use_cache=True,
                output_hidden_states=hidden,
                logits_to_keep=0 if all_logits else 1,
            )
        finally:
            for handle in handles:
                handle.remove()
        cache.advance(where, ragged=valid is not None)
        logits = out.logits if all_logits else out.logits[:, -1]
        return Output(logits, out.hidden_states[-1] if hidden else None)

    def _mask(self, cache: Cache, where: Tensor) -> Any:
        full = self._additive(visible(cache, where))
        if self._window is None:
            return full
        sliding = self._additive(visible(cache, where, self._window))
        return {"full_attention": full, "sliding_attention": sliding} if self._mixed else sliding

    def _additive(self, seen: Tensor) -> Tensor:
        zero = torch.zeros((), dtype=self.dtype, device=seen.device)
        return torch.where(seen, zero, torch.finfo(self.dtype).min)[:, None]

    def _hooked(self, hook: LayerHook | None) -> list[Any]:
        if hook is None:
            return []

        def attach(layer: int, block: torch.nn.Module) -> Any:
            def after(_: Any, args: Any, kwargs: Any, out: Any) -> Any:
                before = args[0] if args else kwargs["hidden_states"]
                first = out[0] if isinstance(out, tuple) else out
                first = hook(layer, before, first)
                return (first, *out[1:]) if isinstance(out, tuple) else first

            return block.register_forward_hook(after, with_kwargs=True)

        return [attach(layer, block) for layer, block in enumerate(self._blocks)]


def _blocks(network: PreTrainedModel, layers: int) -> torch.nn.ModuleList:
    """The decoder's list of layers, whatever the family calls it."""
    for module in network.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == layers:
            return module
    raise Unsupported(f"{type(network).__name__}: no list of {layers} decoder layers found")
