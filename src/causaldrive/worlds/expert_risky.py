"""Risky driving by others: who swerves, who keeps to the line between two lanes, who comes the wrong way.

Each says what it alone would impose, like those of `expert_hazards.py`. Reads a `Sight`. Knows nothing of the town.
"""

from __future__ import annotations

import numpy as np

from causaldrive.worlds import bounds
from causaldrive.worlds.explanation import Factor, Finding
from causaldrive.worlds.sight import Seen, Sight, bend_error_m

_REACH_M, _LONGER_GAP_M, _COMFORT_MPS2 = 60.0, 5.0, 2.2
_SWINGS_M = 0.25  # to each side within the history
_ON_LINE_M, _STEADY_M, _ON_LINE_STATES = 0.25, 0.3, 8
_WRONG_RAD, _INSIDE_M = 2.2, 1.0
_PAST_IT_MPS, _HARDEST_MPS2 = 6.0, -3.0


def risky(sight: Sight, seen: Seen, free: float) -> Finding | None:
    """The first of these ways to drive dangerously that fits."""
    return swerving(sight, seen, free) or straddling(sight, seen, free) or wrong_way(sight, seen, free)


def swerving(sight: Sight, seen: Seen, free: float) -> Finding | None:
    """Weaves without signalling: moved over 0.25 m to each side within 2 s. Stay behind it, with a longer gap."""
    if not _ahead(sight, seen):
        return None
    track = _track(sight, seen)
    if len(track) < 4:
        return None
    turn = int(np.argmax(np.abs(track - track[0])))
    if abs(track[turn] - track[0]) < _SWINGS_M or abs(track[-1] - track[turn]) < _SWINGS_M:
        return None
    side = "left" if float(np.mean(track)) > 0.8 else "right" if float(np.mean(track)) < -0.8 else None
    return _behind(sight, seen, free, f"a car in the {side} lane is swerving" if side else "the car ahead is swerving")


def straddling(sight: Sight, seen: Seen, free: float) -> Finding | None:
    """Keeps over the edge of our lane without signalling, 0.25 m or more on each side of it, for 1.4 s. Stay behind."""
    if not _ahead(sight, seen):
        return None
    edge = float(sight.route.half_width_m[sight.route.index(seen.arc_m)])
    inner, outer = abs(seen.offset_m) - seen.half_width_m, abs(seen.offset_m) + seen.half_width_m
    error = bend_error_m(sight, seen)
    if inner > edge - _ON_LINE_M + error or outer < edge + _ON_LINE_M - error:
        return None
    track = _track(sight, seen)
    if len(track) < _ON_LINE_STATES or float(np.ptp(track)) > _STEADY_M + error:
        return None
    side = "left" if seen.offset_m > 0 else "right"
    return _behind(sight, seen, free, f"a car ahead straddles the line to our {side}")


def wrong_way(sight: Sight, seen: Seen, free: float) -> Finding | None:
    """Comes towards us on a lane of our direction, beside ours: be slow when it passes (6 m/s).

    The way to the meeting point is d v / (v + v_o). Its place must be 1 m inside such a lane, more in a bend, where a
    car carried straight on for the reaction time seems to leave its own.
    """
    gap = seen.rear_m - sight.front_m
    if abs(seen.turned_rad) < _WRONG_RAD or seen.speed_mps < 0.5 or not 0.0 < gap < _REACH_M + 15.0:
        return None
    if abs(seen.offset_m) > 6.0 or not _lane_of_ours(sight, seen):
        return None
    v = sight.speed_mps
    meeting = gap * v / max(v + seen.speed_mps, 1.0)
    bound = max(bounds.approach(v, _PAST_IT_MPS, max(meeting - 3.0, 0.5), free), _HARDEST_MPS2)
    return _finding(sight, seen, bound, "a car comes towards us the wrong way")


def _lane_of_ours(sight: Sight, seen: Seen) -> bool:
    i = sight.route.index(seen.arc_m)
    heading = float(sight.route.yaw_rad[i])
    aside = seen.offset_m + _INSIDE_M + bend_error_m(sight, seen)  # towards the lanes of the other direction
    normal = np.array([-np.sin(heading), np.cos(heading)])
    return sight.route.same_way(sight.route.xy_m[i] + aside * normal, heading)


def _ahead(sight: Sight, seen: Seen) -> bool:
    """Goes our way ahead of us, and does not signal."""
    gap = seen.rear_m - sight.front_m
    return seen.indicator == 0 and abs(seen.turned_rad) <= 0.7 and 2.0 < gap < _REACH_M and seen.speed_mps >= 1.0


def _track(sight: Sight, seen: Seen) -> np.ndarray:
    """Its offsets from our route over the history, every 0.2 s."""
    places = [
        s.agents.xy_in_local_m[s.agents.ids.index(seen.agent_id)]
        for s in sight.history[::2]
        if seen.agent_id in s.agents.ids
    ]
    return sight.route.project(np.array(places), sight.arc_m)[1] if places else np.zeros(0)


def _behind(sight: Sight, seen: Seen, free: float, text: str) -> Finding:
    """Follow it with a gap that is longer than otherwise; only what the whole gap asks for may go beyond comfort."""
    gap, theirs = seen.rear_m - sight.front_m, max(seen.arc_rate_mps, 0.0)
    whole, longer = (
        bounds.follow(sight.speed_mps, theirs, room, free, _COMFORT_MPS2)
        for room in (gap, max(gap - _LONGER_GAP_M, 1.0))
    )
    return _finding(sight, seen, min(whole, max(longer, -_COMFORT_MPS2)), text)


def _finding(sight: Sight, seen: Seen, bound_mps2: float, text: str) -> Finding:
    since = min(s.t_us for s in sight.history if seen.agent_id in s.agents.ids)
    return Finding(Factor("risky_vehicle", seen.agent_id, since, bound_mps2, 0.0, text), "yield")
