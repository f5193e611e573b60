"""What stands between actions and the expert: Fourier features and an MLP in, one linear layer out.

Features of a scalar x: sqrt(2) [sin(2 pi f_i x) | cos(2 pi f_i x)], f_i log-spaced from min to max frequency (1 to
100 in the released model; lower in ours, where x spans more than a period and the network is small). Per way-point:
acceleration (20), curvature (20), time (20). Parameter names are those of the released PerWaypointActionInProjV2.
Knows nothing of the backbone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class FourierFeatures(nn.Module):
    """(...) scalars to (..., features); the frequencies are a buffer, rounded to `dtype`."""

    freqs: Tensor

    def __init__(self, features: int, min_freq: float, max_freq: float, dtype: str = "float32", persistent=False):
        super().__init__()
        self.min_freq, self.max_freq, self.rounding = min_freq, max_freq, getattr(torch, dtype)
        self.register_buffer("freqs", torch.empty(features // 2), persistent=persistent)
        self.reset_buffers()

    def reset_buffers(self) -> None:
        """Write the frequencies again (see `UnicycleActionSpace.reset_buffers`)."""
        exponents = torch.linspace(math.log10(self.min_freq), math.log10(self.max_freq), len(self.freqs))
        self.freqs.data.copy_((10.0**exponents).to(self.rounding))

    def forward(self, x: Tensor) -> Tensor:
        argument = 2 * math.pi * x.float()[..., None] * self.freqs.float()
        return math.sqrt(2) * torch.cat([argument.sin(), argument.cos()], dim=-1)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + 1e-5) * weight, computed in float32 whatever the networks compute in."""

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-5) * self.weight.float()).to(x.dtype)


class _Trunk(nn.Module):
    """Linear, (SiLU, RMSNorm, linear) x layers: `trunk.{0,2,3,5,6}` for two layers."""

    def __init__(self, inputs: int, hidden: int, outputs: int, layers: int):
        super().__init__()
        parts: list[nn.Module] = [nn.Linear(inputs, hidden)]
        for layer in range(layers):
            last = layer == layers - 1
            parts += [nn.SiLU(), RMSNorm(hidden), nn.Linear(hidden, outputs if last else hidden)]
        self.trunk = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        return self.trunk(x)


class PerWaypointActionInProjV2(nn.Module):
    """Noisy normalised actions (B, 64, 2) and times (B,) to expert inputs (B, 64, hidden)."""

    def __init__(
        self,
        out_dim: int,
        num_enc_layers: int,
        hidden_size: int,
        max_freq: float,
        num_fourier_feats: int,
        min_freq: float = 1.0,
        freqs_dtype: str = "float32",
        persistent_buffers: bool = False,
    ):
        super().__init__()
        frequencies = (num_fourier_feats, min_freq, max_freq, freqs_dtype, persistent_buffers)
        self.sinus = nn.ModuleList(FourierFeatures(*frequencies) for _ in range(2))
        self.timestep_fourier_encoder = FourierFeatures(*frequencies)
        self.encoder = _Trunk(3 * num_fourier_feats, hidden_size, out_dim, num_enc_layers)
        self.norm = nn.LayerNorm(out_dim)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        features = [encode(x_t[..., axis]) for axis, encode in enumerate(self.sinus)]
        time = self.timestep_fourier_encoder(t)[:, None].expand(-1, x_t.shape[1], -1)
        stacked = torch.cat([*features, time], dim=-1)
        return self.norm(self.encoder(stacked.to(self.norm.weight.dtype)))
