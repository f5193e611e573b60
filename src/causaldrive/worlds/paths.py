"""A smooth line with an even arc-length grid, and cheap conversion between the plane and (arc, offset) along it.

Written in plain floats because the town asks for one point at a time. Knows nothing of lanes or agents.
"""

from __future__ import annotations

import math

import numpy as np

from causaldrive.clips.geometry import Array, arc_lengths, pose_on_polyline


class Path:
    """Points every `spacing_m` with headings; arc 0 is the first point. Extended straight past both ends."""

    def __init__(self, xy_m: Array, yaw_rad: Array, spacing_m: float):
        self.xy_m, self.yaw_rad, self.spacing_m = xy_m, yaw_rad, spacing_m
        self._x, self._y, self._yaw = xy_m[:, 0].tolist(), xy_m[:, 1].tolist(), np.unwrap(yaw_rad).tolist()
        self.length_m = spacing_m * (len(xy_m) - 1)

    @classmethod
    def straight(cls, start_xy_m: Array, yaw_rad: float, length_m: float) -> Path:
        """A straight line of two points."""
        heading = np.array([math.cos(yaw_rad), math.sin(yaw_rad)])
        return cls(np.stack([start_xy_m, start_xy_m + length_m * heading]), np.full(2, yaw_rad), length_m)

    @classmethod
    def of_curvature(cls, curvature_1pm: Array, spacing_m: float) -> Path:
        """Integrate a curvature profile (M,) from the origin, heading along x; the midpoint rule."""
        turn = (curvature_1pm[:-1] + curvature_1pm[1:]) / 2 * spacing_m
        yaw = np.concatenate([[0.0], np.cumsum(turn)])
        middle = yaw[:-1] + turn / 2
        steps = spacing_m * np.stack([np.cos(middle), np.sin(middle)], axis=1)
        return cls(np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)]), yaw, spacing_m)

    @classmethod
    def through(cls, points_xy_m: Array) -> Path:
        """A line through nearly evenly spaced points (M, 2), set on an even grid of the same count."""
        total = arc_lengths(points_xy_m)[-1]
        xy, _ = pose_on_polyline(np.linspace(0.0, total, len(points_xy_m)), points_xy_m)
        step = np.gradient(xy, axis=0)
        return cls(xy, np.unwrap(np.arctan2(step[:, 1], step[:, 0])), float(total) / (len(xy) - 1))

    def reversed(self) -> Path:
        """The same line driven the other way; arc s becomes length - s, offset d becomes -d."""
        return Path(self.xy_m[::-1].copy(), self.yaw_rad[::-1] + math.pi, self.spacing_m)

    def pose(self, arc_m: float, offset_m: float = 0.0) -> tuple[float, float, float]:
        """x, y, yaw at an arc length and a left-positive offset."""
        index = min(max(int(arc_m / self.spacing_m), 0), len(self._x) - 2)
        rest = arc_m / self.spacing_m - index
        part = min(max(rest, 0.0), 1.0)
        yaw = self._yaw[index] + part * (self._yaw[index + 1] - self._yaw[index])
        x = self._x[index] + rest * (self._x[index + 1] - self._x[index])
        y = self._y[index] + rest * (self._y[index + 1] - self._y[index])
        return x - offset_m * math.sin(yaw), y + offset_m * math.cos(yaw), yaw

    def offset_line(self, offset_m: float, from_m: float, to_m: float, every_m: float = 2.0) -> Array:
        """(M, 2) points of the parallel line at `offset_m` between two arc lengths, both ends included."""
        count = max(math.ceil((to_m - from_m) / every_m), 1) + 1
        return np.array([self.pose(s, offset_m)[:2] for s in np.linspace(from_m, to_m, count).tolist()])

    def project(self, x_m: float, y_m: float, near_arc_m: float, rounds: int = 4) -> tuple[float, float]:
        """Arc length and offset of a point, found by walking from `near_arc_m`.

        Each round shrinks the error by |curvature x offset|, so `near_arc_m` should be the last known arc.
        """
        arc = near_arc_m
        for _ in range(rounds):
            x, y, yaw = self.pose(arc)
            arc += (x_m - x) * math.cos(yaw) + (y_m - y) * math.sin(yaw)
        x, y, yaw = self.pose(arc)
        return arc, (y_m - y) * math.cos(yaw) - (x_m - x) * math.sin(yaw)
