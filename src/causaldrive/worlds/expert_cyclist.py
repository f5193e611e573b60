"""Passing a slow cyclist with room: when to wait behind, when to go round, and how far to the side.

Reads a `Sight`. Knows nothing of the town.
"""

from __future__ import annotations

import numpy as np

from causaldrive.worlds import bounds
from causaldrive.worlds.explanation import Factor, Finding, Nudge
from causaldrive.worlds.sight import VEHICLES, Seen, Sight

ROOM_M = 1.2  # free distance aside while passing
_REACH_M, _RAMP_S = 50.0, 2.6
_LEAST_FASTER_MPS = 1.5


def overtaken(sight: Sight, seen: Seen, free: float, wish_mps: float) -> Finding | None:
    """offset = cyclist's edge + half our width + 1.2 m; where that way is not free, follow it as a lead."""
    if abs(seen.turned_rad) > 0.7 or seen.offset_m > 0.3 or not -12.0 < seen.arc_m - sight.arc_m < _REACH_M:
        return None
    offset = seen.offset_m + seen.half_width_m + sight.half_width_m + ROOM_M
    if offset < 0.3 or seen.speed_mps < 0.5:
        return None
    since = min(s.t_us for s in sight.history if seen.agent_id in s.agents.ids)
    nudge = _way_round(sight, seen, offset, wish_mps)
    gap = seen.rear_m - sight.front_m
    following = bounds.follow(sight.speed_mps, max(seen.arc_rate_mps, 0.0), max(gap, 0.1), free)
    if wish_mps - seen.arc_rate_mps < _LEAST_FASTER_MPS or not _free(sight, seen, nudge):
        if gap < -1.0:
            return None
        text = "the cyclist ahead is slower"
        return Finding(Factor("cyclist", seen.agent_id, since, following, 0.0, text), "lead_obstacle_following")
    clear = gap < -1.0 or seen.side_gap_m(sight.offset_m, sight.half_width_m) > 0.6
    closing = max(sight.speed_mps - seen.arc_rate_mps, 0.1)
    bound = free if clear or gap > 2.0 * closing + 2.0 else following
    factor = Factor("cyclist", seen.agent_id, since, bound, offset, "a slow cyclist is on the right side of our lane")
    acts = nudge.from_m - nudge.ramp_m <= sight.arc_m + 0.6 * sight.speed_mps + 1.0 and gap > -7.0
    passing = "acceleration_for_passing" if acts else None
    return Finding(factor, "lead_obstacle_following" if bound < free - 0.3 else passing, nudge, acts)


def _way_round(sight: Sight, seen: Seen, offset_m: float, wish_mps: float) -> Nudge:
    """Where we shall be beside it: distances to a moving thing grow by v / (v - v_c), at most threefold."""
    v = max(sight.speed_mps, 0.75 * wish_mps, 3.0)
    grown = float(np.clip(v / max(v - seen.arc_rate_mps, 0.1), 1.0, 3.0))
    start = seen.rear_m - (sight.front_m - sight.arc_m) - 5.0 - sight.arc_m
    end = seen.front_m + 4.0 - sight.arc_m
    return Nudge(offset_m, sight.arc_m + start * grown, sight.arc_m + end * grown, _RAMP_S * v)


def _free(sight: Sight, seen: Seen, nudge: Nudge) -> bool:
    """Paved, nobody oncoming before we are back, nobody coming up beside us, nobody standing there."""
    reach = abs(nudge.offset_m) + sight.half_width_m + 0.05
    if sight.route.paved_m(max(nudge.from_m, sight.arc_m), 1) < reach:
        return False
    begun = sight.offset_m > 0.6 * nudge.offset_m and seen.rear_m < sight.front_m + 4.0
    seconds = max(nudge.to_m + nudge.ramp_m / 2 - sight.arc_m, 0.0) / max(sight.speed_mps, 4.0)
    for other in sight.agents:
        if other.agent_id == seen.agent_id or other.category not in (*VEHICLES, "cyclist"):
            continue
        if other.side_gap_m(nudge.offset_m, sight.half_width_m + 0.3) > 0 or begun:
            continue
        if abs(other.turned_rad) > 2.0:
            if other.front_m > sight.rear_m and other.rear_m - other.speed_mps * seconds < nudge.to_m + 8.0:
                return False
        elif sight.rear_m - 8.0 < other.front_m and other.rear_m < nudge.to_m + 5.0 and abs(other.offset_m) > 0.8:
            return False
    return True
