"""The way round a standing vehicle: how far to the side, from where to where, and whether there is room.

Reads a `Sight`. Knows nothing of the town or of how the driver steers.
"""

from __future__ import annotations

import numpy as np

from causaldrive.worlds import bounds
from causaldrive.worlds.explanation import Factor, Finding, Nudge
from causaldrive.worlds.sight import VEHICLES, Seen, Sight

CLEARANCE_M = 0.7
_LEAST_M = 0.3  # smaller offsets are not worth a decision
_CENTRED_M = 0.8  # nearer to the lane's middle it is a car to wait behind, not one to pass
_RAMP_S, _ACT_S = 2.8, 0.6
_KEEP_M = 5.0


def standing(sight: Sight, seen: Seen, free_mps2: float) -> Finding | None:
    """A vehicle that stands partly in our lane: offset = edge +- (half ego width + 0.7 m), or stop where it cannot be.

    None when it leaves room as it is, moves, waits with brake lights, or stands in the middle of our way.
    """
    if seen.category not in VEHICLES or seen.speed_mps > 0.3 or seen.brake_light or abs(seen.offset_m) < _CENTRED_M:
        return None
    side = 1 if seen.offset_m <= 0 else -1  # pass on the other side
    offset = seen.offset_m + side * (seen.half_width_m + sight.half_width_m + CLEARANCE_M)
    if offset * side < _LEAST_M or not -15.0 < seen.arc_m - sight.arc_m < 90.0:
        return None
    ahead = sight.front_m - sight.arc_m
    ramp = _RAMP_S * max(sight.speed_mps, 5.0)
    nudge = Nudge(offset, seen.rear_m - ahead - 1.5, seen.front_m + 1.5, ramp)
    text = f"a stopped car blocks the {'right' if side > 0 else 'left'} side of our lane"
    since = min(s.t_us for s in sight.history if seen.agent_id in s.agents.ids)
    if _passable(sight, seen, nudge, side) or abs(sight.offset_m - offset) < 0.5:
        return Finding(Factor("stopped_vehicle", seen.agent_id, since, free_mps2, offset, text), None, nudge,
                       acts=_acts(sight, nudge))  # fmt: skip
    distance = seen.rear_m - sight.front_m - _KEEP_M
    if seen.rear_m < sight.front_m - 1.0:
        return None
    bound = bounds.stop_at(sight.speed_mps, distance, free_mps2, _KEEP_M - 1.5)
    return Finding(Factor("stopped_vehicle", seen.agent_id, since, bound, 0.0, text), "stop_for_static_constraint")


def _acts(sight: Sight, nudge: Nudge) -> bool:
    """The driver turns out 0.6 s from now at the latest, and has not begun to turn back by then."""
    soon = sight.arc_m + _ACT_S * sight.speed_mps
    return nudge.from_m - nudge.ramp_m <= soon + 1.0 and soon <= nudge.to_m


def _passable(sight: Sight, seen: Seen, nudge: Nudge, side: int) -> bool:
    reach = abs(nudge.offset_m) + sight.half_width_m + 0.1
    arcs = np.linspace(max(nudge.from_m, sight.arc_m), nudge.to_m, 4)
    if any(sight.route.paved_m(float(arc), side) < reach for arc in arcs):
        return False
    return not any(_in_the_way(sight, other, nudge) for other in sight.agents if other.agent_id != seen.agent_id)


def _in_the_way(sight: Sight, other: Seen, nudge: Nudge) -> bool:
    """Would meet us beside the standing vehicle: across the course, and there before we are back."""
    if other.side_gap_m(nudge.offset_m, sight.half_width_m + 0.3) > 0 or abs(other.offset_m) < 0.8:
        return False
    seconds = max(nudge.to_m - sight.arc_m, 0.0) / max(sight.speed_mps, 4.0) + 1.0
    if abs(other.turned_rad) > 2.0:
        comes_from = other.rear_m - max(-other.arc_rate_mps, 0.0) * seconds
        return other.front_m > sight.rear_m and comes_from < nudge.to_m + 5.0
    level = sight.rear_m - 6.0 < other.front_m and other.rear_m < nudge.to_m
    return level and other.rear_m < sight.front_m + 8.0 and other.arc_rate_mps > sight.speed_mps - 3.0
