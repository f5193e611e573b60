"""The flow decoder as a stochastic policy: its denoising steps become actions with a density.

With s = 1 - t (noise left), step h = 1 / S and sigma = a sqrt(s / (1 - s)), s at most 1 - h:

    mean = x (1 - sigma^2 h / (2 s)) + v (1 + sigma^2 (1 - s) / (2 s)) h        x' ~ N(mean, sigma^2 h)

which has the marginals of the ODE x' = x + v h for every a. The last step takes no noise: what is driven is smooth.
Log-densities are averaged over steps, way-points and dimensions, so that a ratio of them can be clipped like a
token's. Source: Flow-GRPO (arXiv 2505.05470), pi_RL. Knows nothing of models, rewards or worlds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Velocity = Callable[[Tensor, Tensor], Tensor]  # (x (B, 64, 2), t (B,)) -> v (B, 64, 2)


@dataclass(frozen=True)
class SdeStep:
    """One denoising step of S: its time, and the numbers of the formula in the module's head."""

    t: float
    std: float  # sigma sqrt(h)
    x_factor: float
    v_factor: float


def sde_steps(count: int, noise_level: float) -> list[SdeStep]:
    """The S steps from noise to data; the last has std 0 and is the ODE's."""
    h = 1.0 / count
    steps = []
    for index in range(count):
        s = 1.0 - index * h
        clamped = min(s, 1.0 - h)
        sigma = noise_level * math.sqrt(clamped / (1.0 - clamped)) if index < count - 1 else 0.0
        drift = sigma**2 * h / (2 * s)
        steps.append(SdeStep(1.0 - s, sigma * math.sqrt(h), 1.0 - drift, h + drift * (1.0 - s)))
    return steps


def _mean(step: SdeStep, x: Tensor, velocity: Tensor) -> Tensor:
    return x * step.x_factor + velocity.float() * step.v_factor


def _times(step: SdeStep, x: Tensor) -> Tensor:
    return torch.full((len(x),), step.t, dtype=torch.float32, device=x.device)


def sample_chain(velocity: Velocity, noise: Tensor, step_noise: Tensor, steps: list[SdeStep]) -> Tensor:
    """Chain (B, S + 1, 64, 2) from `noise` (B, 64, 2) with standard normal `step_noise` (B, S, 64, 2)."""
    x = noise.float()
    chain = [x]
    for index, step in enumerate(steps):
        x = _mean(step, x, velocity(x, _times(step, x))) + step.std * step_noise[:, index]
        chain.append(x)
    return torch.stack(chain, dim=1)


def chain_logprob(velocity: Velocity, chain: Tensor, steps: list[SdeStep]) -> Tensor:
    """(B,) log-density of stored chains, averaged over the noisy steps and all their numbers.

    The stored states are fed back one step at a time: the same calls, in the same order, as when they were drawn.
    """
    noisy = [(index, step) for index, step in enumerate(steps) if step.std > 0]
    total = torch.zeros(len(chain), device=chain.device)
    for index, step in noisy:
        x, following = chain[:, index], chain[:, index + 1]
        error = (following - _mean(step, x, velocity(x, _times(step, x)))) / step.std
        density = -0.5 * error**2 - math.log(step.std) - 0.5 * math.log(2 * math.pi)
        total = total + density.mean(dim=(1, 2))
    return total / max(len(noisy), 1)
