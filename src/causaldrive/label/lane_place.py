"""How a car moves over its lanes: how fast sideways, and how the lane bends where it is.

    o'_t = (o_{t+1} - o_{t-1}) / 2 dt, all three off the middle of the lane of t

A bend is seen along the way: over lanes that lead into each other and, at its ends, over what alone leads in or out. It
is cut where a turn at a junction begins or ends, so that who comes to one, or waits before it, follows no curve. Reads
arrays and a map. Knows no words.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from causaldrive.clips.geometry import Array
from causaldrive.clips.lane_graph import onward
from causaldrive.clips.lane_lines import LaneLines, bend_1pm
from causaldrive.clips.types import Lane, RoadMap
from causaldrive.ground.words import STEP_S


@dataclass(frozen=True)
class OnLanes:
    """A drive at 10 Hz on the lanes of `lines`, (T,) each; where it is on none index -1, arc length and offset 0."""

    lines: LaneLines
    index: np.ndarray
    arc_m: Array
    offset_m: Array


def aside_mps(drive: OnLanes, xy_m: Array) -> Array:
    """How fast (T,) the car moves to the left of its lane, at positions (T, 2)."""
    index, last = drive.index, len(drive.index) - 1
    on = np.flatnonzero(index >= 0)
    before, after = np.maximum(on - 1, 0), np.minimum(on + 1, last)
    moved = _seen_from(drive, on, after, xy_m) - _seen_from(drive, on, before, xy_m)
    aside = np.zeros(len(index))
    aside[on] = moved / (np.maximum(after - before, 1) * STEP_S)
    return aside


def _seen_from(drive: OnLanes, on: np.ndarray, there: np.ndarray, xy_m: Array) -> Array:
    """Offsets (N,) at frames `there` off the lanes of frames `on`; along lanes that lead into each other as on one."""
    offset = drive.offset_m[there]
    for i in np.flatnonzero(drive.index[on] != drive.index[there]):
        first, second = sorted((on[i], there[i]))
        if not _leads(drive, first, second):
            offset[i] = drive.lines.project(drive.index[on[[i]]], xy_m[there[[i]]])[1][0]
    return offset


def _leads(drive: OnLanes, first: int, second: int) -> bool:
    lanes, before, after = drive.lines.lanes, drive.index[first], drive.index[second]
    return bool(before >= 0 and after >= 0 and lanes[after].lane_id in lanes[before].successors)


def bends_1pm(drive: OnLanes, turning: np.ndarray, road: RoadMap, over_m: float) -> Array:
    """Curvature (T,) of the way under the car over `over_m` to each side; `turning` (T,): a junction is turned at."""
    lines, bend = drive.lines, np.zeros(len(drive.index))
    for linked in _linked(drive, turning):
        frames = slice(linked[0][0], linked[-1][1])
        own = [int(drive.index[first]) for first, _ in linked]
        before, after = (
            [lines.places[lane.lane_id] for lane in onward(lines.lanes[end], way, road, over_m, _alone)]
            for end, way in ((own[0], "predecessors"), (own[-1], "successors"))
        )
        knots, yaw, starts = lines.along([*before[::-1], *own, *after])
        starts = np.repeat(starts[len(before) : len(before) + len(own)], [end - first for first, end in linked])
        bend[frames] = bend_1pm(drive.arc_m[frames] + starts, (knots, yaw), over_m)
    return bend


def _alone(lanes: Sequence[Lane]) -> Lane | None:
    return lanes[0] if len(lanes) == 1 else None


def _linked(drive: OnLanes, turning: np.ndarray) -> Iterator[list[tuple[int, int]]]:
    """Visits to lanes, (first, end) each, that lead into each other without a turn beginning or ending."""
    index = drive.index
    cuts = [0, *(np.flatnonzero(index[1:] != index[:-1]) + 1).tolist(), len(index)]
    linked: list[tuple[int, int]] = []
    for first, end in itertools.pairwise(cuts):
        if linked and not (_leads(drive, first - 1, first) and turning[first] == turning[first - 1]):
            yield linked
            linked = []
        if index[first] >= 0:
            linked.append((first, end))
    if linked:
        yield linked
