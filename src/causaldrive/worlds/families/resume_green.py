"""We wait at a red light that turns green; harmless: it is green, but a car still stands before us."""

from __future__ import annotations

import numpy as np

from causaldrive.worlds.actors import Event, SignalStage, Trigger
from causaldrive.worlds.families.bystanders import add_bystanders
from causaldrive.worlds.families.draft import EGO_FRONT_M, EGO_START_M, Draft, draw_draft
from causaldrive.worlds.families.red_light import add_cross_traffic, add_heads
from causaldrive.worlds.families.street import vary_weather
from causaldrive.worlds.roads import STOP_SETBACK_M

DESCRIPTION = "we wait at a light that turns green; harmless: green, but the car before us still stands"
FOCUS_KIND = "green_light"


def draw(rng: np.random.Generator, harmless: bool) -> Draft:
    target = float(rng.uniform(8.0, 13.0))
    room = float(rng.uniform(17.0, 20.0)) if harmless else float(rng.uniform(1.0, 4.0))
    ahead = EGO_FRONT_M + room + STOP_SETBACK_M + 4.1  # half the cross road, drawn with the lane width
    draft = draw_draft(rng, junction_s=ahead / target, target_mps=target)
    draft.start_mps = 0.0
    add_heads(draft)
    wait = float(rng.uniform(2.5, 5.0))
    red = () if harmless else (SignalStage("red", "green", Trigger("clock", wait)),)
    draft.program = (*red, SignalStage("green", "red"))
    draft.focus_id = f"light_main_{draft.ego_lane}"
    if harmless:
        go = Event(Trigger("clock", wait + 3.0), speed_mps=target)
        draft.add_car("lead", "forward", EGO_START_M + EGO_FRONT_M + 2.5 + 2.4, draft.ego_offset_m, 0.0, 0.0, (go,))
    add_cross_traffic(draft, True)
    add_bystanders(draft, parked_right=False, follower=False)
    vary_weather(draft)
    return draft
