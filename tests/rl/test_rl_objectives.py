"""Objectives pull the right way, clip where they say, and are still where nothing is to be learnt."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from causaldrive.rl.objectives import (
    Bounds,
    Logprobs,
    grpo,
    kl_to_reference,
    softmax_likelihood,
    softmax_weights,
    token_mean,
)

OPEN = Bounds(1e3, 1e3)


def probs(new, old=None, reference=None, mask=None) -> Logprobs:
    new = torch.tensor(new, dtype=torch.float64, requires_grad=True)
    old = new.detach() if old is None else torch.tensor(old, dtype=torch.float64)
    reference = new.detach() if reference is None else torch.tensor(reference, dtype=torch.float64)
    return Logprobs(new, old, reference, torch.ones_like(new, dtype=torch.bool) if mask is None else mask)


def gradient(p: Logprobs, loss) -> torch.Tensor:
    return torch.autograd.grad(loss, p.new)[0]


def test_good_tokens_become_likelier_bad_ones_less_likely():
    p = probs([[-1.0, -2.0], [-1.0, -2.0]])
    step = -gradient(p, grpo(p, torch.tensor([[1.0], [-1.0]]), Bounds(), 0.0).loss)
    assert (step[0] > 0).all() and (step[1] < 0).all()


def test_no_advantage_no_gradient():
    p = probs([[-1.0, -2.0]], old=[[-1.5, -1.0]])
    assert gradient(p, grpo(p, torch.zeros(1, 1), Bounds(), 0.0).loss).abs().max() == 0


@pytest.mark.parametrize(("advantage", "shift", "cut"), [
    (1.0, 0.3, True), (1.0, 0.2, False), (1.0, -0.5, False),  # up: only the upper bound (log 1.28 = 0.247) cuts
    (-1.0, -0.3, True), (-1.0, -0.2, False), (-1.0, 0.5, False),  # down: only the lower one (log 0.8 = -0.223)
])  # fmt: skip
def test_the_clip_acts_on_its_own_side_only(advantage, shift, cut):
    p = probs([[-1.0]], old=[[-1.0 - shift]])
    found = grpo(p, torch.tensor([[advantage]]), Bounds(0.2, 0.28), 0.0)
    assert (gradient(p, found.loss).abs().max().item() == 0) == cut
    assert found.clip_fraction == float(cut)


def test_tokens_outside_the_mask_count_nowhere():
    mask = torch.tensor([[True, False]])
    p = probs([[-1.0, -50.0]], old=[[-1.0, 3.0]], reference=[[-1.0, 9.0]], mask=mask)
    found = grpo(p, torch.ones(1, 1), OPEN, 1.0)
    assert found.loss.item() == pytest.approx(-1.0) and found.kl == 0.0
    assert gradient(p, found.loss)[0, 1] == 0
    assert token_mean(torch.ones(1, 2), torch.zeros(1, 2, dtype=torch.bool)) == 0.0


def test_long_and_short_completions_weigh_by_their_tokens():
    mask = torch.tensor([[True] * 4, [True, False, False, False]])
    p = probs([[-1.0] * 4, [-1.0] * 4], mask=mask)
    step = gradient(p, grpo(p, torch.ones(2, 1), Bounds(), 0.0).loss)
    assert torch.allclose(step[mask], torch.full((5,), -0.2, dtype=torch.float64))


@given(st.floats(-3, 3), st.floats(-3, 3))
@settings(deadline=None)
def test_kl_is_never_negative_and_zero_only_at_the_reference(new, reference):
    value = kl_to_reference(probs([[new]], reference=[[reference]])).item()
    assert value >= -1e-12 and (value > 1e-9 or abs(new - reference) < 1e-3)


def test_kl_pulls_towards_the_reference():
    p = probs([[-1.0]], reference=[[-2.0]])
    assert gradient(p, grpo(p, torch.zeros(1, 1), Bounds(), 1.0).loss).item() > 0  # down, to -2


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(-4, 4)), min_size=1, max_size=12), st.floats(0.01, 5))
@settings(deadline=None)
def test_softmax_weights_have_mean_one_and_keep_the_order(rows, beta):
    groups, advantages = [(g, 0) for g, _ in rows], np.array([a for _, a in rows])
    weights = softmax_weights(advantages, groups, beta)
    for group in set(groups):
        own = [i for i, other in enumerate(groups) if other == group]
        assert weights[own].mean() == pytest.approx(1.0)
        order = sorted(own, key=lambda i: advantages[i])
        assert all(weights[a] <= weights[b] + 1e-12 for a, b in itertools.pairwise(order))


def test_softmax_likelihood_prefers_the_better_and_pushes_nothing_away():
    weights = torch.tensor(softmax_weights(np.array([1.0, -1.0]), [0, 0], 1.0))[:, None]
    p = probs([[-1.0], [-1.0]])
    step = -gradient(p, softmax_likelihood(p, weights, 0.0).loss)[:, 0]
    assert step[0] > step[1] > 0
    assert step[0] / step[1] == pytest.approx(np.exp(2.0))
