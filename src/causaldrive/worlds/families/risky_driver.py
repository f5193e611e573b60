"""A car ahead in the neighbour lane swerves over the line and back; harmless: it drives straight."""

from __future__ import annotations

import numpy as np

from causaldrive.worlds.actors import Event, Trigger
from causaldrive.worlds.families.bystanders import add_bystanders
from causaldrive.worlds.families.draft import EGO_START_M, Draft, draw_draft
from causaldrive.worlds.families.street import vary_weather

DESCRIPTION = "a car in the neighbour lane swerves into ours and back; harmless: it drives straight"
FOCUS_KIND = "risky_vehicle"


def draw(rng: np.random.Generator, harmless: bool) -> Draft:
    draft = draw_draft(rng, forward_lanes=2)
    theirs = draft.shape.forward_offset_m(1 - draft.ego_lane)
    inward = 1.0 if draft.ego_offset_m > theirs else -1.0
    speed = draft.target_mps * float(rng.uniform(0.65, 0.8))
    swing = inward * float(rng.uniform(1.2, 1.6))
    events = [] if harmless else [Event(Trigger("gap", float(rng.uniform(20.0, 28.0))))]
    for index in range(0 if harmless else 10):
        offset = theirs + (swing if index % 2 == 0 else -0.2 * swing)
        events.append(Event(Trigger("elapsed", 0.9), offset_m=offset, shift_s=0.9))
    draft.focus_id = "swerving"
    draft.add_car("swerving", "forward", EGO_START_M + float(rng.uniform(30.0, 42.0)), theirs, speed, speed,
                  tuple(events))  # fmt: skip
    add_bystanders(draft, follower=False)
    vary_weather(draft)
    return draft
