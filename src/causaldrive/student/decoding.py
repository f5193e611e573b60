"""One transformer pass over a static cache: what every written token and every denoising step runs.

The operations are those of transformers' own text models in the same order, so the numbers are theirs; left out is what
its forward does anew at each call: making masks, and copying the cache to lengthen it. Serves Qwen3-VL, Qwen2.5-VL and
the trajectory decoder alike. Knows nothing of tokens, sampling or gradients.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import DynamicCache
from transformers.models.qwen3_vl.modeling_qwen3_vl import apply_rotary_pos_emb

from causaldrive.student.expert import keys_and_values


class StaticMemory:
    """Keys and values (N, kv heads, capacity, head_dim) of every layer; the first `used` columns hold something.

    New columns are written in place behind them. They stay where they are only if `keep` is called; otherwise the next
    pass overwrites them, which is all that cropping the cache after a denoising step comes to.
    """

    def __init__(self, prefill: DynamicCache, repeat: int, room: int):
        """A prefill's cache, each row `repeat` times, neighbouring, with `room` more columns."""
        self.used = int(prefill.get_seq_length())
        pairs = [keys_and_values(prefill, index) for index in range(len(prefill.layers))]
        self.keys = [_roomy(keys, repeat, room) for keys, _ in pairs]
        self.values = [_roomy(values, repeat, room) for _, values in pairs]

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Put new columns (N, kv heads, T, head_dim) behind the used ones; returns views of used and new together."""
        end = self.used + keys.shape[2]
        self.keys[layer][:, :, self.used : end] = keys
        self.values[layer][:, :, self.used : end] = values
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]

    def repeat(self, times: int) -> None:
        """Every row becomes `times` neighbouring ones."""
        self.keys, self.values = (
            [part.repeat_interleave(times, 0) for part in parts] for parts in (self.keys, self.values)
        )

    def keep(self, columns: int) -> None:
        """The last pass's first `columns` new columns count as used."""
        self.used += columns


def _roomy(held: Tensor, repeat: int, room: int) -> Tensor:
    rows, heads, columns, width = held.shape
    out = held.new_empty(rows, repeat, heads, columns + room, width)
    out[:, :, :, :columns] = held[:, None]
    return out.view(rows * repeat, heads, columns + room, width)


def run_layers(
    text: Any, hidden: Tensor, rope: tuple[Tensor, Tensor], memory: StaticMemory, visible: Tensor | None
) -> Tensor:
    """Last hidden states (N, T, width) of T new columns a row, which see each other and the used columns.

    `rope`: cosine and sine (N, T, head_dim) of the text model's rotary embedding. `visible` (N, columns + T) bool is
    the same for all T; None: everything is seen.
    """
    for index, layer in enumerate(text.layers):
        hidden = hidden + _attend(layer, index, hidden, rope, memory, visible)
        hidden = hidden + layer.mlp(_norm(layer.post_attention_layernorm, hidden))
    return _norm(text.norm, hidden)


def _attend(
    layer: Any, index: int, hidden: Tensor, rope: tuple[Tensor, Tensor], memory: StaticMemory, visible: Tensor | None
) -> Tensor:
    attention, normed = layer.self_attn, _norm(layer.input_layernorm, hidden)
    rows, count = hidden.shape[:2]
    shape = (rows, count, -1, attention.head_dim)
    query, key, value = (
        getattr(attention, f"{name}_proj")(normed).view(shape) for name in "qkv"
    )  # Qwen2.5-VL does not normalise them
    if hasattr(attention, "q_norm"):
        query, key = _norm(attention.q_norm, query), _norm(attention.k_norm, key)
    query, key = apply_rotary_pos_emb(query.transpose(1, 2), key.transpose(1, 2), *rope)
    keys, values = memory.write(index, key, value.transpose(1, 2))
    keys, values = keys.to(query.dtype), values.to(query.dtype)
    if visible is None:
        mixed = functional.scaled_dot_product_attention(
            query, keys, values, scale=attention.scaling, enable_gqa=query.shape[1] > keys.shape[1]
        )
    else:  # with a mask: query heads that share keys stand below each other as more queries, so that no key is copied
        packed = query.reshape(rows, keys.shape[1], -1, attention.head_dim)
        mask = visible[:, None, None, :].expand(-1, 1, packed.shape[2], -1)
        mixed = functional.scaled_dot_product_attention(packed, keys, values, attn_mask=mask, scale=attention.scaling)
    out = mixed.reshape(rows, -1, count, attention.head_dim).transpose(1, 2).reshape(rows, count, -1)
    return attention.o_proj(out)


def _norm(module: nn.Module, x: Tensor) -> Tensor:
    """RMSNorm in one call where that rounds as the module does: in float32."""
    weight, eps = module.weight, module.variance_epsilon
    assert isinstance(weight, Tensor) and isinstance(eps, float)
    if x.dtype == weight.dtype == torch.float32:
        return functional.rms_norm(x, (x.shape[-1],), weight, eps)
    return module(x)
