"""Lane-level meta actions: what the car did with respect to the lanes, one word per 10 Hz frame, where a map is there.

    o_t = offset from the middle of the lane, left positive          o'_t = (o_{t+1} - o_{t-1}) / 2 dt, on one lane

The lane is the nearest one that runs the same way; of several that are as near (in a junction, at a fork) the one that
stays so for longest, which takes no memory and so no delay. The later word wins: keep, follow a curve, nudge (off the
middle, same lane), merge and split where lanes join or part, lane change (or merge and split out of a lane that ends,
into one that begins), turn (over a junction). Source of the set: the released labeller's lane group; its own thresholds
are in `released_lanes.py`. Reads arrays and a map. Knows nothing of files or causes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely

from causaldrive.clips.geometry import Array, arc_lengths, project_on_polyline, wrap_angle
from causaldrive.clips.lane_graph import lane_change_of, yaw_beside
from causaldrive.clips.lane_passages import passages, say_joins, say_turns
from causaldrive.clips.timeline import runs_of
from causaldrive.clips.types import EgoMotion, Lane, RoadMap
from causaldrive.ground.words import STEP_S
from causaldrive.label.meta_actions import absorb_short
from causaldrive.label.released_lanes import ReleasedLaneProfile, released_lane_words


@dataclass(frozen=True)
class LaneProfile:
    """Every threshold of the lane-level words that is not the map's own (`clips/lane_graph.py`)."""

    fits_m: float = 4.0  # from the middle of a lane that runs the same way
    fits_rad: float = 1.05
    nudge_low_m: float = 0.2  # off the middle: a nudge lasts while this far, where no lane is changed
    nudge_high_m: float = 0.45  # and somewhere this far
    change_mps: float = 0.1  # sideways; a lane change lasts while it is faster
    change_s: float = 4.0  # and at most so long on each side of the line
    curve_1pm: float = 0.0025  # radius 400 m, of the lane, over 10 m of it
    curve_over_m: float = 5.0  # to each side
    join_s: float = 1.0  # a merge or split is said so long before and after
    shortest_frames: int = 4
    rate_frames: int = 1  # how fast it moves sideways is seen over so many frames to each side


_AS_NEAR_M = 0.3  # lanes whose middles are as near as this count as equally near
DEFAULT = LaneProfile()
LANE_PROFILES: dict[str, LaneProfile | ReleasedLaneProfile] = {
    "causaldrive": DEFAULT,
    "released": ReleasedLaneProfile(),
}


def detect_lane(ego: EgoMotion, road: RoadMap, profile: LaneProfile | ReleasedLaneProfile = DEFAULT) -> np.ndarray:
    """(T,) words of LANE_META for a drive at 10 Hz; 'off_map' where no lane fits."""
    lanes = [lane for lane in road.lanes.values() if lane.kind in ("vehicle", "bus")]
    index = _match(ego, lanes, profile.fits_m, profile.fits_rad)
    if not (index >= 0).any():
        return np.full(len(ego.t_us), "off_map")
    if isinstance(profile, ReleasedLaneProfile):
        return released_lane_words(ego, index, lanes, road, profile)
    return _words(ego, index, lanes, road, profile)


def _words(ego: EgoMotion, index: np.ndarray, lanes: Sequence[Lane], road: RoadMap, profile: LaneProfile) -> np.ndarray:
    matched = index >= 0
    words = np.where(matched, "keep_lane", "off_map").astype(object)
    place = _place(ego, index, lanes, road, profile)
    changes = _changes(index, place.aside_mps, lanes, road, profile)
    for sign, side in ((1, "left"), (-1, "right")):
        words[matched & (sign * place.bend_1pm >= profile.curve_1pm)] = f"follow_curve_{side}"
        for first, end in runs_of(matched & (sign * place.offset_m >= profile.nudge_low_m) & (changes == "")):
            if (sign * place.offset_m[first:end]).max() >= profile.nudge_high_m:
                words[first:end] = f"nudge_{side}"
    say_joins(words, index, lanes, road, round(profile.join_s / STEP_S))
    words[changes != ""] = changes[changes != ""]
    say_turns(words, index, lanes)
    return absorb_short(words, profile.shortest_frames).astype(str)


def _match(ego: EgoMotion, lanes: Sequence[Lane], fits_m: float, fits_rad: float) -> np.ndarray:
    """(T,) index of the lane that the car is on, -1 where none fits."""
    frame, lane, gap = _near(ego, lanes, fits_m, fits_rad)
    least = np.full(len(ego.t_us), np.inf)
    np.minimum.at(least, frame, gap)
    good = gap <= least[frame] + _AS_NEAR_M
    order = np.lexsort((frame[good], lane[good]))
    frame, lane = frame[good][order], lane[good][order]
    ends = (np.diff(lane, append=-1) != 0) | (np.diff(frame, append=-1) != 1)
    last = frame[np.flatnonzero(ends)[np.cumsum(ends) - ends]]  # of the run of frames that each belongs to
    order = np.lexsort((-last, frame))
    frame, lane, last = frame[order], lane[order], last[order]
    index, at = np.full(len(ego.t_us), -1), 0
    while (row := int(np.searchsorted(frame, at))) < len(frame):
        index[frame[row] : last[row] + 1] = lane[row]
        at = int(last[row]) + 1
    return index


def _near(
    ego: EgoMotion, lanes: Sequence[Lane], fits_m: float, fits_rad: float
) -> tuple[np.ndarray, np.ndarray, Array]:
    """(frame, index of the lane, distance from its middle) of all pairs that fit; beyond a lane's ends counts more."""
    xy, yaw = ego.position_in_local_m[:, :2], ego.yaw_rad
    tree = shapely.STRtree([shapely.LineString(lane.centre_xy_m) for lane in lanes])
    frame, lane = tree.query(shapely.points(xy), predicate="dwithin", distance=fits_m)
    gap = np.zeros(len(frame))
    for i in np.unique(lane):
        rows = np.flatnonzero(lane == i)
        centre, points = lanes[i].centre_xy_m, xy[frame[rows]]
        arc, offset = project_on_polyline(points, centre)
        beyond = np.maximum(np.maximum(-arc, arc - arc_lengths(centre)[-1]), 0.0)
        along = np.abs(wrap_angle(yaw_beside(points, centre) - yaw[frame[rows]])) <= fits_rad
        gap[rows] = np.where(along, np.hypot(offset, beyond) + _AS_NEAR_M * (beyond > 0), np.inf)
    fits = np.isfinite(gap)
    return frame[fits], lane[fits], gap[fits]


@dataclass(frozen=True)
class _Place:
    """Where the car is on its lane, (T,) each; zero where it is on none."""

    offset_m: Array
    aside_mps: Array
    bend_1pm: Array


def _place(ego: EgoMotion, index: np.ndarray, lanes: Sequence[Lane], road: RoadMap, p: LaneProfile) -> _Place:
    xy, count = ego.position_in_local_m[:, :2], len(index)
    offset, aside, bend = np.zeros(count), np.zeros(count), np.zeros(count)
    cuts = [0, *(np.flatnonzero(index[1:] != index[:-1]) + 1).tolist(), count]
    visits = [(a, b, int(index[a])) for a, b in itertools.pairwise(cuts)]
    for k, (first, end, i) in enumerate(visits):
        if i < 0:
            continue
        before = lanes[visits[k - 1][2]] if k and visits[k - 1][2] >= 0 else None
        after = lanes[visits[k + 1][2]] if k + 1 < len(visits) and visits[k + 1][2] >= 0 else None
        line = _line(lanes[i], before, after, road)
        a, b = max(first - p.rate_frames, 0), min(end + p.rate_frames, count)
        arc, o = project_on_polyline(xy[a:b], line)
        rate = np.gradient(o, STEP_S) if b - a > 1 else np.zeros(1)
        inside = slice(first - a, end - a)
        offset[first:end], aside[first:end] = o[inside], rate[inside]
        ahead, behind = (_yaw_at(arc[inside] + side * p.curve_over_m, line) for side in (1, -1))
        bend[first:end] = (ahead - behind) / (2 * p.curve_over_m)
    return _Place(offset, aside, bend)


def _line(lane: Lane, before: Lane | None, after: Lane | None, road: RoadMap) -> Array:
    """Middle of a lane with what the car came from and went to where that leads in and out, else the only such lane."""
    if before is None or before.lane_id not in lane.predecessors:
        before = road.lanes.get(lane.predecessors[0]) if len(lane.predecessors) == 1 else None
    if after is None or after.lane_id not in lane.successors:
        after = road.lanes.get(lane.successors[0]) if len(lane.successors) == 1 else None
    line = np.concatenate([part.centre_xy_m for part in (before, lane, after) if part is not None])
    return line[np.concatenate([[True], np.linalg.norm(np.diff(line, axis=0), axis=1) > 1e-3])]


def _yaw_at(arc_m: Array, line_xy_m: Array) -> Array:
    """Heading (N,) of a line at arc lengths, turning evenly from the middle of one segment to that of the next."""
    knots, step = arc_lengths(line_xy_m), np.diff(line_xy_m, axis=0)
    return np.interp(arc_m, (knots[1:] + knots[:-1]) / 2, np.unwrap(np.arctan2(step[:, 1], step[:, 0])))


def _changes(index: np.ndarray, aside: Array, lanes: Sequence[Lane], road: RoadMap, p: LaneProfile) -> np.ndarray:
    """(T,) word while a line is crossed, from when the car began to move over until it stopped doing so; else ''."""
    changes, most = np.full(len(index), "", object), round(p.change_s / STEP_S)
    for t in passages(index):
        word = lane_change_of(lanes[index[t - 1]], lanes[index[t]], road)
        if word is None:
            continue
        moves = np.sign(aside[t]) * aside > p.change_mps
        first, end = t, t + 1
        while first > max(t - most, 0) and moves[first - 1]:
            first -= 1
        while end < min(t + most, len(moves)) and moves[end]:
            end += 1
        changes[first:end] = word
    return changes
