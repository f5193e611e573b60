"""We come up a ramp and a car on the main road is beside us; harmless: it is far ahead or far behind."""

from __future__ import annotations

import numpy as np

from causaldrive.worlds.families.sumo_draft import SumoDraft, draw_sumo_draft

DESCRIPTION = "a ramp joins a main road, a car there has the right of way; harmless: the gap is wide"
FOCUS_KIND = "merging_vehicle"
_EDGES = ("ramp", "main_out")


def draw(rng: np.random.Generator, harmless: bool) -> SumoDraft:
    target = float(rng.uniform(13.0, 16.0))
    draft = draw_sumo_draft(rng, "ramp_merge", _EDGES, target, float(rng.uniform(7.0, 11.0)))
    draft.built_up = False
    arrival = draft.to_line_m / target
    speed = float(rng.uniform(13.0, 17.0))
    late = float(rng.choice([-1.0, 1.0])) * float(rng.uniform(4.5, 6.0)) if harmless else float(rng.uniform(-1.0, 0.3))
    _add_main(draft, "main_0", arrival + late, speed)
    if not harmless and rng.random() < 0.6:
        _add_main(draft, "main_1", arrival + late - float(rng.uniform(1.6, 3.0)), speed)
    if rng.random() < 0.4:
        _add_main(draft, "main_2", arrival + 6.0 + float(rng.uniform(0.5, 2.0)), speed)
    draft.focus_id = "main_0"
    return draft


def _add_main(draft: SumoDraft, name: str, seconds: float, speed_mps: float) -> None:
    """A car on the main road that reaches the merging point after so long."""
    before = speed_mps * seconds
    if 4.0 < before < draft.network.length_m("main_in") - 6.0:
        draft.add_car_before(name, ("main_in", "main_out"), before, speed_mps, wish_mps=speed_mps)
