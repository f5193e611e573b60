"""Weights that are cut over processes (FSDP2), put together and cut again. Knows nothing of training."""

from __future__ import annotations

from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def cut(model: nn.Module) -> nn.Module:
    """FSDP2, in place: every layer gathers its own weights when it is used, the root keeps the rest."""
    layers = set(getattr(model, "_no_split_modules", ()))
    for module in [m for m in model.modules() if type(m).__name__ in layers]:
        fully_shard(module)
    return fully_shard(model)


def whole(tensor: Tensor) -> Tensor:
    """The tensor put together from all processes (a collective call where it is cut); itself where it is not."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def cut_like(value: Tensor, like: Tensor) -> Tensor:
    """`value`, the same in every process, on the device and in the cut of `like`."""
    value = value.to(like.device)
    if not isinstance(like, DTensor):
        return value
    return distribute_tensor(value.contiguous(), like.device_mesh, like.placements, src_data_rank=None)
