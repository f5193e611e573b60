"""We enter a roundabout and a car in it comes by; harmless: it leaves before us, or has passed."""

from __future__ import annotations

import numpy as np

from causaldrive.worlds.families.sumo_arms import arm
from causaldrive.worlds.families.sumo_draft import SumoDraft, draw_sumo_draft

DESCRIPTION = "a roundabout with a car that goes first; harmless: that car leaves it before us"
FOCUS_KIND = "merging_vehicle"
_QUARTER_S = 4.5  # a quarter of the ring, slowing for it included
_RING = "enws"  # the ring's edges in driving direction, each named by the arm where it starts


def draw(rng: np.random.Generator, harmless: bool) -> SumoDraft:
    target = float(rng.uniform(8.5, 12.0))
    origin = str(rng.choice(list(_RING)))
    exit_arm = arm(origin, str(rng.choice(["straight", "straight", "left", "right"])))
    to_line_s = float(rng.uniform(8.0, 11.0))
    draft = draw_sumo_draft(rng, "roundabout", _around(origin, exit_arm), target, to_line_s)
    rival_from = arm(origin, "left")
    leaves = origin if harmless else arm(origin, str(rng.choice(["straight", "right"])))
    arrival = draft.to_line_m / target + float(rng.uniform(0.0, 1.5))
    speed = float(rng.uniform(7.0, 10.0))
    before = max((arrival - _QUARTER_S) * speed, 4.0)
    draft.add_car_before("circling", _around(rival_from, leaves), before, speed, wish_mps=speed)
    if rng.random() < 0.5:
        later = before + float(rng.uniform(12.0, 30.0))
        draft.add_car_before("circling_2", _around(rival_from, origin), later, speed, wish_mps=speed)
    draft.focus_id = "circling"
    return draft


def _around(origin: str, exit_arm: str) -> tuple[str, ...]:
    """Edges from an arm round the ring to another one."""
    place = _RING.index(origin)
    ring = []
    while not ring or _RING[place % 4] != exit_arm:
        ring.append(f"ring_{_RING[place % 4]}")
        place += 1
    return (f"{origin}_in", *ring, f"{exit_arm}_out")
