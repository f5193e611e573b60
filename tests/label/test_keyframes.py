"""Keyframes: half a second before a change, never twice, and in between when asked."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st
from label_drives import ego_of, speeds, yaws

from causaldrive.label.keyframes import APART_US, find_keyframes
from causaldrive.label.meta_actions import detect

V = speeds(10, (0, 4), (-2, 2), (0, 3), (1, 2), (0, 5))
META = detect(ego_of(V))
ALL = (0, 16_000_000)


def test_half_a_second_before_each_transition():
    assert [k.t0_us for k in find_keyframes(META, ALL)] == [3_500_000, 5_500_000, 8_500_000, 10_500_000]
    assert find_keyframes(META, ALL)[0].change == "maintain_speed to strong_decelerate"


def test_only_the_usable_range():
    assert [k.t0_us for k in find_keyframes(META, (5_500_000, 8_499_999))] == [5_500_000]


def test_near_transitions_of_both_axes_are_one_keyframe():
    meta = detect(ego_of(V, yaws(V, (0, 4.3), (0.03, 4), (0, 8))))
    times = [k.t0_us for k in find_keyframes(meta, ALL)]
    assert 3_500_000 in times and 3_800_000 not in times and 7_800_000 in times


@given(st.integers(0, 3_000_000), st.integers(8_000_000, 16_000_000), st.floats(0.1, 3))
def test_periodic_ones_fill_in_on_the_grid(first, last, every_s):
    plain = find_keyframes(META, (first, last))
    found = find_keyframes(META, (first, last), every_s)
    assert [k for k in found if k.origin == "transition"] == plain
    times = [k.t0_us for k in found]
    assert times == sorted(times) and all(first <= t <= last and t % 100_000 == 0 for t in times)
    assert all(b - a > APART_US for a, b in itertools.pairwise(times))
    assert any(k.origin == "periodic" for k in found)


def test_the_grid_is_that_of_the_drive():
    meta = detect(ego_of(V, start_us=1_234_567))
    assert next(k.t0_us for k in find_keyframes(meta, (0, 99_000_000))) == 1_234_567 + 3_500_000
