"""People and cars that have nothing to do with the ego's decision: oncoming, parked, following, strolling.

Adds to a `Draft`. A bystander is placed so that it never comes into the ego's way.
"""

from __future__ import annotations

from causaldrive.worlds.families.draft import EGO_START_M, Draft
from causaldrive.worlds.paths import Path
from causaldrive.worlds.roadside import SIDEWALK_M

PARKING_STRIP_M = 2.4


def add_bystanders(draft: Draft, *, oncoming: bool = True, parked_right: bool = True, follower: bool = True) -> None:
    """Draw a few of each kind; a family switches off those that would disturb its event."""
    if oncoming:
        _add_oncoming(draft)
    _add_parked(draft, right=parked_right)
    if follower and draft.rng.random() < 0.35:
        arc = EGO_START_M - draft.rng.uniform(16, 30)
        draft.add_car("follower", "forward", arc, draft.ego_offset_m, draft.start_mps, draft.target_mps)
    _add_strollers(draft)


def _add_oncoming(draft: Draft) -> None:
    shape, rng = draft.shape, draft.rng
    backward = draft.lines["backward"]
    arc = backward.length_m - EGO_START_M - rng.uniform(60, 120)
    for index in range(int(rng.integers(0, 4))):
        lane = int(rng.integers(shape.opposite_lanes))
        speed = float(rng.uniform(7, 12))
        draft.add_car(f"oncoming_{index}", "backward", arc, -(lane + 0.5) * shape.lane_width_m, speed)
        arc -= rng.uniform(25, 70)
        if arc < 20:
            return


def _add_parked(draft: Draft, right: bool) -> None:
    """Cars that stand fully inside the parking strips, away from a junction or crosswalk."""
    shape, rng = draft.shape, draft.rng
    sides = [(-1.0, shape.right_edge_m)] if right and shape.right_strip_m >= PARKING_STRIP_M else []
    sides += [(1.0, shape.left_edge_m)] if shape.left_strip_m >= PARKING_STRIP_M else []
    for side, edge in sides:
        arc = EGO_START_M + rng.uniform(10, 60)
        for index in range(int(rng.integers(0, 4))):
            if _clear_of_crossings(draft, arc):
                line = "forward" if side < 0 else "backward"
                place = arc if side < 0 else draft.lines["backward"].length_m - arc
                offset = edge + 1.1 if side < 0 else -(edge - 1.1)
                draft.add_car(f"parked_{'left' if side > 0 else 'right'}_{index}", line, place, offset, 0.0)
            arc += rng.uniform(7, 45)


def _clear_of_crossings(draft: Draft, arc_m: float) -> bool:
    places = [p for p in (draft.shape.junction_at_m, draft.shape.crosswalk_at_m) if p is not None]
    return all(abs(arc_m - place) > 18 for place in places)


def _add_strollers(draft: Draft) -> None:
    """People walking along a sidewalk, either way, not across a junction."""
    shape, rng = draft.shape, draft.rng
    for index in range(int(rng.integers(0, 3))):
        side = float(rng.choice([-1.0, 1.0]))
        arc = EGO_START_M + rng.uniform(15, 110)
        way = float(rng.choice([-1.0, 1.0]))
        if shape.junction_at_m is not None and abs(arc + 10 * way - shape.junction_at_m) < 32:
            continue
        line = sidewalk_line(draft, side, arc, way)
        draft.add_pedestrian(f"stroller_{index}", line, float(rng.uniform(0.9, 1.6)))


def sidewalk_line(draft: Draft, side: float, arc_m: float, way: float) -> Path:
    """A walking line of 40 m in the middle of the left (+1) or right (-1) sidewalk, along or against the road."""
    shape, forward = draft.shape, draft.road.forward
    offset = shape.left_edge_m + SIDEWALK_M * 0.6 if side > 0 else shape.right_edge_m - SIDEWALK_M * 0.6
    if way > 0:
        points = forward.offset_line(offset, arc_m, arc_m + 40.0, every_m=1.0)
    else:
        points = forward.offset_line(offset, arc_m - 40.0, arc_m, every_m=1.0)[::-1]
    return Path.through(points)
