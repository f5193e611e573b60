"""A trajectory as words: JSON way-points in metres, written, read tolerantly, and laid through as a smooth path.

`[[x_1,y_1],...]`: positions in the rig frame at t0 at equal steps up to 6.4 s, in decimals of a metre. A path is the
cubic spline through origin and way-points that leaves the origin with the initial speed along x and ends unaccelerated
(steadier under rounded way-points than an end that is extrapolated). Knows nothing of
tokens or models.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from causaldrive.ground.words import FUTURE_STEPS, STEP_S

REACH_M = 400.0  # a way-point further away than this is no way-point: 6.4 s at 60 m/s
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_PAIR = re.compile(rf"({_NUMBER})[\s\"']*[,;][\s\"'a-zA-Z:]*({_NUMBER})")
_SLOW_MPS = 0.3  # below this the direction of a path says nothing: the heading is kept


@dataclass(frozen=True)
class Path:
    """64 way-points at 10 Hz in the rig frame at t0."""

    xy_in_rig_m: NDArray[np.float64]  # (64, 2)
    yaw_rad: NDArray[np.float64]  # (64,)
    speed_mps: NDArray[np.float64]  # (65,) now and at each way-point


def write_waypoints(future_xy_in_rig_m: NDArray, count: int, decimals: int) -> str:
    """`count` way-points of a future (64, 2) as compact JSON. `count` divides 64."""
    assert FUTURE_STEPS % count == 0, "way-points stand on the 10 Hz grid"
    every = FUTURE_STEPS // count
    chosen = np.round(np.asarray(future_xy_in_rig_m, float)[every - 1 :: every], decimals) + 0.0  # no -0.0
    return "[" + ",".join(f"[{x:.{decimals}f},{y:.{decimals}f}]" for x, y in chosen.tolist()) + "]"


def read_waypoints(text: str, count: int) -> NDArray[np.float64] | None:
    """The first `count` way-points (count, 2) in a text; None where there are fewer, or one is not a finite place.

    Read as JSON where it is JSON: a list of pairs, of objects with x and y, or an object that holds one. Otherwise
    pairs of numbers are looked for, whatever stands around them (fences, missing brackets, words).
    """
    found = _from_json(text)
    if found is None:
        found = [(float(x), float(y)) for x, y in _PAIR.findall(text)]
    if len(found) < count:
        return None
    points = np.array(found[:count], float)
    return points if bool((np.abs(points) <= REACH_M).all()) else None


def _from_json(text: str) -> list[tuple[float, float]] | None:
    start = min((i for i in (text.find("["), text.find("{")) if i >= 0), default=-1)
    try:
        value, _ = json.JSONDecoder().raw_decode(text[start:] if start >= 0 else "")
        if isinstance(value, dict):
            value = next(part for part in value.values() if isinstance(part, list))
        return [_pair(part) for part in value]
    except (ValueError, TypeError, KeyError, IndexError, StopIteration, RecursionError):
        return None


def _pair(part: Any) -> tuple[float, float]:
    x, y = (part["x"], part["y"]) if isinstance(part, dict) else part[:2]
    return float(x), float(y)


def smooth_path(points_xy_m: NDArray, initial_speed_mps: float) -> Path:
    """The spline through the origin and way-points (count, 2), at 10 Hz; see the module's head."""
    points = np.concatenate([np.zeros((1, 2)), np.asarray(points_xy_m, float)])
    horizon_s = FUTURE_STEPS * STEP_S
    knots_s = np.linspace(0, horizon_s, len(points))
    leaves = np.array([float(initial_speed_mps), 0.0])
    ends: Any = ((1, leaves), (2, np.zeros(2)))  # scipy's stubs know the named conditions alone
    spline = CubicSpline(knots_s, points, bc_type=ends)
    t = np.linspace(0, horizon_s, FUTURE_STEPS + 1)
    velocity = spline(t, 1)
    speed = np.linalg.norm(velocity, axis=1)
    return Path(spline(t)[1:], _headings(velocity, speed)[1:], speed)


def _headings(velocity: NDArray, speed: NDArray) -> NDArray[np.float64]:
    """Unwrapped directions (65,) of a path that starts along x; kept where it hardly moves."""
    angle, headings = np.arctan2(velocity[:, 1], velocity[:, 0]), np.zeros(len(speed))
    for step in range(1, len(speed)):
        before = headings[step - 1]
        turn = (angle[step] - before + np.pi) % (2 * np.pi) - np.pi
        headings[step] = before + turn if speed[step] > _SLOW_MPS else before
    return headings
