"""The middles of many lanes in one array: many points are measured against many lanes at once.

    s = arc length of the nearest point of the middle          o = distance to it, left positive
    yaw(s) turns evenly from the middle of one segment to that of the next          bend = (yaw(s+d) - yaw(s-d)) / 2d

Past a lane's ends its end segments go on straight, as in `geometry.project_on_polyline`. Reads lanes. Knows nothing of
who drives there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely

from causaldrive.clips.geometry import Array
from causaldrive.clips.types import Lane

_AT_END_M = 1e-6
_LEAST_M = 1.0  # what is shorter bends as if it were so long
_APART_M = 10.0  # between the lanes on the common axis of arc lengths


class LaneLines:
    """Lanes by their index; segment j runs from point j to point j + 1."""

    def __init__(self, lanes: Sequence[Lane]):
        self.lanes = lanes
        self.places = {lane.lane_id: i for i, lane in enumerate(lanes)}
        counts = np.array([len(lane.centre_xy_m) for lane in lanes])
        self._xy = np.concatenate([lane.centre_xy_m for lane in lanes])
        self._first, self._last = np.cumsum(counts) - counts, np.cumsum(counts) - 2  # segments of each lane
        owner = np.repeat(np.arange(len(lanes)), counts)
        step = np.diff(self._xy, axis=0, append=self._xy[-1:])
        size = np.hypot(*step.T)
        self._unit = step / np.maximum(size, 1e-9)[:, None]
        size[self._last + 1] = 0.0
        along = np.concatenate([[0.0], np.cumsum(size)[:-1]])
        self._arc = along - along[self._first][owner]
        self.length_m = self._arc[self._last + 1]
        self._base = np.cumsum(self.length_m + _APART_M) - self.length_m
        self._knots = self._arc + self._base[owner]
        self._middles = self._arc + size / 2
        moved = np.maximum.accumulate(np.where(size > 1e-3, np.arange(len(size)), 0))  # a doubled point has no heading
        self._yaw = np.unwrap(np.arctan2(step[:, 1], step[:, 0])[moved])
        segments = np.delete(np.arange(len(size)), self._last + 1)
        self._headings = (self._middles + self._base[owner])[segments], self._yaw[segments]
        self._lines = np.asarray(shapely.linestrings(self._xy, indices=owner), object)

    def near(self, xy_m: Array, within_m: float) -> tuple[np.ndarray, np.ndarray, Array, Array]:
        """(point, lane, arc length, offset) of all pairs of points (N, 2) and lanes that are not farther apart."""
        points = np.asarray(shapely.points(xy_m), object)
        point, lane = shapely.STRtree(list(self._lines)).query(points, predicate="dwithin", distance=within_m)
        return point, lane, *self._project(lane, xy_m[point], points[point])

    def project(self, lane: np.ndarray, xy_m: Array) -> tuple[Array, Array]:
        """Arc length (N,) and offset (N,) of points (N, 2) on the lanes of index (N,)."""
        return self._project(lane, xy_m, np.asarray(shapely.points(xy_m), object))

    def _project(self, lane: np.ndarray, xy_m: Array, points: np.ndarray) -> tuple[Array, Array]:
        arc = shapely.line_locate_point(self._lines[lane], points)
        at = np.searchsorted(self._knots, arc + self._base[lane], side="right") - 1
        at = np.clip(at, self._first[lane], self._last[lane])
        unit, inside = self._unit[at], arc - self._arc[at]
        gap = xy_m - self._xy[at] - unit * inside[:, None]
        over = (gap * unit).sum(axis=1)
        past = ((arc < _AT_END_M) & (over < 0)) | ((arc > self.length_m[lane] - _AT_END_M) & (over > 0))
        over = np.where(past, over, 0.0)
        aside = np.sqrt(np.maximum((gap * gap).sum(axis=1) - over * over, 0.0))
        return arc + over, np.copysign(aside, unit[:, 0] * gap[:, 1] - unit[:, 1] * gap[:, 0])

    def yaw(self, lane: np.ndarray, arc_m: Array) -> Array:
        """Heading (N,) at arc lengths (N,) of the lanes of index (N,)."""
        arc = np.clip(arc_m, self._middles[self._first[lane]], self._middles[self._last[lane]])
        return np.interp(arc + self._base[lane], *self._headings)

    def along(self, lanes: Sequence[int]) -> tuple[Array, Array, Array]:
        """(arc length, heading) of the middles of segments over lanes one after the other; where each lane starts."""
        starts = np.concatenate([[0.0], np.cumsum(self.length_m[list(lanes)])[:-1]])
        own = [slice(self._first[lane], self._last[lane] + 1) for lane in lanes]
        arc = np.concatenate([self._middles[part] + start for part, start in zip(own, starts, strict=True)])
        return arc, np.unwrap(np.concatenate([self._yaw[part] for part in own])), starts


def bend_1pm(arc_m: Array, line: tuple[Array, Array], over_m: float) -> Array:
    """Curvature (N,) at arc lengths (N,) of a line of headings, over `over_m` to each side as far as it goes."""
    knots, yaw = line
    behind, ahead = (np.clip(arc_m + side * over_m, knots[0], knots[-1]) for side in (-1, 1))
    return (np.interp(ahead, knots, yaw) - np.interp(behind, knots, yaw)) / np.maximum(ahead - behind, _LEAST_M)
