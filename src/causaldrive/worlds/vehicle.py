"""How the ego moves: unicycle dynamics with actuator limits, shared by the embedded town and log replay.

Reads and writes nothing; a pure function of the ego's state and the command. Knows nothing of roads or other agents.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from causaldrive.ground.errors import UserError
from causaldrive.ground.words import STEP_S
from causaldrive.worlds.state import EgoState

_SUBSTEPS = 4


@dataclass(frozen=True)
class VehicleLimits:
    """What brakes, engine and steering can do."""

    min_acceleration_mps2: float = -8.0
    max_acceleration_mps2: float = 3.0
    max_jerk_mps3: float = 20.0
    max_curvature_1pm: float = 0.2
    max_curvature_rate_1pms: float = 0.25  # per second


LIMITS = VehicleLimits()


def advance(ego: EgoState, acceleration_mps2: float, curvature_1pm: float, limits: VehicleLimits = LIMITS) -> EgoState:
    """x' = v cos(yaw), y' = v sin(yaw), yaw' = v curvature, v' = a over 0.1 s, in four arcs; v never below zero.

    The command is clipped to `limits`, also in its rate; the returned state holds what was really applied.
    Raises UserError for a command that is not a number.
    """
    if not (math.isfinite(acceleration_mps2) and math.isfinite(curvature_1pm)):
        raise UserError(
            f"the action (acceleration {acceleration_mps2}, curvature {curvature_1pm}) is not finite; finite values "
            "expected, so check the policy that made it."
        )
    wanted_a = _clip(acceleration_mps2, limits.min_acceleration_mps2, limits.max_acceleration_mps2)
    wanted_k = _clip(curvature_1pm, -limits.max_curvature_1pm, limits.max_curvature_1pm)
    x, y = float(ego.xy_in_local_m[0]), float(ego.xy_in_local_m[1])
    yaw, v, a, k = float(ego.yaw_rad), float(ego.speed_mps), float(ego.acceleration_mps2), float(ego.curvature_1pm)
    dt = STEP_S / _SUBSTEPS
    da, dk = limits.max_jerk_mps3 * dt, limits.max_curvature_rate_1pms * dt
    for _ in range(_SUBSTEPS):
        a += _clip(wanted_a - a, -da, da)
        k += _clip(wanted_k - k, -dk, dk)
        v_next = max(v + a * dt, 0.0)
        step = (v + v_next) / 2 * dt
        x += step * math.cos(yaw + k * step / 2)
        y += step * math.sin(yaw + k * step / 2)
        yaw += k * step
        v = v_next
    if v == 0.0 and a < 0.0:
        a = 0.0  # the brakes hold a standing car; nothing is left to decelerate
    yaw = (yaw + math.pi) % (2 * math.pi) - math.pi
    return replace(ego, xy_in_local_m=np.array([x, y]), yaw_rad=yaw, speed_mps=v, acceleration_mps2=a, curvature_1pm=k)


def _clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
