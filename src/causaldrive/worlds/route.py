"""The way to go, measured: arc length, heading, curvature, lane width and paved room along a route.

Reads a `SceneContext` only, so that it serves the embedded town and replayed logs alike. Knows nothing of agents.
"""

from __future__ import annotations

import weakref
from functools import cached_property

import numpy as np
import shapely
from scipy.ndimage import gaussian_filter1d

from causaldrive.clips.geometry import Array, arc_lengths, pose_on_polyline, project_on_polyline, wrap_angle
from causaldrive.clips.types import Lane, RoadMap
from causaldrive.worlds.state import SceneContext

SPACING_M = 1.0
_SMOOTH_M = 2.5
_DEFAULT_HALF_WIDTH_M = 1.75
_NEAR_LANE_M = 3.0  # from the centre line; farther off nothing is in a lane
_PROBE_M = np.arange(0.5, 7.01, 0.5)  # how far to each side the pavement is looked at
_known: dict[int, tuple[weakref.ref, Route]] = {}


class Route:
    """A route on a 1 m grid; index i is arc length i metres."""

    def __init__(self, context: SceneContext):
        line = np.asarray(context.route_xy_in_local_m, float)
        line = line[np.concatenate([[True], np.linalg.norm(np.diff(line, axis=0), axis=1) > 1e-3])]
        self.length_m = float(arc_lengths(line)[-1])
        arcs = np.arange(0.0, max(self.length_m, 2 * SPACING_M) + 1e-9, SPACING_M)
        self.xy_m, _ = pose_on_polyline(arcs, line)
        step = np.gradient(self.xy_m, axis=0)
        self.yaw_rad = np.unwrap(np.arctan2(step[:, 1], step[:, 0]))
        self.curvature_1pm = gaussian_filter1d(np.gradient(self.yaw_rad, SPACING_M), _SMOOTH_M / SPACING_M)
        self._road = context.road

    @property
    def road(self) -> RoadMap:
        return self._road

    def index(self, arc_m: float) -> int:
        return min(max(round(arc_m / SPACING_M), 0), len(self.xy_m) - 1)

    def project(self, xy_m: Array, near_arc_m: float | None = None, reach_m: float = 120.0) -> tuple[Array, Array]:
        """Arc lengths and offsets (...) of points (..., 2); searched near `near_arc_m` only."""
        low, high = 0, len(self.xy_m)
        if near_arc_m is not None:
            low = min(max(int(near_arc_m - 50.0), 0), high - 2)
            high = min(max(int(near_arc_m + reach_m) + 2, low + 2), high)
        arc, offset = project_on_polyline(xy_m, self.xy_m[low:high])
        return arc + low * SPACING_M, offset

    def heading(self, arc_m: Array | float) -> Array:
        """Heading (...) at arc lengths (...)."""
        return np.asarray(np.interp(arc_m, np.arange(len(self.yaw_rad)) * SPACING_M, self.yaw_rad))

    def curvature(self, arc_m: Array | float) -> Array:
        """Curvature (...) at arc lengths (...)."""
        return np.asarray(np.interp(arc_m, np.arange(len(self.curvature_1pm)) * SPACING_M, self.curvature_1pm))

    @cached_property
    def half_width_m(self) -> Array:
        """(M,) half the width of the lane that the route lies in; 1.75 where no lane is there."""
        lanes = [lane for lane in self._road.lanes.values() if lane.kind != "parking" and len(lane.centre_xy_m) > 1]
        if not lanes:
            return np.full(len(self.xy_m), _DEFAULT_HALF_WIDTH_M)
        points = np.concatenate([lane.centre_xy_m for lane in lanes])
        yaw = np.concatenate([_headings(lane.centre_xy_m) for lane in lanes])
        width = np.concatenate([np.full(len(lane.centre_xy_m), _lane_width(lane)) for lane in lanes])
        gap = np.linalg.norm(self.xy_m[:, None] - points[None], axis=-1)
        gap += np.where(np.abs(wrap_angle(self.yaw_rad[:, None] - yaw[None])) < 0.8, 0.0, 100.0)
        nearest = np.argmin(gap, axis=1)
        found = gap[np.arange(len(gap)), nearest] < 6.0
        return np.where(found, width[nearest] / 2, _DEFAULT_HALF_WIDTH_M)

    def same_way(self, xy_m: Array, yaw_rad: float) -> bool:
        """A lane runs there within 1 rad of that heading."""
        return self.lane_at(xy_m, yaw_rad) is not None

    def lane_end_m(self, xy_m: Array, near_arc_m: float) -> float | None:
        """Arc of the route beside the end of the lane at a place, None where that lane goes on as far as the route."""
        i = self.index(near_arc_m)
        lane = self.lane_at(xy_m, float(self.yaw_rad[i]))
        for _ in range(8):
            if lane is None or not lane.successors:
                break
            lane = self._road.lanes.get(lane.successors[0])
        if lane is None:
            return None
        end = float(self.project(lane.centre_xy_m[-1], near_arc_m, 400.0)[0])
        return end if end < self.length_m - 40.0 else None

    def lane_at(self, xy_m: Array, yaw_rad: float) -> Lane | None:
        """The lane at a place that runs within 1 rad of a heading."""
        low, high = self._lane_boxes
        near = ((xy_m >= low - _NEAR_LANE_M) & (xy_m <= high + _NEAR_LANE_M)).all(axis=1)
        lanes = list(self._road.lanes.values())
        for lane in (lanes[k] for k in np.flatnonzero(near).tolist()):
            centre = lane.centre_xy_m
            gap = np.linalg.norm(centre - xy_m, axis=1)
            i = min(int(np.argmin(gap)), len(centre) - 2)
            if gap.min() > _NEAR_LANE_M or abs(wrap_angle(_headings(centre)[i] - yaw_rad)) > 1.0:
                continue
            if abs(float(project_on_polyline(np.asarray(xy_m, float), centre)[1])) < _lane_width(lane) / 2:
                return lane
        return None

    @cached_property
    def _lane_boxes(self) -> tuple[Array, Array]:
        """Least and greatest x, y of each lane's centre line: a map has hundreds of lanes, and few are near."""
        centres = [lane.centre_xy_m for lane in self._road.lanes.values()]
        if not centres:
            return np.zeros((0, 2)), np.zeros((0, 2))
        return np.array([line.min(axis=0) for line in centres]), np.array([line.max(axis=0) for line in centres])

    def paved_m(self, arc_m: float, side: int) -> float:
        """How far the pavement reaches to the left (+1) or right (-1) of the route at an arc length, at most 7 m."""
        i = self.index(arc_m)
        normal = np.array([-np.sin(self.yaw_rad[i]), np.cos(self.yaw_rad[i])])
        inside = shapely.contains_xy(self._pavement, *(self.xy_m[i] + side * _PROBE_M[:, None] * normal).T)
        return float(_PROBE_M[int(np.argmin(inside)) - 1]) if not inside.all() and inside[0] else 7.0 * bool(inside[0])

    @cached_property
    def _pavement(self) -> shapely.Geometry:
        return pavement(self._road)


def pavement(road: RoadMap) -> shapely.Geometry:
    """Lanes and drivable areas as one prepared geometry."""
    rings = [np.concatenate([lane.left_xy_m, lane.right_xy_m[::-1]]) for lane in road.lanes.values()]
    rings += list(road.drivable.values())
    ground = shapely.union_all([shapely.make_valid(shapely.Polygon(r)).buffer(0.05) for r in rings if len(r) > 2])
    shapely.prepare(ground)
    return ground


def route_of(context: SceneContext) -> Route:
    """The measured route of a context; measured once as long as that context lives."""
    kept = _known.get(id(context))
    if kept is not None and kept[0]() is context:
        return kept[1]
    route = Route(context)
    key = id(context)
    _known[key] = (weakref.ref(context, lambda _: _known.pop(key, None)), route)
    return route


def _headings(line_xy_m: Array) -> Array:
    step = np.gradient(line_xy_m, axis=0)
    return np.arctan2(step[:, 1], step[:, 0])


def _lane_width(lane) -> float:
    """Distance between the boundaries at the middle of the lane."""
    middle = lane.centre_xy_m[len(lane.centre_xy_m) // 2]
    sides = [abs(float(project_on_polyline(middle, line)[1])) for line in (lane.left_xy_m, lane.right_xy_m)]
    return float(np.clip(sum(sides), 2.4, 6.0))
