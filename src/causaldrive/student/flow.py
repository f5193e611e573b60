"""Flow matching: x_t = t x + (1 - t) noise, target velocity x - noise, t = 0 noise, t = 1 data; Euler integration.

Training times favour the noisy end: t = 0.999 (1 - u), u ~ Beta(1.5, 1). Source: pi-0 / Alpamayo-R1. All float32.
Knows nothing of networks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

BETA_ALPHA = 1.5
TIME_SCALE = 0.999


def draw_times(count: int, generator: torch.Generator) -> Tensor:
    """(count,) training times; Beta(a, 1) by inversion: u = U^(1/a)."""
    uniform = torch.rand(count, generator=generator, device=generator.device)
    return TIME_SCALE * (1 - uniform ** (1 / BETA_ALPHA))


@dataclass(frozen=True)
class Draws:
    """What flow matching draws for the rows of a batch, `each` pairs a row."""

    t: Tensor  # (rows * each,)
    noise: Tensor  # (rows * each, waypoints, 2)

    def rows(self, first: int, count: int, each: int) -> Draws:
        """Those of `count` rows from `first` on."""
        span = slice(first * each, (first + count) * each)
        return Draws(self.t[span], self.noise[span])


def draw(shape: tuple[int, ...], generator: torch.Generator) -> Draws:
    """Times, then noise, for noisy actions of `shape` (N, waypoints, 2)."""
    return Draws(draw_times(shape[0], generator), torch.randn(shape, generator=generator, device=generator.device))


def interpolate(data: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """x_t for data and noise (B, 64, 2) at times t (B,)."""
    t = t.float()[:, None, None]
    return t * data + (1 - t) * noise


def integrate(velocity: Callable[[Tensor, Tensor], Tensor], noise: Tensor, steps: int) -> Tensor:
    """Data (B, 64, 2) from noise by `steps` equal Euler steps of `velocity(x, t)`, t (B,) from 0."""
    x = noise.float()
    for step in range(steps):
        t = torch.full((len(x),), step / steps, dtype=torch.float32, device=x.device)
        x = x + velocity(x, t).float() / steps
    return x
