"""The unicycle action space: the published round-trip bounds, inverses, and the initial speed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from causaldrive.student.action_space import UnicycleActionSpace, unwrap
from causaldrive.student.config import ActionSpaceSettings, TrajectoryTokenSettings
from causaldrive.student.following import follow
from causaldrive.student.presets import FOLLOW_WEIGHT
from causaldrive.student.tokens import FutureTokens

RELEASED = ActionSpaceSettings(
    accel_mean_mps2=0.02902694707164455, accel_std_mps2=0.6810426736454882,
    curvature_mean_1pm=0.0002692167976330542, curvature_std_1pm=0.026148280660833106,
)  # fmt: skip
BRAKE = np.r_[np.full(40, -2.5), np.zeros(24)]
# drive, v0, acceleration, curvature, ADE, FDE, quantised ADE, quantised FDE (m), from the reference table
TABLE = [
    ("straight", 10.0, 0.0, 0.0, 0.0008, 0.0016, 0.0066, 0.019),
    ("curve", 10.0, 0.0, 0.02, 0.0015, 0.0039, 0.041, 0.117),
    ("brake", 10.0, BRAKE, 0.0, 0.0014, 0.0037, 0.006, 0.016),
    ("ramp", 6.0, 0.0, np.linspace(0, 0.12, 64), 0.005, 0.014, 0.007, 0.019),
]


def drive(space: UnicycleActionSpace, v0: float, accel, curvature):
    actions = np.stack(np.broadcast_arrays(accel, curvature, np.zeros(64))[:2], axis=-1)
    xy, yaw, speed = space.decode(torch.tensor(actions)[None].float(), torch.tensor([v0]))
    return actions, xy, yaw, speed


@pytest.mark.parametrize("name, v0, accel, curvature, ade, fde, quantised_ade, quantised_fde", TABLE)
def test_round_trip_stays_within_the_published_table(
    name, v0, accel, curvature, ade, fde, quantised_ade, quantised_fde
):
    space = UnicycleActionSpace(RELEASED)
    _, xy, yaw, _ = drive(space, v0, accel, curvature)
    encoded = space.encode(xy, yaw, torch.tensor([v0]))
    error = (space.decode(encoded, torch.tensor([v0]))[0] - xy).norm(dim=-1)[0]
    assert error.mean() < 1.1 * ade and error[-1] < 1.1 * fde
    tokens = FutureTokens(TrajectoryTokenSettings(), 3000)
    normalised = tokens.decode(tokens.encode(space.normalise(encoded).numpy()))
    again = space.decode(space.denormalise(torch.tensor(normalised)), torch.tensor([v0]))[0]
    error = (again - xy).norm(dim=-1)[0]
    # The table does not say where its brake begins, and rounding depends on it: half as much again is allowed.
    assert error.mean() < 1.5 * quantised_ade and error[-1] < 1.5 * quantised_fde


@given(v0=st.floats(3, 25), accel=st.floats(-0.4, 1.5), curvature=st.floats(-0.05, 0.05), wobble=st.floats(0, 0.5))
@settings(max_examples=25, deadline=None)
def test_smooth_drives_come_back(v0, accel, curvature, wobble):
    space = UnicycleActionSpace(ActionSpaceSettings())
    accels = accel + wobble * np.sin(np.arange(64) * 0.1)
    _, xy, yaw, _ = drive(space, v0, accels, curvature)
    encoded = space.encode(xy, yaw, torch.tensor([v0]))
    assert (space.decode(encoded, torch.tensor([v0]))[0] - xy).norm(dim=-1).max() < 0.03
    assert np.abs(encoded[0, 5:-5, 0].numpy() - accels[5:-5]).max() < 0.05


FOLLOWING = dataclasses.replace(ActionSpaceSettings(), follow_weight=FOLLOW_WEIGHT)


@pytest.mark.parametrize("mounted_rad", [-0.005, 0.0, 0.005])
def test_a_heading_that_is_not_the_paths_direction_does_not_lead_off_the_path(mounted_rad):
    """A car that is recorded with its heading turned by a fixed angle: released solves miss by angle x distance."""
    plain, follows = UnicycleActionSpace(ActionSpaceSettings()), UnicycleActionSpace(FOLLOWING)
    v0 = torch.tensor([10.0])
    _, xy, yaw, _ = drive(plain, 10.0, 0.3, 0.01)
    c, s = np.cos(mounted_rad), np.sin(mounted_rad)
    turned = xy @ torch.tensor([[c, -s], [s, c]]).float()  # seen from axes that are turned by the angle

    def missed_m(space: UnicycleActionSpace) -> float:
        return float((space.decode(space.encode(turned, yaw, v0), v0)[0] - turned).norm(dim=-1)[0, -1])

    assert missed_m(plain) == pytest.approx(abs(mounted_rad) * 70, abs=0.1)
    assert missed_m(follows) < 0.05


def test_following_leaves_the_noise_of_single_points_alone_and_bends_a_true_drive_hardly():
    follows, plain = UnicycleActionSpace(FOLLOWING), UnicycleActionSpace(ActionSpaceSettings())
    v0 = torch.tensor([8.0])
    _, xy, yaw, _ = drive(plain, 8.0, 0.5, 0.02)
    noise = 0.02 * torch.randn(xy.shape, generator=torch.Generator().manual_seed(0))
    for points, most in ((xy, 0.02), (xy + noise, 0.1)):
        difference = (follows.encode(points, yaw, v0) - plain.encode(points, yaw, v0)).abs().amax((0, 1))
        assert difference[0] < most and difference[1] * 64 < most, difference  # m/s^2, and the same sideways


def test_following_reaches_the_least_of_what_it_minimises():
    """Against numbers: the correction is where no small change makes miss + weight x correction smaller."""
    space = UnicycleActionSpace(FOLLOWING)
    v0 = torch.tensor([6.0])
    _, xy, yaw, _ = drive(space, 6.0, np.r_[np.full(32, -1.0), np.full(32, 1.0)], 0.03)
    points, first = xy + torch.tensor([0.0, 0.3]), UnicycleActionSpace(ActionSpaceSettings()).encode(xy, yaw, v0)
    found = follow(first, points, v0, 0.1, weight=1.0)
    speed = 6.0 + 0.1 * (first[0, :, 0].cumsum(0) - first[0, :, 0])
    unit = torch.stack([torch.ones(64), speed.square() + 1], dim=-1)

    def cost(actions: torch.Tensor) -> float:
        missed = space.decode(actions, v0)[0] - points
        return float(missed.square().sum() + ((actions - first)[0] * unit).square().sum())

    at = cost(found)
    assert at < 0.7 * cost(first)
    for seed in range(6):
        step = 0.02 * torch.randn(64, 2, generator=torch.Generator().manual_seed(seed)) / unit
        assert cost(found + step) > at and cost(found - step) > at


def test_decoding_follows_the_unicycle_equations():
    space = UnicycleActionSpace(ActionSpaceSettings())
    _, xy, yaw, speed = drive(space, 2.0, 1.0, 0.1)
    assert speed.shape == (1, 65) and float(speed[0, -1]) == pytest.approx(8.4, abs=1e-4)
    travelled = 2.0 * 6.4 + 0.5 * 6.4**2
    assert float(yaw[0, -1]) == pytest.approx(0.1 * travelled, abs=1e-3)
    assert float(xy[0, -1, 0]) == pytest.approx(np.sin(0.1 * travelled) / 0.1, abs=0.03)
    assert float(xy[0, -1, 1]) == pytest.approx((1 - np.cos(0.1 * travelled)) / 0.1, abs=0.03)


@pytest.mark.parametrize("chosen", [ActionSpaceSettings(), FOLLOWING])
def test_standing_still_and_heading_past_pi_stay_finite(chosen):
    space = UnicycleActionSpace(chosen)
    still = space.encode(torch.zeros(1, 64, 2), torch.zeros(1, 64), torch.zeros(1))
    assert torch.equal(still, torch.zeros(1, 64, 2))
    _, xy, yaw, _ = drive(space, 8.0, 0.0, 0.12)
    wrapped = torch.atan2(yaw.sin(), yaw.cos())
    assert wrapped.diff().abs().max() > 6
    assert torch.allclose(unwrap(wrapped), yaw, atol=1e-4)
    assert torch.allclose(
        space.encode(xy, wrapped, torch.tensor([8.0])), space.encode(xy, yaw, torch.tensor([8.0])), atol=1e-3
    )


@given(v0=st.floats(0, 30), accel=st.floats(-1, 1), yaw_rate=st.floats(-0.3, 0.3))
@settings(max_examples=25, deadline=None)
def test_initial_speed_is_read_from_the_history(v0, accel, yaw_rate):
    t = np.arange(-30, 1) * 0.05
    heading = yaw_rate * t
    speed = np.maximum(v0 + accel * t, 0)
    velocity = speed[:, None] * np.stack([np.cos(heading), np.sin(heading)], 1)
    steps = 0.025 * (velocity[1:] + velocity[:-1])
    xy = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, 0)])
    xy = (xy - xy[-1])[::2]
    space = UnicycleActionSpace(ActionSpaceSettings())
    found = space.initial_speed(torch.tensor(xy)[None], torch.tensor(heading[::2])[None])
    assert float(found[0]) == pytest.approx(v0, abs=0.1)


def test_normalising_is_inverted_and_statistics_follow_their_precision():
    space = UnicycleActionSpace(RELEASED)
    raw = torch.randn(3, 64, 2, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(space.denormalise(space.normalise(raw)), raw, atol=1e-5)
    rounded = UnicycleActionSpace(dataclasses.replace(RELEASED, stats_dtype="bfloat16"))
    values = [float(getattr(rounded, n)) for n in ("accel_mean", "accel_std", "curvature_mean", "curvature_std")]
    assert values == [0.029052734375, 0.6796875, 0.0002689361572265625, 0.026123046875]


def test_bounds_clip_and_are_reported():
    space = UnicycleActionSpace(ActionSpaceSettings())
    raw = torch.zeros(2, 64, 2)
    raw[1, 3] = torch.tensor([12.0, -0.5])
    assert space.is_within_bounds(raw).tolist() == [True, False]
    assert space.clip(raw)[1, 3].tolist() == pytest.approx([9.8, -0.33])
