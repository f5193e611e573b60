"""Weights that are cut over processes (FSDP2), put together and cut again. Knows nothing of training."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def cut(model: nn.Module, device: torch.device, processes: int) -> nn.Module:
    """FSDP2, in place: every layer gathers its own weights when it is used, the root the rest.

    The root lets go of them after a pass as the layers do, so that between passes all weights are cut.
    """
    mesh = init_device_mesh(device.type, (processes,))
    layers = set(getattr(model, "_no_split_modules", ()))
    for module in [*(m for m in model.modules() if type(m).__name__ in layers), model]:
        unit = fully_shard(module, mesh=mesh, reshard_after_forward=True)
        unit.set_force_sum_reduction_for_comms(device.type == "cpu")  # gloo sums, but knows no mean
    return model


def local(tensor: Tensor) -> Tensor:
    """This process's part, sharing its memory; the tensor itself where it is not cut."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def part_of(value: Tensor, like: Tensor) -> Tensor:
    """`value` as this process's part of a tensor that is cut as `like` is."""
    if not isinstance(like, DTensor):
        return value
    return DTensor.from_local(
        value, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )


def whole(tensor: Tensor) -> Tensor:
    """The tensor put together from all processes (a collective call where it is cut); itself where it is not."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def cut_like(value: Tensor, like: Tensor) -> Tensor:
    """`value`, the same in every process, on the device and in the cut of `like`."""
    value = value.to(like.device)
    if not isinstance(like, DTensor):
        return value
    return distribute_tensor(value.contiguous(), like.device_mesh, like.placements, src_data_rank=None)
