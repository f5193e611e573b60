"""An emergency vehicle crosses before us or comes from behind; harmless: it stands at the roadside, lights off."""

from __future__ import annotations

import numpy as np

from causaldrive.worlds.actors import Event, SignalStage, Trigger
from causaldrive.worlds.families.bystanders import PARKING_STRIP_M, add_bystanders
from causaldrive.worlds.families.draft import EGO_START_M, Draft, draw_draft
from causaldrive.worlds.families.red_light import add_heads
from causaldrive.worlds.families.street import AMBULANCE_M, WHITE_RGB, vary_weather
from causaldrive.worlds.roads import CROSS_ARM_M

DESCRIPTION = "an emergency vehicle crosses or comes from behind; harmless: it stands aside, lights off"
FOCUS_KIND = "emergency_vehicle"
_FLASH = Event(Trigger("clock", 0.0), indicator=2)


def draw(rng: np.random.Generator, harmless: bool) -> Draft:
    crosses = not harmless and rng.random() < 0.65
    draft = draw_draft(rng, forward_lanes=1, right_strip_m=PARKING_STRIP_M,
                       junction_s=float(rng.uniform(6.0, 8.0)) if crosses else None)  # fmt: skip
    draft.focus_id = "ambulance"
    if harmless:
        _add(draft, "forward", draft.arc_after(float(rng.uniform(4.0, 6.0))), draft.shape.right_edge_m + 1.15, 0.0, ())
    elif crosses:
        _cross(draft)
    else:
        fast = draft.target_mps + float(rng.uniform(4.0, 6.0))
        arc = EGO_START_M - float(rng.uniform(38.0, 48.0))
        _add(draft, "forward", arc, draft.ego_offset_m + 1.5, fast, (_FLASH,))
    add_bystanders(draft, oncoming=False, parked_right=False, follower=False)
    vary_weather(draft)
    return draft


def _cross(draft: Draft) -> None:
    """It reaches our way about when we would, at a junction whose light is green for us."""
    crossing, shape, rng = draft.road.crossing, draft.shape, draft.rng
    assert crossing is not None
    add_heads(draft)
    draft.program = (SignalStage("green", "red"),)
    way = str(rng.choice(["rightward", "leftward"]))
    line = crossing if way == "rightward" else crossing.reversed()
    draft.lines[way] = line
    speed = float(rng.uniform(9.0, 12.0))
    start = CROSS_ARM_M - speed * float(rng.uniform(3.2, 4.2))
    go = Event(Trigger("arrival", float(rng.uniform(4.0, 4.6)), shape.stop_at_m), speed_mps=speed)
    _add(draft, way, start, -shape.lane_width_m / 2, 0.0, (_FLASH, go))


def _add(draft: Draft, line: str, arc_m: float, offset_m: float, speed_mps: float, events: tuple) -> None:
    draft.add_object("ambulance", "emergency_vehicle", AMBULANCE_M, line, arc_m, offset_m, WHITE_RGB,
                     speed_mps=speed_mps, events=events)  # fmt: skip
