"""Check of a label's time: what it names and decides is of this moment, not of one that comes later.

A bump or a curve stands there for as long as the road does, so its being seen tells nothing; it is a cause from when
something has to be done about it. Knows nothing of teachers or files.
"""

from __future__ import annotations

import re

from causaldrive.ground.words import STEP_S
from causaldrive.label.consistency import LIMITS, PlannedMotion, SpeedProfile
from causaldrive.label.evidence import NEXT_LANE_M, Evidence
from causaldrive.label.road_ahead import BUMP, LEFT_CURVE, RIGHT_CURVE, Demand, strongest
from causaldrive.label.scene_checks import unknown, verdict
from causaldrive.label.types import Cause, CocLabel, Verdict

_EASY_MPS2 = 0.9  # a place that is reached slowly enough with less braking asks for nothing yet
_FAR_S = 3.0  # unless it is nearer than this at the speed now
_SLOWS_MPS = 0.3  # who slows by this much within `LIMITS.soon_s` has begun early, which anybody may
_BEGINS_S, _BEGINS_M = 2.0, 0.2  # a change to it is to be seen by then


def in_time(label: CocLabel, evidence: Evidence) -> Verdict:
    """A bump or curve named with slowing asks for it now, or the car slows already; a change of lanes begins in 2 s."""
    if evidence.motion is None:
        return unknown("in_time", "the motion after t0 is not known")
    faults = _late_changes(label, evidence.motion)
    speed = SpeedProfile(evidence.motion.speed_mps, LIMITS)
    if label.decision_longitudinal == "speed_adaptation" and speed.drop(LIMITS.soon_s) < _SLOWS_MPS:
        faults.extend(fault for cause in label.causes for fault in _early(cause, speed.now, evidence))
    return verdict("in_time", faults)


def _late_changes(label: CocLabel, motion: PlannedMotion) -> list[str]:
    course = motion.lane_offset_m
    if label.decision_lateral not in ("merge_split", "lane_change") or course is None or abs(course[0]) < NEXT_LANE_M:
        return []
    moved_m = float(abs(course[: round(_BEGINS_S / STEP_S) + 1] - course[0]).max())
    kept = f"{label.decision_lateral} is decided, but the car keeps its lane for {_BEGINS_S:.0f} s"
    return [kept] if moved_m < _BEGINS_M else []


def _early(cause: Cause, speed_mps: float, evidence: Evidence) -> list[str]:
    kinds = _kinds(cause, evidence)
    if not kinds or evidence.demands is None:
        return []
    demand = strongest(evidence.demands, *kinds)
    if demand is None:
        return [f"'{cause.text}', but there is none on the way ahead"]
    return [_sentence(cause, demand)] if _asks_nothing(demand, speed_mps) else []


def _asks_nothing(demand: Demand, speed_mps: float) -> bool:
    far = demand.distance_m > _FAR_S * max(speed_mps, LIMITS.still_mps)
    return far and demand.braking_mps2 < _EASY_MPS2


def _sentence(cause: Cause, demand: Demand) -> str:
    braking = max(demand.braking_mps2, 0.0)
    return f"'{cause.text}' {demand.distance_m:.0f} m away, which asks for {braking:.1f} m/s2 only: nothing yet"


def _kinds(cause: Cause, evidence: Evidence) -> tuple[str, ...]:
    """Kinds of demands that the cause speaks of, where the map would tell them."""
    if cause.kind == "speed_bump":
        return (BUMP,) if evidence.knows_bumps else ()
    if cause.kind != "sharp_curve":
        return ()
    named = re.search(r"\b(left|right)\b", cause.text)
    return {"left": (LEFT_CURVE,), "right": (RIGHT_CURVE,)}[named.group(1)] if named else (LEFT_CURVE, RIGHT_CURVE)
