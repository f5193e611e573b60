"""A car ahead in our lane brakes and later goes on; harmless: the braking car is in the neighbour lane."""

from __future__ import annotations

import numpy as np

from causaldrive.worlds.actors import Event, Trigger
from causaldrive.worlds.families.bystanders import add_bystanders
from causaldrive.worlds.families.draft import EGO_START_M, Draft, draw_draft

DESCRIPTION = "the car ahead brakes, then goes on; harmless: a car in the neighbour lane brakes"
FOCUS_KIND = "lead_vehicle"


def draw(rng: np.random.Generator, harmless: bool) -> Draft:
    draft = draw_draft(rng, forward_lanes=2 if harmless else None)
    lane = 1 - draft.ego_lane if harmless else draft.ego_lane
    speed = draft.start_mps * float(rng.uniform(0.85, 1.0))
    gap = float(rng.uniform(15, 28)) + 6.0
    brake = Event(Trigger("clock", float(rng.uniform(2.0, 5.0))), speed_mps=float(rng.choice([0.0, rng.uniform(1, 4)])),
                  deceleration_mps2=float(rng.uniform(2.4, 3.8)))  # fmt: skip
    resume = Event(Trigger("elapsed", float(rng.uniform(4.5, 7.0))), speed_mps=draft.target_mps)
    draft.focus_id = "lead"
    draft.add_car(
        "lead", "forward", EGO_START_M + gap, draft.shape.forward_offset_m(lane), speed, speed, (brake, resume)
    )
    if not harmless and draft.shape.forward_lanes == 2 and rng.random() < 0.5:
        offset = draft.shape.forward_offset_m(1 - draft.ego_lane)
        draft.add_car("neighbour", "forward", EGO_START_M + rng.uniform(-5, 40), offset, draft.target_mps)
    add_bystanders(draft)
    return draft
