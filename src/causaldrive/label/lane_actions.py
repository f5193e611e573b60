"""Lane-level meta actions: what the car did with respect to the lanes, one word per 10 Hz frame, where a map is there.

The lane is the nearest one that runs the same way; of several that are as near without lying side by side (in a
junction, at a fork) the one that stays so for longest, which takes no memory and so no delay. The later word wins:
keep, follow a curve, nudge (off the middle, same lane), merge and split where lanes join or part, lane change (or merge
and split out of a lane that ends, into one that begins), turn (over a junction). Source of the set: the released
labeller's lane group; its own thresholds are in `released_lanes.py`. Reads arrays and a map. Knows nothing of files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causaldrive.clips.geometry import Array, wrap_angle
from causaldrive.clips.lane_graph import DRIVEN_KINDS
from causaldrive.clips.lane_lines import LaneLines
from causaldrive.clips.lane_passages import say_changes, say_joins, turns
from causaldrive.clips.timeline import runs_of
from causaldrive.clips.types import EgoMotion, RoadMap
from causaldrive.ground.words import STEP_S
from causaldrive.label.lane_place import OnLanes, aside_mps, bends_1pm
from causaldrive.label.meta_actions import absorb_short
from causaldrive.label.released_lanes import ReleasedLaneProfile, released_lane_words


@dataclass(frozen=True)
class LaneProfile:
    """Every threshold of the lane-level words that is not the map's own (`clips/lane_graph.py`)."""

    fits_m: float = 4.0  # from the middle of a lane that runs the same way
    fits_rad: float = 1.05
    nudge_low_m: float = 0.2  # off the middle: a nudge lasts while this far, where no lane is changed
    nudge_high_m: float = 0.44  # and somewhere this far; a centimetre of room for what lies between samples
    change_mps: float = 0.1  # sideways; a lane change lasts while it is faster
    change_s: float = 4.0  # and at most so long on each side of the line
    curve_1pm: float = 0.00248  # radius 400 m with one part in a hundred of room, of the lane, over 10 m of it
    curve_over_m: float = 5.0  # to each side
    join_s: float = 1.0  # a merge or split is said so long before and after
    shortest_frames: int = 4


_AS_NEAR_M = 0.3  # lanes whose middles are as near as this count as equally near
DEFAULT = LaneProfile()
LANE_PROFILES: dict[str, LaneProfile | ReleasedLaneProfile] = {
    "causaldrive": DEFAULT,
    "released": ReleasedLaneProfile(),
}


def detect_lane(ego: EgoMotion, road: RoadMap, profile: LaneProfile | ReleasedLaneProfile = DEFAULT) -> np.ndarray:
    """(T,) words of LANE_META for a drive at 10 Hz; 'off_map' where no lane fits."""
    lanes = [lane for lane in road.lanes.values() if lane.kind in DRIVEN_KINDS]
    drive = _match(ego, LaneLines(lanes), profile.fits_m, profile.fits_rad) if lanes else None
    if drive is None or not (drive.index >= 0).any():
        return np.full(len(ego.t_us), "off_map")
    if isinstance(profile, ReleasedLaneProfile):
        return released_lane_words(ego, drive.index, lanes, road, profile)
    return _words(drive, ego.position_in_local_m[:, :2], road, profile)


def _words(drive: OnLanes, xy_m: Array, road: RoadMap, profile: LaneProfile) -> np.ndarray:
    index, lanes, matched = drive.index, drive.lines.lanes, drive.index >= 0
    words = np.where(matched, "keep_lane", "off_map").astype(object)
    turned, turning = turns(index, lanes), np.zeros(len(index), bool)
    for first, end, _ in turned:
        turning[first:end] = True
    bend = bends_1pm(drive, turning, road, profile.curve_over_m)
    most = round(profile.change_s / STEP_S)
    changes = say_changes(index, aside_mps(drive, xy_m), lanes, road, profile.change_mps, most, least=1)
    for sign, side in ((1, "left"), (-1, "right")):
        words[sign * bend >= profile.curve_1pm] = f"follow_curve_{side}"
        for first, end in runs_of((sign * drive.offset_m >= profile.nudge_low_m) & (changes == "")):
            if (sign * drive.offset_m[first:end]).max() >= profile.nudge_high_m:
                words[first:end] = f"nudge_{side}"
    say_joins(words, index, lanes, road, round(profile.join_s / STEP_S))
    words[changes != ""] = changes[changes != ""]
    for first, end, side in turned:
        words[first:end] = f"turn_{side}"
    return absorb_short(words, profile.shortest_frames).astype(str)


def _match(ego: EgoMotion, lines: LaneLines, fits_m: float, fits_rad: float) -> OnLanes:
    """A drive on the nearest lanes that run the same way."""
    frame, lane, arc, offset = lines.near(ego.position_in_local_m[:, :2], fits_m)
    beyond = np.maximum(np.maximum(-arc, arc - lines.length_m[lane]), 0.0)  # an end of it
    gap = np.hypot(offset, beyond) + _AS_NEAR_M * (beyond > 0)
    fits = np.abs(wrap_angle(lines.yaw(lane, arc) - ego.yaw_rad[frame])) <= fits_rad
    frame, lane, arc, offset, gap = frame[fits], lane[fits], arc[fits], offset[fits], gap[fits]
    order = np.lexsort((-gap, frame))
    least, nearest = np.zeros(len(ego.t_us)), np.zeros(len(ego.t_us), int)
    least[frame[order]], nearest[frame[order]] = gap[order], lane[order]  # the last one written is the nearest
    room = np.where(_beside(lines)[nearest[frame], lane], 0.0, _AS_NEAR_M)
    good = gap <= least[frame] + room
    index = _longest(frame[good], lane[good], gap[good], len(ego.t_us))
    own, (arc_m, offset_m) = lane == index[frame], np.zeros((2, len(index)))
    arc_m[frame[own]], offset_m[frame[own]] = arc[own], offset[own]
    return OnLanes(lines, index, arc_m, offset_m)


def _beside(lines: LaneLines) -> np.ndarray:
    """(L, L) whether two lanes lie side by side, so that a line between them tells which one it is."""
    beside = np.zeros((len(lines.lanes), len(lines.lanes)), bool)
    for i, lane in enumerate(lines.lanes):
        for name in (lane.left_neighbour, lane.right_neighbour):
            if name in lines.places:
                beside[i, lines.places[name]] = beside[lines.places[name], i] = True
    return beside


def _longest(frame: np.ndarray, lane: np.ndarray, gap: np.ndarray, count: int) -> np.ndarray:
    """(count,) of the lanes that a frame may be on, the one that stays possible for longest; -1 for none.

    Of several that stay so to the same frame it is the one that is nearer over that time.
    """
    order = np.lexsort((frame, lane))
    frame, lane, gap = frame[order], lane[order], gap[order]
    ends = (np.diff(lane, append=-1) != 0) | (np.diff(frame, append=-1) != 1)
    run = np.cumsum(ends) - ends
    last, mean = frame[np.flatnonzero(ends)[run]], (np.bincount(run, gap) / np.bincount(run))[run]
    order = np.lexsort((mean, -last, frame))
    frame, lane, last = frame[order], lane[order], last[order]
    index, at = np.full(count, -1), 0
    while (row := int(np.searchsorted(frame, at))) < len(frame):
        index[frame[row] : last[row] + 1] = lane[row]
        at = int(last[row]) + 1
    return index
