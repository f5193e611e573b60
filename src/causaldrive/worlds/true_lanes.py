"""What the ego of a simulated drive really did on its lanes: the true timeline of lane words, from the exact state.

    d = offset of the rear axle from the middle of its lane, left positive          d' = v sin(yaw - yaw of the lane)

The lane is the one whose borders hold the rear axle; where lanes lie over each other, in junctions, it is the one that
the way to go leads over. Everything is known every 25 ms; nothing is matched, differenced or sampled down. A straight
lane is no curve because a turn follows: the way to go is rounded off before it, but who waits there has driven none.
Knows nothing of detectors, noise or recordings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from causaldrive.clips.geometry import project_on_polyline, wrap_angle
from causaldrive.clips.lane_graph import DRIVEN_KINDS, onward, yaw_beside
from causaldrive.clips.lane_lines import LaneLines, bend_1pm
from causaldrive.clips.lane_passages import say_changes, say_joins, turns
from causaldrive.clips.timeline import runs_of
from causaldrive.clips.types import Lane
from causaldrive.worlds.state import EgoState, SceneContext
from causaldrive.worlds.true_actions import FINE_S, FinePoses, Phase, fine_poses, per_frame, phases_of, settled

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LaneWords:
    """What each word means. The later one wins: keep, follow a curve, nudge, merge and split, lane change, turn."""

    curve_1pm: float = 0.0025  # radius 400 m, of the middle of the lane, over 10 m of it
    curve_over_m: float = 5.0  # to each side
    nudge_from_m: float = 0.2  # off the middle of the lane, while no lane is changed
    nudge_reached_m: float = 0.45
    change_mps: float = 0.1  # sideways; a lane change lasts while it is faster, on both sides of the line
    change_s: float = 4.0  # and at most so long on each
    join_s: float = 1.0  # so long before and after the place where lanes join or part
    same_way_rad: float = 1.05
    off_map_m: float = 4.0  # from the middle of every lane that runs the same way
    least_s: float = 0.4


@dataclass(frozen=True)
class TrueLanes:
    """Phases in order, and the word of most of each 10 Hz step."""

    lane: tuple[Phase, ...]
    words: np.ndarray  # (T,) str


def true_lanes(
    egos: Sequence[EgoState], context: SceneContext, start_us: int = 0, words: LaneWords = LaneWords()
) -> TrueLanes:
    """Words of consecutive states 0.1 s apart, each holding what was applied at its end."""
    poses = fine_poses(egos)
    lanes = [lane for lane in context.road.lanes.values() if lane.kind in DRIVEN_KINDS]
    index = _lane_of(poses, lanes, context, words)
    said = _said(poses, index, lanes, context, words)
    said = settled(said.astype(str), round(words.least_s / FINE_S))
    return TrueLanes(phases_of(said, start_us), per_frame(said, len(egos)))


def _lane_of(poses: FinePoses, lanes: Sequence[Lane], context: SceneContext, words: LaneWords) -> np.ndarray:
    """(N,) index of the lane that holds the rear axle; the nearest where none does; -1 off the map."""
    best, least = np.full(len(poses.yaw_rad), -1), np.full(len(poses.yaw_rad), np.inf)
    for i, lane in enumerate(lanes):
        low, high = lane.centre_xy_m.min(axis=0) - words.off_map_m, lane.centre_xy_m.max(axis=0) + words.off_map_m
        rows = np.flatnonzero(((poses.xy_m >= low) & (poses.xy_m <= high)).all(axis=1))
        if not len(rows):
            continue
        xy, centre = poses.xy_m[rows], lane.centre_xy_m
        ring = shapely.make_valid(shapely.Polygon(np.concatenate([lane.left_xy_m, lane.right_xy_m[::-1]])))
        gap = shapely.distance(shapely.LineString(centre), shapely.points(xy))
        along = np.abs(wrap_angle(yaw_beside(xy, centre) - poses.yaw_rad[rows])) <= words.same_way_rad
        astray = _astray(lane, np.asarray(context.route_xy_in_local_m))
        cost = np.where(shapely.contains_xy(ring, *xy.T), astray, 1000.0 + gap)
        cost = np.where(along & (gap <= words.off_map_m), cost, np.inf)
        nearer = cost < least[rows]
        best[rows[nearer]], least[rows[nearer]] = i, cost[nearer]
    return best


def _said(
    poses: FinePoses, index: np.ndarray, lanes: Sequence[Lane], context: SceneContext, words: LaneWords
) -> np.ndarray:
    said = np.where(index >= 0, "keep_lane", "off_map").astype(object)
    offset, aside = np.zeros(len(index)), np.zeros(len(index))
    for i in np.unique(index[index >= 0]):
        here = index == i
        offset[here] = project_on_polyline(poses.xy_m[here], lanes[i].centre_xy_m)[1]
        aside[here] = poses.speed_mps[here] * np.sin(
            poses.yaw_rad[here] - yaw_beside(poses.xy_m[here], lanes[i].centre_xy_m)
        )
    bend = _bend(poses, index, lanes, context, words)
    changes = say_changes(index, aside, lanes, context.road, words.change_mps, round(words.change_s / FINE_S))
    for sign, side in ((1, "left"), (-1, "right")):
        said[(index >= 0) & (sign * bend >= words.curve_1pm)] = f"follow_curve_{side}"
        for first, end in runs_of((index >= 0) & (sign * offset >= words.nudge_from_m) & (changes == "")):
            if (sign * offset[first:end]).max() >= words.nudge_reached_m:
                said[first:end] = f"nudge_{side}"
    say_joins(said, index, lanes, context.road, round(words.join_s / FINE_S))
    said[changes != ""] = changes[changes != ""]
    for first, end, side in turns(index, lanes):
        said[first:end] = f"turn_{side}"
    return said


def _bend(poses: FinePoses, index: np.ndarray, lanes: Sequence[Lane], context: SceneContext, words: LaneWords) -> Array:
    """Curvature (N,) of the middle of the lane beside the rear axle, over 10 m of it and of what the way to go adds."""
    route, lines, bend = np.asarray(context.route_xy_in_local_m), LaneLines(lanes), np.zeros(len(index))

    def to_go(following: Sequence[Lane]) -> Lane | None:
        return min(following, key=lambda lane: _astray(lane, route), default=None)

    for i in np.unique(index[index >= 0]):
        before, after = (
            [lines.places[lane.lane_id] for lane in onward(lanes[i], way, context.road, words.curve_over_m, to_go)]
            for way in ("predecessors", "successors")
        )
        knots, yaw, starts = lines.along([*before[::-1], i, *after])
        here = index == i
        arc = project_on_polyline(poses.xy_m[here], lanes[i].centre_xy_m)[0]
        bend[here] = bend_1pm(arc + starts[len(before)], (knots, yaw), words.curve_over_m)
    return bend


def _astray(lane: Lane, route_xy_m: Array) -> float:
    """How far the middle of a lane lies from the way to go, on average."""
    return float(np.abs(project_on_polyline(lane.centre_xy_m, route_xy_m)[1]).mean())
