"""A standing car sticks into our lane and we pass it; harmless: it stands fully inside the parking strip."""

from __future__ import annotations

import numpy as np

from causaldrive.worlds.families.bystanders import PARKING_STRIP_M, add_bystanders
from causaldrive.worlds.families.draft import Draft, draw_draft

DESCRIPTION = "a standing car blocks part of our lane; harmless: it stands in the parking strip"
FOCUS_KIND = "stopped_vehicle"


def draw(rng: np.random.Generator, harmless: bool) -> Draft:
    lanes = int(rng.integers(1, 3))
    draft = draw_draft(rng, forward_lanes=lanes, ego_lane=lanes - 1, right_strip_m=PARKING_STRIP_M)
    arc = draft.arc_after(float(rng.uniform(4.5, 7.5)))
    lane_edge = draft.shape.right_edge_m + PARKING_STRIP_M
    sticks_out = float(rng.uniform(0.6, 1.6))
    draft.add_car("standing", "forward", arc, 0.0, 0.0)
    width = draft.actors[-1].size_m[1]
    centre = lane_edge - 0.3 - width / 2 if harmless else lane_edge + sticks_out - width / 2
    draft.place_last(centre)
    draft.focus_id = "standing"
    # the way round must be free: nobody comes towards us on the only other lane
    add_bystanders(draft, oncoming=harmless, parked_right=False, follower=lanes == 1)
    return draft
