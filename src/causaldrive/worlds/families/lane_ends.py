"""Our lane ends and we merge into the one beside it; harmless: the lane beside us ends."""

from __future__ import annotations

import numpy as np

from causaldrive.worlds.families.bystanders import add_bystanders
from causaldrive.worlds.families.draft import EGO_START_M, Draft, draw_draft
from causaldrive.worlds.families.street import end_right_lane, vary_weather

DESCRIPTION = "our lane ends and we merge; harmless: the lane beside us ends"
FOCUS_KIND = "lane_ends"


def draw(rng: np.random.Generator, harmless: bool) -> Draft:
    target = float(rng.uniform(8.0, 13.0))
    straight = ((float(np.ceil(EGO_START_M + target * 20.0 + 110.0)), 0.0),)
    draft = draw_draft(rng, forward_lanes=2, ego_lane=0 if harmless else 1, bends=straight, target_mps=target,
                       right_strip_m=0.6)  # fmt: skip
    end_m = end_right_lane(draft, draft.arc_after(float(rng.uniform(7.0, 9.5))))
    draft.route_lane = 0
    sign = (214, 40, 36)
    for index, (along, offset) in enumerate(((2.0, 0.9), (9.0, 1.9), (16.0, 2.7))):
        draft.add_object(f"board_{index}", "barrier", (0.3, 1.0, 1.0), "forward", end_m + along,
                         draft.shape.right_edge_m - 0.6 + offset, sign)  # fmt: skip
    if rng.random() < 0.7:
        inner = draft.shape.forward_offset_m(0)
        arc = EGO_START_M + float(rng.choice([rng.uniform(-3.0, 6.0), rng.uniform(20.0, 30.0)]))
        if not harmless or arc > EGO_START_M + 18.0:
            draft.add_car("neighbour", "forward", arc, inner, draft.start_mps)
    add_bystanders(draft, parked_right=False, follower=False)
    vary_weather(draft)
    return draft
