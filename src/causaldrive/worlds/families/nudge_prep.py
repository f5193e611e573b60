"""A parked car narrows our lane while someone comes towards us: wait; harmless: it is fully in the parking strip."""

from __future__ import annotations

import numpy as np

from causaldrive.worlds.families.bystanders import PARKING_STRIP_M, add_bystanders
from causaldrive.worlds.families.draft import Draft, draw_draft
from causaldrive.worlds.families.street import vary_weather

DESCRIPTION = "a parked car narrows our lane and a car comes towards us; harmless: it leaves our lane free"
FOCUS_KIND = "oncoming_vehicle"


def draw(rng: np.random.Generator, harmless: bool) -> Draft:
    draft = draw_draft(rng, forward_lanes=1, ego_lane=0, right_strip_m=PARKING_STRIP_M)
    shape, seconds = draft.shape, float(rng.uniform(5.0, 6.5))
    arc, edge = draft.arc_after(seconds), draft.shape.right_edge_m + PARKING_STRIP_M
    draft.add_car("standing", "forward", arc, 0.0, 0.0)
    width = draft.actors[-1].size_m[1]
    into = shape.lane_width_m / 2 - 0.08 + float(rng.uniform(0.0, 0.1))  # so far that two do not fit beside it
    draft.place_last(edge - 0.25 - width / 2 if harmless else edge + into - width / 2)
    speed = float(rng.uniform(6.5, 9.0))
    meets = arc - float(rng.uniform(2.0, 14.0))  # where it is when we would pass the parked car
    backward = draft.lines["backward"].length_m - meets - speed * seconds
    draft.focus_id = "oncoming"
    draft.add_car("oncoming", "backward", backward, -shape.lane_width_m / 2, speed)
    add_bystanders(draft, oncoming=False, parked_right=False, follower=False)
    vary_weather(draft)
    return draft
