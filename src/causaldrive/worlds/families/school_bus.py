"""A school bus stands with flashing lights and we stop; harmless: it stands dark on the other side."""

from __future__ import annotations

import numpy as np

from causaldrive.worlds.actors import Event, Trigger
from causaldrive.worlds.families.bystanders import add_bystanders
from causaldrive.worlds.families.draft import Draft, draw_draft
from causaldrive.worlds.families.street import BUS_RGB, SCHOOL_BUS_M, vary_weather

DESCRIPTION = "a school bus has stopped with flashing lights; harmless: its lights are off and it stands aside"
FOCUS_KIND = "school_bus"


def draw(rng: np.random.Generator, harmless: bool) -> Draft:
    draft = draw_draft(rng, forward_lanes=1)
    shape, backward = draft.shape, draft.lines["backward"]
    arc = draft.arc_after(float(rng.uniform(6.0, 8.0)))
    flash = Event(Trigger("clock", 0.0), indicator=2)
    go = Event(Trigger("clock", float(rng.uniform(10.5, 13.0))), indicator=0, speed_mps=8.0)
    events = () if harmless else (flash, go)
    draft.focus_id = "school_bus"
    if harmless or rng.random() < 0.5:
        draft.add_object("school_bus", "school_bus", SCHOOL_BUS_M, "backward", backward.length_m - arc,
                         -shape.lane_width_m / 2, BUS_RGB, events=events)  # fmt: skip
    else:
        draft.add_object("school_bus", "school_bus", SCHOOL_BUS_M, "forward", arc + 6.0, draft.ego_offset_m, BUS_RGB,
                         events=events)  # fmt: skip
    add_bystanders(draft, oncoming=False, parked_right=False, follower=False)
    vary_weather(draft)
    return draft
