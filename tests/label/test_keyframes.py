"""Keyframes: half a second before a change, never twice, and in between when asked."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_drives import ego_of, speeds, yaws

from causaldrive.clips.store import seen_by
from causaldrive.clips.types import CameraTrack
from causaldrive.label.keyframes import APART_US, MOVED_US, find_keyframes
from causaldrive.label.meta_actions import detect
from causaldrive.worlds.scenes import default_camera

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


def _camera(period_us: int, start_us: int = 0) -> CameraTrack:
    return CameraTrack(default_camera(), np.arange(start_us, 16_000_001, period_us, dtype=np.int64))


@pytest.mark.parametrize("period_us", [100_000, 50_000, 33_333])
def test_a_camera_of_10_hz_or_more_moves_nothing(period_us):
    assert find_keyframes(META, ALL, 0.5, cameras=[_camera(period_us)]) == find_keyframes(META, ALL, 0.5)


@given(st.sampled_from([125_000, 200_000, 250_000, 400_000]), st.integers(0, 3_000_000), st.floats(0.5, 2))
def test_every_keyframe_of_a_slower_camera_is_seen(period_us, first_us, every_s):
    camera, limits = _camera(period_us), (first_us, 16_000_000)
    found = find_keyframes(META, limits, every_s, cameras=[camera])
    times = np.array([k.t0_us for k in found])
    assert seen_by([camera], times).all()
    assert (times >= first_us).all() and (times % 100_000 == 0).all()
    assert len(set(times.tolist())) == len(times)
    plain = [k.t0_us for k in find_keyframes(META, (first_us + MOVED_US, 16_000_000))]
    moved = [k.t0_us for k in found if k.origin == "transition"]
    assert all(any(0 <= t - m <= MOVED_US for m in moved) for t in plain)  # earlier: nothing of the answer is seen
    assert np.diff(times).max() <= 1e6 * every_s + 50_000 + APART_US + MOVED_US


def test_between_frames_half_a_second_apart_or_more_a_transition_stays():
    times = [k.t0_us for k in find_keyframes(META, ALL, cameras=[_camera(1_000_000)])]
    assert 3_500_000 in times  # no frame within 0.3 s before it


def test_all_cameras_see_a_keyframe():
    cameras = [_camera(200_000), _camera(200_000, 100_000)]
    assert not seen_by(cameras, np.arange(0, 16_000_000, 100_000)).any()
    assert find_keyframes(META, ALL, 0.5, cameras=cameras) == find_keyframes(META, ALL, 0.5)
    both = [_camera(200_000), _camera(400_000)]
    assert seen_by(both, np.array([k.t0_us for k in find_keyframes(META, ALL, 0.5, cameras=both)])).all()
