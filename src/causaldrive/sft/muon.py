"""Muon: momentum of a matrix, made orthogonal, as its update.

    B <- m B + (1 - m) G      U = orthogonal(m B + (1 - m) G)      W <- (1 - r d) W - 0.2 r sqrt(max(rows, columns)) U

Matrices of one shape are made orthogonal together in one batched product. torch.optim.Muon does the same one matrix
at a time and always in bfloat16, which a processor without bfloat16 units multiplies far more slowly; here it
is float32 on a CPU, so that a run is as quick and the same on every machine. Source: Jordan et al. 2024, "Muon", whose
five equal quintics come as near to 1 as the three best ones (Amsel et al., arXiv 2505.16932), which need three fifths
of the products; the scale 0.2 sqrt(max) matches AdamW's update size (Liu et al., arXiv 2502.16982). A matrix that is
cut over processes (FSDP2) is put together for its update, because no part of it knows the direction of the whole. A
group with `blocks` b holds matrices that read b inputs side by side, each b matrices in one: their b blocks of columns
are made orthogonal apart, each as a matrix of its own, for a fraction of the products. Knows nothing of models.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from causaldrive.sft.shards import cut_like, local, part_of, whole

COEFFICIENTS = (  # of three quintics a s + b s^3 + c s^5, each nearest to 1 where the one before leads from [0.01, 1]
    (8.0934, -23.6204, 17.4462),
    (3.6366, -2.7219, 0.5365),
    (2.6613, -1.9772, 0.4526),
)


def orthogonal(matrices: Tensor) -> Tensor:
    """(N, r, c) to U S' V^T of each by Newton-Schulz: X <- a X + (b A + c A A) X, A = X X^T, from X / |X|_F on.

    S' is within 0.27 of 1 for singular values from 0.01 |X|_F on, and falls to nothing with smaller ones.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x.to(torch.bfloat16) if x.is_cuda else x.float()
    x = x / x.flatten(1).norm(dim=1).clamp(min=1e-7)[:, None, None]
    for a, b, c in COEFFICIENTS:
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def orthogonal_blocks(matrices: Tensor, blocks: int) -> Tensor:
    """(N, r, c): `orthogonal` of each of `blocks` blocks (r, c / blocks) of columns, in their places."""
    apart = matrices.unflatten(-1, (blocks, -1)).transpose(-2, -3)  # (N, b, r, c / b)
    found = orthogonal(apart.flatten(0, 1)).unflatten(0, apart.shape[:2])
    return found.transpose(-2, -3).flatten(-2)


class Muon(torch.optim.Optimizer):
    """For two-dimensional parameters only; embeddings and heads belong to another optimizer.

    `params` may be groups with `blocks` of their own (1 where none is named), a divisor of their columns.
    """

    def __init__(
        self, params: Iterable[nn.Parameter] | Iterable[dict[str, Any]], lr: float, weight_decay: float,
        momentum: float = 0.95,
    ):  # fmt: skip
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "blocks": 1})

    @torch.no_grad()
    def step(self, closure=None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        assert closure is None, "this optimizer takes no closure"
        for group in self.param_groups:
            by_shape: defaultdict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for shape, parameters in by_shape.items():
                self._update(parameters, shape, group)

    def _update(self, parameters: list[nn.Parameter], shape: torch.Size, group: dict) -> None:
        momentum, rate, blocks = group["momentum"], group["lr"], group["blocks"]
        ahead = []
        for parameter in parameters:
            state = self.state[parameter]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            gradient = parameter.grad
            assert gradient is not None, "parameters without a gradient were left out"
            buffer = local(state["momentum_buffer"]).lerp_(local(gradient), 1 - momentum)
            ahead.append(whole(part_of(local(gradient).lerp(buffer, momentum), parameter)))
        scale = 0.2 * rate * math.sqrt(max(shape[0], shape[1] // blocks))
        updates = orthogonal_blocks(torch.stack(ahead), blocks).to(parameters[0].dtype)
        for parameter, update in zip(parameters, updates, strict=True):
            own = local(cut_like(update, parameter))
            local(parameter).mul_(1 - rate * group["weight_decay"]).sub_(own, alpha=scale)
