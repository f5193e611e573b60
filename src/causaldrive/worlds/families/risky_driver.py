"""A car that drives dangerously: it swerves over the line and back, keeps to the line between two lanes, or comes
towards us on a lane of our direction; harmless: the same car in its own lane.
"""

from __future__ import annotations

import numpy as np

from causaldrive.worlds.actors import Event, Trigger
from causaldrive.worlds.families.bystanders import add_bystanders
from causaldrive.worlds.families.draft import EGO_START_M, Draft, draw_draft
from causaldrive.worlds.families.street import vary_weather

DESCRIPTION = "a car swerves, keeps to the line between lanes, or comes the wrong way; harmless: it keeps its lane"
FOCUS_KIND = "risky_vehicle"
_WAYS = ("swerving", "on_the_line", "wrong_way")


def draw(rng: np.random.Generator, harmless: bool) -> Draft:
    way = str(rng.choice(_WAYS))
    draft = draw_draft(rng, forward_lanes=2, ego_lane=1 if way == "wrong_way" else None)
    draft.focus_id = "risky"
    if way == "wrong_way":
        _add_wrong_way(draft, harmless)
    else:
        _add_ahead(draft, way, harmless)
    add_bystanders(draft, oncoming=way != "wrong_way", follower=False)
    vary_weather(draft)
    return draft


def _add_ahead(draft: Draft, way: str, harmless: bool) -> None:
    """Ahead in the lane beside ours and slower: it swings out of it and back, or keeps to its edge."""
    rng = draft.rng
    theirs = draft.shape.forward_offset_m(1 - draft.ego_lane)
    inward = 1.0 if draft.ego_offset_m > theirs else -1.0
    speed = draft.target_mps * float(rng.uniform(0.65, 0.8))
    swing = inward * float(rng.uniform(1.2, 1.6))
    offset, events = theirs, []
    if way == "on_the_line" and not harmless:
        offset = theirs + swing
    elif not harmless:
        events = [Event(Trigger("gap", float(rng.uniform(14.0, 20.0))))]
        for index in range(10):
            out = theirs + (swing if index % 2 == 0 else -0.2 * swing)
            events.append(Event(Trigger("elapsed", 0.9), offset_m=out, shift_s=0.9))
    ahead = (20.0, 28.0) if way == "on_the_line" else (30.0, 42.0)  # who swings out must have room for it
    arc = EGO_START_M + float(rng.uniform(*ahead))
    draft.add_car("risky", "forward", arc, offset, speed, speed, tuple(events))


def _add_wrong_way(draft: Draft, harmless: bool) -> None:
    """Towards us on the lane beside ours; harmless: on its own side of the road."""
    rng, shape, backward = draft.rng, draft.shape, draft.lines["backward"]
    seconds, speed = float(rng.uniform(4.5, 6.5)), float(rng.uniform(6.0, 8.5))
    arc = backward.length_m - draft.arc_after(seconds) - speed * seconds
    offset = -0.5 * shape.lane_width_m if harmless else -shape.forward_offset_m(0)
    draft.add_car("risky", "backward", max(arc, 6.0), offset, speed, speed)
