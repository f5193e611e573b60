"""Faults of poses that leave traces in the poses themselves: times, jumps, units, axes, sign of yaw.

Each function looks for one kind of fault and gives back findings: what was found, and what to do. Hypotheses about
headings are judged by how well they explain the direction of travel,

    residual(h) = median |wrap(yaw - h(course))|        course = atan2(dy, dx) where the car moves

and a drive is suspect only where the plain one (yaw = course) fails. Knows nothing of files or video.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from causaldrive.clips.geometry import wrap_angle

FASTEST_MPS = 75.0
_STEP_S = (0.002, 1.1)  # plausible times between poses
_MOVING_MPS, _LEAST_MOVING = 2.0, 10
_SLIP_RAD = 0.14  # heading and course of a sound drive differ by less
_JUMP_M, _JUMP_RAD = 1.5, 0.5
_STEEP, _STEEP_STILL = 0.35, 0.12  # rise per metre driven that no road has, and that hardly any has


@dataclass(frozen=True)
class Finding:
    """One fault: its kind, a sentence of what was found, and a sentence of what to do."""

    kind: str
    found: str
    fix: str


@dataclass(frozen=True)
class Poses:
    """A drive's poses as they are claimed to be; N rows, times not yet known to increase."""

    t_us: np.ndarray  # (N,) int64
    position_m: np.ndarray  # (N, 3)
    yaw_rad: np.ndarray  # (N,)
    speed_mps: np.ndarray | None = None  # (N,) from another source than the positions (wheels, CAN)

    def kept(self, rows: np.ndarray) -> Poses:
        """The rows of a mask."""
        speed = None if self.speed_mps is None else self.speed_mps[rows]
        return Poses(self.t_us[rows], self.position_m[rows], self.yaw_rad[rows], speed)


def check_poses(poses: Poses) -> list[Finding]:
    """All findings, in the order in which they should be repaired: a broken clock makes every speed wrong."""
    findings, sound = check_times(poses)
    findings += check_time_unit(sound)
    if any(finding.kind == "time unit" for finding in findings) or len(sound.t_us) < 3:
        return findings
    findings += check_jumps(sound)
    findings += check_vertical(sound)
    if not any(finding.kind == "swapped axes" for finding in findings):
        findings += check_heading(sound)
    return findings + check_speed(sound)


def check_times(poses: Poses) -> tuple[list[Finding], Poses]:
    """Times that stand still or run backwards, and the poses without them."""
    step = np.diff(poses.t_us)
    findings = []
    for kind, bad, word in (("duplicate times", step == 0, "repeats the time of the row before"),
                            ("backwards times", step < 0, "lies before the row before it")):  # fmt: skip
        if bad.any():
            row = int(np.flatnonzero(bad)[0]) + 1
            findings.append(Finding(
                kind, f"Row {row} (t_us {poses.t_us[row]}) {word}; {int(bad.sum())} rows in all do.",
                "Sort the rows by time and drop the repeated ones, or repair the clock that wrote them.",
            ))  # fmt: skip
    latest = np.maximum.accumulate(np.concatenate([[np.iinfo(np.int64).min], poses.t_us[:-1]]))
    return findings, poses.kept(poses.t_us > latest)


def check_time_unit(poses: Poses) -> list[Finding]:
    """A step between poses that only another unit makes plausible."""
    if len(poses.t_us) < 2:
        return []
    step_s = float(np.median(np.diff(poses.t_us))) / 1e6
    if _STEP_S[0] <= step_s <= _STEP_S[1]:
        return []
    for name, factor in (("milliseconds", 1e3), ("seconds", 1e6), ("nanoseconds", 1e-3)):
        if _STEP_S[0] <= step_s * factor <= _STEP_S[1]:
            found = (
                f"Poses are {step_s * 1e6:g} us apart by their times; as {name} they would be {step_s * factor:g} s."
            )
            return [Finding("time unit", found, f"The times look like {name} written as microseconds: convert them.")]
    found = f"Poses are {step_s:g} s apart by their times; {_STEP_S[0]:g} to {_STEP_S[1]:g} s expected."
    return [Finding("time unit", found, "Check the unit of the time column.")]


def check_jumps(poses: Poses) -> list[Finding]:
    """Steps far longer, and turns far sharper, than those around them."""
    step_s = np.diff(poses.t_us) / 1e6
    length = np.linalg.norm(np.diff(poses.position_m[:, :2], axis=0), axis=1)
    turn = np.abs(wrap_angle(np.diff(poses.yaw_rad)))
    usual = _around(length / step_s) * step_s
    usual_turn = _around(turn / step_s) * step_s
    findings = []
    for kind, excess, least, unit in (("position jump", length - 1.5 * usual, _JUMP_M, "m"),
                                      ("heading jump", turn - 2 * usual_turn, _JUMP_RAD, "rad")):  # fmt: skip
        rows = np.flatnonzero((excess > least) & (step_s < 1.0))
        if 0 < len(rows) <= max(0.1 * len(excess), 1):  # where every step is one, a unit is wrong
            row = int(rows[0]) + 1
            findings.append(Finding(
                kind, f"At row {row} (t_us {poses.t_us[row]}) the pose jumps by {excess[row - 1]:.1f} {unit} more than "
                f"the drive around it; {len(rows)} such rows.",
                "Cut the recording there, or repair the localisation (a lost fix, two runs in one file).",
            ))  # fmt: skip
    gaps = np.flatnonzero(step_s > max(1.0, 10 * float(np.median(step_s))))
    if len(gaps):
        row = int(gaps[0]) + 1
        found = f"Nothing was recorded for {step_s[row - 1]:.1f} s before row {row}; {len(gaps)} such gaps."
        findings.append(Finding("gap", found, "Cut the recording at the gap."))
    return findings


def _around(rate: np.ndarray) -> np.ndarray:
    """Median of each value's neighbourhood of 9."""
    padded = np.pad(rate, 4, mode="edge")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, 9), axis=1)


def check_vertical(poses: Poses) -> list[Finding]:
    """A drive that climbs steeply has its vertical axis elsewhere than in z."""
    way = np.abs(np.diff(_coarse(poses).position_m, axis=0)).sum(axis=0)
    flat = float(np.hypot(way[0], way[1]))
    still = min(way[0], way[1]) < 0.1 * way[2]  # and one of the other two hardly moves
    if way[2] < 5.0 or way[2] < (_STEEP_STILL if still else _STEEP) * max(flat, 1e-9):
        return []
    level = "xy"[int(np.argmin(way[:2]))]
    found = f"The car rises and falls by {way[2]:.0f} m in z while it moves {flat:.0f} m in x and y."
    return [
        Finding("swapped axes", found, f"z must point up; {level} looks like the vertical axis here, so swap them.")
    ]


def _coarse(poses: Poses) -> Poses:
    """Poses at least 0.4 s apart, so that noise of single rows does not make a course."""
    rows, last = np.zeros(len(poses.t_us), bool), -np.inf
    for i, t in enumerate(poses.t_us):
        if t - last >= 400_000:
            rows[i], last = True, t
    return poses.kept(rows)


def course_and_heading(poses: Poses) -> tuple[np.ndarray, np.ndarray]:
    """Direction of travel and mean heading (rad) over coarse steps where the car moves at 2 m/s or more."""
    coarse = _coarse(poses)
    step = np.diff(coarse.position_m[:, :2], axis=0)
    moving = np.linalg.norm(step, axis=1) / (np.diff(coarse.t_us) / 1e6) >= _MOVING_MPS
    heading = coarse.yaw_rad[:-1] + wrap_angle(np.diff(coarse.yaw_rad)) / 2
    return np.arctan2(step[moving, 1], step[moving, 0]), np.asarray(heading)[moving]


_HYPOTHESES: tuple[tuple[str, str, Callable[[np.ndarray], np.ndarray], str], ...] = (
    ("wrong yaw sign", "the negative of the direction of travel", lambda c: -c,
     "Negate yaw (positive is to the left), or y if it points to the right."),
    ("swapped axes", "the direction of travel with x and y exchanged", lambda c: np.pi / 2 - c,
     "Exchange x and y of the positions, or measure yaw from the x axis instead of from north."),
    ("reversed heading", "opposite to the direction of travel", lambda c: c + np.pi,
     "Turn the heading by 180 degrees, unless the car really drove backwards."),
    ("swapped axes", "90 degrees to the left of the direction of travel", lambda c: c + np.pi / 2,
     "The rig's x axis must point forward: turn the heading by -90 degrees."),
    ("swapped axes", "90 degrees to the right of the direction of travel", lambda c: c - np.pi / 2,
     "The rig's x axis must point forward: turn the heading by 90 degrees."),
    ("yaw unit", "degrees taken as radians", lambda c: np.rad2deg(c),
     "Convert yaw from degrees to radians."),
    ("yaw unit", "radians taken as degrees", lambda c: np.deg2rad(c),
     "Yaw was converted from degrees although it is in radians: leave it."),
)  # fmt: skip


def check_heading(poses: Poses) -> list[Finding]:
    """Heading against the direction of travel: sign, axes, unit, or a constant angle between them."""
    course, heading = course_and_heading(poses)
    if len(course) < _LEAST_MOVING or _spread(heading - course) <= _SLIP_RAD:
        return []
    misses = [_spread(heading - h(course)) for _, _, h, _ in _HYPOTHESES]
    # Degrees as radians wrap many times a turn, so a mean heading of a step says nothing: rows are compared instead.
    misses[5] = min(misses[5], _degrees_miss(poses))
    best = int(np.argmin(misses))
    apart = np.rad2deg(_spread(heading - course))
    if misses[best] <= _SLIP_RAD:
        kind, name, _, fix = _HYPOTHESES[best]
        found = f"Heading and direction of travel differ by {apart:.0f} degrees (median); the heading is {name}."
        return [Finding(kind, found, fix)]
    return [_unexplained(course, heading, apart)]


def _spread(angle: np.ndarray) -> float:
    return float(np.median(np.abs(wrap_angle(angle))))


def _degrees_miss(poses: Poses) -> float:
    """0 where the heading turns 57 times as fast as the path, else infinite.

    A course is known to a degree or so, which taken for a radian says nothing: turns are compared, not headings.
    """
    step = np.diff(poses.position_m[:, :2], axis=0)
    moving = np.linalg.norm(step, axis=1) / (np.diff(poses.t_us) / 1e6) >= _MOVING_MPS
    course = np.arctan2(step[moving, 1], step[moving, 0])
    turn, turned = wrap_angle(np.diff(course)), wrap_angle(np.diff(poses.yaw_rad[:-1][moving]))
    slow = np.abs(turn) < 0.04  # beyond it 57 times the turn has wrapped
    if slow.sum() < _LEAST_MOVING or np.abs(turned[slow]).max() < 0.05:
        return float(np.inf)
    gain = float(np.sum(turn[slow] * turned[slow]) / max(np.sum(turn[slow] ** 2), 1e-12))
    return 0.0 if 40 < gain < 75 else float(np.inf)


def _unexplained(course: np.ndarray, heading: np.ndarray, apart: float) -> Finding:
    off = wrap_angle(heading - course)
    centre = float(np.angle(np.mean(np.exp(1j * off))))
    if _spread(off - centre) <= _SLIP_RAD:
        found = f"The heading is {np.rad2deg(centre):+.0f} degrees from the direction of travel all along."
        return Finding("heading offset", found, "Turn the heading by that angle: the sensor is mounted at one.")
    found = f"Heading and direction of travel differ by {apart:.0f} degrees (median), in no simple way."
    return Finding("heading", found, "Check that positions and headings belong to one frame and one clock.")


def check_speed(poses: Poses) -> list[Finding]:
    """The speed column against the speed of the positions; without a column, positions too fast for a car."""
    step_s = np.diff(poses.t_us) / 1e6
    path = _around(np.linalg.norm(np.diff(poses.position_m, axis=0), axis=1) / step_s)
    if np.quantile(path, 0.9) > FASTEST_MPS:
        found = f"The positions move at {np.quantile(path, 0.9):.0f} m/s."
        return [Finding("position unit", found, "Positions must be metres, times microseconds: check both units.")]
    if poses.speed_mps is None:
        return []
    told = np.abs(poses.speed_mps[:-1] + poses.speed_mps[1:]) / 2
    moving = (path >= _MOVING_MPS) & np.isfinite(told)
    if moving.sum() < _LEAST_MOVING:
        return []
    ratio = float(np.median(told[moving] / path[moving]))
    if 0.85 <= ratio <= 1.18:
        return []
    names = {3.6: "km/h", 2.237: "miles per hour", 3.281: "feet per second"}
    for factor, name in names.items():
        if abs(ratio / factor - 1) < 0.06:
            found = f"The speed is {ratio:.2f} times that of the positions, as {name} are of m/s."
            return [Finding("speed unit", found, f"The speed is in {name} but taken as m/s: divide it by {factor}.")]
        if abs(ratio * factor - 1) < 0.06:
            found = f"The speed is {ratio:.3f} times that of the positions, as m/s are of {name}."
            return [Finding("speed unit", found, f"The speed was divided by {factor} although it is in m/s: leave it.")]
    found = f"The speed is {ratio:.2f} times that of the positions."
    return [Finding("speed unit", found, "Check the units of both, and the time unit.")]
