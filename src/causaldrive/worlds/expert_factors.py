"""Each factor alone: what it is, what it says, and the acceleration or offset that it would impose on the driver.

Reads a `Sight` (states measured along the route). Writes nothing. Knows nothing of the town: the same rules explain
human drivers in replayed logs. `expert.py` weighs the findings.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from causaldrive.worlds import bounds
from causaldrive.worlds.explanation import Factor, Finding
from causaldrive.worlds.route import Route
from causaldrive.worlds.sight import VEHICLES, Seen, SeenLight, Sight

CORRIDOR_MARGIN_M = 0.25  # beside the ego's own width
_LIGHT_REACH_M, _LIGHT_MARGIN_M = 80.0, 1.2
_PEDESTRIAN_KEEP_M, _PEDESTRIAN_MARGIN_M = 3.5, 0.7
_PEDESTRIAN_SOON_S, _PEDESTRIAN_CLEAR_S = 4.5, 0.8
_YELLOW_GO_MPS2 = 2.8  # harder braking than this for a yellow light is not asked for
_RED_GO_MPS2 = 6.5
_CURVE_AHEAD_M, _CURVE_TIGHT_MPS = np.arange(0.0, 80.0), 16.0
_LEAD_REACH_M = 70.0
_CROSSING_KEEP_M = 3.0
_LEAD_BRAKING_MPS2, _CUT_IN_BRAKING_MPS2 = 3.0, 2.2  # comfort: a gap cut short is let grow again gently


def tight_places(route: Route, arc_m: float) -> list[tuple[float, float, str]]:
    """(metres ahead, v_lim = sqrt(a_lat / |curvature|) in m/s, side it bends to) of the next 80 m, where v_lim < 16."""
    curvature = route.curvature(arc_m + _CURVE_AHEAD_M)
    limit = np.sqrt(bounds.LATERAL_COMFORT_MPS2 / np.maximum(np.abs(curvature), 1e-6))
    return [
        (float(_CURVE_AHEAD_M[i]), float(limit[i]), "left" if curvature[i] > 0 else "right")
        for i in np.flatnonzero(limit < _CURVE_TIGHT_MPS)
    ]


def curve(sight: Sight, free_mps2: float) -> Finding | None:
    """The place of a tight curve that bounds most is the factor; of equals the nearest."""
    tight = tight_places(sight.route, sight.arc_m)
    if not tight:
        return None
    v = sight.speed_mps
    bound, _, side = min((bounds.approach(v, limit, ahead, free_mps2), ahead, side) for ahead, limit, side in tight)
    factor = Factor("sharp_curve", None, sight.history[0].t_us, bound, 0.0, f"a sharp {side} curve is ahead")
    return Finding(factor, "speed_adaptation")


def light(sight: Sight, signal: SeenLight, free_mps2: float) -> Finding | None:
    """Stop before the line at red; at yellow only where that is comfortable; green after red is a reason to go."""
    distance = signal.stop_arc_m - sight.front_m
    seen_us = _run_start(sight, signal)
    if signal.state == "green":
        if not _just_released(sight, signal, distance):
            return Finding(_light_factor("green_light", signal, seen_us, free_mps2), None)
        return Finding(_light_factor("green_light", signal, seen_us, free_mps2), "set_speed_tracking")
    if signal.state == "off" or distance < -0.5 or distance > _LIGHT_REACH_M:
        return None
    kind = f"{signal.state}_light"
    if _must_pass(sight, signal, distance):
        return Finding(_light_factor(kind, signal, seen_us, free_mps2), None)
    bound = bounds.stop_at(sight.speed_mps, distance - _LIGHT_MARGIN_M, free_mps2, _LIGHT_MARGIN_M)
    return Finding(_light_factor(kind, signal, seen_us, bound), "stop_for_static_constraint")


def _light_factor(kind: str, signal: SeenLight, seen_us: int, bound_mps2: float) -> Factor:
    text = {
        "red_light": "the traffic light ahead is red",
        "yellow_light": "the traffic light ahead is yellow",
        "green_light": "the traffic light ahead has turned green",
    }[kind]
    return Factor(kind, signal.light_id, seen_us, bound_mps2, 0.0, text)


def _run_start(sight: Sight, signal: SeenLight) -> int:
    """Time at which the light's present state began, or the start of the history."""
    run = 1
    while run < len(signal.states) and signal.states[-run - 1] == signal.state:
        run += 1
    return sight.history[len(sight.history) - run].t_us


def _just_released(sight: Sight, signal: SeenLight, distance_m: float) -> bool:
    """Red or yellow within the history and green now, or the car still stands before a green light."""
    if not -6.0 < distance_m < 60.0:
        return False
    changed = any(s in ("red", "yellow") for s in signal.states)
    return changed or (sight.speed_mps < 2.0 and -1.0 < distance_m < 12.0)


def _must_pass(sight: Sight, signal: SeenLight, distance_m: float) -> bool:
    """Too near to stop when it changed: judged at the moment of the change, so that the choice is kept."""
    if signal.state == "red":
        return distance_m < 12.0 and bounds.required_to_stop(sight.speed_mps, distance_m) > _RED_GO_MPS2
    run = len([None for s in sight.history if s.t_us >= _run_start(sight, signal)])
    then = sight.history[-run].ego
    arc = float(sight.route.project(then.xy_in_local_m, sight.arc_m)[0]) + sight.front_m - sight.arc_m
    return bounds.required_to_stop(then.speed_mps, signal.stop_arc_m - arc) > _YELLOW_GO_MPS2


def pedestrian(sight: Sight, seen: Seen, free_mps2: float, wish_mps: float) -> Finding | None:
    """Yield to someone in our way, or walking into it so that both would be there: stop 3.5 m before the person.

    t_in, t_out: when the person enters and leaves the corridor; t_us: when we would come, driving on. Conflict unless
    t_out + 0.8 s < t_us or t_in > 4.5 s.
    """
    distance = seen.arc_m - seen.half_length_m - sight.front_m
    if not -2.0 < distance < 60.0 or abs(seen.offset_m) > 14.0:
        return None
    corridor = sight.half_width_m + _PEDESTRIAN_MARGIN_M
    gap = seen.side_gap_m(0.0, corridor)
    inward = -np.sign(seen.offset_m) * seen.offset_rate_mps
    conflict = gap <= 0 or _walks_into(sight, seen, gap, float(inward), corridor, distance, wish_mps)
    if gap <= 0 and inward < -0.3 and abs(seen.offset_m) > corridor - 0.3:
        conflict = False  # all but out, and leaving
    since = _since(sight, seen, lambda agents, i: bool(agents.speed_mps[i] > 0.3))
    if not conflict:
        text = "a pedestrian is beside the road"
        return Finding(Factor("pedestrian_crossing", seen.agent_id, since, free_mps2, 0.0, text), None)
    bound = bounds.stop_at(sight.speed_mps, distance - _PEDESTRIAN_KEEP_M, free_mps2, _PEDESTRIAN_KEEP_M - 1.0)
    if seen.speed_mps < 0.3 and abs(seen.offset_rate_mps) < 0.3:
        text = "a pedestrian is standing in our way"
    else:
        text = f"a pedestrian is crossing from the {'left' if seen.offset_rate_mps < 0 else 'right'}"
    return Finding(Factor("pedestrian_crossing", seen.agent_id, since, bound, 0.0, text), "yield")


def _walks_into(
    sight: Sight, seen: Seen, gap_m: float, inward_mps: float, corridor_m: float, distance_m: float, wish_mps: float
) -> bool:
    if inward_mps < 0.35:
        return False
    enters, leaves = gap_m / inward_mps, (gap_m + 2 * corridor_m + 2 * seen.half_width_m) / inward_mps
    arrival = max(distance_m, 0.0) / max(sight.speed_mps, 0.7 * wish_mps, 2.0)
    return enters < _PEDESTRIAN_SOON_S and leaves + _PEDESTRIAN_CLEAR_S > arrival


def lead(sight: Sight, seen: Seen, free_mps2: float, course_offset_m: float) -> Finding | None:
    """Whoever is ahead in our corridor and goes our way (or stands): follow with the IDM."""
    if not _in_corridor(sight, seen, course_offset_m) or _oncoming(seen) or seen.rear_m < sight.front_m - 1.0:
        return None
    gap = seen.rear_m - sight.front_m
    if gap > _LEAD_REACH_M:
        return None
    if 0.8 < abs(seen.turned_rad) < 2.3 and seen.speed_mps > 0.5:
        return _crossing(sight, seen, free_mps2, gap)
    came_in = _came_in(seen, sight.half_width_m + CORRIDOR_MARGIN_M)
    comfort = _CUT_IN_BRAKING_MPS2 if came_in else _LEAD_BRAKING_MPS2
    bound = bounds.follow(sight.speed_mps, max(seen.arc_rate_mps, 0.0), gap, free_mps2, comfort)
    kind = "cyclist" if seen.category == "cyclist" else "lead_vehicle"
    if came_in:
        return _cut_in_finding(sight, seen, bound, seen.offset_before_m or 0.0)
    name = "cyclist" if kind == "cyclist" else "car"
    since = _since(sight, seen, lambda agents, i: True)
    if seen.speed_mps < 0.3:
        text = f"the {name} ahead is stopped"
    elif seen.brake_light or seen.slowing_mps2 > 0.8:
        text = f"the {name} ahead is braking"
        since = _since(sight, seen, lambda agents, i: bool(agents.brake_light[i]))
    else:
        text = f"the {name} ahead is slower"
    return Finding(Factor(kind, seen.agent_id, since, bound, 0.0, text), "lead_obstacle_following")


def _crossing(sight: Sight, seen: Seen, free_mps2: float, gap_m: float) -> Finding | None:
    """A vehicle that drives across our way: let it pass when it would still be there on our arrival."""
    corridor = sight.half_width_m + CORRIDOR_MARGIN_M
    leaves = corridor + seen.half_width_m - seen.offset_m * float(np.sign(seen.offset_rate_mps))
    if leaves / max(abs(seen.offset_rate_mps), 0.5) + 0.5 < max(gap_m, 0.0) / max(sight.speed_mps, 2.0):
        return None
    bound = bounds.stop_at(sight.speed_mps, gap_m - _CROSSING_KEEP_M, free_mps2, _CROSSING_KEEP_M - 1.0)
    since = _since(sight, seen, lambda agents, i: True)
    return Finding(Factor("lead_vehicle", seen.agent_id, since, bound, 0.0, "the car ahead is crossing"), "yield")


def cut_in(sight: Sight, seen: Seen, free_mps2: float, course_offset_m: float) -> Finding | None:
    """A vehicle beside our corridor that moves or signals into it, ahead of our bumper: follow it already."""
    half = sight.half_width_m + CORRIDOR_MARGIN_M
    gap_aside = seen.side_gap_m(course_offset_m, half)
    gap = seen.rear_m - sight.front_m
    if not 0.0 < gap_aside < 3.0 or abs(seen.turned_rad) > 0.7 or not -2.0 < gap < 40.0 or seen.speed_mps < 1.0:
        return None
    side = np.sign(seen.offset_m - course_offset_m)
    inward = float(-side * seen.offset_rate_mps)
    moving = inward > 0.25 and gap_aside / inward < 2.5
    if not moving and seen.indicator != -side:
        return None
    lead_mps = max(seen.arc_rate_mps, 0.0)
    bound = bounds.follow(sight.speed_mps, lead_mps, max(gap, 0.1), free_mps2, _CUT_IN_BRAKING_MPS2)
    return _cut_in_finding(sight, seen, bound, float(side))


def _cut_in_finding(sight: Sight, seen: Seen, bound_mps2: float, side: float) -> Finding:
    text = f"a car from the {'left' if side > 0 else 'right'} lane is cutting in"
    since = _since(sight, seen, lambda agents, i: bool(agents.indicator[i] != 0))
    return Finding(Factor("cut_in_vehicle", seen.agent_id, since, bound_mps2, 0.0, text), "yield")


def _came_in(seen: Seen, half_corridor_m: float) -> bool:
    """Was clearly beside our corridor at the start of the history and moves inward since."""
    before = seen.offset_before_m
    return (
        before is not None
        and abs(before) - seen.half_width_m > half_corridor_m + 0.2
        and abs(seen.offset_m) < abs(before)
    )


def _in_corridor(sight: Sight, seen: Seen, course_offset_m: float) -> bool:
    return seen.side_gap_m(course_offset_m, sight.half_width_m + CORRIDOR_MARGIN_M) < 0.0


def _oncoming(seen: Seen) -> bool:
    return abs(seen.turned_rad) > 2.0 and seen.speed_mps > 0.5


def bystander(sight: Sight, seen: Seen, free_mps2: float) -> Finding | None:
    """An agent ahead that asks for nothing: named, so that it can be told from the causes."""
    if not -2.0 < seen.arc_m - sight.front_m < 60.0 or abs(seen.offset_m) > 9.0:
        return None
    parked = seen.speed_mps < 0.3 and not seen.brake_light
    if seen.category not in (*VEHICLES, "cyclist"):
        return None
    kind = "cyclist" if seen.category == "cyclist" else "stopped_vehicle" if parked else "lead_vehicle"
    text = f"a {'parked' if parked else 'moving'} {seen.category} is beside our lane"
    since = _since(sight, seen, lambda agents, i: True)
    return Finding(Factor(kind, seen.agent_id, since, free_mps2, 0.0, text), None)


def _since(sight: Sight, seen: Seen, condition: Callable) -> int:
    """Start of the unbroken run, up to now, in which the agent is seen and `condition` holds; now if it does not."""
    since = sight.t_us
    for state in reversed(sight.history):
        if seen.agent_id not in state.agents.ids:
            break
        if not condition(state.agents, state.agents.ids.index(seen.agent_id)):
            break
        since = state.t_us
    return since
