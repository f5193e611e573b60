"""The formulas of the expert: how much acceleration one factor alone allows.

Pure functions of floats, SI units. Knows nothing of states, agents or maps.
"""

from __future__ import annotations

import math

LATERAL_COMFORT_MPS2 = 2.2
BUMP_MPS = 4.5  # over a speed bump
_FREE_GAIN_1ps, _FREE_MAX, _FREE_MIN = 0.7, 1.5, -1.5
_ALLOW_MPS2, _ALLOW_S = 1.4, 0.8
_SETTLE_S = 0.6  # a small excess near the place is settled in this time, not by a jerk
_BRAKES_FROM_MPS2 = 0.9  # late enough that what is braked for can be seen in a small picture
_IDM_HEADWAY_S, _IDM_GAP_M, _IDM_ACCELERATION, _IDM_BRAKING = 1.3, 2.5, 1.8, 2.0
_COMFORT_BRAKING_MPS2 = 3.0
HARDEST_MPS2 = -8.0


def free(speed_mps: float, wish_mps: float) -> float:
    """clip(0.7 (v0 - v), -1.5, 1.5): driving with nothing in the way."""
    return min(max(_FREE_GAIN_1ps * (wish_mps - speed_mps), _FREE_MIN), _FREE_MAX)


def approach(speed_mps: float, goal_mps: float, distance_m: float, free_mps2: float) -> float:
    """Reach `goal_mps` in `distance_m` with one steady, comfortable braking.

    required = max((u^2 - v^2) / (2 d), (u - v) / 0.6 s). Below 0.9 m/s2 the driver still goes freely,
    above 1.5 it brakes as required; in between both are mixed, so that there is no jump. Speeding up is held to
    sqrt(u^2 + 2 b d).
    """
    v, u, d = speed_mps, goal_mps, max(distance_m, 0.05)
    required = max((u * u - v * v) / (2 * d), (u - v) / _SETTLE_S)
    allowed = (math.sqrt(u * u + 2 * _ALLOW_MPS2 * d) - v) / _ALLOW_S
    part = min(max((-required - _BRAKES_FROM_MPS2) / 0.6, 0.0), 1.0)
    return max((1 - part) * min(free_mps2, allowed) + part * min(required, free_mps2), HARDEST_MPS2)


def stop_at(speed_mps: float, distance_m: float, free_mps2: float, reserve_m: float) -> float:
    """Stop within `distance_m`, and stay there; up to `reserve_m` past the place are used when it comes too late."""
    if speed_mps < 0.4 and distance_m < 2.5:
        return -1.0
    if distance_m > 0.3:
        return approach(speed_mps, 0.0, distance_m, free_mps2)
    room = max(distance_m + reserve_m, 0.3)
    return max(-max(speed_mps**2 / (2 * room), 1.0), HARDEST_MPS2)


def required_to_stop(speed_mps: float, distance_m: float) -> float:
    """v^2 / (2 d), the deceleration (positive) that stops within `distance_m`."""
    return speed_mps**2 / (2 * max(distance_m, 0.05))


def follow(
    speed_mps: float, lead_mps: float, gap_m: float, free_mps2: float, comfort_mps2: float = _COMFORT_BRAKING_MPS2
) -> float:
    """a_free - a (s*/s)^2, s* = s0 + v T + v dv / (2 sqrt(a b)) (Treiber 2000), not below comfort unless it must be.

    What must be is the kinematic need dv^2 / (2 gap): a gap that is short but opens does not ask for an emergency stop.
    """
    v, dv = speed_mps, speed_mps - lead_mps
    closing = v * dv / (2 * math.sqrt(_IDM_ACCELERATION * _IDM_BRAKING))
    star = _IDM_GAP_M + max(v * _IDM_HEADWAY_S + closing, 0.0)
    wanted = free_mps2 - _IDM_ACCELERATION * (star / max(gap_m, 0.1)) ** 2
    need = max(dv, 0.0) ** 2 / (2 * max(gap_m - 1.5, 0.2))
    return max(wanted, -max(comfort_mps2, 1.3 * need), HARDEST_MPS2)
