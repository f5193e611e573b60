"""Muon: orthogonal updates, the same as torch's own up to its bfloat16, blocks apart, a step that lowers a loss."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from causaldrive.sft import muon
from causaldrive.sft.muon import Muon, orthogonal
from causaldrive.sft.optim import hidden_groups
from causaldrive.student import checkpoint


@given(st.integers(2, 24), st.integers(2, 24), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_every_singular_value_comes_near_one(rows, columns, seed):
    matrices = torch.randn(3, rows, columns, generator=torch.Generator().manual_seed(seed))
    values = torch.linalg.svdvals(matrices)
    found = torch.linalg.svdvals(orthogonal(matrices))
    sound = values > 0.05 * values.max(dim=1, keepdim=True).values  # three steps cannot lift what is almost nothing
    assert ((found > 0.3) & (found < 1.4))[sound].all()


def test_a_batch_is_each_matrix_alone():
    matrices = torch.randn(4, 12, 7, generator=torch.Generator().manual_seed(0))
    alone = torch.cat([orthogonal(matrix[None]) for matrix in matrices])
    assert torch.allclose(orthogonal(matrices), alone, atol=1e-5)


FIVE_EQUAL = 5 * ((3.4445, -4.7750, 2.0315),)  # what torch takes


def moves(shape: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ours and torch's move in three steps from one start."""
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
    return (ours - start).detach(), (theirs - start).detach()


@pytest.mark.parametrize("shape", [(16, 8), (8, 16), (10, 10)])
def test_steps_with_torchs_quintics_agree_with_torch(shape, monkeypatch):
    """torch works in bfloat16, so they agree to a few per cent of a step."""
    monkeypatch.setattr(muon, "COEFFICIENTS", FIVE_EQUAL)
    ours, theirs = moves(shape)
    assert (ours - theirs).norm() < 0.05 * theirs.norm()


@pytest.mark.parametrize("shape", [(16, 8), (8, 16), (10, 10)])
def test_steps_with_our_quintics_go_where_torch_goes(shape):
    ours, theirs = (move.flatten() for move in moves(shape))
    assert torch.cosine_similarity(ours, theirs, dim=0) > 0.95
    assert 0.8 < ours.norm() / theirs.norm() < 1.25


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


@given(st.sampled_from([(6, 8, 4), (12, 6, 2), (5, 15, 3), (4, 16, 2)]), st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_blocks_step_as_the_matrices_that_they_are(size, seed):
    """Two steps of one matrix in blocks are two steps of its blocks as parameters of their own."""
    rows, columns, blocks = size
    draw = torch.Generator().manual_seed(seed)
    joined = nn.Parameter(torch.randn(rows, columns, generator=draw))
    apart = [nn.Parameter(part.clone()) for part in joined.detach().chunk(blocks, dim=1)]
    options = {"lr": 1e-2, "weight_decay": 0.1}
    in_one, in_parts = Muon([{"params": [joined], "blocks": blocks}], **options), Muon(apart, **options)
    for _ in range(2):
        joined.grad = torch.randn(rows, columns, generator=draw)
        for part, gradient in zip(apart, joined.grad.chunk(blocks, dim=1), strict=True):
            part.grad = gradient.clone()
        in_one.step()
        in_parts.step()
    assert torch.allclose(joined, torch.cat([part.detach() for part in apart], dim=1), atol=1e-6)


def test_blocks_are_another_update_than_the_whole():
    start = torch.randn(6, 8, generator=torch.Generator().manual_seed(3))
    moved = []
    for blocks in (1, 4):
        weight = nn.Parameter(torch.zeros(6, 8))
        weight.grad = start.clone()
        Muon([{"params": [weight], "blocks": blocks}], lr=1.0, weight_decay=0.0).step()
        moved.append(weight.detach())
    assert (moved[0] - moved[1]).abs().max() > 0.05


def test_only_the_first_matrix_of_each_merger_is_taken_in_blocks(student):
    """It reads merge_size^2 patches side by side; everything else is one matrix."""
    model = checkpoint.load(student)[0]
    names = {id(p): name for name, p in model.named_parameters()}
    hidden = [p for p in model.parameters() if p.ndim == 2]
    groups = {g["blocks"]: {names[id(p)] for p in g["params"]} for g in hidden_groups(hidden, model)}
    mergers = {name for name in names.values() if "merger" in name and name.endswith("linear_fc1.weight")}
    assert mergers and groups == {1: {names[id(p)] for p in hidden} - mergers, 4: mergers}
