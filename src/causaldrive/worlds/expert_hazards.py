"""Factors of the wider town: stop signs, bumps, road works, school buses, emergency vehicles, cars out of their lane.

Each says what it alone would impose, like those of `expert_factors.py`. Reads a `Sight`. Knows nothing of the town.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from causaldrive.worlds import bounds
from causaldrive.worlds.expert_cyclist import overtaken
from causaldrive.worlds.expert_nudge import CLEARANCE_M
from causaldrive.worlds.expert_risky import risky
from causaldrive.worlds.explanation import Factor, Finding, Nudge, Slide
from causaldrive.worlds.sight import VEHICLES, Seen, Sight, bend_error_m

WARNING = 2  # `indicator` of a vehicle whose warning lights flash
_STOP_MARGIN_M, _STOOD_STATES, _STAND_MPS = 1.0, 10, 0.15
_SIGN_NEAR_M, _SIGN_REACH_M = 9.0, 70.0
_BUMP_REACH_M = 60.0
_WORKS_REACH_M, _WORKS_JOIN_M, _WORKS_CLEARANCE_M = 80.0, 25.0, 0.65
_BUS_KEEP_M = 8.0
_EMERGENCY_BEHIND_M, _ASIDE_MPS, _ASIDE_MPS2 = 75.0, 3.5, -2.0
_RAMP_S = 3.0


def findings(sight: Sight, free_mps2: float, wish_mps: float) -> tuple[list[Finding], set[str]]:
    """All findings of this module, and the agents that no other factor should judge again."""
    found = stop_signs(sight, free_mps2) + speed_bumps(sight, free_mps2) + road_works(sight, free_mps2)
    handled: set[str] = set()
    for seen in sight.agents:
        one = _of_agent(sight, seen, free_mps2, wish_mps)
        if one is not None:
            found.append(one)
            handled.add(seen.agent_id)
    return found, handled


def _of_agent(sight: Sight, seen: Seen, free: float, wish_mps: float) -> Finding | None:
    if seen.category == "school_bus":
        return school_bus(sight, seen, free)
    if seen.category == "emergency_vehicle":
        return emergency(sight, seen, free)
    if seen.category == "pedestrian":
        return waiting_pedestrian(sight, seen, free)
    if seen.category == "cyclist":
        return overtaken(sight, seen, free, wish_mps)
    if seen.category in VEHICLES:
        return encroaching(sight, seen, free) or risky(sight, seen, free)
    return None


def first_seen_us(sight: Sight, agent_id: str) -> int:
    """When the agent was first there in the history."""
    return min((s.t_us for s in sight.history if agent_id in s.agents.ids), default=sight.t_us)


def stop_signs(sight: Sight, free: float) -> list[Finding]:
    """Stop before the line that a sign facing us stands at, then go: stood 1 s within 3.5 m, it is served."""
    found = []
    for seen in sight.agents:
        if seen.category != "sign" or abs(seen.turned_rad) > 0.7 or abs(seen.offset_m) > 12.0:
            continue
        line = stop_line_near(sight, seen.arc_m)
        distance = None if line is None else line - sight.front_m
        if distance is None or not -0.5 < distance < _SIGN_REACH_M:
            continue
        text, since = "a stop sign is ahead", first_seen_us(sight, seen.agent_id)
        if _served(sight, distance):
            served = Factor("stop_sign", seen.agent_id, since, free, 0.0, "we have stopped at the stop sign")
            found.append(Finding(served, None))
            continue
        bound = bounds.stop_at(sight.speed_mps, distance - _STOP_MARGIN_M, free, _STOP_MARGIN_M)
        factor = Factor("stop_sign", seen.agent_id, since, bound, 0.0, text)
        found.append(Finding(factor, "stop_for_static_constraint"))
    return found


def stop_line_near(sight: Sight, arc_m: float) -> float | None:
    """Arc of the stop line across our way nearest to an arc, within 9 m of it."""
    lines = sight.route.road.stop_lines
    if not lines:
        return None
    middle = np.array([np.mean(line, axis=0) for line in lines.values()])
    arcs, offsets = sight.route.project(middle, sight.arc_m)
    ours = (np.abs(offsets) < 1.6) & (np.abs(arcs - arc_m) < _SIGN_NEAR_M)
    return float(arcs[ours][np.argmin(np.abs(arcs[ours] - arc_m))]) if ours.any() else None


def _served(sight: Sight, distance_m: float) -> bool:
    """Has stood for 1 s, or rolls again after having stood; the history of 2 s reaches over the way to the line."""
    if distance_m > 3.5:
        return False
    stood = [s.ego.speed_mps < _STAND_MPS for s in sight.history]
    return sum(stood) >= _STOOD_STATES or (any(stood) and not stood[-1]) or distance_m < 0.2


def speed_bumps(sight: Sight, free: float) -> list[Finding]:
    """v = 4.5 m/s from the near edge of each bump across our lane until the rear axle is over it."""
    found = []
    for ring in sight.route.road.bumps.values():
        arcs, offsets = sight.route.project(np.asarray(ring, float), sight.arc_m)
        ours = offsets.min() < sight.half_width_m - 0.3 and offsets.max() > 0.3 - sight.half_width_m
        ahead = float(arcs.min()) - sight.front_m
        if not ours or ahead > _BUMP_REACH_M or sight.arc_m > float(arcs.max()) + 0.5:
            continue
        bound = bounds.approach(sight.speed_mps, bounds.BUMP_MPS, max(ahead, 0.3), free)
        factor = Factor("speed_bump", None, sight.history[0].t_us, bound, 0.0, "a speed bump is ahead")
        found.append(Finding(factor, "speed_adaptation"))
    return found


def road_works(sight: Sight, free: float) -> list[Finding]:
    """Cones and barriers in our lane, taken together: the offset that clears them all, or a stop before the first."""
    reach = [s for s in sight.agents if s.category in ("cone", "barrier") and s.arc_m - sight.arc_m > -12.0
             and s.rear_m - sight.front_m < _WORKS_REACH_M and abs(s.offset_m) < 6.0]  # fmt: skip
    half_lane = float(sight.route.half_width_m[sight.route.index(sight.arc_m)])
    inside = [s for s in reach if abs(s.offset_m) - s.half_width_m < half_lane]
    groups: list[list[Seen]] = []
    for seen in sorted(inside, key=lambda s: s.arc_m):
        if groups and seen.rear_m - groups[-1][-1].front_m < _WORKS_JOIN_M:
            groups[-1].append(seen)
        else:
            groups.append([seen])
    return [f for f in (_round_works(sight, group, free, half_lane) for group in groups) if f is not None]


def _round_works(sight: Sight, group: Sequence[Seen], free: float, half_lane_m: float) -> Finding | None:
    side = 1 if np.mean([s.offset_m for s in group]) <= 0 else -1
    edge = max(side * s.offset_m + s.half_width_m for s in group)
    offset = side * (edge + sight.half_width_m + _WORKS_CLEARANCE_M)
    if side * offset < 0.25:
        return None
    ends = max(s.front_m for s in group)
    closed = edge > half_lane_m - 0.9 and _neighbour_lane(sight, side, half_lane_m)
    offset = side * 2 * half_lane_m if closed else offset
    start = min(s.rear_m for s in group) - (sight.front_m - sight.arc_m) - 1.0
    nudge = Nudge(offset, start, ends + 2.0, _RAMP_S * max(sight.speed_mps, 5.0) * (1.25 if closed else 1.0))
    text = "construction closes our lane" if closed else "construction narrows our lane"
    since = min(first_seen_us(sight, s.agent_id) for s in group)
    if _room(sight, nudge, side) or abs(sight.offset_m - offset) < 0.7:
        factor = Factor("construction", group[0].agent_id, since, free, offset, text)
        kind = ("lane_change", "left" if side > 0 else "right") if closed else (None, None)
        return Finding(factor, None, nudge, _acts(sight, nudge), *kind)
    distance = min(s.rear_m for s in group) - sight.front_m - 6.0
    if distance < -8.0:
        return None
    factor = Factor("construction", group[0].agent_id, since, bounds.stop_at(sight.speed_mps, distance, free, 4.0),
                    0.0, text)  # fmt: skip
    return Finding(factor, "stop_for_static_constraint")


def _neighbour_lane(sight: Sight, side: int, half_lane_m: float) -> bool:
    """A lane of our direction lies beside ours on that side."""
    i = sight.route.index(sight.arc_m + 10.0)
    normal = np.array([-np.sin(sight.route.yaw_rad[i]), np.cos(sight.route.yaw_rad[i])])
    return sight.route.same_way(sight.route.xy_m[i] + side * 2 * half_lane_m * normal, float(sight.route.yaw_rad[i]))


def _acts(sight: Sight, nudge: Nudge) -> bool:
    soon = sight.arc_m + 0.6 * sight.speed_mps
    return nudge.from_m - nudge.ramp_m <= soon + 1.0 and soon <= nudge.to_m


def _room(sight: Sight, nudge: Nudge, side: int) -> bool:
    need = abs(nudge.offset_m) + sight.half_width_m + 0.05
    arcs = np.linspace(max(nudge.from_m, sight.arc_m), nudge.to_m, 4)
    if any(sight.route.paved_m(float(arc), side) < need for arc in arcs):
        return False
    return not any(meets(sight, other, nudge) for other in sight.agents if other.category not in ("cone", "barrier"))


def meets(sight: Sight, other: Seen, nudge: Nudge) -> bool:
    """Would be beside us on the way round: oncoming before we are back, or level with us there."""
    if other.category not in (*VEHICLES, "cyclist") or other.side_gap_m(nudge.offset_m, sight.half_width_m + 0.3) > 0:
        return False
    seconds = max(nudge.to_m - sight.arc_m, 0.0) / max(sight.speed_mps, 4.0) + 1.0
    if abs(other.turned_rad) > 2.0 and other.speed_mps > 0.3:
        return other.front_m > sight.rear_m and other.rear_m - max(-other.arc_rate_mps, 0.0) * seconds < nudge.to_m + 5
    if abs(other.offset_m) < 0.8:
        return False
    level = sight.rear_m - 8.0 < other.front_m and other.rear_m < sight.front_m + 8.0
    return level and other.arc_rate_mps > sight.speed_mps - 3.0


def waits(sight: Sight, nudging: Sequence[Finding]) -> list[Finding]:
    """Who comes towards us where we would go round something: named with the wait that it makes."""
    found = []
    for finding in nudging:
        if finding.nudge is not None or finding.longitudinal is None:
            continue
        coming = [s for s in sight.agents if abs(s.turned_rad) > 2.0 and s.speed_mps > 0.5 and abs(s.offset_m) < 6.0
                  and s.front_m > sight.rear_m]  # fmt: skip
        if not coming:
            continue
        nearest = min(coming, key=lambda s: s.arc_m)
        bound = finding.factor.required_acceleration_mps2
        since = first_seen_us(sight, nearest.agent_id)
        text = "an oncoming car needs the room beside it"
        found.append(
            Finding(Factor("oncoming_vehicle", nearest.agent_id, since, bound, 0.0, text), finding.longitudinal)
        )
    return found


def school_bus(sight: Sight, seen: Seen, free: float) -> Finding | None:
    """Warning lights on, standing: stop 8 m before it, on either side of the road. Dark: no factor of this module."""
    distance = seen.rear_m - sight.front_m
    if seen.indicator != WARNING or seen.speed_mps > 0.5 or not -4.0 < distance < 75.0 or abs(seen.offset_m) > 12.0:
        return None
    bound = bounds.stop_at(sight.speed_mps, distance - _BUS_KEEP_M, free, _BUS_KEEP_M - 2.0)
    text = "a school bus has stopped with flashing lights"
    since = first_seen_us(sight, seen.agent_id)
    return Finding(Factor("school_bus", seen.agent_id, since, bound, 0.0, text), "stop_for_static_constraint")


def emergency(sight: Sight, seen: Seen, free: float) -> Finding | None:
    """Warning lights on: let it cross before us; when it comes from behind, move to the right edge and slow down."""
    if seen.indicator != WARNING or seen.speed_mps < 1.0:
        return None
    since = first_seen_us(sight, seen.agent_id)
    if 0.6 < abs(seen.turned_rad) < 2.5:
        distance = seen.rear_m - sight.front_m
        leaving = seen.offset_m * seen.offset_rate_mps > 0 and abs(seen.offset_m) - seen.half_width_m > 2.2
        if leaving or not -1.0 < distance < 75.0 or abs(seen.offset_m) > 80.0:
            return None
        bound = bounds.stop_at(sight.speed_mps, distance - 7.0, free, 4.0)
        text = "an emergency vehicle is crossing"
        return Finding(Factor("emergency_vehicle", seen.agent_id, since, bound, 0.0, text), "yield")
    behind = sight.rear_m - seen.front_m
    if abs(seen.turned_rad) > 0.6 or not -9.0 < behind < _EMERGENCY_BEHIND_M or seen.arc_rate_mps < 1.0:
        return None
    room = sight.route.paved_m(sight.arc_m, -1) - sight.half_width_m - 0.35
    bound = max(bounds.approach(sight.speed_mps, _ASIDE_MPS, max(behind * 0.4, 6.0), free), _ASIDE_MPS2)
    factor = Factor("emergency_vehicle", seen.agent_id, since, bound, -room, "an emergency vehicle comes from behind")
    return Finding(factor, "yield", slide(sight, -max(min(room, 2.4), 0.0)), True, "pull_over", "right")


def slide(sight: Sight, to_offset_m: float) -> Slide:
    """From where the car is to an offset: sideways at up to 1.2 m/s, slower near the goal; at most 14 degrees."""
    way = to_offset_m - sight.offset_m
    sideways = float(np.sign(way)) * min(0.3 + 0.6 * abs(way), 1.2)
    slope = float(np.clip(sideways / max(sight.speed_mps, 3.0), -0.25, 0.25))
    return Slide(to_offset_m, sight.arc_m - 1e6, sight.arc_m + 1e6, 1.0, sight.arc_m, sight.offset_m, slope)


def waiting_pedestrian(sight: Sight, seen: Seen, free: float) -> Finding | None:
    """Walked up to our way within the history and stopped beside it, facing it: a reason to go on, not to yield."""
    distance = seen.arc_m - sight.front_m
    gap = seen.side_gap_m(0.0, sight.half_width_m)
    if seen.speed_mps > 0.2 or not 0.0 < distance < 60.0 or not 0.3 < gap < 5.0:
        return None
    if -np.sign(seen.offset_m) * np.sin(seen.turned_rad) < 0.7 or not _walked(sight, seen.agent_id):
        return None
    text = "a pedestrian is waiting at the curb"
    factor = Factor("pedestrian_waiting", seen.agent_id, first_seen_us(sight, seen.agent_id), free, 0.0, text)
    return Finding(factor, "set_speed_tracking", informs=True)


def _walked(sight: Sight, agent_id: str) -> bool:
    speeds = [s.agents.speed_mps[s.agents.ids.index(agent_id)] for s in sight.history if agent_id in s.agents.ids]
    return max(speeds) > 0.5


def encroaching(sight: Sight, seen: Seen, free: float) -> Finding | None:
    """An oncoming vehicle that reaches into our lane, or swings out into it: make room to the right and slow down.

    The way to the meeting point is d v / (v + v_o); we would stop 3 m before it.
    """
    if abs(seen.turned_rad) < 2.2 or seen.speed_mps < 0.5 or not 0.0 < seen.rear_m - sight.front_m < 75.0:
        return None
    half_lane = float(sight.route.half_width_m[sight.route.index(sight.arc_m)])
    over = half_lane - (seen.offset_m - seen.half_width_m)  # how far it reaches over the middle line
    if seen.offset_m < 0.0 or over < 0.25 + bend_error_m(sight, seen) or _keeps_its_lane(sight, seen):
        return None
    v, gap = sight.speed_mps, seen.rear_m - sight.front_m
    meeting = gap * v / max(v + seen.speed_mps, 1.0)
    bound = max(bounds.approach(v, 3.0, max(meeting - 3.0, 0.5), free), -3.0)
    aside = min(max(over - (half_lane - sight.half_width_m) + CLEARANCE_M, 0.4), _right_room(sight))
    factor = Factor("oncoming_vehicle", seen.agent_id, first_seen_us(sight, seen.agent_id), bound, -aside,
                    "an oncoming car comes into our lane")  # fmt: skip
    return Finding(factor, "yield", slide(sight, -aside), True) if aside >= 0.3 else Finding(factor, "yield")


def _keeps_its_lane(sight: Sight, seen: Seen) -> bool:
    """Its left side is in a lane that runs its way: where we turn, it comes near our way without leaving its own."""
    agents = sight.history[-1].agents
    yaw = float(agents.yaw_rad[seen.index])
    left = float(agents.size_m[seen.index, 1]) / 2 * np.array([-np.sin(yaw), np.cos(yaw)])
    return sight.route.same_way(agents.xy_in_local_m[seen.index] + left, yaw)


def _right_room(sight: Sight) -> float:
    """How far we may move right: nobody stands there, and the pavement reaches that far."""
    room = sight.route.paved_m(sight.arc_m + 8.0, -1) - sight.half_width_m - 0.2
    beside = [abs(s.offset_m) - s.half_width_m - sight.half_width_m - 0.3 for s in sight.agents
              if s.offset_m < 0 and -2.0 < s.arc_m - sight.arc_m < 40.0]  # fmt: skip
    return max(min([room, 1.2, *beside]), 0.0)
