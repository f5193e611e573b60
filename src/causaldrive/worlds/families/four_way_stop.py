"""An all-way stop where another car came first; harmless: only the cross road has stop signs, and its car waits."""

from __future__ import annotations

import numpy as np

from causaldrive.worlds.families.sumo_arms import arm, way_through
from causaldrive.worlds.families.sumo_draft import SumoDraft, draw_sumo_draft

DESCRIPTION = "an all-way stop, another car came first; harmless: the stop signs are for the cross road only"
FOCUS_KIND = "stop_sign"


def draw(rng: np.random.Generator, harmless: bool) -> SumoDraft:
    target = float(rng.uniform(8.5, 12.0))
    origin = str(rng.choice(list("ns" if harmless else "nesw")))
    way = "straight" if harmless else str(rng.choice(["straight", "straight", "left", "right"]))
    to_line_s = float(rng.uniform(5.0, 7.5))
    name = "left_turn" if harmless else "four_way_stop"
    draft = draw_sumo_draft(rng, name, way_through(origin, way), target, to_line_s)
    sides = ["left", "right"] if harmless else list(rng.permutation(["left", "right", "straight"]))
    for index, side in enumerate(sides[: int(rng.integers(1, 3))]):
        _add_rival(draft, f"rival_{index}", arm(origin, str(side)), to_line_s, harmless)
    draft.add_strollers(2)
    return draft


def _add_rival(draft: SumoDraft, name: str, origin: str, to_line_s: float, harmless: bool) -> None:
    """It reaches its line a little before the ego stops; harmless: as the ego passes."""
    rng = draft.rng
    speed = float(rng.uniform(7.0, 11.0))
    early_s = float(rng.uniform(0.0, 1.5)) if harmless else float(rng.uniform(-2.0, 0.5))
    seconds = max(to_line_s - early_s, 2.0)
    way = "straight" if harmless else str(rng.choice(["straight", "left"]))
    draft.add_car_before(name, way_through(origin, way), 3.0 + speed * seconds, speed, wish_mps=speed)
