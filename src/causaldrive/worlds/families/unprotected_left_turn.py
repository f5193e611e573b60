"""We turn left across oncoming traffic; harmless: the same traffic while we drive straight on."""

from __future__ import annotations

import numpy as np

from causaldrive.worlds.families.sumo_arms import arm, way_through
from causaldrive.worlds.families.sumo_draft import SumoDraft, draw_sumo_draft

DESCRIPTION = "a left turn across oncoming cars; harmless: the same cars while we go straight on"
FOCUS_KIND = "oncoming_vehicle"
_LARGE = (("truck", (7.0, 2.3, 3.0)), ("truck", (6.0, 2.3, 2.8)), ("bus", (9.0, 2.4, 3.0)))  # told from afar


def draw(rng: np.random.Generator, harmless: bool) -> SumoDraft:
    target = float(rng.uniform(8.5, 12.0))
    origin = str(rng.choice(list("ns")))
    to_line_s = float(rng.uniform(5.0, 7.5))
    draft = draw_sumo_draft(
        rng, "left_turn", way_through(origin, "straight" if harmless else "left"), target, to_line_s
    )
    draft.guided = True
    speed = float(rng.uniform(6.0, 8.5))
    before = speed * (to_line_s + float(rng.uniform(1.4, 3.2)))  # so that it comes while we are at the line
    ahead, (category, size) = way_through(arm(origin, "straight"), "straight"), _LARGE[int(rng.integers(len(_LARGE)))]
    for index in range(int(rng.integers(1, 4))):
        if before < draft.network.length_m("n_in") - 6.0:
            looks = {} if index else {"category": category, "size_m": size}
            draft.add_car_before(f"oncoming_{index}", ahead, before, speed, wish_mps=speed, **looks)
        before += speed * float(rng.uniform(1.4, 2.8))
    draft.focus_id = draft.cars[0].agent_id if draft.cars else None
    side = arm(origin, str(rng.choice(["left", "right"])))
    if rng.random() < 0.5:
        draft.add_car_before("waiting", way_through(side, "right"), float(rng.uniform(60.0, 100.0)), 8.0, wish_mps=8.0)
    draft.add_strollers(2)
    return draft
