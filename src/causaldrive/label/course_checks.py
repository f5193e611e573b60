"""Checks of what is decided against the speed wished for and the way to go: what motion alone leaves open.

A driver whom nothing holds back neither follows nor adapts nor seeks a gap, and who drives on does not stand for
longer than it takes to start. A nudge leads away from the middle of the lane, a change of lanes into another lane,
and only what was begun can be given up; a turn is made where the way to go makes one at a junction, and a road is
joined where the way to go joins it. What asks for the way to go or the wish is silent where they are not known. Knows
nothing of causes, teachers, files.
"""

from __future__ import annotations

import numpy as np

from causaldrive.ground.words import STEP_S
from causaldrive.label.consistency import LIMITS, PlannedMotion, SpeedProfile
from causaldrive.label.evidence import NEXT_LANE_M, Evidence
from causaldrive.label.types import CocLabel

_HELD_BACK = ("speed_adaptation", "lead_obstacle_following", "gap_searching")
_STARTS_S = 1.0  # reaction time and the first push: by then who has decided to drive on does
_CREEPS_MPS = 1.0
_NUDGES = ("in_lane_nudge", "out_of_lane_nudge")
_INTO_ANOTHER = ("lane_change", "merge_split")
_ASIDE_M = 0.2  # least offset from the middle of the way to go that is to either side of it
_BEGUN_M = 0.3  # offset now from which on there is something to give up
_OWN_LANE_M, _HALF_LANE_M = 1.2, 1.75  # who starts within the first and stays within the second changes no lane


def course_faults(label: CocLabel, motion: PlannedMotion) -> list[str]:
    """What speaks against the decision of either axis."""
    faults = []
    if label.decision_longitudinal in _HELD_BACK and _is_free(motion):
        faults.append(f"{label.decision_longitudinal} is decided, but the car keeps the speed it wishes for")
    if label.decision_longitudinal == "set_speed_tracking" and _stays(motion):
        faults.append("set_speed_tracking is decided, but the car stands for longer than it takes to start")
    offset = motion.lane_offset_m
    if offset is not None and np.isfinite(offset).all():
        faults.extend(_lateral_faults(label, offset, motion.joins))
    return faults


def turn_faults(label: CocLabel, evidence: Evidence) -> list[str]:
    """What the junctions on the way to go say of a turn: it is made where there is one, and not passed over there."""
    lateral, side = label.decision_lateral, label.direction
    if lateral == "turn" and evidence.turns is not None and side not in evidence.turns:
        return [f"turn {side} is decided, but the way to go makes no such turn here"]
    if lateral == "lane_keeping" and evidence.turning:
        return [f"lane_keeping is decided, but the car is turning {evidence.turning} at a junction"]
    if lateral == "lane_keeping" and evidence.joining:
        return ["lane_keeping is decided, but the car is joining or leaving a road"]
    return []


def _is_free(motion: PlannedMotion) -> bool:
    """min v >= v_wished - 0.5 m/s over the horizon."""
    if motion.set_speed_mps is None:
        return False
    ahead = SpeedProfile(motion.speed_mps, LIMITS).until(LIMITS.horizon_s)
    return float(ahead.min()) >= motion.set_speed_mps - LIMITS.slowing_mps


def _stays(motion: PlannedMotion) -> bool:
    """v <= 1 m/s now and |v| <= 0.5 m/s from 1.0 to 1.5 s after; who is faster now may be braking still."""
    speed = SpeedProfile(motion.speed_mps, LIMITS)
    then = speed.until(LIMITS.soon_s)[round(_STARTS_S / STEP_S) :]
    return speed.now <= _CREEPS_MPS and float(np.abs(then).max()) <= LIMITS.still_mps


def _lateral_faults(label: CocLabel, offset: np.ndarray, joins: bool) -> list[str]:
    lateral, now = label.decision_lateral, abs(float(offset[0]))
    if lateral in _NUDGES and now < NEXT_LANE_M and label.direction is not None:
        sign = 1 if label.direction == "left" else -1
        if (sign * offset).max() < _ASIDE_M:
            return [f"nudges {label.direction}, but never gets to the {label.direction} of the middle of the lane"]
    by_the_way = joins and lateral == "merge_split"
    if lateral in _INTO_ANOTHER and not by_the_way and now < _OWN_LANE_M and np.abs(offset).max() < _HALF_LANE_M:
        return [f"{lateral} is decided, but the car stays in the lane"]
    if lateral == "lateral_abort" and now < _BEGUN_M:
        return ["lateral_abort is decided, but nothing was begun that could be given up"]
    return []
