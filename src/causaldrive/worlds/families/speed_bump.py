"""A speed bump across our lane; harmless: it lies in the oncoming lane only."""

from __future__ import annotations

import numpy as np

from causaldrive.worlds.families.bystanders import add_bystanders
from causaldrive.worlds.families.draft import Draft, draw_draft
from causaldrive.worlds.families.street import bump_ring, vary_weather

DESCRIPTION = "a speed bump in our lane; harmless: it lies in the oncoming lane only"
FOCUS_KIND = "speed_bump"


def draw(rng: np.random.Generator, harmless: bool) -> Draft:
    draft = draw_draft(rng)
    shape, bumps = draft.shape, draft.road.road_map.bumps
    arc = draft.arc_after(float(rng.uniform(4.5, 7.0)))
    if harmless:
        low, high = 0.15, shape.left_edge_m - 0.3
    else:
        low, high = shape.right_edge_m + 0.2, (shape.left_edge_m - 0.3 if rng.random() < 0.6 else -0.15)
    bumps["bump_0"] = bump_ring(draft, arc, low, high)
    if rng.random() < 0.35:
        bumps["bump_1"] = bump_ring(draft, arc + float(rng.uniform(28.0, 45.0)), low, high)
    add_bystanders(draft, follower=False)
    vary_weather(draft)
    return draft
