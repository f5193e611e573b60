"""How the trajectory decoder reads the backbone's cache: prefix, mask and positions, for training and sampling alike.

The expert's 64 way-point tokens see each other in both directions and the backbone's keys and values up to and
including `<|traj_future_start|>`; padding and everything written after it are hidden. Their rotary positions go on
counting where text would have. Source: released Alpamayo-R1 and 1.5. Knows nothing of losses or sampling.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


@dataclass(frozen=True)
class Offsets:
    """What the expert may see of a cache with L columns, per row."""

    visible: Tensor  # (B, L) bool: real tokens up to and including <|traj_future_start|>
    first_position: Tensor  # (B,) rotary position of way-point 0

    def repeat(self, times: int) -> Offsets:
        """Each row `times` times, neighbouring."""
        return Offsets(self.visible.repeat_interleave(times, 0), self.first_position.repeat_interleave(times, 0))


class PrefixCache(DynamicCache):
    """A read-only prefix: `update` returns prefix and new entries together and keeps nothing."""

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args, **kwargs
    ) -> tuple[Tensor, Tensor]:
        keys, values = keys_and_values(self, layer_idx)
        keys, values = keys.to(key_states.dtype), values.to(value_states.dtype)
        return torch.cat([keys, key_states], dim=2), torch.cat([values, value_states], dim=2)


class ReplayedCache(DynamicCache):
    """The cache of one pass over whole rows whose layers may run twice: the first writing stays, gradient stopped."""

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args, **kwargs
    ) -> tuple[Tensor, Tensor]:
        if layer_idx >= len(self.layers):
            super().update(key_states.detach(), value_states.detach(), layer_idx, *args, **kwargs)
        return key_states, value_states


def keys_and_values(cache: DynamicCache, index: int) -> tuple[Tensor, Tensor]:
    """One layer's (B, kv heads, L, head_dim) each."""
    layer = cache.layers[index]
    assert isinstance(layer, DynamicLayer) and layer.keys is not None and layer.values is not None
    return layer.keys, layer.values


def prefix_of(cache: DynamicCache, columns: int, repeat: int = 1) -> PrefixCache:
    """The first `columns` columns of a cache, gradient stopped, each row `repeat` times."""
    layers = []
    for index in range(len(cache.layers)):
        pair = tuple(x[:, :, :columns].detach() for x in keys_and_values(cache, index))
        layers.append(tuple(x.repeat_interleave(repeat, 0) for x in pair) if repeat > 1 else pair)
    return PrefixCache(layers)


def offsets_of(
    attention_mask: Tensor, position_ids: Tensor, start_column: Tensor, mask_padding: bool = True
) -> Offsets:
    """Offsets for rows whose `<|traj_future_start|>` stands in `start_column` (B,).

    `attention_mask` (B, T) marks real tokens; `position_ids` (3, B, T) are the backbone's M-RoPE positions, whose three
    axes agree on text, so that way-point 0 comes one after the start token. Without `mask_padding` padding before the
    start token is seen too, as released R1 has it.
    """
    columns = torch.arange(attention_mask.shape[1], device=attention_mask.device)
    visible = columns <= start_column[:, None]
    if mask_padding:
        visible = visible & attention_mask.bool()
    position = position_ids[0].gather(1, start_column[:, None])[:, 0]
    return Offsets(visible, position + 1)


def expert_mask(visible: Tensor, waypoints: int, dtype: torch.dtype) -> Tensor:
    """Additive (B, 1, 64, L + 64) mask: 0 where seen, the most negative number where hidden.

    Never left out, even when everything is seen: without a mask the text model would make a causal one.
    """
    own = visible.new_ones(len(visible), waypoints)
    seen = torch.cat([visible, own], dim=1)[:, None, None, :].expand(-1, 1, waypoints, -1)
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)


def expert_positions(first_position: Tensor, waypoints: int) -> Tensor:
    """(3, B, 64) rotary positions, all three axes equal."""
    steps = torch.arange(waypoints, device=first_position.device)
    return (first_position[:, None] + steps).expand(3, -1, -1)
