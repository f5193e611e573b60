"""Cones and a barrier narrow or close our lane; harmless: they stand on the shoulder."""

from __future__ import annotations

import numpy as np

from causaldrive.worlds.families.bystanders import PARKING_STRIP_M, add_bystanders
from causaldrive.worlds.families.draft import Draft, draw_draft
from causaldrive.worlds.families.street import add_cones, vary_weather

DESCRIPTION = "road works narrow or close our lane; harmless: the cones stand on the shoulder"
FOCUS_KIND = "construction"


def draw(rng: np.random.Generator, harmless: bool) -> Draft:
    lanes = int(rng.integers(1, 3))
    draft = draw_draft(rng, forward_lanes=lanes, ego_lane=lanes - 1, right_strip_m=PARKING_STRIP_M)
    shape = draft.shape
    arc, length = draft.arc_after(float(rng.uniform(4.5, 6.5))), float(rng.uniform(16.0, 34.0))
    edge, lane_edge = shape.right_edge_m + 0.4, shape.right_edge_m + PARKING_STRIP_M
    closed = lanes == 2 and rng.random() < 0.5
    into = shape.lane_width_m - 0.4 if closed else float(rng.uniform(0.7, 1.5))
    add_cones(draft, arc, length, edge, lane_edge - 0.6 if harmless else lane_edge + into)
    draft.focus_id = "cone_0" if harmless else None
    add_bystanders(draft, oncoming=harmless, parked_right=False, follower=False)
    vary_weather(draft)
    return draft
