"""The stochastic sampler keeps the marginals of the deterministic one, and replays its own densities."""

from __future__ import annotations

import math

import pytest
import torch

from causaldrive.rl.flow_sde import chain_logprob, sample_chain, sde_steps
from causaldrive.student import flow

MEAN, STD = 1.5, 0.5


def exact_velocity(x, t):
    """Velocity of the flow from N(0, 1) to N(MEAN, STD^2): E[data - noise | x_t = x]."""
    t = t[:, None, None]
    variance = (t * STD) ** 2 + (1 - t) ** 2
    return MEAN + (t * STD**2 - (1 - t)) / variance * (x - t * MEAN)


def draw(rows: int, count: int, level: float, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(rows, 64, 2, generator=generator)
    return noise, sample_chain(exact_velocity, noise, torch.randn(rows, count, 64, 2, generator=generator),
                               sde_steps(count, level))  # fmt: skip


def test_without_noise_it_is_the_euler_sampler():
    noise, chain = draw(3, 10, 0.0)
    assert torch.allclose(chain[:, -1], flow.integrate(exact_velocity, noise, 10), atol=1e-5)
    assert chain.shape == (3, 11, 64, 2) and torch.equal(chain[:, 0], noise)


@pytest.mark.parametrize("level", [0.3, 0.7])
def test_noise_does_not_change_where_it_ends_up(level):
    _, chain = draw(400, 100, level)
    assert chain[:, -1].mean().item() == pytest.approx(MEAN, abs=0.03)
    assert chain[:, -1].std().item() == pytest.approx(STD, rel=0.06)


def test_the_last_step_is_smooth_and_the_others_are_not():
    steps = sde_steps(10, 0.5)
    assert steps[-1].std == 0.0 and all(step.std > 0 for step in steps[:-1])
    assert [step.t for step in steps] == pytest.approx([i / 10 for i in range(10)])


def test_the_density_is_that_of_the_gaussian_steps():
    steps = sde_steps(4, 0.5)
    _, chain = draw(2, 4, 0.5)
    total = torch.zeros(2)
    for index, step in enumerate(steps[:-1]):
        x = chain[:, index]
        v = exact_velocity(x, torch.full((2,), step.t))
        normal = torch.distributions.Normal(x * step.x_factor + v * step.v_factor, step.std)
        total += normal.log_prob(chain[:, index + 1]).mean(dim=(1, 2))
    assert torch.allclose(chain_logprob(exact_velocity, chain, steps), total / 3, atol=1e-5)


def test_a_chain_is_likeliest_under_the_decoder_that_drew_it():
    steps = sde_steps(10, 0.3)
    _, chain = draw(4, 10, 0.3)
    own = chain_logprob(exact_velocity, chain, steps)
    other = chain_logprob(lambda x, t: exact_velocity(x, t) + 0.3, chain, steps)
    assert (own > other).all()


def test_the_gradient_raises_the_density_of_a_good_chain():
    steps = sde_steps(6, 0.3)
    _, chain = draw(4, 6, 0.3)
    shift = torch.tensor(0.5, requires_grad=True)
    chain_logprob(lambda x, t: exact_velocity(x, t) + shift, chain, steps).mean().backward()
    assert shift.grad is not None and shift.grad.item() < 0  # back towards the true velocity
    assert math.isfinite(shift.grad.item())
