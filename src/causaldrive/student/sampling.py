"""Drawing tokens: temperature, top-p, and randomness that belongs to a row and not to its batch.

Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from causaldrive.ground.words import FUTURE_STEPS


@dataclass(frozen=True)
class RowRandomness:
    """Everything random about N rows, drawn beforehand: a row's numbers depend on its own seed only."""

    noise: Tensor  # (N, 64, 2) standard normal, for the flow decoder
    text_uniform: Tensor  # (N, max_trace_tokens)
    traj_uniform: Tensor  # (N, 128)
    spelling_uniform: Tensor  # (N, spelling_tokens), for trajectories written as text


def draw_randomness(
    row_seeds: Sequence[int], num_samples: int, max_trace_tokens: int, spelling_tokens: int = 0
) -> RowRandomness:
    """Sample k of a row draws from the seed pair (row seed, k); N = rows * num_samples, row by row."""
    noise, text, traj, spelling = [], [], [], []
    for seed in row_seeds:
        for k in range(num_samples):
            generator = np.random.default_rng([seed, k])
            noise.append(generator.standard_normal((FUTURE_STEPS, 2), dtype=np.float32))
            traj.append(generator.random(2 * FUTURE_STEPS))
            text.append(generator.random(max_trace_tokens))
            spelling.append(generator.random(spelling_tokens))
    return RowRandomness(*(torch.from_numpy(np.stack(x)) for x in (noise, text, traj, spelling)))


def pick(logprobs: Tensor, uniform: Tensor, top_p: float, greedy: Tensor) -> Tensor:
    """Token (N,) from log-probabilities (N, V) by inversion at `uniform` (N,) of the top-p part; argmax in rows that
    are `greedy` (N,).

    The top-p part is the smallest set of likeliest tokens whose probability reaches `top_p`.
    """
    likeliest = logprobs.argmax(-1)
    if bool(greedy.all()):
        return likeliest
    probs, order = logprobs.double().exp().sort(dim=-1, descending=True, stable=True)
    total = probs.cumsum(-1)
    kept = torch.where(total - probs < top_p, probs, 0.0).cumsum(-1)
    index = (kept < uniform.to(kept)[:, None] * kept[:, -1:]).sum(-1, keepdim=True)
    drawn = order.gather(1, index.clamp(max=order.shape[1] - 1))[:, 0]
    return torch.where(greedy, likeliest, drawn)
