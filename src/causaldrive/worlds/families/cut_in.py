"""A slower car from the neighbour lane moves into ours; harmless: it keeps its lane at the same place."""

from __future__ import annotations

import numpy as np

from causaldrive.worlds.actors import Event, Trigger
from causaldrive.worlds.families.bystanders import add_bystanders
from causaldrive.worlds.families.draft import EGO_FRONT_M, EGO_START_M, Draft, draw_draft

DESCRIPTION = "a slower car cuts in from the neighbour lane; harmless: it keeps its lane"
FOCUS_KIND = "cut_in_vehicle"


def draw(rng: np.random.Generator, harmless: bool) -> Draft:
    draft = draw_draft(rng, forward_lanes=2)
    slow = draft.target_mps * float(rng.uniform(0.62, 0.78))
    gap = float(rng.uniform(9.0, 14.0))  # free distance at which it signals
    start_gap = gap + (draft.start_mps - slow) * float(rng.uniform(2.0, 4.0)) + 2.0
    other = 1 - draft.ego_lane
    events = () if harmless else _events(draft, gap)
    draft.focus_id = "cutter"
    draft.add_car("cutter", "forward", EGO_START_M + EGO_FRONT_M + start_gap + 2.3, draft.shape.forward_offset_m(other),
                  slow, slow, events)  # fmt: skip
    add_bystanders(draft)
    return draft


def _events(draft: Draft, gap_m: float) -> tuple[Event, ...]:
    """Signal, move over, switch the indicator off, and speed up again later."""
    rng = draft.rng
    side = 1 if draft.ego_lane == 0 else -1  # the ego's lane 0 lies to the left of lane 1
    shift_s = float(rng.uniform(2.4, 3.2))
    return (
        Event(Trigger("gap", gap_m), indicator=side),
        Event(Trigger("elapsed", float(rng.uniform(0.8, 1.2))), offset_m=draft.ego_offset_m, shift_s=shift_s),
        Event(Trigger("elapsed", shift_s), indicator=0),
        Event(Trigger("elapsed", float(rng.uniform(2.0, 4.0))), speed_mps=draft.target_mps),
    )
