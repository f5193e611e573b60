"""Ego motion at other times, and motion from bare poses.

Positions and rates are interpolated linearly, rotations by slerp. Derivatives come from symmetric (zero-phase)
Savitzky-Golay fits, so that a brake pedal pressed at t is seen at t. Knows nothing of files.
"""

from __future__ import annotations

import numpy as np
from scipy.signal import savgol_filter
from scipy.spatial.transform import Rotation

from causaldrive.clips.types import EgoMotion
from causaldrive.ground.errors import UserError
from causaldrive.ground.words import STEP_US

STANDSTILL_MPS = 0.5  # below this speed a path has no meaningful curvature
_VELOCITY_WINDOW_S, _ACCELERATION_WINDOW_S = 0.5, 1.0
_GRID_S = (0.02, 0.1)  # finest and coarsest uniform step that derivatives are taken on


def resample_ego(ego: EgoMotion, t_us: np.ndarray) -> EgoMotion:
    """Ego motion at times (N,) int64 inside its span; slerp for rotation, linear for the rest.

    Raises UserError when a time lies outside.
    """
    t_us = np.asarray(t_us, np.int64)
    if len(t_us) and (t_us.min() < ego.t_us[0] or t_us.max() > ego.t_us[-1]):
        raise UserError(
            f"ego motion is asked for at {t_us.min()}..{t_us.max()} us but known from {ego.t_us[0]} to "
            f"{ego.t_us[-1]} us; choose times inside."
        )
    left, share = _bracket(ego.t_us, t_us)

    def linear(values: np.ndarray) -> np.ndarray:
        weight = share.reshape(-1, *[1] * (values.ndim - 1))
        return values[left] * (1 - weight) + values[left + 1] * weight

    return EgoMotion(
        t_us=t_us,
        position_in_local_m=linear(ego.position_in_local_m),
        quat_local_to_rig=_slerp(ego.quat_local_to_rig[left], ego.quat_local_to_rig[left + 1], share),
        velocity_in_rig_mps=linear(ego.velocity_in_rig_mps),
        acceleration_in_rig_mps2=linear(ego.acceleration_in_rig_mps2),
        curvature_1pm=linear(ego.curvature_1pm),
    )


def _bracket(known_t_us: np.ndarray, t_us: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index of the known time at or before each time, and the share (0..1) of the way to the next."""
    left = np.clip(np.searchsorted(known_t_us, t_us, side="right") - 1, 0, len(known_t_us) - 2)
    span = known_t_us[left + 1] - known_t_us[left]
    return left, (t_us - known_t_us[left]) / span


def _slerp(quat_a: np.ndarray, quat_b: np.ndarray, share: np.ndarray) -> np.ndarray:
    """q = (sin((1 - share) h) a + sin(share h) b) / sin h, (N, 4), with h the angle from a to b or -b; w >= 0.

    The shorter way round. Written with sinc, which has no gap where a and b are the same.
    """
    first, last = _unit(quat_a), _unit(quat_b)
    last = last * np.where(np.einsum("ni,ni->n", first, last) < 0, -1.0, 1.0)[:, None]
    angle = 2 * np.arctan2(_length(last - first), _length(last + first)) / np.pi  # in half turns, as sinc takes it
    part = np.stack([1 - share, share])
    weight_a, weight_b = part * np.sinc(part * angle) / np.sinc(angle)
    quat = _unit(weight_a[:, None] * first + weight_b[:, None] * last)
    return quat * np.where(quat[:, :1] < 0, -1.0, 1.0)


def _length(vectors: np.ndarray) -> np.ndarray:
    return np.sqrt(np.einsum("ni,ni->n", vectors, vectors))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / _length(vectors)[:, None]


def ego_at_10hz(ego: EgoMotion) -> EgoMotion:
    """Ego motion on a 10 Hz grid from its first time on."""
    return resample_ego(ego, np.arange(ego.t_us[0], ego.t_us[-1] + 1, STEP_US, dtype=np.int64))


def driven_path(ego: EgoMotion, step_m: float = 1.0) -> np.ndarray:
    """(R, 2) points of the driven path at least `step_m` apart, so that standing and its jitter add none; R >= 1."""
    xy = ego.position_in_local_m[:, :2]
    kept = [xy[0]]
    for point in xy[1:]:
        if np.hypot(*(point - kept[-1])) >= step_m:
            kept.append(point)
    return np.array(kept)


def motion_from_poses(
    t_us: np.ndarray, position_in_local_m: np.ndarray, quat_local_to_rig: np.ndarray, source: str = "poses"
) -> EgoMotion:
    """v = R^T dp/dt, a = R^T d2p/dt2 (inertial, without gravity), curvature = yaw rate / forward speed.

    `t_us` (T,) strictly increasing, positions (T, 3), quaternions (T, 4). Curvature is 0 below `STANDSTILL_MPS`.
    Raises UserError naming `source` for fewer than two poses, NaN, or times that do not increase.
    """
    t_us = np.asarray(t_us, np.int64)
    zeros = np.zeros((len(t_us), 3))
    bare = EgoMotion(t_us, np.asarray(position_in_local_m, float), np.asarray(quat_local_to_rig, float),
                     zeros, zeros, zeros[:, 0])  # fmt: skip
    bare.validate(source)
    grid_t_us, step_s = _uniform_grid(t_us)
    grid = resample_ego(bare, grid_t_us)
    rotation = Rotation.from_quat(grid.quat_local_to_rig, scalar_first=True)
    velocity = rotation.inv().apply(derivative(grid.position_in_local_m, step_s, 1, _VELOCITY_WINDOW_S))
    acceleration = rotation.inv().apply(derivative(grid.position_in_local_m, step_s, 2, _ACCELERATION_WINDOW_S))
    yaw_rate = derivative(np.unwrap(grid.yaw_rad), step_s, 1, _VELOCITY_WINDOW_S)
    return EgoMotion(
        t_us=t_us,
        position_in_local_m=bare.position_in_local_m,
        quat_local_to_rig=bare.quat_local_to_rig,
        velocity_in_rig_mps=_at(t_us, grid_t_us, velocity),
        acceleration_in_rig_mps2=_at(t_us, grid_t_us, acceleration),
        curvature_1pm=_at(t_us, grid_t_us, curvature_of(yaw_rate, velocity[:, 0])),
    )


def curvature_of(yaw_rate_radps: np.ndarray, speed_mps: np.ndarray) -> np.ndarray:
    """curvature = yaw rate / speed; 0 where the speed is below `STANDSTILL_MPS`, where the quotient is only noise."""
    moving = np.abs(speed_mps) >= STANDSTILL_MPS
    return np.where(moving, yaw_rate_radps / np.where(moving, speed_mps, 1.0), 0.0)


def derivative(values: np.ndarray, step_s: float, order: int, window_s: float) -> np.ndarray:
    """Derivative of the given order (0 smooths only) of uniformly sampled values (T, ...), zero-phase.

    The window shrinks to what there is; two samples give the slope of a line, and no second derivative.
    """
    if len(values) < 3:
        slope = np.gradient(values, step_s, axis=0) if len(values) == 2 else np.zeros_like(values)
        return values if order == 0 else slope if order == 1 else np.zeros_like(values)
    wanted = 2 * round(window_s / step_s / 2) + 1
    window = min(max(wanted, 5), len(values) - (len(values) + 1) % 2)
    degree = min(3 if order < 2 else 2, window - 1)
    return np.asarray(savgol_filter(values, window, degree, deriv=order, delta=step_s, axis=0, mode="interp"))


def _uniform_grid(t_us: np.ndarray) -> tuple[np.ndarray, float]:
    """Uniform times over the span, as fine as the poses but within `_GRID_S`."""
    step_s = float(np.clip(np.median(np.diff(t_us)) / 1e6, *_GRID_S))
    count = max(round((t_us[-1] - t_us[0]) / 1e6 / step_s), 1) + 1
    grid = np.linspace(t_us[0], t_us[-1], count).round().astype(np.int64)
    return grid, float(t_us[-1] - t_us[0]) / 1e6 / (count - 1)


def _at(t_us: np.ndarray, known_t_us: np.ndarray, values: np.ndarray) -> np.ndarray:
    left, share = _bracket(known_t_us, t_us)
    weight = share.reshape(-1, *[1] * (values.ndim - 1))
    return values[left] * (1 - weight) + values[left + 1] * weight
