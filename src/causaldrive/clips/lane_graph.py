"""How lanes of a map lie to each other: beside, before and behind, joining, parting, turning, ending.

Reads a `RoadMap`. Knows nothing of who drives there, or when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from causaldrive.clips.geometry import Array, arc_lengths, project_on_polyline
from causaldrive.clips.types import Lane, RoadMap

STRAIGHT_RAD = 0.35  # a way over a junction that turns by less goes straight on
DRIVEN_KINDS = ("vehicle", "bus")  # of lanes that a car may be on
ENDS_WITHIN_M = 150.0  # a lane that ends (or has begun) so near does not go on
_MOST_JUNCTION_LANES = 4  # one after the other on a way over one junction


def lane_change_of(before: Lane, after: Lane, road: RoadMap) -> str | None:
    """What it is to leave one lane for another beside it; None where that one is not beside it.

    A merge where the lane left ends and the other goes on, a split where the other has just begun, else a change.
    """
    side = _side_of(before, after, road)
    if side is None:
        return None
    if _goes_on(after, road, "successors") and not _goes_on(before, road, "successors"):
        return "merge"
    if _goes_on(before, road, "predecessors") and not _goes_on(after, road, "predecessors"):
        return "split"
    return f"lane_change_{side}"


def _side_of(before: Lane, after: Lane, road: RoadMap) -> str | None:
    """On which side `after` lies of a lane, or of what leads into that lane or out of it."""
    if after.lane_id in before.successors:
        return None
    around = [before, *(road.lanes[n] for n in (*before.successors, *before.predecessors) if n in road.lanes)]
    for side in ("left", "right"):
        if any(getattr(lane, f"{side}_neighbour") == after.lane_id for lane in around):
            return side
    return None


def _goes_on(lane: Lane, road: RoadMap, way: str) -> bool:
    """Whether it leads on (or, by predecessors, comes from) farther than `ENDS_WITHIN_M`."""
    far = 0.0
    while far < ENDS_WITHIN_M:
        names = [name for name in getattr(lane, way) if name in road.lanes]
        if not names:
            return False
        lane = road.lanes[names[0]]
        far += float(arc_lengths(lane.centre_xy_m)[-1])
    return True


def join_of(before: Lane, after: Lane, road: RoadMap) -> str | None:
    """'merge' where several lanes lead straight on into the next one, 'split' where one leads straight on into several.

    Over a junction too: there, lanes that come from another road turn into ours, and are no reason to speak of it.
    """
    if after.lane_id not in before.successors:
        return None
    if not after.in_junction and len(list(_straight(after, road, "predecessors"))) > 1:
        return "merge"
    if not before.in_junction and len(list(_straight(before, road, "successors"))) > 1:
        return "split"
    return None


def _straight(lane: Lane, road: RoadMap, way: str) -> Iterator[str]:
    """Lanes outside junctions from (or to) which one gets straight on; also those past the map's edge."""
    for first in getattr(lane, way):
        name, turned = first, 0.0
        for _ in range(_MOST_JUNCTION_LANES):
            following = road.lanes.get(name)
            if following is None or not following.in_junction:
                break
            turned += turn_of(following)
            name = next(iter(getattr(following, way)), name)
        if abs(turned) < STRAIGHT_RAD:
            yield name


def onward(lane: Lane, way: str, road: RoadMap, far_m: float, pick: Callable[[list[Lane]], Lane | None]) -> list[Lane]:
    """Lanes that lead on from one ('successors') or into it ('predecessors') over `far_m`, up to a turn at a junction.

    Where `pick` finds none among those that may follow, it ends.
    """
    found, inside = [], []
    while inside or sum(float(arc_lengths(part.centre_xy_m)[-1]) for part in found) < far_m:
        known = [road.lanes[name] for name in getattr(lane, way) if name in road.lanes]
        following = pick([part for part in known if part.kind in DRIVEN_KINDS])
        if following is None or following in found or len(inside) == _MOST_JUNCTION_LANES:
            break
        lane = following
        inside.append(lane)
        if lane.in_junction:
            continue
        if abs(sum(turn_of(part) for part in inside[:-1])) >= STRAIGHT_RAD:
            return found
        found, inside = found + inside, []
    return found if abs(sum(turn_of(part) for part in inside)) >= STRAIGHT_RAD else found + inside


def turn_of(lane: Lane) -> float:
    """By how much a lane turns from its start to its end, left positive."""
    yaw = _segment_yaw(lane.centre_xy_m)
    return float(yaw[-1] - yaw[0])


def yaw_beside(xy_m: Array, centre_xy_m: Array) -> Array:
    """Heading (N,) of a line beside points (N, 2), turning evenly from one segment's middle to the next one's."""
    knots = arc_lengths(centre_xy_m)
    arc, _ = project_on_polyline(xy_m, centre_xy_m)
    return np.interp(arc, (knots[1:] + knots[:-1]) / 2, _segment_yaw(centre_xy_m))


def _segment_yaw(centre_xy_m: Array) -> Array:
    step = np.diff(centre_xy_m, axis=0)
    return np.unwrap(np.arctan2(step[:, 1], step[:, 0]))
