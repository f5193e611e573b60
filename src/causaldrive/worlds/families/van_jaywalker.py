"""A pedestrian steps out from behind a parked van; harmless: one stands behind it and stays."""

from __future__ import annotations

import math

import numpy as np

from causaldrive.worlds.families.bystanders import PARKING_STRIP_M, add_bystanders
from causaldrive.worlds.families.draft import Draft, draw_draft
from causaldrive.worlds.families.pedestrian_crosses import across, add_crossing
from causaldrive.worlds.families.street import VAN_M, add_van, vary_weather

DESCRIPTION = "a pedestrian steps out from behind a parked van; harmless: one stands there and stays"
FOCUS_KIND = "pedestrian_crossing"


def draw(rng: np.random.Generator, harmless: bool) -> Draft:
    lanes = int(rng.integers(1, 3))
    draft = draw_draft(rng, forward_lanes=lanes, ego_lane=lanes - 1, right_strip_m=PARKING_STRIP_M)
    arc, shape = draft.arc_after(float(rng.uniform(5.5, 7.5))), draft.shape
    add_van(draft, "van", "forward", arc - VAN_M[0] / 2 - float(rng.uniform(0.9, 1.6)), shape.right_edge_m + 1.1)
    draft.focus_id = "pedestrian"
    if harmless:
        line = across(draft, arc, shape.right_edge_m + float(rng.uniform(-0.6, 0.6)), draft.ego_offset_m)
        draft.add_pedestrian("pedestrian", line, 0.0, turned_rad=math.pi)
    else:
        add_crossing(draft, arc, -1.0)
    add_bystanders(draft, parked_right=False, follower=False)
    vary_weather(draft)
    return draft
