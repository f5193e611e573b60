"""In which order samples are seen: a stateless function of (seed, step), so that a resumed run sees the same.

Sample i of class c appears n_i times in an epoch of N, E[n_i] = N w_i / sum(w), w = 1 / sqrt(count of c), so that rare
decisions are seen more often than they occur. With buckets, k batches at a time are sorted by length, cut and shuffled:
rows of a batch are then alike and little is padded. Knows nothing of what a sample is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np


def balancing_weights(classes: Sequence[Hashable]) -> np.ndarray:
    """(N,) w_i = 1 / sqrt(count of the class of i)."""
    counts = Counter(classes)
    return np.array([counts[name] ** -0.5 for name in classes])


def epoch_order(weights: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """(N,) indices of one epoch, shuffled; index i occurs floor or ceil of N w_i / sum(w) times.

    Systematic resampling over a random permutation: the least random way to hit expected counts.
    """
    generator = np.random.default_rng([seed, epoch])
    count = len(weights)
    permutation = generator.permutation(count)
    edges = np.cumsum(weights[permutation]) * (count / weights.sum())
    edges[-1] = count  # the sum is exact even where the cumulative sum is not
    copies = np.diff(np.floor(edges + generator.random()), prepend=0.0).astype(int)
    return generator.permutation(np.repeat(permutation, copies))


class SampleOrder:
    """Batches of indices; epochs follow each other without a gap, so that every batch is full."""

    def __init__(self, classes: Sequence[Hashable], seed: int, lengths: Sequence[int] = (), buckets: int = 0):
        self.weights, self.seed = balancing_weights(classes), seed
        self._lengths, self._buckets = lengths, buckets
        self._epochs: dict[int, np.ndarray] = {}

    def batch(self, step: int, size: int) -> list[int]:
        """Indices of batch `step` (from 0)."""
        if self._buckets < 2:
            return self._plain(step * size, size)
        window, place = divmod(step, self._buckets)
        drawn = self._plain(window * self._buckets * size, self._buckets * size)
        chosen = np.random.default_rng([self.seed, window, 1]).permutation(self._buckets)[place]
        return sorted(drawn, key=lambda i: self._lengths[i])[chosen * size : (chosen + 1) * size]

    def _plain(self, first: int, many: int) -> list[int]:
        count = len(self.weights)
        positions = range(first, first + many)
        return [int(self._epoch(p // count)[p % count]) for p in positions]

    def _epoch(self, epoch: int) -> np.ndarray:
        if epoch not in self._epochs:
            self._epochs = {e: order for e, order in self._epochs.items() if e >= epoch - 1}
            self._epochs[epoch] = epoch_order(self.weights, self.seed, epoch)
        return self._epochs[epoch]
