"""Samples: sixteen poses back, sixty-four ahead, in the rig frame at t0."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import clip_drives
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from causaldrive.clips import samples, store
from causaldrive.clips.resample import motion_from_poses
from causaldrive.clips.types import Recording
from causaldrive.ground.errors import UserError


def moved(drive: Recording, turn: Rotation, shift: np.ndarray) -> Recording:
    """The same drive seen from another local frame."""
    ego = drive.ego
    quat = (turn * Rotation.from_quat(ego.quat_local_to_rig, scalar_first=True)).as_quat(scalar_first=True)
    position = turn.apply(ego.position_in_local_m) + shift
    return replace(drive, ego=replace(ego, position_in_local_m=position, quat_local_to_rig=quat))


def test_a_circle_in_its_own_frame():
    sample = samples.cut_sample(clip_drives.recording(), 3_000_000)
    angle = 8.0 * 0.02 * np.arange(-15, 65) * 0.1
    truth = np.stack([np.sin(angle), 1 - np.cos(angle)], axis=1) / 0.02
    xyz = np.concatenate([sample.history_xyz_in_rig_m, sample.future_xyz_in_rig_m])
    np.testing.assert_allclose(xyz[:, :2], truth, atol=1e-6)
    np.testing.assert_allclose(np.concatenate([sample.history_yaw_rad, sample.future_yaw_rad]), angle, atol=1e-9)
    assert np.abs(sample.history_xyz_in_rig_m[-1]).max() < 1e-9 and abs(sample.history_yaw_rad[-1]) < 1e-9


@settings(max_examples=25)
@given(
    angles=st.tuples(st.floats(-3, 3), st.floats(-0.4, 0.4), st.floats(-0.4, 0.4)), t0=st.integers(1_500_000, 5_600_000)
)
def test_samples_do_not_depend_on_the_local_frame(angles: tuple, t0: int):
    drive = clip_drives.recording()
    other = moved(drive, Rotation.from_euler("ZYX", angles), np.array([4e3, -2e3, 60.0]))
    here, there = samples.cut_sample(drive, t0), samples.cut_sample(other, t0)
    np.testing.assert_allclose(there.future_xyz_in_rig_m, here.future_xyz_in_rig_m, atol=1e-6)
    np.testing.assert_allclose(there.history_yaw_rad, here.history_yaw_rad, atol=1e-9)


def test_a_climb_is_flat_in_the_rig_frame():
    """The full rotation is taken out, pitch included: a straight climb runs along x alone."""
    t = np.arange(0, 9.01, 0.1)
    pitch = Rotation.from_euler("y", -0.1)
    position = pitch.apply(np.column_stack([10 * t, 0 * t, 0 * t]))
    quat = np.tile(pitch.as_quat(scalar_first=True), (len(t), 1))
    ego = motion_from_poses((t * 1e6).round().astype(np.int64), position, quat)
    sample = samples.cut_sample(replace(clip_drives.recording(), ego=ego), 2_000_000)
    np.testing.assert_allclose(sample.future_xyz_in_rig_m[:, 2], 0, atol=1e-9)
    np.testing.assert_allclose(sample.future_xyz_in_rig_m[-1, 0], 64, atol=1e-9)


def test_usable_range_is_tight():
    drive = clip_drives.recording()  # 12 s
    first, last = samples.usable_range(drive)
    assert (first, last) == (1_500_000, 5_600_000)
    assert samples.usable_range(drive, need_future=False) == (1_500_000, 12_000_000)
    samples.cut_sample(drive, first)
    samples.cut_sample(drive, last)
    for t0 in (first - 1, last + 1):
        with pytest.raises(UserError, match="out of range; a time from 1500000 to 5600000 us expected"):
            samples.cut_sample(drive, t0)


def test_without_future():
    sample = samples.cut_sample(clip_drives.recording(), 12_000_000, need_future=False)
    assert sample.future_xyz_in_rig_m is None and sample.history_xyz_in_rig_m.shape == (16, 3)


def test_a_drive_too_short_says_how_long_it_must_be():
    short = replace(clip_drives.recording(), ego=clip_drives.circle_drive(5.0))
    with pytest.raises(UserError, match=r"drive-1 lasts 5.0 s, at least 7.9 s expected"):
        samples.usable_range(short)


def test_a_hole_in_the_poses_is_not_bridged():
    ego = clip_drives.circle_drive(20.0)
    keep = (ego.t_us <= 5_000_000) | (ego.t_us >= 5_800_000)
    holed = replace(clip_drives.recording(), ego=type(ego)(**{name: value[keep] for name, value in vars(ego).items()}))
    with pytest.raises(UserError, match=r"no ego pose for 0.8 s after 5000000 us"):
        samples.cut_sample(holed, 3_000_000)
    samples.cut_sample(holed, 8_000_000)


def test_frames_of_a_sample(tmp_path: Path):
    drive = clip_drives.recording()
    store.write_recording(tmp_path / "r", drive, {"front": clip_drives.pictures(40)})
    frames = samples.sample_frames(tmp_path / "r", ["front"], 3_000_000, (-400_000, 0))
    assert frames.shape == (1, 2, clip_drives.HEIGHT, clip_drives.WIDTH, 3)
    assert np.abs(frames.mean((0, 2, 3, 4)) - [clip_drives.shade(26), clip_drives.shade(30)]).max() < 3
