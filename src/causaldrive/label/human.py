"""A human's drive next to the expert's explanation: a cause is kept only where the human's motion bears it out.

    braking b = least mean acceleration over any 1 s within 3 s        agree: a_required <= min(-0.2, 0.3 b)

A human who brakes for what no factor asks for, or ignores what a factor demands, is not explained but set aside with
the reason. Knows nothing of recordings or files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causaldrive.ground.words import DIRECTED_LATERAL, STEP_S
from causaldrive.label.consistency import LIMITS, PlannedMotion, SideProfile, SpeedProfile
from causaldrive.worlds.expert import Explanation, Factor

WINDOW_S = 3.0
_CLEAR_DROP_MPS, _CLEAR_BRAKING_MPS2 = 0.8, -0.4  # both: the driver brakes
_SHARE = 0.3  # drivers brake earlier and softer, or later and harder, than the expert
_LEAST_DEMAND_MPS2 = -0.2
_HARD_DEMAND_MPS2 = -1.0  # a demand that a careful driver does not ignore
_STANDING_S = 2.0  # less is the moment before pulling away
_STANDING_MPS2 = 1.1  # behind a standing car drivers leave more room than the expert, who would still close up
_CLOSE_MPS2 = 0.7  # agreement where nobody brakes
_BESIDE_MPS2 = 0.5  # a second factor that demands nearly as much is a cause as well
_MOST_CAUSES = 2
_DECISION_FOR = {  # longitudinal decision that a factor alone would make
    "lead_vehicle": "lead_obstacle_following",
    "cut_in_vehicle": "yield",
    "stopped_vehicle": "lead_obstacle_following",
    "pedestrian_crossing": "yield",
    "cyclist": "yield",
    "red_light": "stop_for_static_constraint",
    "yellow_light": "stop_for_static_constraint",
    "stop_sign": "stop_for_static_constraint",
    "crossing_vehicle": "yield",
    "oncoming_vehicle": "yield",
    "merging_vehicle": "gap_searching",
    "sharp_curve": "speed_adaptation",
}


@dataclass(frozen=True)
class Fitted:
    """A decision and the factors that stay as its causes."""

    longitudinal: str | None
    lateral: str | None
    direction: str | None
    factors: tuple[Factor, ...]


def fit_to_human(explanation: Explanation, motion: PlannedMotion) -> Fitted | str:
    """The part of the explanation that the human's motion bears out, or the reason why there is none."""
    lateral = _fit_lateral(explanation, motion)
    if isinstance(lateral, str):
        return lateral
    along = _fit_longitudinal(explanation, motion)
    if isinstance(along, str):
        return along
    side, direction, sideways = lateral
    decision, factors = along
    return Fitted(decision, side, direction, (*factors, *(f for f in sideways if f not in factors)))


def _fit_longitudinal(explanation: Explanation, motion: PlannedMotion) -> tuple[str, tuple[Factor, ...]] | str:
    speed = SpeedProfile(motion.speed_mps, LIMITS)
    factors = (*explanation.causes, *explanation.others)
    braking = strongest_braking_mps2(motion)
    if float(np.abs(speed.until(_STANDING_S)).max()) <= LIMITS.still_mps:
        return _first_of(explanation.causes, _STANDING_MPS2, "unexplained standstill")
    if speed.drop(WINDOW_S) >= _CLEAR_DROP_MPS and braking <= _CLEAR_BRAKING_MPS2:
        needed = min(_LEAST_DEMAND_MPS2, _SHARE * braking)
        return _first_of(factors, needed, f"unexplained deceleration of {braking:.1f} m/s2")
    return _fit_rolling(explanation, motion)


def _first_of(factors: tuple[Factor, ...], at_most_mps2: float, otherwise: str) -> tuple[str, tuple[Factor, ...]] | str:
    """The factors that demand `at_most_mps2` or less, hardest first, and the decision of the hardest."""
    demanding = [f for f in factors if f.kind in _DECISION_FOR and f.required_acceleration_mps2 <= at_most_mps2]
    if not demanding:
        return otherwise
    demanding.sort(key=lambda factor: factor.required_acceleration_mps2)
    hardest = demanding[0].required_acceleration_mps2
    kept = [f for f in demanding if f.required_acceleration_mps2 <= hardest + _BESIDE_MPS2]
    return _DECISION_FOR[demanding[0].kind], tuple(kept[:_MOST_CAUSES])


def _fit_rolling(explanation: Explanation, motion: PlannedMotion) -> tuple[str, tuple[Factor, ...]] | str:
    """The driver holds the speed or speeds up: a mild demand may be the reason for no more, a hard one may not."""
    end = round(WINDOW_S / STEP_S)
    mean = float(motion.speed_mps[end] - motion.speed_mps[0]) / WINDOW_S
    along = [f for f in explanation.causes if f.lateral_offset_m == 0.0 or f.required_acceleration_mps2 < 0]
    ignored = [f for f in along if f.required_acceleration_mps2 <= _HARD_DEMAND_MPS2]
    if ignored:
        hardest = min(ignored, key=lambda factor: factor.required_acceleration_mps2)
        demand = hardest.required_acceleration_mps2
        return f"{hardest.text}: that demands {demand:.1f} m/s2 but the driver did {mean:+.1f} m/s2"
    agreeing = tuple(f for f in along if abs(f.required_acceleration_mps2 - mean) <= _CLOSE_MPS2)
    if agreeing and explanation.longitudinal is not None:
        return explanation.longitudinal, agreeing[:_MOST_CAUSES]
    return "set_speed_tracking", ()


def strongest_braking_mps2(motion: PlannedMotion) -> float:
    """Least mean acceleration over any 1 s of the first 3 s."""
    speed, second = motion.speed_mps[: round(WINDOW_S / STEP_S) + 1], round(1 / STEP_S)
    return float(np.min((speed[second:] - speed[:-second]) / 1.0))


def _fit_lateral(explanation: Explanation, motion: PlannedMotion) -> tuple[str, str | None, tuple[Factor, ...]] | str:
    """(lateral, direction, its factors): a nudge is written only where the driver made it."""
    side = SideProfile(motion, explanation.direction, LIMITS)
    if explanation.lateral in DIRECTED_LATERAL:
        if side.peak() < LIMITS.nudge_m:
            return f"{explanation.lateral} to the {explanation.direction} was called for but the driver kept the lane"
        return explanation.lateral, explanation.direction, tuple(f for f in explanation.causes if f.lateral_offset_m)
    if side.on_route and side.outside_band() > LIMITS.keep_band_m:
        moves = side.course - side.course[0]
        name = "left" if moves.max() >= -moves.min() else "right"
        return f"unexplained move of {np.abs(moves).max():.1f} m to the {name}"
    return explanation.lateral or "lane_keeping", None, ()
