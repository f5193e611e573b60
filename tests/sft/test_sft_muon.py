"""Muon: orthogonal updates, the same as torch's own up to its bfloat16, and a step that lowers a loss."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from causaldrive.sft.muon import Muon, orthogonal


@given(st.integers(2, 24), st.integers(2, 24), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_every_singular_value_comes_near_one(rows, columns, seed):
    matrices = torch.randn(3, rows, columns, generator=torch.Generator().manual_seed(seed))
    values = torch.linalg.svdvals(matrices)
    found = torch.linalg.svdvals(orthogonal(matrices))
    sound = values > 0.05 * values.max(dim=1, keepdim=True).values  # five steps cannot lift what is almost nothing
    assert ((found > 0.3) & (found < 1.4))[sound].all()


def test_a_batch_is_each_matrix_alone():
    matrices = torch.randn(4, 12, 7, generator=torch.Generator().manual_seed(0))
    alone = torch.cat([orthogonal(matrix[None]) for matrix in matrices])
    assert torch.allclose(orthogonal(matrices), alone, atol=1e-5)


@pytest.mark.parametrize("shape", [(16, 8), (8, 16), (10, 10)])
def test_steps_agree_with_torch(shape):
    """Three steps from one start; torch works in bfloat16, so they agree to a few per cent of a step."""
    draw = torch.Generator().manual_seed(1)
    start = torch.randn(shape, generator=draw)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    options = {"lr": 1e-2, "weight_decay": 0.1}
    optimizers = (Muon([ours], **options), torch.optim.Muon([theirs], adjust_lr_fn="match_rms_adamw", **options))
    for _ in range(3):
        gradient = torch.randn(shape, generator=draw)
        for parameter, optimizer in zip((ours, theirs), optimizers, strict=True):
            parameter.grad = gradient.clone()
            optimizer.step()
    moved = (theirs - start).norm()
    assert (ours - theirs).norm() < 0.05 * moved


def test_it_learns():
    draw = torch.Generator().manual_seed(2)
    inputs, wanted = torch.randn(64, 6, generator=draw), torch.randn(6, 4, generator=draw)
    weight = nn.Parameter(torch.zeros(6, 4))
    optimizer = Muon([weight], lr=0.05, weight_decay=0.0)
    losses = []
    for _ in range(100):
        optimizer.zero_grad()
        loss = (inputs @ (weight - wanted)).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.05 * losses[0]
