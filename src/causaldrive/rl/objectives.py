"""Objectives over the tokens that a policy wrote: clipped GRPO, and the paper's softmax-weighted likelihood.

Every tensor is (B, T) and aligned with the batch's input_ids: entry [b, i] belongs to token i of row b; `mask` marks
the tokens that the policy chose. Advantages and weights are (B, T), or (B, 1) where a row has one. Knows nothing of how
rewards or log-probabilities were made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

OBJECTIVES = ("grpo", "softmax")


@dataclass(frozen=True)
class Logprobs:
    """Log-probabilities of the same tokens under the trained policy, the one that wrote them, and the reference."""

    new: Tensor  # (B, T) with gradient
    old: Tensor  # (B, T)
    reference: Tensor  # (B, T)
    mask: Tensor  # (B, T) bool


@dataclass(frozen=True)
class Bounds:
    """Clip range of the ratio: [1 - low, 1 + high]."""

    low: float = 0.2
    high: float = 0.28


@dataclass(frozen=True)
class Objective:
    """A loss to minimise and what to log beside it; the sums can be added up over mini-batches."""

    loss: Tensor
    kl: float  # mean over tokens
    clip_fraction: float  # share of tokens whose gradient the clip has cut


def token_mean(values: Tensor, mask: Tensor) -> Tensor:
    """sum(values * mask) / max(sum(mask), 1): every token counts alike, long completions are not favoured per token."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def kl_to_reference(p: Logprobs) -> Tensor:
    """(B, T) k3 = exp(d) - d - 1 with d = reference - new: unbiased for KL(new || reference), never negative."""
    difference = torch.where(p.mask, p.reference - p.new, torch.zeros_like(p.new))
    return difference.exp() - difference - 1


def grpo(p: Logprobs, advantages: Tensor, bounds: Bounds, kl_weight: float) -> Objective:
    """loss = mean over tokens of -min(q A, clip(q, 1 - low, 1 + high) A) + kl_weight k3,   q = exp(new - old)

    Source: DeepSeekMath (GRPO) with the two-sided clip of DAPO. `old` are the sampler's own log-probabilities, so that
    the ratio corrects for every step taken since the text was written.
    """
    ratio = torch.where(p.mask, p.new - p.old, torch.zeros_like(p.new)).exp()
    clipped = ratio.clamp(1 - bounds.low, 1 + bounds.high)
    gain = torch.minimum(ratio * advantages, clipped * advantages)
    kl = kl_to_reference(p)
    loss = token_mean(kl_weight * kl - gain, p.mask)
    cut = (ratio * advantages > clipped * advantages) & p.mask
    return Objective(loss, token_mean(kl.detach(), p.mask).item(), token_mean(cut.float(), p.mask).item())


def softmax_weights(advantages: np.ndarray, groups: Sequence, beta: float) -> np.ndarray:
    """w_i = n softmax_i(beta A_i) within each group of n rows: the mean of w over a group is 1."""
    labels = np.unique(np.array([repr(group) for group in groups]), return_inverse=True)[1]
    weights = np.zeros(len(advantages))
    for label in range(labels.max(initial=-1) + 1):
        rows = np.flatnonzero(labels == label)
        scaled = beta * advantages[rows]
        share = np.exp(scaled - scaled.max())
        weights[rows] = len(rows) * share / share.sum()
    return weights


def softmax_likelihood(p: Logprobs, weights: Tensor, kl_weight: float) -> Objective:
    """loss = mean over tokens of -w (new - kl_weight k3),   w = n softmax(beta A) in the group

    Source: arXiv 2511.00088, section 5.3: all weights positive, no ratio, no clip. Equal advantages give equal
    weights, which is likelihood of the policy's own text: no pull on average, but not exactly no gradient.
    """
    kl = kl_to_reference(p)
    loss = token_mean(-weights * (torch.where(p.mask, p.new, torch.zeros_like(p.new)) - kl_weight * kl), p.mask)
    return Objective(loss, token_mean(kl.detach(), p.mask).item(), 0.0)
