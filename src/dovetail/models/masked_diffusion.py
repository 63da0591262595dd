"""Masked diffusion language models: a transformer without causal mask that fills in ``[MASK]`` tokens.

Nie et al., "Large Language Diffusion Models" (LLaDA), arXiv 2502.09992; Ye et al., "Dream 7B", arXiv
2508.15487. `MaskedDiffusionLM` is an ordinary `transformers.PreTrainedModel` with Qwen's names of weights;
`masked_diffusion_checkpoint` reads published LLaDA and Dream folders into it. Some positions alone can be
computed against kept keys and values of all others, which is what caches for these models stand on.

Shapes: B rows, C columns of the canvas (prompt and text), Q <= C positions that are computed, W of them
whose logits are asked for, H heads, K key-value heads, D head size, d hidden size, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel


class MaskedDiffusionConfig(PreTrainedConfig):
    """Sizes of a `MaskedDiffusionLM`, named as everywhere in transformers.

    Attributes:
        mask_token_id: the id of ``[MASK]``.
        logit_shift: 1 where the logits at a position speak of the next one (Dream's head, inherited from
            the causal model that it began as), else 0.
        canvas_length: tokens that the model was trained to write at once; None for any number.
        qkv_bias: whether queries, keys and values have biases (Dream).
        qk_norm: whether queries and keys are normalized (Qwen3).
    """

    model_type = "masked-diffusion"

    def __init__(
        self,
        vocab_size: int = 1024,
        hidden_size: int = 128,
        intermediate_size: int = 320,
        num_hidden_layers: int = 4,
        num_attention_heads: int = 4,
        num_key_value_heads: int | None = None,
        head_dim: int | None = None,
        max_position_embeddings: int = 1024,
        rms_norm_eps: float = 1e-6,
        rope_theta: float = 10000.0,
        mask_token_id: int = 0,
        logit_shift: int = 0,
        canvas_length: int | None = None,
        qkv_bias: bool = False,
        qk_norm: bool = False,
        tie_word_embeddings: bool = False,
        **kwargs: Any,
    ) -> None:
        self.vocab_size, self.hidden_size, self.intermediate_size = vocab_size, hidden_size, intermediate_size
        self.num_hidden_layers, self.num_attention_heads = num_hidden_layers, num_attention_heads
        self.num_key_value_heads = num_key_value_heads or num_attention_heads
        self.head_dim = head_dim or hidden_size // num_attention_heads
        self.max_position_embeddings, self.rope_theta = max_position_embeddings, rope_theta
        self.rms_norm_eps, self.mask_token_id, self.logit_shift = rms_norm_eps, mask_token_id, logit_shift
        self.canvas_length, self.qkv_bias, self.qk_norm = canvas_length, qkv_bias, qk_norm
        super().__init__(tie_word_embeddings=tie_word_embeddings, **kwargs)  # type: ignore[call-arg]


class KeyValues:
    """Keys (turned by their positions) and values of every column, one pair [B * C, K * D] per layer.

    Rows and columns share a dimension, so that a step writes any set of columns in one copy per layer.
    """

    def __init__(self, rows: int, columns: int) -> None:
        self.rows, self.columns = rows, columns
        self.layers: list[tuple[Tensor, Tensor]] = []

    def write(self, layer: int, at: Tensor | None, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Stores keys and values [B, Q, K, D]; returns all columns' [B, C, K, D].

        Args:
            at: [B * Q] flat places (row * C + column); None where all columns are written.
        """
        if at is None:
            if layer == len(self.layers):
                self.layers.append((keys, values))
            self.layers[layer] = keys, values
            return keys, values
        stored_keys, stored_values = self.layers[layer]
        size = keys.shape[2] * keys.shape[3]
        stored_keys.view(-1, size).index_copy_(0, at, keys.reshape(-1, size))
        stored_values.view(-1, size).index_copy_(0, at, values.reshape(-1, size))
        return stored_keys, stored_values

    def select(self, index: Tensor) -> KeyValues:
        """The rows at ``index`` [B']."""
        chosen = KeyValues(len(index), self.columns)
        chosen.layers = [(k[index], v[index]) for k, v in self.layers]
        return chosen


class _Norm(nn.Module):
    """Root-mean-square norm; on a CPU `F.rms_norm` is a chain of twice as many operations."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cuda or x.dtype in (torch.bfloat16, torch.float16):
            return F.rms_norm(x.float(), (x.shape[-1],), None, self.eps).to(x.dtype) * self.weight
        scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)
        return x * scale * self.weight


class _Attention(nn.Module):
    def __init__(self, config: MaskedDiffusionConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.size = layer, config.head_dim
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        d, q, kv = config.hidden_size, self.heads * self.size, self.kv_heads * self.size
        self.q_proj = nn.Linear(d, q, bias=config.qkv_bias)
        self.k_proj = nn.Linear(d, kv, bias=config.qkv_bias)
        self.v_proj = nn.Linear(d, kv, bias=config.qkv_bias)
        self.o_proj = nn.Linear(q, d, bias=False)
        norm = _Norm if config.qk_norm else _NoNorm
        self.q_norm, self.k_norm = (norm(self.size, config.rms_norm_eps) for _ in range(2))

    def forward(
        self,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        mask: Tensor | None,
        cache: KeyValues | None,
        at: Tensor | None,
        wanted: Tensor | None = None,
    ) -> Tensor:
        rows, tokens, _ = x.shape
        k = self.k_norm(self.k_proj(x).view(rows, tokens, self.kv_heads, self.size))
        v = self.v_proj(x).view(rows, tokens, self.kv_heads, self.size)
        k = _turn(k, cos, sin)
        if wanted is not None:
            x, cos, sin = _at(x, wanted), _at(cos, wanted), _at(sin, wanted)
            mask = mask if mask is None or mask.shape[2] == 1 else _at(mask[:, 0], wanted)[:, None]
            tokens = wanted.shape[1]
        q = self.q_norm(self.q_proj(x).view(rows, tokens, self.heads, self.size))
        q = _turn(q, cos, sin)
        if cache is not None:
            k, v = cache.write(self.layer, at, k, v)
        a = F.scaled_dot_product_attention(
            q.transpose(1, 2),
            k.transpose(1, 2),
            v.transpose(1, 2),
            attn_mask=mask,
            enable_gqa=self.heads != self.kv_heads,
        )
        return self.o_proj(a.transpose(1, 2).reshape(rows, tokens, -1))


class _NoNorm(nn.Module):
    """Stands where a family has no norm."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x


class _Mlp(nn.Module):
    def __init__(self, config: MaskedDiffusionConfig) -> None:
        super().__init__()
        d, wide = config.hidden_size, config.intermediate_size
        self.gate_proj = nn.Linear(d, wide, bias=False)
        self.up_proj = nn.Linear(d, wide, bias=False)
        self.down_proj = nn.Linear(wide, d, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class _Layer(nn.Module):
    def __init__(self, config: MaskedDiffusionConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = _Norm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = _Attention(config, layer)
        self.post_attention_layernorm = _Norm(config.hidden_size, config.rms_norm_eps)
        self.mlp = _Mlp(config)

    def forward(self, x: Tensor, *attention: Any, wanted: Tensor | None = None) -> Tensor:
        heard = self.self_attn(self.input_layernorm(x), *attention, wanted)
        x = (x if wanted is None else _at(x, wanted)) + heard
        return x + self.mlp(self.post_attention_layernorm(x))


class _Body(nn.Module):
    def __init__(self, config: MaskedDiffusionConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(_Layer(config, i) for i in range(config.num_hidden_layers))
        self.norm = _Norm(config.hidden_size, config.rms_norm_eps)


class MaskedDiffusionLM(PreTrainedModel):
    """Predicts the tokens behind ``[MASK]`` from all others, to both sides.

    ``save_pretrained`` and ``from_pretrained`` are transformers' own; ``AutoModel`` knows the class once this
    module is imported.
    """

    config_class = MaskedDiffusionConfig
    base_model_prefix = "model"
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012 (transformers' own form)
    _no_split_modules = ["_Layer"]  # noqa: RUF012
    _supports_sdpa = True

    def __init__(self, config: MaskedDiffusionConfig) -> None:
        super().__init__(config)
        self.model = _Body(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self._table: tuple[Tensor, Tensor] | None = None
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.model.embed_tokens

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def cache(self, rows: int, columns: int) -> KeyValues:
        """An empty store of keys and values."""
        return KeyValues(rows, columns)

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor | None = None,
        kv_cache: KeyValues | None = None,
        *,
        columns: Tensor | None = None,
        attention_mask: Tensor | None = None,
        wanted: Tensor | None = None,
    ) -> Tensor:
        """Logits [B, W, V] of the wanted positions (all Q of them by default).

        Args:
            input_ids: [B, Q] int64.
            position_ids: [B, Q] int64, each token's true position; by default its column.
            kv_cache: keeps what is computed here, and gives the keys and values of all other columns.
            columns: [B, Q] int64, where the Q tokens stand among the cache's C columns; None: they are all
                of them, in order. With columns the cache must have been filled by a pass over all.
            attention_mask: [B, C] bool, False for padding; or [B, Q, C], which columns each position sees;
                None where all see all.
            wanted: [B, W] int64 indices into the Q tokens whose logits are asked for; None for all.
        """
        x = self.hidden(
            input_ids, position_ids, kv_cache, columns=columns, attention_mask=attention_mask, wanted=wanted
        )
        return self.lm_head(x)

    def hidden(
        self,
        input_ids: Tensor,
        position_ids: Tensor | None = None,
        kv_cache: KeyValues | None = None,
        *,
        columns: Tensor | None = None,
        attention_mask: Tensor | None = None,
        wanted: Tensor | None = None,
    ) -> Tensor:
        """Hidden states [B, W, d] after the last norm; arguments as for `forward`."""
        rows, tokens = input_ids.shape
        if position_ids is None:
            every = torch.arange(tokens, device=input_ids.device).expand(rows, tokens)
            position_ids = every if columns is None else columns
        at = None
        if columns is not None and kv_cache is not None:
            first = torch.arange(rows, device=columns.device)[:, None] * kv_cache.columns
            at = (first + columns).reshape(-1)
        x = self.model.embed_tokens(input_ids)
        cos, sin = self._rope(position_ids, x)
        mask = None
        if attention_mask is not None:
            mask = attention_mask[:, None] if attention_mask.dim() == 3 else attention_mask[:, None, None, :]
        # Of the last layer other positions hear keys and values only.
        last = len(self.model.layers) - 1
        for i, layer in enumerate(self.model.layers):
            x = layer(x, cos, sin, mask, kv_cache, at, wanted=wanted if i == last else None)
        normed: Tensor = self.model.norm(x)
        return normed

    def _rope(self, positions: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and signed sines [B, Q, 1, D] of the positions."""
        if self._table is None or self._table[0].device != like.device or self._table[0].dtype != like.dtype:
            half = torch.arange(0, self.config.head_dim, 2, device=like.device).double()
            turns = self.config.rope_theta ** (-half / self.config.head_dim)
            angles = torch.arange(self.config.max_position_embeddings, device=like.device)[:, None] * turns
            cos, sin = angles.cos(), angles.sin()
            # turning = x * cos + (x with its halves swapped) * (-sin, sin)
            table = torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)
            self._table = table[0].to(like.dtype), table[1].to(like.dtype)
        cos, sin = self._table
        return cos[positions][:, :, None], sin[positions][:, :, None]


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding of [B, Q, H, D]."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


def _at(x: Tensor, wanted: Tensor) -> Tensor:
    """[B, Q, ...] at the indices [B, W] -> [B, W, ...]."""
    return x[torch.arange(len(x), device=x.device)[:, None], wanted]


AutoConfig.register(MaskedDiffusionConfig.model_type, MaskedDiffusionConfig)
AutoModel.register(MaskedDiffusionConfig, MaskedDiffusionLM)
