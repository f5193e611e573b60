"""A winding road: one tight bend after the other; harmless: it winds gently."""

from __future__ import annotations

import math

import numpy as np

from causaldrive.worlds.families.bystanders import add_bystanders
from causaldrive.worlds.families.draft import EGO_START_M, Draft, draw_draft
from causaldrive.worlds.families.street import vary_weather

DESCRIPTION = "a winding road that needs a lower speed; harmless: it winds gently"
FOCUS_KIND = "sharp_curve"


def draw(rng: np.random.Generator, harmless: bool) -> Draft:
    target = float(rng.uniform(9.5, 13.0))
    side = float(rng.choice([-1.0, 1.0]))
    bends = [(EGO_START_M + target * float(rng.uniform(2.5, 4.5)), 0.0)]
    total = math.ceil(EGO_START_M + target * 20.0 + 110.0)
    while sum(length for length, _ in bends) < total:
        radius = float(rng.uniform(150.0, 260.0)) if harmless else float(rng.uniform(22.0, 38.0))
        angle = math.radians(rng.uniform(12, 25) if harmless else rng.uniform(35, 65))
        bends += [(radius * angle, side / radius), (float(rng.uniform(8.0, 16.0)), 0.0)]
        side = -side
    draft = draw_draft(rng, bends=tuple(bends), target_mps=target, forward_lanes=1)
    add_bystanders(draft, follower=False)
    vary_weather(draft)
    return draft
