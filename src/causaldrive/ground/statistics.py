"""Values with 95 % intervals: ratios by bootstrap over clusters, shares of independent trials by Wilson, differences.

    ratio = sum_i num_i / sum_i den_i            resampled over whole clusters (scenes, recordings), not over rows
    wilson = (p + z^2/2n +- z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n)

Rows of one drive resemble each other, so intervals over rows would be too narrow; a cluster is what was drawn
independently. A value that does not exist is None with n = 0, never zero. Knows nothing of what is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Z95 = 1.959963984540054
DRAWS = 2000


@dataclass(frozen=True)
class Estimate:
    """A value, its 95 % interval (None where none can be given), how many items and clusters stand behind it."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    clusters: int
    method: str  # 'bootstrap', 'wilson', 'none'


NOTHING = Estimate(None, None, None, 0, 0, "none")


def ratio(
    numerator: ArrayLike, denominator: ArrayLike, clusters: Sequence[str], seed: int = 0, n: int | None = None
) -> Estimate:
    """sum num / sum den with a cluster bootstrap. Rows with a NaN or with den = 0 are not counted.

    A mean is a ratio with den = 1; F1 is one with num = 2 tp and den = 2 tp + fp + fn. `n` overrides the count of rows.
    """
    sums, count = _cluster_sums(np.stack([_floats(numerator), _floats(denominator)], axis=1), clusters)
    if not count:
        return NOTHING
    value = float(sums[:, 0].sum() / sums[:, 1].sum())
    drawn = _resample(sums, seed)
    low, high = _percentiles(drawn[:, 0], drawn[:, 1], len(sums))
    method = "none" if low is None else "bootstrap"
    return Estimate(value, low, high, count if n is None else n, len(sums), method)


def mean(values: ArrayLike, clusters: Sequence[str], seed: int = 0) -> Estimate:
    """Mean of the finite values."""
    values = _floats(values)
    return ratio(values, np.ones(len(values)), clusters, seed)


def share(hits: ArrayLike, trials: ArrayLike, clusters: Sequence[str], seed: int = 0, n: int | None = None) -> Estimate:
    """sum hits / sum trials in [0, 1].

    Wilson where every cluster is one trial. Else the cluster bootstrap; where that has no width (all hits or none),
    Wilson with as many trials as clusters, which is the cautious reading.
    """
    estimate = ratio(hits, trials, clusters, seed, n)
    if estimate.value is None:
        return estimate
    single = estimate.clusters == estimate.n
    if single or estimate.low is None or estimate.high is None or estimate.high - estimate.low < 1e-12:
        low, high = wilson(estimate.value * estimate.clusters, estimate.clusters)
        return Estimate(estimate.value, low, high, estimate.n, estimate.clusters, "wilson")
    return estimate


def wilson(successes: float, trials: int) -> tuple[float, float]:
    """The 95 % Wilson interval of a share; at least one trial."""
    assert trials > 0 and 0 <= successes <= trials + 1e-9
    p, z2 = successes / trials, Z95**2
    centre = p + z2 / (2 * trials)
    half = Z95 * np.sqrt(p * (1 - p) / trials + z2 / (4 * trials**2))
    scale = 1 + z2 / trials
    return max(float((centre - half) / scale), 0.0), min(float((centre + half) / scale), 1.0)


def difference(
    first: tuple[ArrayLike, ArrayLike], second: tuple[ArrayLike, ArrayLike], clusters: Sequence[str], seed: int = 0
) -> Estimate:
    """ratio(first) - ratio(second), rows paired; the same clusters are drawn for both. n counts the paired rows."""
    columns = np.stack([_floats(part) for part in (*first, *second)], axis=1)
    sums, count = _cluster_sums(columns, clusters)
    if not count or not (sums[:, 1].sum() and sums[:, 3].sum()):
        return NOTHING
    total = sums.sum(axis=0)
    value = float(total[0] / total[1] - total[2] / total[3])
    drawn = _resample(sums, seed)
    a, b, c, d = drawn.T
    low, high = _percentiles(a * d - c * b, b * d, len(sums))  # a/b - c/d
    return Estimate(value, low, high, count, len(sums), "none" if low is None else "bootstrap")


def _floats(values: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(values, np.float64).reshape(-1)


def _cluster_sums(columns: NDArray[np.float64], clusters: Sequence[str]) -> tuple[NDArray[np.float64], int]:
    """Sums (C, D) per cluster over sound rows, in the order of the clusters' names, and the number of sound rows.

    Odd columns are denominators; a row whose denominators are all 0 is not counted.
    """
    assert len(columns) == len(clusters), "one cluster name per row"
    sound = np.isfinite(columns).all(axis=1) & (columns[:, 1::2] > 0).any(axis=1)
    if not sound.any():
        return np.zeros((0, columns.shape[1])), 0
    names, index = np.unique(np.asarray(clusters, str)[sound], return_inverse=True)
    sums = np.zeros((len(names), columns.shape[1]))
    np.add.at(sums, index, columns[sound])
    return sums, int(sound.sum())


def _resample(sums: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """(DRAWS, D) totals of clusters drawn with replacement."""
    count = len(sums)
    times = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=DRAWS)
    return times @ sums


def _percentiles(
    numerator: NDArray[np.float64], denominator: NDArray[np.float64], clusters: int
) -> tuple[float | None, float | None]:
    good = denominator > 0
    values = numerator[good] / denominator[good]
    if clusters < 2 or len(values) < 2:
        return None, None
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
