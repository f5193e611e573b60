"""Resampling and derivatives: exact where the truth is known, zero-phase, quiet at standstill."""

from __future__ import annotations

import clip_drives
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from causaldrive.clips.geometry import quat_of_yaw, yaw_of
from causaldrive.clips.resample import ego_at_10hz, motion_from_poses, resample_ego
from causaldrive.clips.types import EgoMotion
from causaldrive.ground.errors import UserError


def straight(t_s: np.ndarray, x_m: np.ndarray, noise_m: float = 0.0, seed: int = 0):
    rng = np.random.default_rng(seed)
    xyz = np.column_stack([x_m, np.zeros((len(x_m), 2))]) + noise_m * rng.normal(size=(len(x_m), 3))
    return motion_from_poses(np.rint(t_s * 1e6).astype(np.int64), xyz, quat_of_yaw(np.zeros(len(x_m))))


@given(speed=st.floats(1, 35), curvature=st.floats(-0.1, 0.1).filter(lambda k: abs(k) > 1e-4))
def test_a_circle_has_its_speed_curvature_and_centripetal_acceleration(speed: float, curvature: float):
    if abs(speed * curvature) > 0.8:
        speed = 0.8 / abs(curvature)
    ego = clip_drives.circle_drive(6.0, speed, curvature)
    np.testing.assert_allclose(ego.speed_mps, speed, rtol=5e-3)
    np.testing.assert_allclose(ego.curvature_1pm, curvature, rtol=6e-3)
    sideways = ego.acceleration_in_rig_mps2[:, 1]
    np.testing.assert_allclose(sideways[5:-5], speed**2 * curvature, rtol=2e-2, atol=1e-6)
    np.testing.assert_allclose(sideways, speed**2 * curvature, rtol=0.12, atol=1e-6)  # the ends see one side only
    np.testing.assert_allclose(ego.velocity_in_rig_mps[:, 1], 0, atol=0.05 * speed)


def test_constant_acceleration_is_exact_to_the_ends():
    t = np.arange(0, 6.01, 0.1)
    ego = straight(t, 3 * t + 0.75 * t**2)
    np.testing.assert_allclose(ego.acceleration_in_rig_mps2[:, 0], 1.5, atol=1e-6)
    np.testing.assert_allclose(ego.speed_mps, 3 + 1.5 * t, atol=1e-6)


def test_derivatives_have_no_delay():
    """A symmetric brake pulse: its acceleration is symmetric about the same moment."""
    t = np.arange(0, 8.001, 0.05)
    speed = 12 - 4 / (1 + np.exp(-(t - 4) / 0.4))
    ego = straight(t, np.concatenate([[0], np.cumsum((speed[1:] + speed[:-1]) / 2 * 0.05)]))
    acceleration = ego.acceleration_in_rig_mps2[:, 0]
    assert abs(t[np.argmin(acceleration)] - 4.0) <= 0.05
    np.testing.assert_allclose(acceleration[40:121], acceleration[40:121][::-1], atol=0.02)


def test_standing_with_jitter_has_no_curvature():
    t = np.arange(0, 5, 0.05)
    rng = np.random.default_rng(1)
    xyz = 0.004 * rng.normal(size=(len(t), 3))
    ego = motion_from_poses((t * 1e6).astype(np.int64), xyz, quat_of_yaw(0.002 * rng.normal(size=len(t))))
    assert np.all(ego.curvature_1pm == 0) and np.abs(ego.speed_mps).max() < 0.15


def test_noise_is_smoothed():
    t = np.arange(0, 10, 0.05)
    ego = straight(t, 10 * t, noise_m=0.01)
    assert np.abs(ego.speed_mps - 10)[5:-5].max() < 0.15
    assert np.abs(np.gradient(ego.position_in_local_m[:, 0], t) - 10).max() > 0.3  # what plain differences give


def test_uneven_times_as_real_logs_have_them():
    rng = np.random.default_rng(2)
    t = np.cumsum(rng.choice([0.004, 0.005, 0.010], size=900))
    ego = straight(t, 2 * t + 0.5 * t**2)
    np.testing.assert_allclose(ego.speed_mps, 2 + t, atol=0.02)
    np.testing.assert_allclose(ego.acceleration_in_rig_mps2[:, 0], 1.0, atol=0.05)


def test_two_poses_are_enough_for_a_speed():
    ego = straight(np.array([0.0, 0.1]), np.array([0.0, 1.0]))
    np.testing.assert_allclose(ego.speed_mps, 10, atol=1e-9)


def test_bad_poses_name_their_source():
    with pytest.raises(UserError, match=r"log 7: time stamps run backwards at row 1"):
        motion_from_poses(np.array([5, 5]), np.zeros((2, 3)), quat_of_yaw(np.zeros(2)), "log 7")


@given(at_us=st.integers(0, 12_000_000))
def test_resampling_a_circle_stays_on_it(at_us: int):
    ego = clip_drives.circle_drive(12.0, 8.0, 0.02)
    one = resample_ego(ego, np.array([at_us]))
    truth = 8.0 * 0.02 * at_us / 1e6
    xy = np.array([np.sin(truth), 1 - np.cos(truth)]) / 0.02
    assert np.linalg.norm(one.position_in_local_m[0, :2] - xy) < 2e-3  # the chord of a tenth of a second
    assert abs(float(one.yaw_rad[0]) - (truth + np.pi) % (2 * np.pi) + np.pi) < 1e-6
    assert abs(np.linalg.norm(one.quat_local_to_rig[0]) - 1) < 1e-9


def test_known_times_come_back_exactly():
    ego = clip_drives.circle_drive()
    back = resample_ego(ego, ego.t_us)
    np.testing.assert_allclose(back.position_in_local_m, ego.position_in_local_m, atol=1e-9)
    np.testing.assert_allclose(yaw_of(back.quat_local_to_rig), ego.yaw_rad, atol=1e-9)


def test_slerp_takes_the_short_way_between_opposite_signs():
    quats = Rotation.from_euler("z", [[0.2], [0.4]]).as_quat(scalar_first=True) * [[1], [-1]]
    ego = motion_from_poses(np.array([0, 100_000]), np.zeros((2, 3)), quats)
    np.testing.assert_allclose(resample_ego(ego, np.array([50_000])).yaw_rad, 0.3, atol=1e-9)


_NUMBER = st.floats(-1, 1)
_QUATS = st.tuples(_NUMBER, _NUMBER, _NUMBER, _NUMBER).filter(lambda q: np.linalg.norm(q) > 0.1)


@given(first=_QUATS, last=_QUATS, share=st.integers(0, 1_000))
def test_rotations_are_those_of_scipys_slerp(first, last, share: int):
    """Any two rotations but those half a turn apart, where both ways round are as short."""
    first, last = (np.array(q) / np.linalg.norm(q) for q in (first, last))
    assume(abs(first @ last) > 1e-3)
    zeros = np.zeros((2, 3))
    ego = EgoMotion(np.array([0, 1_000]), zeros, np.stack([first, last]), zeros, zeros, np.zeros(2))
    found = resample_ego(ego, np.array([share])).quat_local_to_rig[0]
    ends = Rotation.from_quat([first, last], scalar_first=True)
    wanted = Slerp([0, 1_000], ends)([share]).as_quat(scalar_first=True)[0]
    assert found[0] >= 0
    assert min(np.abs(found - wanted).max(), np.abs(found + wanted).max()) < 1e-12


def test_ten_hertz_grid_and_times_outside():
    ego = clip_drives.circle_drive(3.0)
    assert np.all(np.diff(ego_at_10hz(ego).t_us) == 100_000)
    with pytest.raises(UserError, match="known from 0 to 3000000 us"):
        resample_ego(ego, np.array([3_000_001]))
