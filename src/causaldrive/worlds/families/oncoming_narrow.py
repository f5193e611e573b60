"""An oncoming car swings round a parked van into our lane; harmless: the van leaves its lane free."""

from __future__ import annotations

import numpy as np

from causaldrive.worlds.actors import Event, Trigger
from causaldrive.worlds.families.bystanders import add_bystanders
from causaldrive.worlds.families.draft import Draft, draw_draft
from causaldrive.worlds.families.street import VAN_M, WHITE_RGB, vary_weather

DESCRIPTION = "an oncoming car comes round a parked van into our lane; harmless: the van leaves it room"
FOCUS_KIND = "oncoming_vehicle"


def draw(rng: np.random.Generator, harmless: bool) -> Draft:
    draft = draw_draft(rng, forward_lanes=1, right_strip_m=2.4)
    shape, seconds = draft.shape, float(rng.uniform(5.0, 7.0))
    arc, length, half = draft.arc_after(seconds), draft.lines["backward"].length_m, draft.shape.lane_width_m / 2
    over = 0.0 if harmless else float(rng.uniform(0.5, 0.9))  # how far it reaches into our lane
    van = -(shape.left_edge_m - 0.9) if harmless else -(2 * half + 0.4 - over)
    draft.add_object("van", "truck", VAN_M, "backward", length - arc, van, WHITE_RGB)
    speed = float(rng.uniform(6.0, 8.0))
    start = length - arc - speed * (seconds + float(rng.uniform(-0.3, 0.6)))
    out = Event(Trigger("clock", max(seconds - 2.9, 0.1)), offset_m=-(0.95 - over), shift_s=2.0)
    back = Event(Trigger("elapsed", 2.0 + 12.0 / speed), offset_m=-half, shift_s=2.0)
    draft.focus_id = "oncoming"
    draft.add_car("oncoming", "backward", start, -half, speed, speed, () if harmless else (out, back))
    add_bystanders(draft, oncoming=False, parked_right=False, follower=False)
    vary_weather(draft)
    return draft
