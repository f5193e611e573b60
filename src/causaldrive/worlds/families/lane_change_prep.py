"""Our route needs the neighbour lane, but cars drive beside us: look for a gap; harmless: the route stays."""

from __future__ import annotations

import numpy as np

from causaldrive.worlds.families.bystanders import add_bystanders
from causaldrive.worlds.families.draft import EGO_START_M, Draft, draw_draft
from causaldrive.worlds.families.street import paint_guide_line, vary_weather

DESCRIPTION = "we need the neighbour lane and look for a gap beside us; harmless: the route stays in our lane"
FOCUS_KIND = "neighbour_vehicle"


def draw(rng: np.random.Generator, harmless: bool) -> Draft:
    draft = draw_draft(rng, forward_lanes=2)
    other = 1 - draft.ego_lane
    theirs, pace = draft.shape.forward_offset_m(other), draft.start_mps
    arc = EGO_START_M + float(rng.uniform(5.0, 9.0))
    draft.focus_id = "beside"
    draft.add_car("beside", "forward", arc, theirs, pace)
    for index in range(int(rng.integers(1, 3))):
        arc += float(rng.uniform(13.0, 18.0))
        draft.add_car(f"ahead_{index}", "forward", arc, theirs, pace)
    draft.add_car("behind", "forward", EGO_START_M - float(rng.uniform(26.0, 34.0)), theirs, pace)
    draft.route_lane = draft.ego_lane if harmless else other
    add_bystanders(draft, follower=False)
    vary_weather(draft)
    paint_guide_line(draft)
    return draft
