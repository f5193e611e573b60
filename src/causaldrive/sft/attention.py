"""Attention for training in bfloat16 on a CPU, written as two matrix products.

softmax(q k^T / sqrt(d) + mask) v. PyTorch's fused kernel saves memory but multiplies small heads slowly on a CPU, in
the backward pass above all; two bfloat16 matrix products and a softmax take about half its time for heads of 32.
Replaces `scaled_dot_product_attention` inside a `with` block, whichever module calls it. Knows nothing of models.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode


class MatmulAttention(TorchFunctionMode):
    """`with MatmulAttention(): ...` in bfloat16; calls without gradient or with dropout take PyTorch's own path."""

    def __torch_function__(self, func: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is scaled_dot_product_attention and torch.is_grad_enabled() and not kwargs.get("dropout_p"):
            return matmul_attention(*args, **kwargs)
        return func(*args, **kwargs)


def matmul_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """(B, H, T, D) bfloat16 from query (B, H, T, D), key and value (B, H or a divisor, L, D).

    `attn_mask` is boolean (True is seen) or additive and broadcasts to (B, H, T, L). Signature of PyTorch's own.
    """
    assert dropout_p == 0.0, "dropout is not written here"
    query, key, value = (x.to(torch.bfloat16) for x in (query, key, value))
    if enable_gqa and key.shape[1] != query.shape[1]:
        key, value = (x.repeat_interleave(query.shape[1] // key.shape[1], 1) for x in (key, value))
    with torch.autocast(query.device.type, enabled=False):  # autocast would softmax in float32
        scores = (query * (scale or 1 / math.sqrt(query.shape[-1]))) @ key.transpose(-1, -2)
        if is_causal:
            attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        if attn_mask is not None:
            scores = scores + _additive(attn_mask, scores.dtype)
        return scores.softmax(-1) @ value


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, torch.finfo(dtype).min)
