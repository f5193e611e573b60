"""Argoverse 2 vector maps: lane segments, crosswalks and drivable areas to a `RoadMap`, and the ego's route on it.

Reads `log_map_archive_*.json`. Speed limits are not in the map: 25 mph, the usual limit of the cities it covers, stands
in. Knows nothing of agents or poses beyond the ego's path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from causaldrive.clips.geometry import arc_lengths, pose_on_polyline, project_on_polyline, wrap_angle
from causaldrive.clips.resample import driven_path
from causaldrive.clips.types import EgoMotion, Lane, RoadMap
from causaldrive.ground.errors import UserError
from causaldrive.ground.files import read_json

ASSUMED_LIMIT_MPS = 11.2  # 25 mph
ROUTE_AHEAD_M = 120.0
_LANE_KINDS = {"VEHICLE": "vehicle", "BIKE": "bike", "BUS": "bus"}
_CENTRE_STEP_M = 2.0
_ROUTE_STEP_M = 1.0
_BLEND_M = 20.0  # over which the route moves from where the ego ended to the lane's centre line


def read_map(path: Path, city_to_local_m: np.ndarray) -> RoadMap:
    """The map moved by the shift `city_to_local_m` (2,). Raises UserError for a file of another layout."""
    archive = read_json(path)
    try:
        shapes = [_shape(entry, city_to_local_m) for entry in archive["lane_segments"].values()]
        lanes = {lane.lane_id: lane for lane in shapes}
        crossings = {str(e["id"]): _crosswalk(e, city_to_local_m) for e in archive["pedestrian_crossings"].values()}
        drivable = {str(e["id"]): _xy(e["area_boundary"], city_to_local_m) for e in archive["drivable_areas"].values()}
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise UserError(
            f"{path} is not an Argoverse 2 map: {error!r} is missing or malformed; fetch it again."
        ) from error
    return RoadMap({key: _linked(lane, lanes) for key, lane in lanes.items()}, crossings, drivable)


def _xy(points: Sequence[Mapping[str, float]], shift_m: np.ndarray) -> np.ndarray:
    return np.array([[point["x"], point["y"]] for point in points], float) + shift_m


def _shape(entry: Mapping[str, Any], shift_m: np.ndarray) -> Lane:
    left, right = (_xy(entry[f"{side}_lane_boundary"], shift_m) for side in ("left", "right"))
    return Lane(
        lane_id=str(entry["id"]),
        centre_xy_m=_between(left, right),
        left_xy_m=left,
        right_xy_m=right,
        speed_limit_mps=ASSUMED_LIMIT_MPS,
        kind=_LANE_KINDS.get(entry["lane_type"], "vehicle"),
        in_junction=bool(entry["is_intersection"]),
        left_mark=mark_of(entry["left_lane_mark_type"]),
        right_mark=mark_of(entry["right_lane_mark_type"]),
        successors=tuple(str(other) for other in entry["successors"]),
        predecessors=tuple(str(other) for other in entry["predecessors"]),
        left_neighbour=_id_or_none(entry["left_neighbor_id"]),
        right_neighbour=_id_or_none(entry["right_neighbor_id"]),
    )


def _id_or_none(value: Any) -> str | None:
    return None if value is None else str(value)


def mark_of(published: str) -> str:
    """'DOUBLE_SOLID_YELLOW' -> 'solid_yellow'; a line that is solid on one side counts as solid."""
    words = published.lower().split("_")
    style = "solid" if "solid" in words else "dashed" if {"dash", "dashed"} & set(words) else None
    colour = next((word for word in words if word in ("white", "yellow", "blue")), None)
    return f"{style}_{colour}" if style and colour else "none"


def _between(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Middle of two boundaries at equal shares of their length."""
    lengths = arc_lengths(left)[-1], arc_lengths(right)[-1]
    count = max(round(max(lengths) / _CENTRE_STEP_M), 1) + 1
    sides = [pose_on_polyline(np.linspace(0, length, count), side)[0]
             for side, length in zip((left, right), lengths, strict=True)]  # fmt: skip
    return (sides[0] + sides[1]) / 2


def _crosswalk(entry: Mapping[str, Any], shift_m: np.ndarray) -> np.ndarray:
    """Ring (4, 2) from the crosswalk's two edges, which may run in either sense."""
    first, second = _xy(entry["edge1"], shift_m), _xy(entry["edge2"], shift_m)
    if np.dot(first[-1] - first[0], second[-1] - second[0]) > 0:
        second = second[::-1]
    return np.concatenate([first, second])


def _linked(lane: Lane, lanes: Mapping[str, Lane]) -> Lane:
    """Links to lanes outside the crop dropped; neighbours only where they run the same way."""

    def beside(other: str | None) -> str | None:
        same_way = other is not None and other in lanes and np.dot(_direction(lane), _direction(lanes[other])) > 0
        return other if same_way else None

    return replace(
        lane,
        successors=tuple(other for other in lane.successors if other in lanes),
        predecessors=tuple(other for other in lane.predecessors if other in lanes),
        left_neighbour=beside(lane.left_neighbour),
        right_neighbour=beside(lane.right_neighbour),
    )


def _direction(lane: Lane) -> np.ndarray:
    return lane.centre_xy_m[-1] - lane.centre_xy_m[0]


def route_of(ego: EgoMotion, road: RoadMap) -> np.ndarray:
    """(R, 2) the driven path, then `ROUTE_AHEAD_M` along the lane it ended on, straightest successor first."""
    end = ego.position_in_local_m[-1, :2]
    driven = driven_path(ego, _ROUTE_STEP_M)
    if np.linalg.norm(end - driven[-1]) < _ROUTE_STEP_M / 2:
        driven = driven[:-1]
    return np.concatenate([driven, _ahead(end, float(ego.yaw_rad[-1]), road)])


def _ahead(xy: np.ndarray, yaw_rad: float, road: RoadMap) -> np.ndarray:
    """From `xy` on along the lane graph, else straight; the offset from the centre line fades out."""
    steps = np.arange(0.0, ROUTE_AHEAD_M + 1e-6, _ROUTE_STEP_M)
    lane = _lane_at(xy, yaw_rad, road)
    if lane is None:
        return xy + steps[:, None] * np.array([np.cos(yaw_rad), np.sin(yaw_rad)])
    line = lane.centre_xy_m
    start, offset = (float(value) for value in project_on_polyline(xy, line))
    while arc_lengths(line)[-1] < start + ROUTE_AHEAD_M and lane.successors:
        lane = min((road.lanes[key] for key in lane.successors), key=lambda other: _turn(line, other))
        line = np.concatenate([line, lane.centre_xy_m[1:]])
    points, heading = pose_on_polyline(start + steps, line)
    left = np.stack([-np.sin(heading), np.cos(heading)], axis=1)
    fade = np.clip(1 - steps / _BLEND_M, 0, 1)
    return points + left * (offset * fade)[:, None]


def _turn(line: np.ndarray, lane: Lane) -> float:
    """How far a following lane turns away from the end of a line, in radians."""
    before, after = line[-1] - line[-2], lane.centre_xy_m[-1] - lane.centre_xy_m[-2]
    return abs(float(wrap_angle(np.arctan2(after[1], after[0]) - np.arctan2(before[1], before[0]))))


def _lane_at(xy: np.ndarray, yaw_rad: float, road: RoadMap) -> Lane | None:
    """The vehicle lane nearest to a point that runs the ego's way, at most 2.5 m off its centre line."""
    best, best_offset = None, 2.5
    for lane in road.lanes.values():
        if lane.kind == "bike":
            continue
        arc, offset = project_on_polyline(xy, lane.centre_xy_m)
        _, heading = pose_on_polyline(arc, lane.centre_xy_m)
        beyond = max(-float(arc), float(arc) - arc_lengths(lane.centre_xy_m)[-1], 0.0)
        if beyond < 1.0 and abs(offset) < best_offset and abs(wrap_angle(heading - yaw_rad)) < np.pi / 4:
            best, best_offset = lane, abs(float(offset))
    return best
