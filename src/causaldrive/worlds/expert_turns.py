"""Turning at junctions, joining and leaving roads: where the route does, and when a driver says 'turn', 'merge_split'.

    turn = a way over a junction whose heading changes by 0.6 rad or more; to the left where it is positive
    join = a way that gives way to the road it runs into, or of a fork without signal or cross road the way that bends
           more

They are said from 2.5 s before the junction, unless the driver waits there; a turn until 0.45 rad of it are left (from
there on the motion ahead is none any more), a join until its end. Only maps with rights of way are asked (networks);
roundabouts are entered, not turned into. Reads a `Sight` and the map. Knows nothing of SUMO.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from causaldrive.clips.geometry import wrap_angle
from causaldrive.clips.types import Lane, RoadMap
from causaldrive.worlds.expert_junctions import gates_of, junction_chain
from causaldrive.worlds.explanation import Explanation
from causaldrive.worlds.route import Route, route_of
from causaldrive.worlds.sight import Sight
from causaldrive.worlds.state import EgoState, SceneContext

_TURN_RAD, _LEFT_RAD = 0.6, 0.45
_SOON_S, _SOON_M = 2.5, 3.0
_AT_HAND_S, _AT_HAND_M = 4.0, 10.0  # a turn or join this near may be decided
_ON_ROUTE_M, _ALONG_RAD = 1.3, 0.6
_WAITS = ("yield", "stop_for_static_constraint")
_BENDS_RAD = 0.05  # of a fork, the way that bends this much more than the others leaves the road


@dataclass(frozen=True)
class Turn:
    """Arcs of the route from the junction's edge to its other one."""

    start_m: float
    end_m: float
    side: str


@dataclass(frozen=True)
class Join:
    """Arcs of the route from where it begins to join or to leave a road to where it has."""

    start_m: float
    end_m: float


_turns: weakref.WeakKeyDictionary[Route, tuple[Turn, ...]] = weakref.WeakKeyDictionary()
_joins: weakref.WeakKeyDictionary[Route, tuple[Join, ...]] = weakref.WeakKeyDictionary()


def told(said: Explanation, sight: Sight, road: RoadMap) -> Explanation:
    """The same decision, with the turn or join that is being made in the place of 'lane keeping'."""
    if not road.right_of_way or said.lateral != "lane_keeping":
        return said
    turn = next((turn for turn in turns_of(sight.route, road) if _now(sight, turn, said.longitudinal)), None)
    if turn is not None:
        return replace(said, lateral="turn", direction=turn.side)
    joins = any(_reached(sight, join, said.longitudinal) for join in joins_of(sight.route, road))
    return replace(said, lateral="merge_split") if joins else said


def turns_of(route: Route, road: RoadMap) -> tuple[Turn, ...]:
    """The turns of a route, in order; found once a route."""
    if route not in _turns:
        _turns[route] = tuple(sorted(_find(route, road), key=lambda turn: turn.start_m))
    return _turns[route]


def _now(sight: Sight, turn: Turn, longitudinal: str) -> bool:
    left = float(sight.route.heading(turn.end_m) - sight.route.heading(sight.arc_m))
    return abs(left) >= _LEFT_RAD and _reached(sight, turn, longitudinal)


def _reached(sight: Sight, place: Turn | Join, longitudinal: str) -> bool:
    """Inside of it, or so near that it is being done."""
    if sight.arc_m > place.end_m:
        return False
    soon = place.start_m - sight.front_m < max(_SOON_S * sight.speed_mps, _SOON_M)
    return sight.front_m > place.start_m or (soon and longitudinal not in _WAITS)


def joins_of(route: Route, road: RoadMap) -> tuple[Join, ...]:
    """Where a route joins or leaves a road, in order; found once a route."""
    if route not in _joins:
        merges = [Join(gate.stop_m, gate.end_m) for gate in gates_of(route, road) if gate.way.kind == "merge"]
        _joins[route] = tuple(sorted([*merges, *_forks(route, road)], key=lambda join: join.start_m))
    return _joins[route]


def joins_at(context: SceneContext, ego: EgoState) -> tuple[bool, bool]:
    """Whether the way to go joins or leaves a road soon, and whether the car is doing so."""
    arc_m, front_m, reach_m = at_hand(context, ego)
    joins = joins_of(route_of(context), context.road) if context.road.right_of_way else ()
    soon = [j for j in joins if j.end_m > arc_m and j.start_m - front_m < reach_m]
    return bool(soon), any(j.start_m < front_m for j in soon)


def at_hand(context: SceneContext, ego: EgoState) -> tuple[float, float, float]:
    """Arcs of the rear axle and of the front bumper, and how far before the bumper things may be decided."""
    arc_m = float(route_of(context).project(ego.xy_in_local_m)[0])
    front_m = arc_m + ego.rear_axle_to_centre_m + ego.size_m[0] / 2
    return arc_m, front_m, max(_AT_HAND_S * ego.speed_mps, _AT_HAND_M)


def _find(route: Route, road: RoadMap) -> Iterator[Turn]:
    rings = _ring_lanes(road)
    for lane in road.lanes.values():
        if not lane.in_junction or lane.lane_id in rings or _goes_on_from_junction(road, lane):
            continue
        arcs = _on_route(route, _through(road, lane))
        turned = 0.0 if arcs is None else float(route.heading(arcs[1] + 2.0) - route.heading(arcs[0] - 2.0))
        if arcs is not None and abs(turned) >= _TURN_RAD:
            yield Turn(arcs[0], arcs[1] + 2.0, "left" if turned > 0 else "right")


def _forks(route: Route, road: RoadMap) -> Iterator[Join]:
    """Lanes from which ways lead apart, none of them a turn, where the route takes the one that bends most."""
    rings = _ring_lanes(road)
    for lane in road.lanes.values():
        ways = [road.lanes[name] for name in lane.successors if name in road.lanes]
        if len(ways) < 2 or lane.lane_id in road.stop_lines or not all(w.in_junction for w in ways):
            continue
        if rings & set(lane.successors) or _side_by_side(road, ways):
            continue
        lines = [_through(road, way) for way in ways]
        bends = [abs(float(wrap_angle(_yaw(line, -2) - _yaw(line, 0)))) for line in lines]
        most = int(np.argmax(bends))
        arcs = _on_route(route, lines[most])
        if arcs is not None and max(bends) < _TURN_RAD and sorted(bends)[-2] < bends[most] - _BENDS_RAD:
            yield Join(arcs[0], arcs[1] + 2.0)


def _side_by_side(road: RoadMap, ways: Sequence[Lane]) -> bool:
    """The ways lead into lanes of one road: it becomes wider, and nothing leaves it."""
    ends = [name for way in ways for name in junction_chain(road, way.lane_id)[-1].successors[:1]]
    first = road.lanes.get(ends[0]) if ends else None
    return first is not None and bool({first.left_neighbour, first.right_neighbour} & set(ends[1:]))


def _on_route(route: Route, line_xy_m: np.ndarray) -> tuple[float, float] | None:
    """Arcs of the route where a way over a junction begins and ends, None where the route does not take it."""
    arc, aside = route.project(line_xy_m)
    along = wrap_angle(route.heading(arc[0]) - _yaw(line_xy_m, 0))
    if np.abs(aside).max() > _ON_ROUTE_M or abs(along) > _ALONG_RAD or arc[-1] <= arc[0]:
        return None
    return float(arc[0]), float(arc[-1])


def _ring_lanes(road: RoadMap) -> set[str]:
    """Junction lanes of roundabouts."""
    ways = [way for way in road.right_of_way.values() if way.kind == "roundabout"]
    return {lane for way in ways for lane in (way.lane_id, *way.foes)}


def _goes_on_from_junction(road: RoadMap, lane: Lane) -> bool:
    return any(road.lanes[name].in_junction for name in lane.predecessors if name in road.lanes)


def _through(road: RoadMap, lane: Lane) -> np.ndarray:
    """Centre line over the junction."""
    return np.concatenate([part.centre_xy_m for part in junction_chain(road, lane.lane_id)])


def _yaw(line_xy_m: np.ndarray, first: int) -> float:
    return float(np.arctan2(*(line_xy_m[first + 1] - line_xy_m[first])[::-1]))
