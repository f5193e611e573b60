"""Does the car do what the trace says? Rules per axis over the first seconds of a motion.

    drop(T) = v_0 - min v_t            rise(T) = max v_t - v_0           t <= T
    drift(side) = max side (o_t - o_0)          o = offset from the route's centre line, left positive

What counts is the *first* action after t0: a later one is another decision, and braking that is under way at t0 and
ends soon after it is none of this one. Where the speed that the driver wishes for is known, slowing down to it is
keeping it, and staying below it is holding back.

One code for three uses: validator of labels (motion = what was really driven), reward, and metric (motion = what was
planned). Every rule is a comparison of such a quantity with a limit of `Limits`, so more braking can only make "stop"
truer, never less true. Source of the idea: r_consistency of arXiv 2511.00088, section 5.3. Reads arrays; knows
nothing of files, maps or models.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from causaldrive.clips.geometry import project_on_polyline, to_frame
from causaldrive.clips.resample import resample_ego
from causaldrive.clips.types import Recording
from causaldrive.ground.errors import UserError
from causaldrive.ground.words import FUTURE_STEPS, STEP_S, STEP_US
from causaldrive.label.meta_actions import speed_along_path
from causaldrive.label.trace import ParsedTrace

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PlannedMotion:
    """A motion at 10 Hz whose first frame is now: 1 + 64 frames, in the rig frame at that moment."""

    speed_mps: Array  # (65,) signed
    xy_in_rig_m: Array  # (65, 2)
    yaw_rad: Array  # (65,)
    lane_offset_m: Array | None = None  # (65,) from the route's centre line; None where no route is known
    set_speed_mps: float | None = None  # what the driver would drive on a clear road; None where nobody knows
    joins: bool = False  # the way to go joins or leaves a road close ahead: who keeps to it merges


@dataclass(frozen=True)
class Consistency:
    """Agreement per axis, None where the text does not speak of it; `consistent` only if both axes agree."""

    longitudinal: bool | None
    lateral: bool | None
    consistent: bool


@dataclass(frozen=True)
class Limits:
    """Every limit of the rules."""

    soon_s: float = 1.5  # the first action: later ones may differ
    horizon_s: float = 4.0
    under_way_mps2: float = -0.5  # braking at least this hard at t0 was decided before
    fades_s: float = 1.6  # within which such braking ends: reaction time and the actuator's jerk
    keep_s: float = 3.0  # how long a lane that is kept is kept
    nudge_horizon_s: float = 5.0  # a nudge begins slowly
    still_mps: float = 0.5
    still_s: float = 1.0  # standing at least this long counts as standing
    slow_mps: float = 3.0  # slow enough to count as yielding where it is kept
    slowing_mps: float = 0.5  # least drop of speed that is slowing
    wobble_mps: float = 0.6  # change of speed that is none
    follow_rise_mps: float = 2.0  # within `soon_s`: the lead may pull away
    search_change_mps: float = 3.3  # within `soon_s`: harder is more than adjusting
    keep_band_m: float = 0.6
    nudge_m: float = 0.4
    widest_nudge_m: float = 2.8  # beyond it is a lane change
    change_m: float = 1.0
    turn_rad: float = 0.35


LIMITS = Limits()


def motion_of_plan(
    xy_in_rig_m: Array, yaw_rad: Array, speed_now_mps: float, route_xy_in_rig_m: Array | None = None
) -> PlannedMotion:
    """A planned path of 64 poses (64, 2), (64,) from the rig origin on; the route (R, 2) makes offsets known."""
    xy = np.concatenate([np.zeros((1, 2)), np.asarray(xy_in_rig_m, float)])
    yaw = np.concatenate([[0.0], np.asarray(yaw_rad, float)])
    speed = speed_along_path(np.column_stack([xy, yaw]))
    speed[0] = speed_now_mps
    return PlannedMotion(speed, xy, yaw, _offset(xy, route_xy_in_rig_m))


def motion_of_recording(recording: Recording, t0_us: int) -> PlannedMotion:
    """What was really driven from t0 on. Raises UserError when the recording ends before t0 + 6.4 s."""
    times = t0_us + np.arange(FUTURE_STEPS + 1, dtype=np.int64) * STEP_US
    ego = resample_ego(recording.ego, times)
    origin, heading = ego.position_in_local_m[0, :2], float(ego.yaw_rad[0])
    route = recording.route_xy_in_local_m
    xy = to_frame(ego.position_in_local_m[:, :2], origin, heading)
    yaw = np.unwrap(ego.yaw_rad) - heading
    route_in_rig = None if route is None else to_frame(route, origin, heading)
    wished = recording.meta.get("target_speed_mps")
    set_speed = None if wished is None else float(wished)
    return PlannedMotion(ego.speed_mps, xy, yaw, _offset(xy, route_in_rig), set_speed)


def _offset(xy: Array, route: Array | None) -> Array | None:
    return None if route is None or len(route) < 2 else project_on_polyline(xy, route)[1]


def judge(parsed: ParsedTrace, motion: PlannedMotion, limits: Limits = LIMITS) -> Consistency:
    """Agreement of a parsed trace with a motion; an axis that cannot be read makes the whole inconsistent."""
    if len(motion.speed_mps) != FUTURE_STEPS + 1:
        raise UserError(f"a motion of {len(motion.speed_mps)} frames found, {FUTURE_STEPS + 1} at 10 Hz expected.")
    finite = all(np.isfinite(part).all() for part in (motion.speed_mps, motion.xy_in_rig_m, motion.yaw_rad))
    if not finite:
        return Consistency(False, False, False)
    longitudinal = lateral = None
    if parsed.longitudinal is not None:
        speed = SpeedProfile(motion.speed_mps, limits, motion.set_speed_mps)
        longitudinal = bool(_LONGITUDINAL[parsed.longitudinal](speed, limits))
    if parsed.lateral is not None:
        lateral = bool(_LATERAL[parsed.lateral](SideProfile(motion, parsed.direction, limits), limits))
    return Consistency(longitudinal, lateral, longitudinal is True and lateral is True)


def deciding_s(parsed: ParsedTrace, limits: Limits = LIMITS) -> tuple[float, float]:
    """(longitudinal, lateral) seconds ahead that `judge` looks at where the route is known, nothing where the text does
    not speak of the axis: what is planned beyond them makes no difference to it."""
    lateral = {None: 0.0, "lane_keeping": limits.keep_s, "turn": FUTURE_STEPS * STEP_S}
    along_s = 0.0 if parsed.longitudinal is None else limits.horizon_s
    return along_s, lateral.get(parsed.lateral, limits.nudge_horizon_s)


class SpeedProfile:
    """Drops and rises of one speed profile."""

    def __init__(self, speed_mps: Array, limits: Limits, set_speed_mps: float | None = None):
        self.v = speed_mps
        self.now = float(speed_mps[0])
        self.set_speed_mps = set_speed_mps
        self.limits = limits

    def until(self, seconds: float) -> Array:
        return self.v[: round(seconds / STEP_S) + 1]

    def drop(self, seconds: float) -> float:
        return self.now - float(self.until(seconds).min())

    def rise(self, seconds: float) -> float:
        return float(self.until(seconds).max()) - self.now

    def rise_before_lowest(self) -> float:
        """How far the speed climbs before it falls to its lowest within the horizon."""
        ahead = self.until(self.limits.horizon_s)
        return float(ahead[: int(np.argmin(ahead)) + 1].max()) - self.now

    @property
    def slows(self) -> bool:
        slowing = self.drop(self.limits.horizon_s) >= self.limits.slowing_mps
        return slowing and self.rise_before_lowest() <= self.limits.wobble_mps

    @property
    def picks_up(self) -> bool:
        """Braking that was under way at t0 ends soon, and the speed comes back."""
        if (self.v[1] - self.v[0]) / STEP_S > self.limits.under_way_mps2:
            return False
        lowest = int(np.argmin(self.until(self.limits.horizon_s)))
        regained = float(self.until(self.limits.horizon_s)[lowest:].max() - self.v[lowest])
        return lowest * STEP_S <= self.limits.fades_s and regained >= self.limits.wobble_mps

    @property
    def held_back(self) -> bool:
        """It stays below the speed that the driver wishes for."""
        slower = self.set_speed_mps is not None and self.now <= self.set_speed_mps - self.limits.slowing_mps
        return slower and self.rise(self.limits.soon_s) <= self.limits.wobble_mps

    @property
    def stands(self) -> bool:
        return float(np.abs(self.until(self.limits.still_s)).max()) <= self.limits.still_mps


def _stop(s: SpeedProfile, limits: Limits) -> bool:
    return s.slows or s.stands


def _yield(s: SpeedProfile, limits: Limits) -> bool:
    creeps = s.now <= limits.slow_mps and s.rise(limits.soon_s) <= limits.wobble_mps
    return s.slows or s.stands or creeps or s.held_back


def _follow(s: SpeedProfile, limits: Limits) -> bool:
    return s.rise(limits.soon_s) <= limits.follow_rise_mps


def _adapt(s: SpeedProfile, limits: Limits) -> bool:
    return s.rise(limits.soon_s) <= limits.wobble_mps


def _track(s: SpeedProfile, limits: Limits) -> bool:
    moves = float(s.until(limits.horizon_s).max()) > limits.still_mps
    kept = min(s.now, s.set_speed_mps or s.now) - float(s.until(limits.soon_s).min()) <= limits.wobble_mps
    return moves and (kept or s.picks_up)


def _search(s: SpeedProfile, limits: Limits) -> bool:
    return max(s.drop(limits.soon_s), s.rise(limits.soon_s)) <= limits.search_change_mps


def _pass(s: SpeedProfile, limits: Limits) -> bool:
    return s.rise(limits.horizon_s) >= limits.slowing_mps and s.drop(limits.soon_s) <= limits.wobble_mps


class SideProfile:
    """Sideways quantities of one motion, turned so that the named side is positive."""

    def __init__(self, motion: PlannedMotion, direction: str | None, limits: Limits):
        self.sign = -1.0 if direction == "right" else 1.0
        self.direction = direction
        offset = motion.lane_offset_m
        self.on_route = offset is not None and bool(np.isfinite(offset).all())
        course = offset if offset is not None and self.on_route else _bow(motion, limits)
        self.course = course[: round(limits.nudge_horizon_s / STEP_S) + 1]
        self.keep_s = limits.keep_s
        self.turned = motion.yaw_rad - motion.yaw_rad[0]
        self.speed = SpeedProfile(motion.speed_mps, limits, motion.set_speed_mps)
        self.joins = motion.joins

    def peak(self) -> float:
        """Largest move to the named side (either side when none is named), from now or from the centre line."""
        moves = np.stack([self.course - self.course[0], self.course if self.on_route else 0 * self.course])
        return float((self.sign * moves).max() if self.direction else np.abs(moves).max())

    def outside_band(self) -> float:
        """How far the course soon leaves the strip between where it starts and the centre line."""
        kept = self.course[: round(self.keep_s / STEP_S) + 1]
        low, high = min(kept[0], 0.0), max(kept[0], 0.0)
        return max(float(kept.max()) - high, low - float(kept.min()), 0.0)


def _bow(motion: PlannedMotion, limits: Limits) -> Array:
    """Without a route: the move aside from the arc between the headings now and at the horizon, (51,).

    d = sum v dt sin(yaw - arc yaw). A steady curve has none; where a curve begins or ends it says nothing.
    """
    count = round(limits.nudge_horizon_s / STEP_S) + 1
    yaw, speed = motion.yaw_rad[:count], motion.speed_mps[:count]
    driven = np.concatenate([[0.0], np.cumsum(np.abs(speed[:-1])) * STEP_S])
    share = driven / max(driven[-1], 1e-6)
    deviation = yaw - yaw[0] - share * (yaw[-1] - yaw[0])
    return np.concatenate([[0.0], np.cumsum(speed[:-1] * np.sin(deviation[:-1])) * STEP_S])


_CURVING_RAD = 0.1  # a net turn from which on a bare path cannot tell a nudge from a curve


def _keep_lane(s: SideProfile, limits: Limits) -> bool:
    curving = not s.on_route and abs(s.turned[len(s.course) - 1]) > _CURVING_RAD
    return curving or s.outside_band() <= limits.keep_band_m


def _nudge(s: SideProfile, limits: Limits) -> bool:
    return limits.nudge_m <= s.peak() <= limits.widest_nudge_m


def _change(s: SideProfile, limits: Limits) -> bool:
    return s.peak() >= limits.change_m


def _merge(s: SideProfile, limits: Limits) -> bool:
    return s.peak() >= limits.nudge_m or (s.joins and _keep_lane(s, limits))


def _turn(s: SideProfile, limits: Limits) -> bool:
    return float((s.sign * s.turned).max() if s.direction else np.abs(s.turned).max()) >= limits.turn_rad


def _pull_over(s: SideProfile, limits: Limits) -> bool:
    """Aside and slow: stopping there, or kept slow there for as long as another one passes."""
    return s.peak() >= limits.nudge_m and _yield(s.speed, limits)


def _abort(s: SideProfile, limits: Limits) -> bool:
    return abs(s.course[-1]) <= max(abs(s.course[0]), limits.keep_band_m)


_LONGITUDINAL: dict[str, Callable[[SpeedProfile, Limits], bool]] = {
    "set_speed_tracking": _track,
    "lead_obstacle_following": _follow,
    "speed_adaptation": _adapt,
    "gap_searching": _search,
    "acceleration_for_passing": _pass,
    "yield": _yield,
    "stop_for_static_constraint": _stop,
}
_LATERAL: dict[str, Callable[[SideProfile, Limits], bool]] = {
    "lane_keeping": _keep_lane,
    "merge_split": _merge,
    "out_of_lane_nudge": _nudge,
    "in_lane_nudge": _nudge,
    "lane_change": _change,
    "pull_over": _pull_over,
    "turn": _turn,
    "lateral_abort": _abort,
}
