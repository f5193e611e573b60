"""Intervals: known values, coverage, clusters that widen, pairs that narrow, and no number where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causaldrive.ground import statistics as stats


@pytest.mark.parametrize(("hits", "trials", "low", "high"), [
    (8, 10, 0.4902, 0.9433), (0, 36, 0.0, 0.0964), (36, 36, 0.9036, 1.0), (18, 36, 0.3447, 0.6553),
])  # fmt: skip
def test_wilson_matches_published_values(hits: int, trials: int, low: float, high: float):
    assert stats.wilson(hits, trials) == pytest.approx((low, high), abs=2e-3)


def test_shares_of_single_trials_are_wilson_and_never_without_width():
    names = [f"scene{i}" for i in range(36)]
    estimate = stats.share(np.zeros(36), np.ones(36), names)
    assert (estimate.value, estimate.low, estimate.method) == (0.0, 0.0, "wilson")
    assert estimate.high == pytest.approx(0.0964, abs=1e-3)


def test_a_share_that_is_all_hits_is_judged_by_its_clusters_not_its_rows():
    estimate = stats.share(np.ones(100), np.ones(100), [f"scene{i % 5}" for i in range(100)])
    assert estimate.n == 100 and estimate.clusters == 5
    assert estimate.low == pytest.approx(stats.wilson(5, 5)[0])


def test_the_bootstrap_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(100):
        offsets = rng.normal(size=40)
        values = np.repeat(offsets, 5) + 0.1 * rng.normal(size=200)
        e = stats.mean(values, [str(i // 5) for i in range(200)], seed=trial)
        assert e.low is not None and e.high is not None
        covered += e.low <= 0.0 <= e.high
    assert 86 <= covered <= 100


def test_rows_of_one_drive_do_not_count_as_independent():
    rng = np.random.default_rng(1)
    values = np.repeat(rng.normal(size=20), 10)
    by_drive = stats.mean(values, [str(i // 10) for i in range(200)])
    by_row = stats.mean(values, [str(i) for i in range(200)])
    assert by_drive.value == pytest.approx(by_row.value)
    assert by_drive.high - by_drive.low > 2 * (by_row.high - by_row.low)  # pyright: ignore


def test_what_cannot_be_measured_has_no_value():
    assert stats.mean([], []) == stats.NOTHING
    assert stats.ratio([0.0, 0.0], [0.0, 0.0], ["a", "b"]).value is None
    assert stats.mean([np.nan, 2.0], ["a", "b"]).n == 1
    lonely = stats.mean([1.0, 3.0], ["a", "a"])
    assert (lonely.value, lonely.low, lonely.high, lonely.clusters) == (2.0, None, None, 1)


def test_a_ratio_is_of_sums():
    estimate = stats.ratio([1, 0, 3], [1, 4, 5], ["a", "b", "c"])
    assert estimate.value == pytest.approx(0.4)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=3, max_size=30), st.integers(0, 5))
def test_mean_lies_in_its_interval_and_seeds_repeat(values: list[float], seed: int):
    names = [str(i) for i in range(len(values))]
    estimate = stats.mean(values, names, seed)
    assert estimate == stats.mean(values, names, seed)
    assert estimate.low - 1e-6 <= estimate.value <= estimate.high + 1e-6  # pyright: ignore
    turned = stats.mean(values[::-1], names[::-1], seed)
    assert turned.low == pytest.approx(estimate.low)  # the order of rows does not matter


def test_pairs_see_a_difference_that_separate_intervals_hide():
    rng = np.random.default_rng(2)
    hard = rng.normal(scale=5, size=40)
    names, ones = [str(i) for i in range(40)], np.ones(40)
    better = stats.difference((hard + 0.5 + 0.1 * rng.normal(size=40), ones), (hard, ones), names)
    assert better.value == pytest.approx(0.5, abs=0.1) and better.low > 0.3  # pyright: ignore
    first, second = stats.mean(hard + 0.5, names), stats.mean(hard, names)
    assert first.low < second.high  # pyright: ignore
    same = stats.difference((hard, ones), (hard, ones), names)
    assert (same.value, same.low, same.high) == (0, 0, 0)
