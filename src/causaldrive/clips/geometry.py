"""Planar and spatial transforms. Quaternions are (w, x, y, z); `a_to_b` is the pose of b expressed in a.

Knows nothing of files or clocks. Shapes use `...` for any leading dimensions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Array = NDArray[np.float64]


def wrap_angle(angle_rad: Array | float) -> Array:
    """Angle brought into [-pi, pi)."""
    return (np.asarray(angle_rad) + np.pi) % (2 * np.pi) - np.pi


def rotate(xy: Array, yaw_rad: Array | float) -> Array:
    """(..., 2) vectors turned by yaw (...)."""
    xy = np.asarray(xy, float)
    c, s = np.cos(yaw_rad), np.sin(yaw_rad)
    return np.stack([c * xy[..., 0] - s * xy[..., 1], s * xy[..., 0] + c * xy[..., 1]], axis=-1)


def to_frame(xy_in_local_m: Array, origin_xy_m: Array, origin_yaw_rad: float) -> Array:
    """Points (..., 2) of the local frame, expressed in the frame at `origin`."""
    return rotate(np.asarray(xy_in_local_m, float) - np.asarray(origin_xy_m, float), -origin_yaw_rad)


def from_frame(xy_in_frame_m: Array, origin_xy_m: Array, origin_yaw_rad: float) -> Array:
    """Inverse of `to_frame`."""
    return rotate(xy_in_frame_m, origin_yaw_rad) + np.asarray(origin_xy_m, float)


def yaw_of(quat_wxyz: Array) -> Array:
    """Yaw (...) of quaternions (..., 4): heading of the x axis in the xy plane."""
    w, x, y, z = np.moveaxis(np.asarray(quat_wxyz, float), -1, 0)
    return np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def quat_of_yaw(yaw_rad: Array | float) -> Array:
    """Quaternion (..., 4) of a rotation about z."""
    half = np.asarray(yaw_rad, float) / 2
    zero = np.zeros_like(half)
    return np.stack([np.cos(half), zero, zero, np.sin(half)], axis=-1)


def matrix_of_quat(quat_wxyz: Array) -> Array:
    """Rotation matrices (..., 3, 3)."""
    return Rotation.from_quat(np.asarray(quat_wxyz, float), scalar_first=True).as_matrix()


def quat_of_matrix(matrix: Array) -> Array:
    """Quaternions (..., 4) with w >= 0."""
    quat = Rotation.from_matrix(np.asarray(matrix, float)).as_quat(scalar_first=True)
    return np.where(quat[..., :1] < 0, -quat, quat)


def box_corners(xy_m: Array, yaw_rad: Array, length_m: Array, width_m: Array) -> Array:
    """Corners (..., 4, 2) of boxes centred at (..., 2): front left, front right, rear right, rear left."""
    half = np.stack([np.asarray(length_m, float), np.asarray(width_m, float)], axis=-1)[..., None, :] / 2
    signs = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]], float)
    return rotate(half * signs, np.asarray(yaw_rad)[..., None]) + np.asarray(xy_m, float)[..., None, :]


def arc_lengths(polyline_xy_m: Array) -> Array:
    """Distance along a polyline (M, 2) at each of its points (M,)."""
    steps = np.linalg.norm(np.diff(polyline_xy_m, axis=0), axis=1)
    return np.concatenate([[0.0], np.cumsum(steps)])


def project_on_polyline(xy_m: Array, polyline_xy_m: Array) -> tuple[Array, Array]:
    """Arc length (...) and signed lateral offset (...), left positive, of points (..., 2) on a polyline (M, 2).

    Points before the first or past the last vertex are measured on the extended end segments.
    """
    points = np.asarray(xy_m, float)
    start = polyline_xy_m[:-1]
    along = polyline_xy_m[1:] - start
    step = np.sqrt(along[:, 0] * along[:, 0] + along[:, 1] * along[:, 1])
    length = np.maximum(step, 1e-9)
    ux, uy = along[:, 0] / length, along[:, 1] / length
    dx, dy = points[..., 0, None] - start[:, 0], points[..., 1, None] - start[:, 1]
    low, high = np.zeros(len(length)), length.copy()
    low[0], high[-1] = -np.inf, np.inf
    t = np.minimum(np.maximum(dx * ux + dy * uy, low), high)
    gx, gy = dx - t * ux, dy - t * uy
    squared = gx * gx + gy * gy
    nearest = np.argmin(squared, axis=-1)
    rows = (*np.indices(nearest.shape, sparse=True), nearest)
    arc = np.concatenate([[0.0], np.cumsum(step)])[:-1]
    side = ux[nearest] * gy[rows] - uy[nearest] * gx[rows]
    return arc[nearest] + t[rows], np.copysign(np.sqrt(squared[rows]), side)


def pose_on_polyline(arc_m: Array | float, polyline_xy_m: Array) -> tuple[Array, Array]:
    """Position (..., 2) and heading (...) at arc lengths (...) of a polyline, extended straight past its ends."""
    arc = np.atleast_1d(np.asarray(arc_m, float))
    knots = arc_lengths(polyline_xy_m)
    index = np.clip(np.searchsorted(knots, arc, side="right") - 1, 0, len(knots) - 2)
    step = polyline_xy_m[index + 1] - polyline_xy_m[index]
    unit = step / np.maximum(np.linalg.norm(step, axis=-1, keepdims=True), 1e-9)
    xy = polyline_xy_m[index] + unit * (arc - knots[index])[..., None]
    yaw = np.arctan2(unit[..., 1], unit[..., 0])
    shape = np.shape(arc_m)
    return xy.reshape(*shape, 2), yaw.reshape(shape)
