"""The road bends sharply and we have to slow down; harmless: a gentle bend at the same place."""

from __future__ import annotations

import math

import numpy as np

from causaldrive.worlds.families.bystanders import add_bystanders
from causaldrive.worlds.families.draft import EGO_START_M, Draft, draw_draft

DESCRIPTION = "a sharp curve needs a lower speed; harmless: a gentle bend"
FOCUS_KIND = "sharp_curve"


def draw(rng: np.random.Generator, harmless: bool) -> Draft:
    target = float(rng.uniform(9.5, 13.0))
    before = EGO_START_M + target * float(rng.uniform(3.5, 6.5))
    side = float(rng.choice([-1.0, 1.0]))
    radius = float(rng.uniform(150.0, 280.0)) if harmless else float(rng.uniform(18.0, 30.0))
    angle = math.radians(rng.uniform(20, 45) if harmless else rng.uniform(55, 100))
    lanes = int(rng.integers(1, 3))
    if not harmless:  # the radius is the reference line's: the right curb inside a right bend must keep one too
        radius = max(radius, 3.7 * lanes + 9.0) if side < 0 else radius
    after = math.ceil(EGO_START_M + target * 20.0 + 110.0) - before
    bend = radius * angle
    straight = ((before, 0.0), (bend, side / radius), (max(after - bend, 40.0), 0.0))
    draft = draw_draft(rng, bends=straight, target_mps=target, forward_lanes=lanes)
    add_bystanders(draft)
    return draft
