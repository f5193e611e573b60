"""The light ahead turns green as we come near, and we pass the junction; harmless: it is green all along."""

from __future__ import annotations

import numpy as np

from causaldrive.worlds.actors import SignalStage, Trigger
from causaldrive.worlds.families.bystanders import add_bystanders
from causaldrive.worlds.families.draft import Draft, draw_draft
from causaldrive.worlds.families.red_light import add_cross_traffic, add_heads
from causaldrive.worlds.families.street import vary_weather

DESCRIPTION = "the light turns green as we come near and we pass; harmless: it is green all along"
FOCUS_KIND = "green_light"


def draw(rng: np.random.Generator, harmless: bool) -> Draft:
    draft = draw_draft(rng, junction_s=float(rng.uniform(6.5, 8.5)))
    add_heads(draft)
    near = Trigger("arrival", float(rng.uniform(2.4, 3.4)), draft.shape.stop_at_m)
    red = () if harmless else (SignalStage("red", "red", near),)
    draft.program = (*red, SignalStage("green", "red"))
    draft.focus_id = f"light_main_{draft.ego_lane}"
    add_cross_traffic(draft, True)
    add_bystanders(draft, parked_right=False, follower=False)
    vary_weather(draft)
    return draft
