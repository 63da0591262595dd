"""The lean path: a compact decoder for Llama, Qwen2, Qwen3 and Mistral over the Hugging Face weights.

For small models and small batches a step costs what its operations cost to launch, so there are few of them:
queries, keys and values come out of one product, as do gate and up; residuals ride along in ``addmm``;
cosines are gathered once per step; a step of one token needs no mask unless rows are ragged.

The fused matrices own the memory and the network's parameters become views into them, so an optimizer step
or ``load_state_dict`` changes both. What is copied, norms and the small matrices that a CPU multiplies faster
the other way round, is new with every `refresh`, which also fuses again if something moved the weights
(``.to(...)``). Modules that are no plain ``nn.Linear`` (adapters) are left alone and called as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from dovetail.engine.elementwise import rms_norm, rotate_
from dovetail.engine.forward import Cache, Forward, LayerHook, Output, next_positions, visible
from dovetail.engine.small import LayerWeights, SmallPass, Weight

FAMILIES = frozenset({"llama", "qwen2", "qwen3", "mistral"})
_STATIC_ROPE = frozenset({"default", "linear", "llama3", "yarn"})
_FEW = 16  # queries per row
_SMALL_PASS = 32  # tokens in all
_ONE_THREAD = 4  # times as many, where torch has no more threads that could help


class _Fused:
    """Linear layers that read the same input, as one product."""

    def __init__(self, linears: Sequence[Any]) -> None:
        self.linears = linears
        self.sizes: list[int] = []
        self.weight: Tensor | None = None
        self.bias: Tensor | None = None

    def refresh(self) -> None:
        """Fuses the weights, unless they still are."""
        if any(type(m) is not nn.Linear for m in self.linears):
            self.weight = None
            return
        weights = [m.weight for m in self.linears]
        self.sizes = [w.shape[0] for w in weights]
        if not self._aliased(self.weight, weights):
            self.weight = _share(weights)
        biases = [m.bias for m in self.linears]
        if biases[0] is None:
            self.bias = None
        elif not self._aliased(self.bias, biases):
            self.bias = _share(biases)

    @staticmethod
    def _aliased(fused: Tensor | None, parts: Sequence[Tensor]) -> bool:
        if fused is None or fused.dtype != parts[0].dtype or fused.device != parts[0].device:
            return False
        at = 0
        for part in parts:
            if part.data_ptr() != fused[at].data_ptr():
                return False
            at += part.shape[0]
        return True

    def __call__(self, x: Tensor) -> Tensor:
        if self.weight is None:
            return torch.cat([m(x) for m in self.linears], -1)
        return F.linear(x, self.weight, self.bias)


def _share(parts: Sequence[Tensor]) -> Tensor:
    """One tensor that holds ``parts`` one below the other; each part becomes a view of it."""
    fused = torch.cat([p.data for p in parts])
    at = 0
    for part in parts:
        part.data = fused[at : at + part.shape[0]]
        at += part.shape[0]
    return fused


class _Layer:
    """One decoder layer's modules, as the step reads them."""

    norm_1: Tensor
    norm_2: Tensor

    def __init__(self, block: Any) -> None:
        attention, mlp = block.self_attn, block.mlp
        self.norms = block.input_layernorm, block.post_attention_layernorm
        self.qkv = _Fused([attention.q_proj, attention.k_proj, attention.v_proj])
        self.gate_up = _Fused([mlp.gate_proj, mlp.up_proj])
        self.out, self.down = attention.o_proj, mlp.down_proj
        self.q_norm = getattr(attention, "q_norm", None)
        self.k_norm = getattr(attention, "k_norm", None)
        self.qk_norm: Tensor | None = None  # [heads + kv heads, D]; a copy, tiny, renewed by `refresh`

    def refresh(self, heads: int, kv_heads: int) -> None:
        self.norm_1, self.norm_2 = (norm.weight.data for norm in self.norms)
        self.qkv.refresh()
        self.gate_up.refresh()
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm.weight.data, self.k_norm.weight.data
            self.qk_norm = torch.cat([q.expand(heads, -1), k.expand(kv_heads, -1)])

    def arrays(self) -> LayerWeights | None:
        """This layer for a `SmallPass`; None if a module is no plain ``nn.Linear``."""
        if any(type(m) is not nn.Linear or m.bias is not None for m in (self.out, self.down)):
            return None
        if self.qkv.weight is None or self.gate_up.weight is None or self.gate_up.bias is not None:
            return None

        return LayerWeights(
            _scaled(self.norm_1)[None],
            Weight(self.qkv.weight),
            None if self.qkv.bias is None else self.qkv.bias.numpy(),
            None if self.qk_norm is None else _scaled(self.qk_norm)[None, None],
            Weight(self.out.weight.data),
            _scaled(self.norm_2)[None],
            Weight(self.gate_up.weight),
            Weight(self.down.weight.data),
        )


def _scaled(norm: Tensor) -> Any:
    """What `SmallPass` multiplies by: the weight times the root of its size."""
    return (norm * norm.shape[-1] ** 0.5).numpy()


@dataclass(slots=True)
class _View:
    """What the layers of one pass have in common: where they write, and what they look at.

    Attributes:
        fused: whether attention is one operation of torch's or three products.
        slots: per layer [2, B, K, T, D], the cache's new columns.
        keys, values: per layer, to the last new column: [B, K, C, D] if fused, else [B * K, D, C] and
            [B * K, C, D].
        mask: additive, [B, 1, T, C] or None if fused, else what broadcasts to [B * K, group * T, C].
        causal: whether torch is to mask (fused only).
    """

    rows: int
    tokens: int
    fused: bool
    slots: tuple[Tensor, ...]
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    mask: Tensor | None
    causal: bool


class LeanForward(Forward):
    """See the module's text.

    Args:
        network: a Llama, Qwen2, Qwen3 or Mistral causal LM; `LeanForward.supports` tells.
    """

    def __init__(self, network: PreTrainedModel) -> None:
        self.network: Any = network
        config = network.config
        self.layers = config.num_hidden_layers
        self.hidden_size = config.hidden_size
        self.vocab_size = config.vocab_size
        self.max_positions = config.max_position_embeddings
        self._heads, self._kv_heads = config.num_attention_heads, config.num_key_value_heads
        self._group = self._heads // self._kv_heads
        self._head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self._scale = self._head**-0.5
        self._eps = config.rms_norm_eps
        self._layers = [_Layer(block) for block in network.model.layers]
        self._rope = torch.empty(0)  # [positions, 2 D]: cosines, then signed sines
        self.refresh()

    @staticmethod
    def supports(network: PreTrainedModel) -> bool:
        """Whether the lean path computes the same as the network's own forward."""
        config = network.config
        if config.model_type not in FAMILIES or config.hidden_act != "silu":
            return False
        if type(network).__name__.removesuffix("ForCausalLM").lower() != config.model_type:
            return False
        rope = getattr(config, "rope_parameters", None) or {}
        if rope.get("rope_type", "default") not in _STATIC_ROPE:
            return False
        if getattr(config, "layer_types", None):
            return set(config.layer_types) == {"full_attention"}
        window = getattr(config, "sliding_window", None)
        return window is None or window >= config.max_position_embeddings

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        device: torch.device = self.network.model.embed_tokens.weight.device
        return device

    @property
    def dtype(self) -> torch.dtype:  # type: ignore[override]
        dtype: torch.dtype = self.network.model.embed_tokens.weight.dtype
        return dtype

    def refresh(self) -> None:
        for layer in self._layers:
            layer.refresh(self._heads, self._kv_heads)
        self._final_norm = self.network.model.norm.weight.data
        embedding, head = self.network.model.embed_tokens, self.network.lm_head
        self._embedding = embedding.weight.data if type(embedding) is nn.Embedding else None
        plain = type(head) is nn.Linear and head.bias is None
        self._vocabulary = head.weight.data.t() if plain else None
        self._small = self._small_pass()
        if self._rope.device != self.device or self._rope.dtype != self.dtype:
            self._rope = torch.empty(0, 2 * self._head, device=self.device, dtype=self.dtype)

    def _small_pass(self) -> SmallPass | None:
        """The numpy path, for networks that it fits."""
        if self.device.type != "cpu" or self.dtype not in (torch.float32, torch.float64):
            return None
        layers = [weights for weights in (layer.arrays() for layer in self._layers) if weights is not None]
        if len(layers) < self.layers:
            return None
        head = None if self._vocabulary is None else Weight(self._vocabulary.t())
        norm = _scaled(self._final_norm)
        return SmallPass(layers, norm, head, self._heads, self._kv_heads, self._head, self._eps)

    def embed(self, ids: Tensor) -> Tensor:
        if self._embedding is not None:
            return self._embedding.index_select(0, ids.reshape(-1)).view(*ids.shape, -1)
        embeddings: Tensor = self.network.model.embed_tokens(ids)
        return embeddings

    def table(self) -> Tensor:
        table: Tensor = self.network.model.embed_tokens.weight
        return table

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
        if torch.is_grad_enabled():
            with torch.no_grad():
                return self(cache, ids, embeds, valid=valid, all_logits=all_logits, hidden=hidden, hook=hook)
        x = embeds if embeds is not None else self.embed(ids)  # type: ignore[arg-type]
        rows, tokens, size = x.shape
        where = next_positions(cache, tokens, valid)
        cache.reserve(tokens)
        x = x.reshape(rows * tokens, size)
        rope = self._angles(cache.used + tokens)
        small = self._small
        if rows * tokens > _SMALL_PASS * (_ONE_THREAD if torch.get_num_threads() == 1 else 1):
            small = None
        if small is not None and hook is None:
            store = cache.block(self.layers, self._kv_heads, self._head, self.dtype)
            mask = self._mask(cache, where, valid)
            x = x if embeds is None else x.clone()
            x = small(x, rope, where, store, cache.used, cache.shared, mask)
        else:
            # Padding is at -1: it takes position 0, numbers that nobody looks at.
            at = where.reshape(-1).clamp(min=0)
            cos, sin = rope.index_select(0, at).view(rows, tokens, 1, -1).chunk(2, -1)
            x = self._pass(x, cos, sin, self._view(cache, where, valid), hook)
        cache.advance(where, ragged=valid is not None)
        if not all_logits and not hidden and tokens > 1:
            x = x.view(rows, tokens, size)[:, -1]
        if small is not None and small.head is not None and not hidden:
            logits = small.logits(x)
            return Output(logits.view(rows, tokens, -1) if all_logits else logits)
        x = rms_norm(x, self._final_norm, self._eps)
        states = x.view(rows, tokens, size) if hidden else None
        if hidden and not all_logits:
            x = x.view(rows, tokens, size)[:, -1]
        logits = self.network.lm_head(x) if self._vocabulary is None else torch.mm(x, self._vocabulary)
        return Output(logits.view(rows, tokens, -1) if all_logits else logits, states)

    def _pass(self, x: Tensor, cos: Tensor, sin: Tensor, view: _View, hook: LayerHook | None) -> Tensor:
        """The hidden states [B * T, d] after the last layer."""
        shape = (view.rows, view.tokens, self.hidden_size)
        for index, layer in enumerate(self._layers):
            before = x
            x = self._attend(layer, index, x, cos, sin, view)
            x = self._feed(layer, x)
            if hook is not None:
                x = hook(index, before.view(shape), x.view(shape)).reshape(-1, self.hidden_size)
        return x

    def _angles(self, end: int) -> Tensor:
        """[end or more, 2 D]: cosines and signed sines of all positions below ``end``."""
        if end > self._rope.shape[0]:
            positions = torch.arange(max(end, 2 * self._rope.shape[0], 256), device=self.device)
            like = torch.empty(1, dtype=self.dtype, device=self.device)
            cos, sin = self.network.model.rotary_emb(like, positions[None])
            # rotate_half(x) = roll(x) with its first half negated; the sign goes into the table.
            sin[..., : self._head // 2] *= -1
            self._rope = torch.cat([cos[0], sin[0]], -1)
        return self._rope

    def _view(self, cache: Cache, where: Tensor, valid: Tensor | None) -> _View:
        rows, tokens = where.shape
        start, end = cache.used, cache.used + tokens
        store = cache.block(self.layers, self._kv_heads, self._head, self.dtype)
        causal = tokens > 1 and cache.used == 0 and valid is None
        mask = None if causal else self._mask(cache, where, valid)
        # A CPU's fused attention loses to three plain operations as long as there are few queries.
        fused = store.is_cuda or tokens > _FEW or self.dtype not in (torch.float32, torch.float64)
        slots = store[..., start:end, :].unbind(0)
        if fused:
            keys, values = (store[:, i, :, :, :end].unbind(0) for i in (0, 1))
            return _View(rows, tokens, True, slots, keys, values, mask, causal)
        if causal:
            mask = self._mask(cache, where, valid)
        every_key, every_value = (store[:, i].flatten(1, 2)[:, :, :end] for i in (0, 1))
        if mask is None:
            mask = torch.zeros((), dtype=self.dtype).expand(1, 1, 1)
        else:
            shape = (rows, self._kv_heads, self._group, tokens, end)
            mask = mask[:, :, None].expand(shape).reshape(-1, self._group * tokens, end)
        keys, values = every_key.transpose(2, 3).unbind(0), every_value.unbind(0)
        return _View(rows, tokens, False, slots, keys, values, mask, False)

    def _mask(self, cache: Cache, where: Tensor, valid: Tensor | None) -> Tensor | None:
        """The additive mask [B or 1, 1, T, C + T], None where nothing is hidden."""
        tokens = where.shape[1]
        if valid is None and not cache.holes:
            if tokens == 1:
                return None
            # All that is in the cache is seen, and of the new tokens those before.
            shape = (tokens, cache.used + tokens)
            mask = torch.full(shape, float("-inf"), dtype=self.dtype, device=self.device)
            return mask.triu_(cache.used + 1)[None, None]
        if valid is None and tokens == 1:
            # The next token comes after everything that its row holds.
            hidden = cache.where[:, None, : cache.used + 1] < 0
            hidden[..., -1] = False
        else:
            hidden = ~visible(cache, where)
        mask = torch.zeros(hidden.shape, dtype=self.dtype, device=hidden.device)
        return mask.masked_fill_(hidden, float("-inf"))[:, None]

    def _attend(self, layer: _Layer, index: int, x: Tensor, cos: Tensor, sin: Tensor, view: _View) -> Tensor:
        rows, tokens = view.rows, view.tokens
        heads, kv, group, size = self._heads, self._kv_heads, self._group, self._head
        h = rms_norm(x, layer.norm_1, self._eps)
        qkv = layer.qkv(h).view(rows, tokens, heads + 2 * kv, size)
        qk = qkv[:, :, : heads + kv]
        if layer.qk_norm is not None:
            qk.copy_(rms_norm(qk, layer.qk_norm, self._eps))
        rotate_(qk, cos, sin)
        new = qkv[:, :, heads:].view(rows, tokens, 2, kv, size)
        view.slots[index].copy_(new.permute(2, 0, 3, 1, 4))  # [2, B, K, T, D]
        q = qkv[:, :, :heads]
        keys, values = view.keys[index], view.values[index]
        if not view.fused:
            assert view.mask is not None
            q = q.view(rows, tokens, kv, group, size).permute(0, 2, 3, 1, 4)
            q = q.reshape(rows * kv, group * tokens, size)
            scores = torch.baddbmm(view.mask, q, keys, alpha=self._scale)
            a = torch.bmm(torch.softmax(scores, -1), values)  # [B * K, group * T, D]
            if tokens > 1:
                a = a.view(rows, heads, tokens, size).transpose(1, 2)
            a = a.reshape(rows * tokens, heads * size)
        elif tokens == 1:
            # One query: the heads of a group become the queries of their key-value head.
            q = q.view(rows, kv, group, size)
            a = F.scaled_dot_product_attention(q, keys, values, attn_mask=view.mask, scale=self._scale)
            a = a.reshape(rows, heads * size)
        else:
            a = F.scaled_dot_product_attention(
                q.transpose(1, 2),
                keys,
                values,
                attn_mask=view.mask,
                is_causal=view.causal,
                scale=self._scale,
                enable_gqa=group > 1,
            )
            a = a.transpose(1, 2).reshape(rows * tokens, heads * size)
        return _residual(x, a, layer.out)

    def _feed(self, layer: _Layer, x: Tensor) -> Tensor:
        h = rms_norm(x, layer.norm_2, self._eps)
        gate, up = layer.gate_up(h).chunk(2, -1)
        return _residual(x, F.silu(gate).mul_(up), layer.down)


def _residual(x: Tensor, y: Tensor, linear: Any) -> Tensor:
    """x + linear(y), in one operation where it can be."""
    if type(linear) is nn.Linear and linear.bias is None:
        return torch.addmm(x, y, linear.weight.t())
    added: Tensor = linear(y)
    return x + added
