"""A slow cyclist in our lane is passed with room; harmless: it rides beside our lane on the strip."""

from __future__ import annotations

import numpy as np

from causaldrive.worlds.families.bystanders import add_bystanders
from causaldrive.worlds.families.draft import EGO_START_M, Draft, draw_draft
from causaldrive.worlds.families.street import add_cyclist, vary_weather

DESCRIPTION = "a slow cyclist in our lane is passed with room; harmless: it rides on the strip beside it"
FOCUS_KIND = "cyclist"


def draw(rng: np.random.Generator, harmless: bool) -> Draft:
    draft = draw_draft(rng, forward_lanes=1, right_strip_m=2.4 if harmless else None)
    half = draft.shape.lane_width_m / 2
    aside = half + 1.6 if harmless else half - float(rng.uniform(0.5, 0.9))
    draft.focus_id = "cyclist"
    arc, pace = EGO_START_M + float(rng.uniform(30.0, 45.0)), float(rng.uniform(3.5, 5.0))
    add_cyclist(draft, "cyclist", arc, draft.ego_offset_m - aside, pace)
    add_bystanders(draft, oncoming=False, parked_right=False, follower=False)
    if rng.random() < 0.3:
        speed = float(rng.uniform(7.0, 9.0))
        arc = draft.lines["backward"].length_m - EGO_START_M - float(rng.uniform(45.0, 75.0))
        draft.add_car("oncoming", "backward", arc, -half, speed)
    vary_weather(draft)
    return draft
