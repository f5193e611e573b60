"""Quicker writings of two vision modules, with the parameter names and the results of transformers' own.

Patch embedding: a convolution whose kernel is the whole patch is one matrix product. Attention: images of equal size
are one batched call instead of a Python loop over images. Knows nothing of what the images show.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from transformers.models.qwen3_vl.modeling_qwen3_vl import (
    Qwen3VLVisionAttention,
    Qwen3VLVisionModel,
    Qwen3VLVisionPatchEmbed,
    apply_rotary_pos_emb_vision,
)


class MatmulPatchEmbed(Qwen3VLVisionPatchEmbed):
    """(N, 3*2*16*16) flattened patches to (N, hidden)."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        weight = self.proj.weight
        return functional.linear(hidden_states.to(weight.dtype), weight.view(self.embed_dim, -1), self.proj.bias)


class BatchedVisionAttention(Qwen3VLVisionAttention):
    """Attention within each image; images of unequal size take the parent's path."""

    def forward(
        self,
        hidden_states: Tensor,
        cu_seqlens: Tensor,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        max_seqlen: int | None = None,
        **kwargs,
    ) -> Tensor:
        lengths = cu_seqlens.diff()
        length = int(lengths[0])
        if self.config._attn_implementation != "sdpa" or not bool((lengths == length).all()):
            return super().forward(hidden_states, cu_seqlens, position_embeddings, max_seqlen, **kwargs)
        assert position_embeddings is not None
        tokens = len(hidden_states)
        q, k, v = self.qkv(hidden_states).reshape(tokens, 3, self.num_heads, -1).unbind(1)
        q, k = apply_rotary_pos_emb_vision(q, k, *position_embeddings)
        q, k, v = (x.reshape(-1, length, self.num_heads, self.head_dim).transpose(1, 2) for x in (q, k, v))
        mixed = functional.scaled_dot_product_attention(q, k, v, scale=self.scaling)
        return self.proj(mixed.transpose(1, 2).reshape(tokens, -1))


def quicken(visual: Qwen3VLVisionModel) -> None:
    """Put the quicker modules in, with the weights that were there."""
    _adopt(visual, "patch_embed", MatmulPatchEmbed)
    for block in visual.blocks:
        _adopt(block, "attn", BatchedVisionAttention)


def _adopt(parent: torch.nn.Module, name: str, kind: type[torch.nn.Module]) -> None:
    """Exchange the class of one child module; parameters, buffers and attributes stay as they are."""
    getattr(parent, name).__class__ = kind
