"""A car ahead in our lane comes to a stand and stays there a while; harmless: it stands in the neighbour lane."""

from __future__ import annotations

import numpy as np

from causaldrive.worlds.actors import Event, Trigger
from causaldrive.worlds.families.bystanders import add_bystanders
from causaldrive.worlds.families.draft import EGO_START_M, Draft, draw_draft
from causaldrive.worlds.families.street import vary_weather

DESCRIPTION = "the car ahead comes to a stand; harmless: a car in the neighbour lane does"
FOCUS_KIND = "lead_vehicle"


def draw(rng: np.random.Generator, harmless: bool) -> Draft:
    draft = draw_draft(rng, forward_lanes=2 if harmless else None)
    lane = 1 - draft.ego_lane if harmless else draft.ego_lane
    speed = draft.start_mps * float(rng.uniform(0.8, 0.95))
    stop = Event(Trigger("clock", float(rng.uniform(1.0, 3.5))), speed_mps=0.0,
                 deceleration_mps2=float(rng.uniform(1.6, 2.8)))  # fmt: skip
    stay = Event(Trigger("elapsed", float(rng.uniform(8.0, 10.5))), speed_mps=draft.target_mps)
    draft.focus_id = "lead"
    arc = EGO_START_M + float(rng.uniform(24, 34))
    draft.add_car("lead", "forward", arc, draft.shape.forward_offset_m(lane), speed, speed, (stop, stay))
    add_bystanders(draft)
    vary_weather(draft)
    return draft
