"""The way to go stays in the lane that the car is in: the route moved sideways, and a lane that ends made to go on.

Used to take away 'our route needs the other lane' and 'our lane ends'. Reads a static scene and the ego; writes
nothing. Knows nothing of traffic or of who asks.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry as Geometry

from causaldrive.clips.geometry import Array
from causaldrive.clips.types import Lane
from causaldrive.worlds.route import Route, route_of
from causaldrive.worlds.state import EgoState, SceneContext
from causaldrive.worlds.traffic import CannotIntervene

_LEAST_M = 0.6  # nearer to the middle of the route's lane the car is in it
_AHEAD_M = 120  # a drive of 6.4 s, and what its driver looks at
_ADDED = "kept"


def lane_kept(context: SceneContext, ego: EgoState) -> tuple[SceneContext, Geometry | None]:
    """r'(s) = r(s) + w n(s) sign(d): the route one lane width towards the car, and the ground that was added for it.

    Raises CannotIntervene where the car is in the lane of its route, and where that lane leads elsewhere.
    """
    route = route_of(context)
    arc, offset = (float(v) for v in route.project(ego.xy_in_local_m))
    here = route.index(arc)
    if abs(offset) < _LEAST_M:
        raise CannotIntervene("the car is in the lane that its route needs")
    width = 2 * float(route.half_width_m[here])
    line = _beside(route, math.copysign(width, offset))
    moved = replace(context, route_xy_in_local_m=line)
    gap = next((i for i in range(here, min(here + _AHEAD_M, len(line))) if not _in_lane(route, line, i)), None)
    if gap is None:
        return moved, None
    return _goes_on(moved, route, line, max(gap - 1, here), width)


def _beside(route: Route, aside_m: float) -> Array:
    normal = np.stack([-np.sin(route.yaw_rad), np.cos(route.yaw_rad)], axis=-1)
    return route.xy_m + aside_m * normal


def _in_lane(route: Route, line: Array, i: int) -> bool:
    return route.same_way(line[i], float(route.yaw_rad[i]))


def _goes_on(
    context: SceneContext, route: Route, line: Array, last: int, width_m: float
) -> tuple[SceneContext, Geometry]:
    """The lane that ends at `line[last]` has a further lane as its successor, parallel to the route."""
    road = context.road
    ends = route.lane_at(line[last], float(route.yaw_rad[last]))
    if ends is None or ends.successors or ends.in_junction:
        raise CannotIntervene("the lane that we are in does not go where we go")
    last = min(last, int(route.project(ends.centre_xy_m[-1], float(last))[0]))  # places shortly after it count as in it
    normal = np.stack([-np.sin(route.yaw_rad), np.cos(route.yaw_rad)], axis=-1)[last:]
    left, right = line[last:] + width_m / 2 * normal, line[last:] - width_m / 2 * normal
    added = Lane(_ADDED, line[last:], left, right, predecessors=(ends.lane_id,))
    lanes = road.lanes | {ends.lane_id: replace(ends, successors=(_ADDED,)), _ADDED: added}
    ground = shapely.Polygon(np.concatenate([left, right[::-1]]))
    return replace(context, road=replace(road, lanes=lanes)), shapely.make_valid(ground)
