"""The lean path: a compact decoder for Llama, Qwen2, Qwen3 and Mistral over the Hugging Face weights.

For small models and small batches a step costs what its operations cost to launch, so there are few of them:
queries, keys and values come out of one product, as do gate and up; residuals ride along in ``addmm``;
cosines are gathered once per step; a step of one token needs no mask unless rows are ragged.

Nothing is copied: the fused matrices own the memory and the network's parameters become views into them, so
an optimizer step or ``load_state_dict`` is seen at once. `refresh` fuses again if something moved the weights
(``.to(...)``); modules that are no plain ``nn.Linear`` (adapters) are left alone and called as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from dovetail.engine.forward import Cache, Forward, LayerHook, Output, next_positions, visible

FAMILIES = frozenset({"llama", "qwen2", "qwen3", "mistral"})
_STATIC_ROPE = frozenset({"default", "linear", "llama3", "yarn"})


class _Fused:
    """Linear layers that read the same input, as one product."""

    def __init__(self, linears: Sequence[nn.Module]) -> None:
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

    def __init__(self, block: nn.Module) -> None:
        attention, mlp = block.self_attn, block.mlp
        self.norm_1, self.norm_2 = block.input_layernorm, block.post_attention_layernorm
        self.qkv = _Fused([attention.q_proj, attention.k_proj, attention.v_proj])
        self.gate_up = _Fused([mlp.gate_proj, mlp.up_proj])
        self.out, self.down = attention.o_proj, mlp.down_proj
        self.q_norm = getattr(attention, "q_norm", None)
        self.k_norm = getattr(attention, "k_norm", None)
        self.qk_norm: Tensor | None = None  # [heads + kv heads, D]; a copy, tiny, renewed by `refresh`

    def refresh(self, heads: int, kv_heads: int) -> None:
        self.qkv.refresh()
        self.gate_up.refresh()
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm.weight.data, self.k_norm.weight.data
            self.qk_norm = torch.cat([q.expand(heads, -1), k.expand(kv_heads, -1)])


class LeanForward(Forward):
    """See the module's text.

    Args:
        network: a Llama, Qwen2, Qwen3 or Mistral causal LM; `LeanForward.supports` tells.
    """

    def __init__(self, network: PreTrainedModel) -> None:
        self.network = network
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
        self._cos = self._sin = torch.empty(0)
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
        return self.network.model.embed_tokens.weight.device

    @property
    def dtype(self) -> torch.dtype:  # type: ignore[override]
        return self.network.model.embed_tokens.weight.dtype

    def refresh(self) -> None:
        for layer in self._layers:
            layer.refresh(self._heads, self._kv_heads)
        self._epsilon = torch.tensor(self._eps, device=self.device)
        if self._cos.device != self.device or self._cos.dtype != self.dtype:
            self._cos = self._sin = torch.empty(0, self._head, device=self.device, dtype=self.dtype)

    def embed(self, ids: Tensor) -> Tensor:
        return self.network.model.embed_tokens(ids)

    def table(self) -> Tensor:
        return self.network.model.embed_tokens.weight

    def _rope(self, end: int) -> None:
        """Extends the tables of cosines and (signed) sines to ``end`` positions."""
        if end <= self._cos.shape[0]:
            return
        positions = torch.arange(max(end, 2 * self._cos.shape[0], 256), device=self.device)
        like = torch.empty(1, dtype=self.dtype, device=self.device)
        cos, sin = self.network.model.rotary_emb(like, positions[None])
        # rotate_half(x) = roll(x) with its first half negated; the sign goes into the table.
        half = self._head // 2
        sign = torch.ones(self._head, device=self.device, dtype=self.dtype)
        sign[:half] = -1
        self._cos, self._sin = cos[0], sin[0] * sign

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
        x = embeds if embeds is not None else self.embed(ids)  # type: ignore[arg-type]
        rows, tokens, size = x.shape
        where = next_positions(cache, tokens, valid)
        cache.reserve(tokens)
        self._rope(cache.used + tokens)
        at = where if valid is None else where.clamp(min=0)
        cos, sin = self._cos[at][:, :, None], self._sin[at][:, :, None]  # [B, T, 1, D]
        mask, causal = self._mask(cache, where, valid)
        x = x.reshape(rows * tokens, size)
        for index, layer in enumerate(self._layers):
            before = x
            x = self._attend(layer, index, x, rows, tokens, cos, sin, cache, mask, causal)
            x = self._feed(layer, x)
            if hook is not None:
                shape = (rows, tokens, size)
                x = hook(index, before.view(shape), x.view(shape)).reshape(rows * tokens, size)
        cache.advance(where, ragged=valid is not None)
        if not all_logits and not hidden:
            x = x.view(rows, tokens, size)[:, -1]
        x = self._norm(x, self.network.model.norm.weight)
        states = x.view(rows, tokens, size) if hidden else None
        if hidden and not all_logits:
            x = x.view(rows, tokens, size)[:, -1]
        logits = self.network.lm_head(x)
        return Output(logits.view(rows, tokens, -1) if all_logits else logits, states)

    def _mask(self, cache: Cache, where: Tensor, valid: Tensor | None) -> tuple[Tensor | None, bool]:
        """The additive mask [B, 1, T, C + T] (None if not needed) and whether plain causal masking does."""
        if valid is None and not cache.holes:
            if where.shape[1] == 1:
                return None, False
            if cache.used == 0:
                return None, True
        seen = visible(cache, where)
        mask = torch.zeros(seen.shape, dtype=self.dtype, device=seen.device)
        return mask.masked_fill_(~seen, float("-inf"))[:, None], False

    def _attend(
        self,
        layer: _Layer,
        index: int,
        x: Tensor,
        rows: int,
        tokens: int,
        cos: Tensor,
        sin: Tensor,
        cache: Cache,
        mask: Tensor | None,
        causal: bool,
    ) -> Tensor:
        heads, kv, size = self._heads, self._kv_heads, self._head
        h = self._norm(x, layer.norm_1.weight)
        qkv = layer.qkv(h).view(rows, tokens, heads + 2 * kv, size)
        qk, v = qkv[:, :, : heads + kv], qkv[:, :, heads + kv :]
        if layer.qk_norm is not None:
            qk = self._norm(qk, layer.qk_norm)
        qk = torch.addcmul(qk * cos, qk.roll(size // 2, -1), sin)
        q, k = qk[:, :, :heads], qk[:, :, heads:]
        keys, values = cache.write(index, k.transpose(1, 2), v.transpose(1, 2))
        if tokens == 1:
            # One query: the heads of a group become the queries of their key-value head.
            q = q.view(rows, kv, self._group, size)
            a = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask, scale=self._scale)
            a = a.reshape(rows, heads * size)
        else:
            q = q.transpose(1, 2)
            a = F.scaled_dot_product_attention(
                q,
                keys,
                values,
                attn_mask=mask,
                is_causal=causal,
                scale=self._scale,
                enable_gqa=self._group > 1,
            )
            a = a.transpose(1, 2).reshape(rows * tokens, heads * size)
        return _residual(x, a, layer.out)

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        """Root-mean-square norm in float32; on a CPU `F.rms_norm` is a chain of twice as many operations."""
        if x.is_cuda or x.dtype in (torch.bfloat16, torch.float16):
            y = F.rms_norm(x.float(), (x.shape[-1],), None, self._eps)
            return y.to(x.dtype) * weight
        length = torch.linalg.vector_norm(x, 2, -1, keepdim=True)
        scale = torch.addcmul(self._epsilon, length, length, value=1 / x.shape[-1]).rsqrt_()
        return (x * scale).mul_(weight)

    def _feed(self, layer: _Layer, x: Tensor) -> Tensor:
        h = self._norm(x, layer.norm_2.weight)
        gate, up = layer.gate_up(h).chunk(2, -1)
        return _residual(x, F.silu(gate) * up, layer.down)


def _residual(x: Tensor, y: Tensor, linear: nn.Module) -> Tensor:
    """x + linear(y), in one operation where it can be."""
    if type(linear) is nn.Linear and linear.bias is None:
        return torch.addmm(x, y, linear.weight.t())
    return x + linear(y)
