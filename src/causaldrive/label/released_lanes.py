"""Lane words by the thresholds and segment rules of the published detector's lane group, to compare ours with.

    cut where the heading rate or the lane decision flips -> name each segment: lane change, turn, shift, keep

Its shift is our nudge; it follows no curve (that part is switched off there) and knows no merge or split. Its own many
recoveries for single shapes of a shift, of which no rule was at hand, and its confidences are left out. Source: the
public autolabeller of NVlabs (Apache-2.0), read in July 2026; written here from its rules, none of its code. Reads
arrays and a map. Knows nothing of files.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter1d

from causaldrive.clips.geometry import Array, project_on_polyline
from causaldrive.clips.types import EgoMotion, Lane, RoadMap
from causaldrive.ground.words import STEP_S
from causaldrive.label.released_actions import cleaned, cuts_of


@dataclass(frozen=True)
class ReleasedLaneProfile:
    """Every threshold of the published lane group that stands here."""

    fits_m: float = 2.0
    fits_rad: float = 1.05
    successors: int = 5  # how deep
    look_ahead_ticks: tuple[int, ...] = (5, 10, 15, 20)
    change_run_ticks: int = 4
    mean_ticks: int = 5
    cooldown_ticks: int = 3
    cut_1pm: float = 0.01
    change_offset_m: float = 1.0
    change_rate: float = 0.02  # m sideways per m driven
    change_net_m: float = 0.5
    turn_1pm: float = 0.04
    turn_rad: float = 0.2
    turn_rate: float = 0.06
    shift_rate: float = 0.095
    shift_driven_m: float = 0.8
    border_rate: float = 0.0895
    second_rate: float = 0.06
    guard_1pm: float = 0.02
    guard_rad: float = 0.1
    guard_net_m: float = 0.2
    least_ticks: int = 6
    change_ticks: int = 5
    settles_ticks: int = 15  # a shift so soon after a change is none


DEFAULT = ReleasedLaneProfile()
_SIDES = {1: "left", -1: "right"}


def released_lane_words(
    ego: EgoMotion, index: np.ndarray, lanes: Sequence[Lane], road: RoadMap, p: ReleasedLaneProfile = DEFAULT
) -> np.ndarray:
    """(T,) words of LANE_META for a drive at 10 Hz whose lanes are matched: `index` (T,) of `lanes`, -1 off the map."""
    decision = _decisions(index, lanes, road, p)
    turn = np.diff(np.unwrap(ego.yaw_rad), append=np.unwrap(ego.yaw_rad)[-1])
    driven = np.maximum(np.abs(ego.speed_mps) * STEP_S, 1e-3)
    rate = uniform_filter1d(turn, p.mean_ticks, mode="reflect") / driven
    aside = _aside(ego, index, lanes)
    states = [rate > p.cut_1pm, rate < -p.cut_1pm, decision > 0, decision < 0, index < 0]

    def name(first: int, end: int) -> str:
        if index[first] < 0:
            return "off_map"
        side = int(np.sign(decision[first:end].sum()))
        same_lane = bool((index[first:end] == index[first]).all())
        turned, driven_m = float(turn[first:end].sum()), float(driven[first:end].sum())
        return _word(np.cumsum(aside[first:end]), turned, driven_m, side, same_lane, p)

    words = cleaned(cuts_of(states, p.cooldown_ticks), name, lambda word: _least(word, p))
    _settle(words, p)
    words[np.abs(ego.speed_mps) <= 0.12] = "keep_lane"  # it deletes the word where the car stands
    return words.astype(str)


def _word(moved_m: Array, turned: float, driven_m: float, side: int, same_lane: bool, p: ReleasedLaneProfile) -> str:
    """The first rule that holds names the segment: (N,) way to the left since its start, rad, m."""
    net = float(moved_m[-1])
    rate, bend = net / max(driven_m, 1e-3), turned / max(driven_m, 1e-3)
    towards = _SIDES[1 if net >= 0 else -1]
    far = np.abs(moved_m).max() >= p.change_offset_m or (abs(rate) >= p.change_rate and abs(net) >= p.change_net_m)
    if side and far:
        return f"lane_change_{_SIDES[side]}"
    if abs(bend) >= p.turn_1pm and abs(turned) >= p.turn_rad and not same_lane and abs(rate) <= p.turn_rate:
        return f"turn_{_SIDES[1 if turned > 0 else -1]}"
    straight = abs(bend) < p.guard_1pm and abs(turned) < p.guard_rad and abs(net) >= p.guard_net_m
    if abs(rate) >= p.shift_rate and driven_m >= p.shift_driven_m:
        return f"nudge_{towards}"
    if straight and (abs(rate) >= p.border_rate or (abs(rate) >= p.second_rate and same_lane)):
        return f"nudge_{towards}"
    return "keep_lane"


def _aside(ego: EgoMotion, index: np.ndarray, lanes: Sequence[Lane]) -> Array:
    """(T,) step to the left of the lane that the car is on; where it gets to another lane, as the step before."""
    offset, xy = np.zeros(len(index)), ego.position_in_local_m[:, :2]
    for i in np.unique(index[index >= 0]):
        offset[index == i] = project_on_polyline(xy[index == i], lanes[i].centre_xy_m)[1]
    step = np.diff(offset, append=offset[-1])
    for t in np.flatnonzero(index[1:] != index[:-1]):
        step[t] = step[t - 1] if t else 0.0
    return step


def _least(word: str, p: ReleasedLaneProfile) -> int:
    return p.change_ticks if word.startswith("lane_change") else p.least_ticks


def _decisions(index: np.ndarray, lanes: Sequence[Lane], road: RoadMap, p: ReleasedLaneProfile) -> np.ndarray:
    """(T,) 1 where some tick ahead lies on a lane to the left of ours or of what follows it, -1 right, else 0."""
    places = {lane.lane_id: i for i, lane in enumerate(lanes)}
    beside = [_beside(lane, road, places, p.successors) for lane in lanes]
    found = np.zeros(len(index), int)
    for ahead in p.look_ahead_ticks:
        for t in range(len(index) - ahead):
            if found[t] == 0 and index[t] >= 0 and index[t + ahead] != index[t]:
                found[t] = beside[index[t]].get(int(index[t + ahead]), 0)
    edges = np.flatnonzero(np.diff(found, prepend=found[0] + 9, append=found[-1] + 9))
    for first, end in itertools.pairwise(edges.tolist()):
        if end - first < p.change_run_ticks:
            found[first:end] = 0
    return found


def _beside(lane: Lane, road: RoadMap, places: dict[str, int], depth: int) -> dict[int, int]:
    """Lane index -> side, for neighbours of a lane and of what follows it; 0 for what follows itself."""
    table: dict[int, int] = {}
    level, ours = [lane.lane_id], {lane.lane_id}
    for _ in range(depth + 1):
        known = [road.lanes[name] for name in level if name in road.lanes]
        for at in known:
            for name, side in ((at.left_neighbour, 1), (at.right_neighbour, -1)):
                if name in places:
                    table.setdefault(places[name], side)
        level = [name for at in known for name in at.successors]
        ours.update(level)
    return table | {places[name]: 0 for name in ours if name in places}


def _settle(words: np.ndarray, p: ReleasedLaneProfile) -> None:
    """A shift soon after a lane change is the end of that change: keep."""
    edges = [0, *(np.flatnonzero(words[1:] != words[:-1]) + 1).tolist(), len(words)]
    for before, first, end in zip(edges[:-2], edges[1:-1], edges[2:], strict=True):
        short = end - first <= p.settles_ticks
        if short and words[first].startswith("nudge") and words[before].startswith("lane_change"):
            words[first:end] = "keep_lane"
