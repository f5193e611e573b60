"""Getting into the lane in which the route lies: hold, look for a gap, change or merge, and give up when it closes.

The route is the middle of the lane we need. While the car is in the lane beside it, that lane is held until there is a
gap. Reads a `Sight`. Knows nothing of the town.
"""

from __future__ import annotations

from collections.abc import Sequence

from causaldrive.worlds import bounds, expert_factors
from causaldrive.worlds.expert_hazards import first_seen_us, slide
from causaldrive.worlds.explanation import Factor, Finding, Nudge
from causaldrive.worlds.sight import VEHICLES, Seen, Sight

_BESIDE = 0.55  # of a lane's width: farther from the route we are in another lane
_DONE_M, _GIVEN_UP_M = 0.6, 0.5
_END_SEEN_M, _END_ACT_M, _END_KEEP_M = 150.0, 62.0, 8.0
_SLOWER_MPS, _SOFTEST_MPS2 = 2.0, -1.4


def findings(sight: Sight, free: float, courses: Sequence[Nudge]) -> list[Finding]:
    """Nothing where we are in the route's lane, or beside it only to pass something."""
    away = abs(sight.offset_m)
    if away < _DONE_M or any(abs(nudge.offset_m) > 1.0 for nudge in courses):
        return []
    width = 2 * float(sight.route.half_width_m[sight.route.index(sight.arc_m)])
    if away < _BESIDE * width:
        return [_change(sight, free, _lane_end(sight, 0))] if _was_away(sight) > _BESIDE * width else []
    ego = sight.history[-1].ego
    if not sight.route.same_way(ego.centre_xy_in_local_m, ego.yaw_rad):
        return []
    end_m = _lane_end(sight, -1)
    if end_m is not None and end_m - sight.front_m > max(_END_ACT_M, 5.0 * sight.speed_mps):
        return [Finding(_goal(sight, free, end_m), None, _lane(sight, width))]  # there is time: stay where we are
    blocker = next((s for s in sight.agents if _blocks(sight, s)), None)
    ours = _leads_here(sight, free)
    if blocker is None:
        return [_change(sight, free, end_m), *ours]
    return _search(sight, free, blocker, end_m, width)


def there_first(sight: Sight, found: Sequence[Finding]) -> set[str]:
    """Who drives ahead in the lane that we need: how we get there hangs on them, whether they bind yet or not."""
    if not any(f.factor.kind in ("route_lane", "lane_ends") for f in found):
        return set()
    return {s.agent_id for s in sight.agents if s.category in (*VEHICLES, "cyclist") and s.arc_m > sight.arc_m
            and s.side_gap_m(0.0, sight.half_width_m + 0.3) < 0}  # fmt: skip


def _lane_end(sight: Sight, index: int) -> float | None:
    """Arc at which the lane that the car was in at a state of the history ends, None where that is far."""
    end_m = sight.route.lane_end_m(sight.history[index].ego.centre_xy_in_local_m, sight.arc_m)
    return end_m if end_m is not None and end_m - sight.front_m < _END_SEEN_M else None


def _was_away(sight: Sight) -> float:
    """Distance from the route at the start of the history."""
    return abs(float(sight.route.project(sight.history[0].ego.xy_in_local_m, sight.arc_m)[1]))


def _goal(sight: Sight, free: float, end_m: float | None) -> Factor:
    """Why we need the other lane."""
    side, start = ("right" if sight.offset_m > 0 else "left"), sight.history[0].t_us
    if end_m is not None:
        return Factor("lane_ends", None, start, free, 0.0, "our lane ends ahead")
    return Factor("route_lane", None, start, free, 0.0, f"our route needs the {side} lane")


def _change(sight: Sight, free: float, end_m: float | None) -> Finding:
    side = "right" if sight.offset_m > 0 else "left"
    kind = "lane_change" if end_m is None else "merge_split"
    return Finding(_goal(sight, free, end_m), None, slide(sight, 0.0), True, kind, side)


def _leads_here(sight: Sight, free: float) -> list[Finding]:
    """Whoever is ahead in the lane that we are leaving binds until we are clear of it."""
    near = (s for s in sight.agents if s.category in (*VEHICLES, "cyclist") and abs(s.offset_m) > 1.6)
    found = (expert_factors.lead(sight, seen, free, sight.offset_m) for seen in near)
    return [f for f in found if f is not None]


def _blocks(sight: Sight, seen: Seen) -> bool:
    """Is in the route's lane so near that we would cut it short, ahead or behind."""
    if seen.category not in (*VEHICLES, "cyclist") or seen.side_gap_m(0.0, sight.half_width_m + 0.3) > 0:
        return False
    v, other = sight.speed_mps, seen.arc_rate_mps
    if seen.arc_m > sight.arc_m + 1.0:
        return seen.rear_m - sight.front_m < max(4.0, 0.5 * v + 1.5 * max(v - other, 0.0))
    return sight.rear_m - seen.front_m < max(5.0, 0.4 * other + 2.0 * max(other - v, 0.0))


def _lane(sight: Sight, width_m: float) -> Nudge:
    """The middle of the lane that we are in, beside the route's."""
    return Nudge((1 if sight.offset_m > 0 else -1) * width_m, sight.arc_m - 1e6, sight.arc_m + 1e6, 1.0)


def _search(sight: Sight, free: float, blocker: Seen, end_m: float | None, width_m: float) -> list[Finding]:
    """Keep our lane and fall back behind the one beside us; stop before the end of the lane if it comes to that."""
    wished = 0.8 * (max(blocker.arc_rate_mps, 2.0) - _SLOWER_MPS - sight.speed_mps)
    bound = min(free, max(wished, _SOFTEST_MPS2))
    if end_m is not None:
        room = end_m - sight.front_m - _END_KEEP_M
        bound = min(bound, bounds.stop_at(sight.speed_mps, room, free, _END_KEEP_M - 2.0))
    goal = _goal(sight, bound, end_m)
    lane = _lane(sight, width_m)
    gives_up = _was_away(sight) - abs(sight.offset_m) > _GIVEN_UP_M
    side = "left" if sight.offset_m > 0 else "right"
    text = f"a car beside us is in the {'right' if side == 'left' else 'left'} lane"
    since = first_seen_us(sight, blocker.agent_id)
    beside = Factor("neighbour_vehicle", blocker.agent_id, since, bound, 0.0, text)
    return [
        Finding(beside, "gap_searching", holds=True),
        Finding(goal, "gap_searching", lane, gives_up, "lateral_abort" if gives_up else None, holds=True),
    ]
