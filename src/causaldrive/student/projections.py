"""What stands between actions and the expert: Fourier features and an MLP in, one linear layer out.

Feature f of a scalar x: sqrt(2) [sin(2 pi f_i x) | cos(2 pi f_i x)], f_i log-spaced from 1 to 100. Per way-point:
acceleration (20), curvature (20), time (20). Parameter names are those of the released PerWaypointActionInProjV2.
Knows nothing of the backbone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class FourierFeatures(nn.Module):
    """(...) scalars to (..., features); the frequencies are a non-persistent buffer."""

    freqs: Tensor

    def __init__(self, features: int, max_freq: float):
        super().__init__()
        self.max_freq = max_freq
        self.register_buffer("freqs", torch.empty(features // 2), persistent=False)
        self.reset_buffers()

    def reset_buffers(self) -> None:
        """Write the frequencies again (see `UnicycleActionSpace.reset_buffers`)."""
        exponents = torch.linspace(0.0, math.log10(self.max_freq), len(self.freqs))
        self.freqs.data.copy_(10.0**exponents)

    def forward(self, x: Tensor) -> Tensor:
        argument = 2 * math.pi * x.float()[..., None] * self.freqs.float()
        return math.sqrt(2) * torch.cat([argument.sin(), argument.cos()], dim=-1)


class _Trunk(nn.Module):
    """Linear, (SiLU, RMSNorm, linear) x layers: `trunk.{0,2,3,5,6}` for two layers."""

    def __init__(self, inputs: int, hidden: int, outputs: int, layers: int):
        super().__init__()
        parts: list[nn.Module] = [nn.Linear(inputs, hidden)]
        for layer in range(layers):
            last = layer == layers - 1
            parts += [nn.SiLU(), nn.RMSNorm(hidden, eps=1e-5), nn.Linear(hidden, outputs if last else hidden)]
        self.trunk = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        return self.trunk(x)


class PerWaypointActionInProjV2(nn.Module):
    """Noisy normalised actions (B, 64, 2) and times (B,) to expert inputs (B, 64, hidden)."""

    def __init__(self, out_dim: int, num_enc_layers: int, hidden_size: int, max_freq: float, num_fourier_feats: int):
        super().__init__()
        self.sinus = nn.ModuleList(FourierFeatures(num_fourier_feats, max_freq) for _ in range(2))
        self.timestep_fourier_encoder = FourierFeatures(num_fourier_feats, max_freq)
        self.encoder = _Trunk(3 * num_fourier_feats, hidden_size, out_dim, num_enc_layers)
        self.norm = nn.LayerNorm(out_dim)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        features = [encode(x_t[..., axis]) for axis, encode in enumerate(self.sinus)]
        time = self.timestep_fourier_encoder(t)[:, None].expand(-1, x_t.shape[1], -1)
        stacked = torch.cat([*features, time], dim=-1)
        return self.norm(self.encoder(stacked.to(self.norm.weight.dtype)))
