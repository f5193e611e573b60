"""Lane-level meta actions: what the car did with respect to the lanes, one word per 10 Hz frame, where a map is there.

    o_t = offset from the centre of the lane that fits best (left positive); a lane fits within 2.2 m and 60 degrees

The later word wins: keep, follow a curve, nudge (off the centre, same lane), merge and split (into a lane that others
lead into, out of one that others lead out of), lane change (the lane becomes its neighbour), turn (a junction is left
with another heading). No filter, so no delay. Source of the set: the released labeller's lane group; its thresholds are
not used. Reads arrays and a map. Knows nothing of files or causes.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from causaldrive.clips.geometry import pose_on_polyline, project_on_polyline, wrap_angle
from causaldrive.clips.types import EgoMotion, Lane, RoadMap
from causaldrive.ground.words import STEP_S

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LaneProfile:
    """Every threshold of the lane-level words."""

    fits_m: float = 2.2
    fits_rad: float = 1.05
    nudge_m: float = 0.45  # this far off the centre somewhere
    nudge_from_m: float = 0.2  # and it lasts while this far
    turn_rad: float = 0.35
    change_speed_mps: float = 0.1  # sideways; a lane change lasts while it is faster
    change_s: float = 4.0  # at most so long on each side of the line
    curve_1pm: float = 0.0025  # radius 400 m, of the lane
    curve_over_m: float = 5.0
    join_s: float = 1.0  # a merge or split is said so long before and after


DEFAULT = LaneProfile()


def detect_lane(ego: EgoMotion, road: RoadMap, profile: LaneProfile = DEFAULT) -> np.ndarray:
    """(T,) words of LANE_META for a drive at 10 Hz; 'off_map' where no lane fits."""
    lanes = [lane for lane in road.lanes.values() if lane.kind in ("vehicle", "bus")]
    count = len(ego.t_us)
    words = np.full(count, "off_map", object)
    if not lanes:
        return words.astype(str)
    index, offset, curvature = _matched(ego, lanes, profile)
    matched = index >= 0
    words[matched] = "keep_lane"
    for sign, side in ((1, "left"), (-1, "right")):
        words[matched & (sign * curvature >= profile.curve_1pm)] = f"follow_curve_{side}"
        off = matched & (sign * offset >= profile.nudge_from_m)
        for first, end in _runs(off):
            if (sign * offset[first:end]).max() >= profile.nudge_m and not _arrives(index, offset, first, sign):
                words[first:end] = f"nudge_{side}"
    _joins(words, index, lanes, profile)
    _changes(words, index, offset, lanes, profile)
    _turns(words, index, ego.yaw_rad, lanes, profile)
    return words.astype(str)


def _matched(ego: EgoMotion, lanes: list[Lane], p: LaneProfile) -> tuple[np.ndarray, Array, Array]:
    """(index of the lane or -1, offset from its centre, its curvature) per frame (T,).

    Where lanes overlap (in a junction) the one that has held stays as long as it fits within half a metre of the best.
    """
    xy, yaw = ego.position_in_local_m[:, :2], ego.yaw_rad
    gaps, bends = np.full((len(lanes), len(xy)), np.inf), np.zeros((len(lanes), len(xy)))
    offsets = np.zeros_like(bends)
    for i, lane in enumerate(lanes):
        arc, offsets[i] = project_on_polyline(xy, lane.centre_xy_m)
        length = float(np.linalg.norm(np.diff(lane.centre_xy_m, axis=0), axis=1).sum())
        along = pose_on_polyline(np.clip(arc, 0, length), lane.centre_xy_m)
        beyond = np.linalg.norm(xy - along[0], axis=1)
        fits = (beyond <= p.fits_m) & (np.abs(wrap_angle(along[1] - yaw)) <= p.fits_rad)
        gaps[i] = np.where(fits, beyond, np.inf)
        ends = (np.clip(arc - p.curve_over_m, 0, length), np.clip(arc + p.curve_over_m, 0, length))
        turned = wrap_angle(
            pose_on_polyline(ends[1], lane.centre_xy_m)[1] - pose_on_polyline(ends[0], lane.centre_xy_m)[1]
        )
        bends[i] = turned / np.maximum(ends[1] - ends[0], 1.0)
    index = _held(gaps)
    frame = np.arange(len(xy))
    return index, np.where(index >= 0, offsets[index, frame], 0.0), np.where(index >= 0, bends[index, frame], 0.0)


def _held(gaps: Array) -> np.ndarray:
    index, held = np.full(gaps.shape[1], -1), -1
    for t in range(gaps.shape[1]):
        best = int(np.argmin(gaps[:, t]))
        if not np.isfinite(gaps[best, t]):
            held = -1
        elif held < 0 or gaps[held, t] > gaps[best, t] + (0.5 if np.isfinite(gaps[held, t]) else 0.0):
            held = best
        index[t] = held
    return index


def _arrives(index: np.ndarray, offset: Array, first: int, sign: int) -> bool:
    """Off the centre because it has just come over from the neighbour lane: the offset begins at its largest."""
    return first > 0 and index[first - 1] != index[first] and sign * offset[first] > 1.0


def _changes(words: np.ndarray, index: np.ndarray, offset: Array, lanes: list[Lane], p: LaneProfile) -> None:
    """Where the lane becomes its neighbour: from when the car began to move over until it has stopped doing so."""
    for t in np.flatnonzero((index[1:] != index[:-1]) & (index[1:] >= 0) & (index[:-1] >= 0)) + 1:
        before, after = lanes[index[t - 1]], lanes[index[t]]
        side = {before.left_neighbour: "left", before.right_neighbour: "right"}.get(after.lane_id)
        if side is None:
            continue
        sign, most = (1 if side == "left" else -1), round(p.change_s / STEP_S)
        first, end = t, t
        while (
            first > max(t - most, 0)
            and sign * (offset[first - 1] - offset[max(first - 2, 0)]) / STEP_S > p.change_speed_mps
        ):
            first -= 1
        while (
            end < min(t + most, len(words) - 1) and sign * (offset[end + 1] - offset[end]) / STEP_S > p.change_speed_mps
        ):
            end += 1
        words[first : end + 1] = f"lane_change_{side}"


def _joins(words: np.ndarray, index: np.ndarray, lanes: list[Lane], p: LaneProfile) -> None:
    """Outside junctions: into a lane that others lead into too, or out of one that others lead out of."""
    for t in np.flatnonzero((index[1:] != index[:-1]) & (index[1:] >= 0) & (index[:-1] >= 0)) + 1:
        before, after = lanes[index[t - 1]], lanes[index[t]]
        if after.lane_id not in before.successors or before.in_junction or after.in_junction:
            continue
        word = "merge" if len(after.predecessors) > 1 else "split" if len(before.successors) > 1 else None
        around = round(p.join_s / STEP_S)
        if word:
            words[max(t - around, 0) : t + around] = word


def _turns(words: np.ndarray, index: np.ndarray, yaw: Array, lanes: list[Lane], p: LaneProfile) -> None:
    inside = np.array([i >= 0 and lanes[i].in_junction for i in index])
    heading = np.unwrap(yaw)
    for first, end in _runs(inside):
        turned = heading[min(end, len(yaw) - 1)] - heading[max(first - 1, 0)]
        if abs(turned) >= p.turn_rad:
            words[first:end] = "turn_left" if turned > 0 else "turn_right"


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    cuts = [0, *(np.flatnonzero(mask[1:] != mask[:-1]) + 1).tolist(), len(mask)]
    return [(a, b) for a, b in itertools.pairwise(cuts) if mask[a]]
