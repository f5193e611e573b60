"""Checks of the sides a label names: of its manoeuvre, of the thing it goes round, of the lane it needs, of a curve.

A nudge goes to the side that the thing is not on; where that is, the words say, and, where it is annotated, the place
of the thing beside the way that was really driven. Knows nothing of teachers or files.
"""

from __future__ import annotations

import re

from causaldrive.label.evidence import NEXT_LANE_M, Evidence
from causaldrive.label.road_ahead import LEFT_CURVE, RIGHT_CURVE, strongest
from causaldrive.label.types import Cause, CocLabel

_SIGNS = {"left": 1, "right": -1}
_GOES_ROUND = ("in_lane_nudge", "out_of_lane_nudge", "lane_change")
_GONE_ROUND = ("stopped_vehicle", "construction", "cyclist")  # kinds that a nudge leaves beside it
_ASIDE_M = 0.5  # nearer to the way driven than this a thing is on neither side
_TURN_RAD, _TIGHTER_MPS2 = 0.1, 0.3
BLOCKED_SIDE = re.compile(r"(?:block\w*|on|narrows) the (left|right) side")
_NEEDED = re.compile(r"needs the (left|right) lane")


def side_faults(label: CocLabel, evidence: Evidence) -> list[str]:
    """What speaks against the side of a nudge or lane change."""
    side = label.direction
    if side not in _SIGNS or label.decision_lateral not in _GOES_ROUND:
        return []
    faults = []
    for cause in label.causes:
        blocked, needed = BLOCKED_SIDE.search(cause.text), _NEEDED.search(cause.text)
        if blocked and side == blocked.group(1):
            faults.append(f"goes {side} although {cause.text}")
        if needed and label.decision_lateral == "lane_change":
            faults.extend(_lane_faults(side, needed.group(1), cause, evidence))
    return [*faults, *_round_faults(label, side, evidence)]


def _lane_faults(side: str, needed: str, cause: Cause, evidence: Evidence) -> list[str]:
    if needed != side:
        return [f"changes to the {side} lane although {cause.text}"]
    offset = None if evidence.motion is None else evidence.motion.lane_offset_m
    beside_m = 0.0 if offset is None else float(offset[0])
    wrong = _SIGNS[side] * beside_m > NEXT_LANE_M
    return [f"{cause.text}, but the way to go lies {abs(beside_m):.1f} m to the other side"] if wrong else []


def _round_faults(label: CocLabel, side: str, evidence: Evidence) -> list[str]:
    """The things gone round all stand on the side to which the car goes."""
    places = {
        cause.agent_id: _SIGNS[side] * evidence.aside_m[cause.agent_id or ""]
        for cause in label.causes
        if cause.kind in _GONE_ROUND and cause.agent_id in evidence.aside_m
    }
    if not places or min(places.values()) <= _ASIDE_M:
        return []
    return [
        f"goes {side}, but {name} is {metres:.1f} m to the {side} of the way driven" for name, metres in places.items()
    ]


def curve_faults(cause: Cause, evidence: Evidence) -> list[str]:
    """A curve bends to the side named: as the car turned, and as the way to go does where it asks for most."""
    named = re.search(r"\b(left|right)\b(?=.*\b(?:curve|bend)\b)", cause.text)
    if cause.kind != "sharp_curve" or named is None:
        return []
    sign, motion = _SIGNS[named.group(1)], evidence.motion
    if motion is not None:
        turned = sign * (motion.yaw_rad - motion.yaw_rad[0])
        if turned.max() < _TURN_RAD and (-turned).max() >= 3 * _TURN_RAD:
            return [f"{cause.text}, but the car turned to the other side"]
    if evidence.demands is None:
        return []
    kinds = (LEFT_CURVE, RIGHT_CURVE)[::sign]
    ours, other = strongest(evidence.demands, kinds[0]), strongest(evidence.demands, kinds[1])
    if other is None or other.braking_mps2 <= _TIGHTER_MPS2:
        return []
    if ours is None or other.braking_mps2 > ours.braking_mps2 + _TIGHTER_MPS2:
        return [f"{cause.text}, but the curve that asks for slowing bends to the other side"]
    return []
