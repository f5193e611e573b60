"""Turning at junctions: the part of the route that makes it, and when a driver says 'turn'.

    turn = a way over a junction whose heading changes by 0.6 rad or more; to the left where it is positive

It is said from 2.5 s before the junction, unless the driver waits there, until 0.45 rad of it are left: from there on
the motion ahead is none any more. Only maps with rights of way are asked (networks); roundabouts are entered, not
turned into. Reads a `Sight` and the map. Knows nothing of SUMO.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from causaldrive.clips.geometry import wrap_angle
from causaldrive.clips.types import Lane, RoadMap
from causaldrive.worlds.explanation import Explanation
from causaldrive.worlds.route import Route
from causaldrive.worlds.sight import Sight

_TURN_RAD, _LEFT_RAD = 0.6, 0.45
_SOON_S, _SOON_M = 2.5, 3.0
_ON_ROUTE_M, _ALONG_RAD = 1.3, 0.6
_WAITS = ("yield", "stop_for_static_constraint")


@dataclass(frozen=True)
class Turn:
    """Arcs of the route from the junction's edge to its other one."""

    start_m: float
    end_m: float
    side: str


_turns: weakref.WeakKeyDictionary[Route, tuple[Turn, ...]] = weakref.WeakKeyDictionary()


def told(said: Explanation, sight: Sight, road: RoadMap) -> Explanation:
    """The same decision, with the turn that is being made in the place of 'lane keeping'."""
    if not road.right_of_way or said.lateral != "lane_keeping":
        return said
    turn = next((turn for turn in turns_of(sight.route, road) if _now(sight, turn, said.longitudinal)), None)
    return said if turn is None else replace(said, lateral="turn", direction=turn.side)


def turns_of(route: Route, road: RoadMap) -> tuple[Turn, ...]:
    """The turns of a route, in order; found once a route."""
    if route not in _turns:
        _turns[route] = tuple(sorted(_find(route, road), key=lambda turn: turn.start_m))
    return _turns[route]


def _now(sight: Sight, turn: Turn, longitudinal: str) -> bool:
    left = float(sight.route.heading(turn.end_m) - sight.route.heading(sight.arc_m))
    if abs(left) < _LEFT_RAD or sight.arc_m > turn.end_m:
        return False
    inside = sight.front_m > turn.start_m
    soon = turn.start_m - sight.front_m < max(_SOON_S * sight.speed_mps, _SOON_M)
    return inside or (soon and longitudinal not in _WAITS)


def _find(route: Route, road: RoadMap) -> Iterator[Turn]:
    ways = [way for way in road.right_of_way.values() if way.kind == "roundabout"]
    rings = {lane for way in ways for lane in (way.lane_id, *way.foes)}
    for lane in road.lanes.values():
        if not lane.in_junction or lane.lane_id in rings or _goes_on_from_junction(road, lane):
            continue
        line = _through(road, lane)
        arc, aside = route.project(line)
        along = wrap_angle(route.heading(arc[0]) - _yaw(line, 0))
        if np.abs(aside).max() > _ON_ROUTE_M or abs(along) > _ALONG_RAD or arc[-1] <= arc[0]:
            continue
        turned = float(route.heading(arc[-1] + 2.0) - route.heading(arc[0] - 2.0))
        if abs(turned) >= _TURN_RAD:
            yield Turn(float(arc[0]), float(arc[-1]) + 2.0, "left" if turned > 0 else "right")


def _goes_on_from_junction(road: RoadMap, lane: Lane) -> bool:
    return any(road.lanes[name].in_junction for name in lane.predecessors if name in road.lanes)


def _through(road: RoadMap, lane: Lane) -> np.ndarray:
    """Centre line over the junction: a junction lane and those that continue it inside."""
    lines = []
    following: Lane | None = lane
    while following is not None and following.in_junction and len(lines) < 4:
        lines.append(following.centre_xy_m)
        following = road.lanes.get(following.successors[0]) if following.successors else None
    return np.concatenate(lines)


def _yaw(line_xy_m: np.ndarray, first: int) -> float:
    return float(np.arctan2(*(line_xy_m[first + 1] - line_xy_m[first])[::-1]))
