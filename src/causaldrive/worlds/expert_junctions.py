"""Right of way at junctions, each rule alone: stop signs, who came first, oncoming traffic, merging, the roundabout.

Reads a `Sight` and the map's rights of way. A `Gate` is a place on the route where others may go first; a `Rival` is
the way that they come. Writes nothing. Knows nothing of SUMO: a map with `right_of_way` is all it needs.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from causaldrive.clips.geometry import Array, arc_lengths, pose_on_polyline, project_on_polyline, wrap_angle
from causaldrive.clips.types import Lane, RightOfWay, RoadMap
from causaldrive.ground.words import STOP_WAYS
from causaldrive.worlds import bounds
from causaldrive.worlds.explanation import Factor, Finding
from causaldrive.worlds.route import Route
from causaldrive.worlds.sight import VEHICLES, Sight
from causaldrive.worlds.state import WorldState

_REACH_M = 55.0  # gates nearer than this are looked at
_ON_ROUTE_M, _ALONG_RAD = 1.3, 0.6
_ZONE_M = 2.2  # centre lines nearer than this conflict
_BACK_M, _BEFORE_M, _AHEAD_M, _SAMPLE_M = 110.0, 15.0, 25.0, 0.5
_ON_WAY_M, _ON_WAY_RAD = 1.7, 0.6
_STOOD_MPS, _STOOD_NEAR_M = 0.3, 4.0
_STOP_MARGIN_M, _WAIT_MARGIN_M = 0.9, 1.2
_OUR_ACCELERATION, _THEIR_ACCELERATION = 1.5, 2.0
_AFTER_US_S, _AFTER_THEM_S = 1.5, 0.3
_PAST_LINE_M, _WAITS_US = 1.0, 900_000
_MUST_GO_MPS2 = 6.0  # harder braking than this is not asked for: the junction is left instead
_MERGE_COMFORT_MPS2, _MERGE_SOFT_MPS2, _MERGE_AHEAD_M, _MERGE_REAR_M, _MERGE_REAR_S = 2.0, 2.5, 3.0, 3.0, 1.0
_KINDS = {"all_way_stop": "crossing_vehicle", "stop": "crossing_vehicle", "yield": "crossing_vehicle",
          "left_turn": "oncoming_vehicle", "merge": "merging_vehicle", "roundabout": "merging_vehicle"}  # fmt: skip
_TEXTS = {
    "all_way_stop": "a crossing car came first",
    "stop": "a crossing car goes first",
    "yield": "a crossing car goes first",
    "left_turn": "an oncoming car goes first",
    "merge": "a car on the main road goes first",
    "roundabout": "a car in the roundabout goes first",
}


@dataclass(frozen=True)
class Rival:
    """A way that goes first. Arcs along it, and along our route, of the stretch where both ways conflict."""

    line_xy_m: Array
    starts_m: float  # where it enters the junction
    enter_m: float
    leave_m: float
    our_enter_m: float
    our_leave_m: float
    turn: int  # 1 left, -1 right, 0 straight on
    approach: str  # lane before the junction, for its light


@dataclass(frozen=True)
class Gate:
    """A right of way on our route; `stop_m` is the arc where we wait."""

    way: RightOfWay
    stop_m: float
    end_m: float  # where our way leaves the junction
    rivals: tuple[Rival, ...]


@dataclass(frozen=True)
class _Other:
    """A vehicle on a rival's way."""

    agent_id: str
    nose_m: float
    tail_m: float
    speed_mps: float
    half_m: float


_gates: weakref.WeakKeyDictionary[Route, tuple[Gate, ...]] = weakref.WeakKeyDictionary()


def findings(sight: Sight, road: RoadMap, free_mps2: float, wish_mps: float) -> list[Finding]:
    """What each right of way ahead asks for; nothing on a map without any."""
    if not road.right_of_way:
        return []
    found: list[Finding] = []
    for gate in gates_of(sight.route, road):
        if sight.rear_m < gate.end_m and gate.stop_m - sight.front_m < _REACH_M:
            found += _at_gate(sight, gate, free_mps2, wish_mps)
    return found


def gates_of(route: Route, road: RoadMap) -> tuple[Gate, ...]:
    """The rights of way on a route, in order; found once a route."""
    if route not in _gates:
        _gates[route] = tuple(sorted(_find_gates(route, road), key=lambda gate: gate.stop_m))
    return _gates[route]


def _at_gate(sight: Sight, gate: Gate, free_mps2: float, wish_mps: float) -> Iterator[Finding]:
    if gate.way.kind in STOP_WAYS and sight.front_m < gate.stop_m + 1.0:
        stood = _stood_since(sight, gate)
        if stood is None:
            distance = gate.stop_m - sight.front_m - _STOP_MARGIN_M
            bound = bounds.stop_at(sight.speed_mps, distance, free_mps2, _STOP_MARGIN_M)
            factor = Factor("stop_sign", None, sight.history[0].t_us, bound, 0.0, "a stop sign is ahead")
            yield Finding(factor, "stop_for_static_constraint")
    claims: dict[str, tuple[float, float, Finding]] = {}
    for rival in gate.rivals:
        for other in _others(sight.history[-1], rival, gate):
            claim = _claim(sight, gate, rival, other, free_mps2, wish_mps)
            ranked = (claim.factor.required_acceleration_mps2, rival.enter_m - other.nose_m, claim)
            claims[other.agent_id] = min(claims.get(other.agent_id, ranked), ranked, key=lambda c: c[:2])
    binding = sorted((c for c in claims.values() if c[2].longitudinal is not None), key=lambda c: c[:2])
    yield from (claim for *_, claim in binding[:1])  # the first of a stream stands for those behind it
    yield from (claim for *_, claim in claims.values() if claim.longitudinal is None)


def _claim(sight: Sight, gate: Gate, rival: Rival, other: _Other, free: float, wish: float) -> Finding:
    """One rival: what its turn asks of us."""
    if gate.way.kind == "merge":
        bound = _merge_bound(sight, rival, other, free)
    elif _goes_first(sight, gate, rival, other, wish):
        bound = _wait_bound(sight, gate, rival, free)
    else:
        bound = None
    since = _seen_since(sight, other.agent_id)
    text = _TEXTS[gate.way.kind] if bound is not None else "a car on the other way does not meet us"
    factor = Factor(_KINDS[gate.way.kind], other.agent_id, since, free if bound is None else bound, 0.0, text)
    decision = "gap_searching" if gate.way.kind == "merge" else "yield"
    return Finding(factor, None if bound is None else decision)


def _wait_bound(sight: Sight, gate: Gate, rival: Rival, free_mps2: float) -> float | None:
    """Wait at the line, or before the rival's way once past it."""
    place = rival.our_enter_m - _WAIT_MARGIN_M
    if sight.front_m < gate.stop_m + _PAST_LINE_M:
        place = min(gate.stop_m - _STOP_MARGIN_M, place)
    distance = place - sight.front_m
    if distance < -_WAIT_MARGIN_M or bounds.required_to_stop(sight.speed_mps, distance + 1.0) > _MUST_GO_MPS2:
        return None
    return bounds.stop_at(sight.speed_mps, distance, free_mps2, _WAIT_MARGIN_M)


def _goes_first(sight: Sight, gate: Gate, rival: Rival, other: _Other, wish_mps: float) -> bool:
    """Would both be in the conflict zone, driving on: t_in < our t_out + 1.5 s and t_out + 0.3 s > our t_in."""
    before_line = other.nose_m < rival.starts_m - 0.3
    if gate.way.kind == "all_way_stop" and before_line:
        return _came_first(sight, gate, rival, other)
    to_zone = rival.enter_m - other.nose_m
    if to_zone > 0.0 and _lets_us_go(sight, rival, other, before_line):
        return False
    enters = _time(to_zone, other.speed_mps, _THEIR_ACCELERATION if other.speed_mps < 8.0 else 0.0, 14.0)
    leaves = (rival.leave_m - other.tail_m) / max(other.speed_mps, 2.5)
    length = sight.front_m - sight.rear_m
    to_enter, to_leave = rival.our_enter_m - sight.front_m, rival.our_leave_m + length - sight.front_m
    ours_in, ours_out = _our_times(sight, gate, to_enter, to_leave, wish_mps)
    if sight.front_m > gate.stop_m + _PAST_LINE_M and to_zone > 0.0:
        return enters < ours_in  # we are in the junction already: who is there first goes on
    return enters < ours_out + _AFTER_US_S and leaves + _AFTER_THEM_S > ours_in


def _our_times(sight: Sight, gate: Gate, enter_m: float, leave_m: float, wish_mps: float) -> tuple[float, float]:
    """When we enter the conflict zone and leave it. A left turn is driven at its curve's speed u, slowed to on the way:
    t_in = 2 d / (v + u), t_out = t_in + l / u where u < v; who counts on less finds out late that the gap is too short.
    """
    v = sight.speed_mps
    enters, leaves = (_time(distance, v, _OUR_ACCELERATION, wish_mps) for distance in (enter_m, leave_m))
    if gate.way.kind != "left_turn":
        return enters, leaves
    bend = float(np.abs(sight.route.curvature(np.arange(gate.stop_m, gate.end_m, 1.0))).max(initial=1e-6))
    u = math.sqrt(bounds.LATERAL_COMFORT_MPS2 / bend)
    if u >= v:
        return enters, leaves
    slowed = 2 * max(enter_m, 0.0) / (v + u)
    return max(enters, slowed), max(leaves, slowed + (leave_m - max(enter_m, 0.0)) / u)


def _lets_us_go(sight: Sight, rival: Rival, other: _Other, before_line: bool) -> bool:
    """It stands: at its line without a green light, or for a while inside the junction."""
    since = _stands_since(sight, other.agent_id)
    if since is None:
        return False
    if before_line:
        return not _green(sight.history[-1], rival.approach)
    return sight.t_us - since > _WAITS_US


def _time(distance_m: float, speed_mps: float, acceleration: float, top_mps: float) -> float:
    """Time for a distance at v + a t, not above the top speed; 0 when it is behind."""
    d, v, top = max(distance_m, 0.0), speed_mps, max(top_mps, speed_mps, 0.1)
    if acceleration <= 0.0:
        return d / max(v, 0.1)
    run_up = (top * top - v * v) / (2 * acceleration)
    if run_up >= d:
        return (math.sqrt(v * v + 2 * acceleration * d) - v) / acceleration
    return (top - v) / acceleration + (d - run_up) / top


def _came_first(sight: Sight, gate: Gate, rival: Rival, other: _Other) -> bool:
    """At an all-way stop: it stood at its line before we did. Who has waited for the whole history lets nobody wait."""
    if rival.starts_m - other.nose_m > _STOOD_NEAR_M + 1.0:
        return False
    theirs = _stands_since(sight, other.agent_id)
    ours = _stood_since(sight, gate)
    if theirs is None:
        return False
    return ours is None or theirs < ours


def _stood_since(sight: Sight, gate: Gate) -> int | None:
    """When, within the history, we first stood at the gate's line; None if we did not."""
    ahead = sight.front_m - sight.arc_m
    for state in sight.history:
        if state.ego.speed_mps < _STOOD_MPS:
            nose = float(sight.route.project(state.ego.xy_in_local_m, sight.arc_m)[0]) + ahead
            if -1.5 < gate.stop_m - nose < _STOOD_NEAR_M:
                return state.t_us
    return None


def _stands_since(sight: Sight, agent_id: str) -> int | None:
    """Start of the standstill that lasts until now; None when it moves."""
    since = None
    for state in reversed(sight.history):
        if agent_id not in state.agents.ids or state.agents.speed_mps[state.agents.ids.index(agent_id)] > _STOOD_MPS:
            break
        since = state.t_us
    return since


def _merge_bound(sight: Sight, rival: Rival, other: _Other, free_mps2: float) -> float | None:
    """Follow the rival as if it were ahead on our way, at the same distance from the merging point (IDM)."""
    shift = rival.our_enter_m - rival.enter_m
    nose, tail = other.nose_m + shift, other.tail_m + shift
    if sight.rear_m > rival.our_leave_m or tail < sight.rear_m - 60.0:
        return None
    behind = sight.rear_m - nose
    closing = max(other.speed_mps - sight.speed_mps, 0.0)
    if behind > _MERGE_REAR_M + (_MERGE_REAR_S + 1.0) * closing or sight.front_m > rival.our_enter_m + 2.0:
        return None  # far enough behind us, or we are in
    gap = max(tail - sight.front_m, 0.5)
    bound = bounds.follow(sight.speed_mps, other.speed_mps, gap, free_mps2, _MERGE_COMFORT_MPS2)
    if _comes_after(sight, rival, other, _MERGE_SOFT_MPS2):
        bound = max(bound, -_MERGE_SOFT_MPS2)  # there is way left in which the gap grows
    return bound if bound < free_mps2 - 0.3 else None


def _comes_after(sight: Sight, rival: Rival, other: _Other, braking_mps2: float) -> bool:
    """Braking like that we are still before the merging point when the other has passed it: v t - b t^2 / 2 < d."""
    t = max(rival.enter_m - other.tail_m, 0.0) / max(other.speed_mps, 1.0)
    t = min(t, sight.speed_mps / braking_mps2)
    way = sight.speed_mps * t - braking_mps2 * t * t / 2
    return way < rival.our_enter_m - sight.front_m - _MERGE_AHEAD_M


def _green(state: WorldState, lane_id: str) -> bool:
    return lane_id in state.lights.lane_ids and state.lights.state[state.lights.lane_ids.index(lane_id)] == "green"


def _held(state: WorldState, lane_id: str) -> bool:
    """Does a red or yellow light hold the lane?"""
    lights = state.lights
    return lane_id in lights.lane_ids and lights.state[lights.lane_ids.index(lane_id)] in ("red", "yellow")


def _others(state: WorldState, rival: Rival, gate: Gate) -> Iterator[_Other]:
    """Vehicles on the rival's way that have not passed the conflict; a light or an indicator may rule them out."""
    agents = state.agents
    if not len(agents):
        return
    arc, offset = project_on_polyline(agents.xy_in_local_m, rival.line_xy_m)
    _, heading = pose_on_polyline(arc, rival.line_xy_m)
    on = (np.abs(offset) < _ON_WAY_M) & (np.abs(wrap_angle(agents.yaw_rad - heading)) < _ON_WAY_RAD)
    for row in np.flatnonzero(on).tolist():
        half = float(agents.size_m[row, 0]) / 2
        nose, tail = float(arc[row]) + half, float(arc[row]) - half
        if agents.category[row] not in (*VEHICLES, "cyclist") or tail > rival.leave_m or nose < 2.0:
            continue
        before = nose < rival.starts_m
        if _turns_off(gate.way.kind, rival, int(agents.indicator[row]), before):
            continue
        if before and _held(state, rival.approach):
            continue
        yield _Other(agents.ids[row], nose, tail, float(agents.speed_mps[row]), half)


def _turns_off(kind: str, rival: Rival, indicator: int, before: bool) -> bool:
    """Does its indicator say that it takes another way than the rival's? Signalling right leaves a roundabout."""
    if kind == "roundabout":
        return indicator < 0
    return before and kind != "merge" and indicator != rival.turn


def _seen_since(sight: Sight, agent_id: str) -> int:
    since = sight.t_us
    for state in reversed(sight.history):
        if agent_id not in state.agents.ids:
            break
        since = state.t_us
    return since


def _find_gates(route: Route, road: RoadMap) -> Iterator[Gate]:
    """Rights of way whose waiting place and whole junction lane lie on the route."""
    for way in road.right_of_way.values():
        arc, offset = (float(v) for v in route.project(way.stop_xy_m))
        inner = junction_chain(road, way.lane_id)
        if not inner or abs(offset) > _ON_ROUTE_M or abs(wrap_angle(route.heading(arc) - way.yaw_rad)) > _ALONG_RAD:
            continue
        line = np.concatenate([lane.centre_xy_m for lane in inner])
        along, aside = route.project(line, arc)
        if np.abs(aside).max() > _ON_ROUTE_M:
            continue
        end = float(along[-1])
        rivals = [_rival(route, road, foe, arc, end) for foe in way.foes if foe in road.lanes]
        yield Gate(way, arc, end + 2.0, tuple(r for r in rivals if r is not None))


def junction_chain(road: RoadMap, lane_id: str) -> list[Lane]:
    """A junction lane and those that continue it inside the junction."""
    found: list[Lane] = []
    lane = road.lanes.get(lane_id)
    while lane is not None and lane.in_junction and lane not in found:
        found.append(lane)
        lane = road.lanes.get(lane.successors[0]) if lane.successors else None
    return found


def _rival(route: Route, road: RoadMap, foe: str, stop_m: float, end_m: float) -> Rival | None:
    before, approach = _approach(road, road.lanes[foe])
    inner = junction_chain(road, foe)
    after = [road.lanes[name] for lane in inner[-1:] for name in lane.successors[:1] if name in road.lanes]
    line = np.concatenate([*before, *(lane.centre_xy_m for lane in inner), *(lane.centre_xy_m for lane in after)])
    line = line[np.concatenate([[True], np.linalg.norm(np.diff(line, axis=0), axis=1) > 1e-3])]
    starts = float(arc_lengths(np.concatenate(before))[-1]) if before else 0.0
    inside = sum(float(arc_lengths(lane.centre_xy_m)[-1]) for lane in inner)
    at = np.arange(max(starts - _BEFORE_M, 0.0), starts + inside + _AHEAD_M, _SAMPLE_M)
    xy, _ = pose_on_polyline(at, line)
    arc, offset = route.project(xy, stop_m)
    zone = (np.abs(offset) < _ZONE_M) & (arc > stop_m - _BEFORE_M) & (arc < end_m + 8.0)
    if not zone.any():
        return None
    first = int(np.argmax(zone))
    gone = np.flatnonzero(~zone[first:])
    last = first + (int(gone[0]) if len(gone) else len(zone) - first) - 1
    ours = arc[first : last + 1]
    turned = float(wrap_angle(_yaw(inner[-1].centre_xy_m, -1) - _yaw(inner[0].centre_xy_m, 0)))
    turn = 0 if abs(turned) < 0.5 else 1 if turned > 0 else -1
    return Rival(line, starts, float(at[first]), float(at[last]), float(ours.min()), float(ours.max()), turn, approach)


def _approach(road: RoadMap, lane: Lane) -> tuple[list[Array], str]:
    """Centre lines that lead to a junction lane, the straightest one back for 110 m, and the last lane's name."""
    lines: list[Array] = []
    name, length = "", 0.0
    while length < _BACK_M:
        yaw = _yaw(lane.centre_xy_m, 0)
        earlier = [road.lanes[key] for key in lane.predecessors if key in road.lanes]
        if not earlier:
            break
        lane = min(earlier, key=lambda e: abs(float(wrap_angle(_yaw(e.centre_xy_m, -1) - yaw))))
        if any(line is lane.centre_xy_m for line in lines):
            break
        name = name or lane.lane_id
        lines.insert(0, lane.centre_xy_m)
        length += float(arc_lengths(lane.centre_xy_m)[-1])
    return lines, name


def _yaw(line_xy_m: Array, end: int) -> float:
    a, b = (line_xy_m[-2], line_xy_m[-1]) if end == -1 else (line_xy_m[0], line_xy_m[1])
    return float(np.arctan2(*(b - a)[::-1]))
