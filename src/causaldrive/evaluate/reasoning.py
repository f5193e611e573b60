"""Is what the driver says true, and does the car do it? One moment of one driver at a time.

A trace whose decision cannot be read on both axes is unscored, not wrong: it lowers the parse rate alone. Reads plain
values; knows nothing of models or worlds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from causaldrive.ground.words import DIRECTED_LATERAL
from causaldrive.label.consistency import PlannedMotion, judge
from causaldrive.label.trace import ParsedTrace, parse
from causaldrive.label.truth import Tally, Truth, cause_tallies, decision_tallies


def readable(parsed: ParsedTrace) -> bool:
    """Both axes can be read, and a lateral decision that needs a side names one."""
    both = parsed.longitudinal is not None and parsed.lateral is not None
    return both and (parsed.lateral not in DIRECTED_LATERAL or parsed.direction is not None)


def tallies(text: str, truth: Truth, motion: PlannedMotion) -> dict[str, Tally]:
    """Every reasoning metric's share of one moment; metrics that cannot be judged there are absent."""
    parsed = parse(text)
    if not readable(parsed):
        return {"parse_rate": Tally(0, 1)}
    found = {"parse_rate": Tally(1, 1), "consistency": Tally(float(judge(parsed, motion).consistent), 1)}
    return found | decision_tallies(parsed, truth) | cause_tallies(parsed.cause_kinds, truth)


def motion_as_json(motion: PlannedMotion) -> dict[str, Any]:
    """A motion as short lists: centimetres, cm/s, milliradians are enough to judge it again."""
    offset = motion.lane_offset_m
    return {
        "speed_mps": np.round(motion.speed_mps, 2).tolist(),
        "xy_in_rig_m": np.round(motion.xy_in_rig_m, 2).tolist(),
        "yaw_rad": np.round(motion.yaw_rad, 3).tolist(),
        "lane_offset_m": None if offset is None else np.round(offset, 2).tolist(),
        "joins": motion.joins,
    }


def motion_from_json(value: Mapping[str, Any]) -> PlannedMotion:
    offset = value["lane_offset_m"]
    return PlannedMotion(
        np.array(value["speed_mps"], float),
        np.array(value["xy_in_rig_m"], float),
        np.array(value["yaw_rad"], float),
        None if offset is None else np.array(offset, float),
        joins=bool(value.get("joins", False)),
    )
