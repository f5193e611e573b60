"""A stop sign at a junction: stop at the line, then go; harmless: the sign is for the cross road."""

from __future__ import annotations

import numpy as np

from causaldrive.worlds.families.bystanders import add_bystanders
from causaldrive.worlds.families.draft import Draft, draw_draft
from causaldrive.worlds.families.red_light import cross_stops
from causaldrive.worlds.families.street import add_sign, vary_weather

DESCRIPTION = "a stop sign: stop, then go; harmless: the sign is for the cross road"
FOCUS_KIND = "stop_sign"


def draw(rng: np.random.Generator, harmless: bool) -> Draft:
    draft = draw_draft(rng, junction_s=float(rng.uniform(5.5, 8.0)))
    shape, crossing = draft.shape, draft.road.crossing
    assert crossing is not None
    draft.lines |= {"rightward": crossing, "leftward": crossing.reversed()}
    in_arc, out_arc = cross_stops(draft)
    back_arc = crossing.length_m - out_arc
    draft.focus_id = "sign"
    if harmless:
        add_sign(draft, "sign", "leftward", back_arc + 0.4, -shape.junction_half_m - 0.9)
        for lane in [k for k in draft.road.road_map.stop_lines if k.startswith(("forward", "opposite"))]:
            del draft.road.road_map.stop_lines[lane]
    else:
        add_sign(draft, "sign", "forward", shape.stop_at_m + 0.6, shape.right_edge_m - 0.9)
    for way, stop in (("rightward", in_arc), ("leftward", back_arc)):
        if rng.random() < 0.6:
            draft.add_car(f"cross_{way}", way, stop - 3.2, -shape.lane_width_m / 2, 0.0)
    add_bystanders(draft, parked_right=False, follower=False)
    vary_weather(draft)
    return draft
