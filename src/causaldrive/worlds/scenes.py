"""Scenes by name and seed: the families, drawing specs, building a scene.

Everything about a scene comes from its spec alone. Reads and writes nothing. Knows nothing of the expert.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from causaldrive.ground.errors import UserError, unknown_name
from causaldrive.ground.words import RESERVED_SEED
from causaldrive.worlds.families import (
    construction,
    curvy_road,
    cut_in,
    cyclist_overtake,
    emergency_vehicle,
    four_way_stop,
    helsinki_drive,
    lane_change,
    lane_change_prep,
    lane_ends,
    lead_brakes,
    no_yield,
    nudge_prep,
    oncoming_narrow,
    pass_intersection,
    pedestrian_crosses,
    ramp_merge,
    red_light,
    resume_green,
    risky_driver,
    roundabout,
    school_bus,
    sharp_curve,
    speed_bump,
    stop_for_lead,
    stop_sign,
    stopped_car,
    sumo_draft,
    town_drive,
    unprotected_left_turn,
    van_jaywalker,
)
from causaldrive.worlds.families.draft import Scene, SceneSpec, default_camera, finish

__all__ = [
    "CORE_FAMILIES",
    "FAMILIES",
    "Family",
    "Scene",
    "SceneSpec",
    "build_scene",
    "check_seeds",
    "default_camera",
    "draw_specs",
]


@dataclass(frozen=True)
class Family:
    """A kind of scene: one line about it, the cause kind it is about, and how it is drawn."""

    description: str
    focus_kind: str
    draw: Callable[[np.random.Generator, bool], Any]
    finish: Callable[[Any, SceneSpec, str], Scene] = finish


def _families(modules: Sequence[ModuleType], finish: Callable[[Any, SceneSpec, str], Scene]) -> dict[str, Family]:
    return {m.__name__.rsplit(".", 1)[1]: Family(m.DESCRIPTION, m.FOCUS_KIND, m.draw, finish) for m in modules}


_CORE = _families((lead_brakes, red_light, pedestrian_crosses, cut_in, stopped_car, sharp_curve), finish)
_WIDER = (
    stop_for_lead, stop_sign, resume_green, lane_change, lane_ends, speed_bump, construction, risky_driver,
    curvy_road, lane_change_prep, nudge_prep, pass_intersection, no_yield,
    school_bus, emergency_vehicle, oncoming_narrow, cyclist_overtake, van_jaywalker,
)  # fmt: skip
_ON_SUMO = (four_way_stop, unprotected_left_turn, ramp_merge, roundabout, town_drive, helsinki_drive)
FAMILIES: dict[str, Family] = {**_CORE, **_families(_WIDER, finish), **_families(_ON_SUMO, sumo_draft.finish)}
CORE_FAMILIES = tuple(_CORE)  # what is drawn when no family is named: recorded scenes depend on these and their order


def draw_specs(count: int, first_seed: int, families: Sequence[str] | None = None) -> list[SceneSpec]:
    """Specs of `count` consecutive seeds; any 2 x families consecutive ones cover each family in both variants.

    Without `families` the six core families are drawn.

    Raises UserError for an unknown family, a negative count or seed, and seeds that are reserved.
    """
    names = tuple(families) if families else CORE_FAMILIES
    for name in names:
        _family(name)
    check_seeds(first_seed, count)
    seeds = range(first_seed, first_seed + count)
    return [SceneSpec(names[seed // 2 % len(names)], seed, bool(seed % 2)) for seed in seeds]


def check_seeds(first_seed: int, count: int = 1) -> None:
    """Raises UserError for negative or reserved seeds."""
    if count < 0 or first_seed < 0:
        raise UserError(f"scenes {count} from seed {first_seed} asked for; both must be 0 or more, so change them.")
    if first_seed + count > RESERVED_SEED:
        raise UserError(
            f"seeds {first_seed} to {first_seed + count - 1} reach into those from {RESERVED_SEED} up, which are "
            "reserved for final checks; choose a lower first seed."
        )


def build_scene(spec: SceneSpec) -> Scene:
    """Draw the scene of `spec`. The same spec gives the same scene in every process.

    Raises UserError for an unknown family or a seed outside the open ranges.
    """
    family = _family(spec.family)
    check_seeds(spec.seed)
    rng = np.random.default_rng([spec.seed, zlib.crc32(spec.family.encode()), int(spec.harmless)])
    return family.finish(family.draw(rng, spec.harmless), spec, family.focus_kind)


def _family(name: str) -> Family:
    if name not in FAMILIES:
        raise unknown_name("scene family", name, FAMILIES)
    return FAMILIES[name]
