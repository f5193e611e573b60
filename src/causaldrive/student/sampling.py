"""Drawing tokens: temperature, top-p, and randomness that belongs to a row and not to its batch.

Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import ndtr, ndtri
from torch import Tensor

from causaldrive.ground.words import FUTURE_STEPS

_BELOW_ONE = np.nextafter(1.0, 0.0)


@dataclass(frozen=True)
class RowRandomness:
    """Everything random about N rows, drawn beforehand: a row's numbers depend on its own seed only."""

    noise: Tensor  # (N, 64, 2) standard normal, for the flow decoder
    text_uniform: Tensor  # (N, max_trace_tokens)
    traj_uniform: Tensor  # (N, 128) pairs of acceleration and curvature
    spelling_uniform: Tensor  # (N, spelling_tokens), for trajectories written as text


def draw_randomness(
    row_seeds: Sequence[int], num_samples: int, max_trace_tokens: int, spelling_tokens: int = 0, coherence: float = 0.0,
    mirrored: bool = False,
) -> RowRandomness:  # fmt: skip
    """Sample k of a row draws from the seed pair (row seed, k); N = rows * num_samples, row by row.

    The numbers of a trajectory lean one way all along, the more the nearer `coherence` is to 1:

        u = Phi(coherence * z(axis) + sqrt(1 - coherence^2) * e)        z, e ~ N(0, 1), so that each u is uniform

    Independent, the accelerations of 64 steps cancel out, and a path that differs from the mean has no token to thank
    for it. Source of the idea: time-correlated exploration, Eberhard et al., ICLR 2023. Where `mirrored`, the
    trajectories of samples 1 and 2, 3 and 4, ... lean as far to opposite sides: the second has 1 - u of the first.
    """
    noise, text, traj, spelling = [], [], [], []
    for seed in row_seeds:
        for k in range(num_samples):
            generator = np.random.default_rng([seed, k])
            noise.append(generator.standard_normal((FUTURE_STEPS, 2), dtype=np.float32))
            independent = generator.random(2 * FUTURE_STEPS)
            text.append(generator.random(max_trace_tokens))
            spelling.append(generator.random(spelling_tokens))
            own = _leaning(independent, generator.standard_normal(2), coherence) if coherence else independent
            twin = mirrored and k > 0 and k % 2 == 0
            traj.append(np.minimum(1.0 - traj[-1], _BELOW_ONE) if twin else own)
    return RowRandomness(*(torch.from_numpy(np.stack(x)) for x in (noise, text, traj, spelling)))


def _leaning(uniform: np.ndarray, lean: np.ndarray, coherence: float) -> np.ndarray:
    """(128,) numbers that lean the way of `lean` (2,), one an axis."""
    independent = ndtri(uniform.reshape(FUTURE_STEPS, 2))
    return ndtr(coherence * lean + np.sqrt(1.0 - coherence**2) * independent).ravel()


def pick(logprobs: Tensor, uniform: Tensor, top_p: float, greedy: Tensor) -> Tensor:
    """Token (N,) from log-probabilities (N, V) by inversion at `uniform` (N,) of the top-p part; argmax in rows that
    are `greedy` (N,).

    The top-p part is the smallest set of likeliest tokens whose probability reaches `top_p`. Tokens stand in the order
    of their ids, which for those of a trajectory is that of their values: a greater number draws a greater value.
    """
    likeliest = logprobs.argmax(-1)
    if bool(greedy.all()):
        return likeliest
    probs, order = logprobs.double().exp().sort(dim=-1, descending=True, stable=True)
    total = probs.cumsum(-1)
    kept = torch.where(total - probs < top_p, probs, 0.0)
    reached = torch.zeros_like(probs).scatter(1, order, kept).cumsum(-1)
    drawn = (reached <= uniform.to(reached)[:, None] * reached[:, -1:]).sum(-1)
    return torch.where(greedy, likeliest, drawn.clamp(max=probs.shape[1] - 1))
