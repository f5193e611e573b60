"""A pedestrian walks up to the road, waits and waves us on; harmless: one walks along the sidewalk."""

from __future__ import annotations

import numpy as np

from causaldrive.worlds.actors import Event, Trigger
from causaldrive.worlds.families.bystanders import add_bystanders, sidewalk_line
from causaldrive.worlds.families.draft import Draft, draw_draft
from causaldrive.worlds.families.pedestrian_crosses import across
from causaldrive.worlds.families.street import vary_weather
from causaldrive.worlds.state import WAVES

DESCRIPTION = "a pedestrian comes to the curb, waits and waves us on; harmless: one walks along the sidewalk"
FOCUS_KIND = "pedestrian_waiting"


def draw(rng: np.random.Generator, harmless: bool) -> Draft:
    seconds = float(rng.uniform(7.0, 8.5))
    target = float(rng.uniform(6.5, 8.5))  # a quiet street: who waits is near enough to be seen waiting
    draft = draw_draft(rng, crosswalk_s=seconds, right_strip_m=0.6, forward_lanes=1, target_mps=target)
    arc, shape = draft.arc_after(seconds), draft.shape
    draft.focus_id = "pedestrian"
    if harmless:
        way = float(rng.choice([-1.0, 1.0]))
        draft.add_pedestrian("pedestrian", sidewalk_line(draft, -1.0, arc - 8 * way, way), 1.3)
    else:
        pace, steps_s = float(rng.uniform(1.1, 1.4)), 1.6
        curb = shape.right_edge_m - float(rng.uniform(0.2, 0.6))
        line = across(draft, arc, curb - pace * steps_s, draft.ego_offset_m)
        go = Event(Trigger("arrival", steps_s + 3.2, arc), speed_mps=pace)
        wait = Event(Trigger("elapsed", steps_s), speed_mps=0.0, indicator=WAVES)
        draft.add_pedestrian("pedestrian", line, 0.0, events=(go, wait))
    add_bystanders(draft, parked_right=False, follower=False)
    vary_weather(draft, dusk=False)  # a raised hand is small
    return draft
