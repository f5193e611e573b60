"""A pedestrian crosses before us; harmless: one walks along the sidewalk or waits turned away."""

from __future__ import annotations

import math

import numpy as np

from causaldrive.worlds.actors import Event, Trigger
from causaldrive.worlds.families.bystanders import add_bystanders, sidewalk_line
from causaldrive.worlds.families.draft import Draft, draw_draft
from causaldrive.worlds.paths import Path

DESCRIPTION = "a pedestrian crosses the road; harmless: one walks along the sidewalk or waits turned away"
FOCUS_KIND = "pedestrian_crossing"
_IN_WAY_M = 1.7  # from the ego lane's middle: half a car and a margin


def draw(rng: np.random.Generator, harmless: bool) -> Draft:
    seconds = float(rng.uniform(6.0, 8.0))
    draft = draw_draft(rng, crosswalk_s=seconds if rng.random() < 0.6 else None)
    arc = draft.arc_after(seconds)
    draft.focus_id = "pedestrian"
    side = float(rng.choice([-1.0, 1.0]))
    if harmless:
        _add_harmless(draft, arc, side)
    else:
        add_crossing(draft, arc, side)
    add_bystanders(draft, parked_right=False)
    return draft


def add_crossing(draft: Draft, arc_m: float, side: float) -> None:
    """Starts so early that the ego can stop in comfort, and so late that it has to.

    The ego at v needs v/4.4 s to stop at 2.2 m/s2, 7.2 m of margin (front and distance kept), and its reaction time.
    """
    shape, rng, v = draft.shape, draft.rng, draft.target_mps
    pace = float(rng.uniform(1.2, 1.8))
    curb = shape.left_edge_m if side > 0 else shape.right_edge_m
    from_curb = abs(curb - draft.ego_offset_m) - _IN_WAY_M
    lateness = float(rng.uniform(0.5, 1.3))  # seconds between stepping before us and our arrival
    arrival = max(0.8 + 7.2 / v + v / 4.4, (from_curb + 1.2) / pace + lateness)
    start = draft.ego_offset_m + side * (_IN_WAY_M + pace * (arrival - lateness))
    end = (shape.right_edge_m if side > 0 else shape.left_edge_m) - side * 2.0
    line = across(draft, arc_m, start, end)
    go = Event(Trigger("arrival", arrival, arc_m), speed_mps=pace)
    stop = Event(Trigger("elapsed", line.length_m / pace), speed_mps=0.0)
    draft.add_pedestrian("pedestrian", line, 0.0, events=(go, stop))


def _add_harmless(draft: Draft, arc_m: float, side: float) -> None:
    rng, shape = draft.rng, draft.shape
    if rng.random() < 0.5:
        way = float(rng.choice([-1.0, 1.0]))
        draft.add_pedestrian(
            "pedestrian", sidewalk_line(draft, side, arc_m - 8 * way, way), float(rng.uniform(1.0, 1.6))
        )
        return
    curb = shape.left_edge_m if side > 0 else shape.right_edge_m
    line = across(draft, arc_m, curb + side * 1.2, draft.ego_offset_m)
    draft.add_pedestrian("pedestrian", line, 0.0, turned_rad=math.pi)


def across(draft: Draft, arc_m: float, from_offset_m: float, to_offset_m: float) -> Path:
    """A straight walking line across the road at an arc length."""
    x, y, yaw = draft.road.forward.pose(arc_m, from_offset_m)
    turn = math.pi / 2 if to_offset_m > from_offset_m else -math.pi / 2
    return Path.straight(np.array([x, y]), yaw + turn, abs(to_offset_m - from_offset_m))
