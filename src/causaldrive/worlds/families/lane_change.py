"""Our route needs the neighbour lane, where there is a gap; harmless: the route stays in our lane."""

from __future__ import annotations

import numpy as np

from causaldrive.worlds.families.bystanders import add_bystanders
from causaldrive.worlds.families.draft import EGO_START_M, Draft, draw_draft
from causaldrive.worlds.families.street import paint_guide_line, vary_weather

DESCRIPTION = "our route needs the neighbour lane, behind a slower car; harmless: the route stays in our lane"
FOCUS_KIND = "route_lane"


def draw(rng: np.random.Generator, harmless: bool) -> Draft:
    draft = draw_draft(rng, forward_lanes=2)
    draft.start_mps = draft.target_mps * float(rng.uniform(0.7, 0.85))
    other = 1 - draft.ego_lane
    slow = draft.target_mps * float(rng.uniform(0.5, 0.65))
    theirs = draft.shape.forward_offset_m(other)
    passing = draft.start_mps + float(rng.uniform(3.0, 5.0))  # it draws level and leaves a gap behind it
    draft.add_car("passing", "forward", EGO_START_M - float(rng.uniform(2, 9)), theirs, passing, passing + 1.0)
    draft.add_car("slow", "forward", EGO_START_M + float(rng.uniform(38, 52)), draft.ego_offset_m, slow)
    draft.route_lane = draft.ego_lane if harmless else other
    add_bystanders(draft, follower=False)
    vary_weather(draft)
    paint_guide_line(draft)
    return draft
