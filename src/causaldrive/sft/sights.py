"""What is where in a picture, from a recording's annotations: the dense targets that a student's eyes are taught with.

A picture is cut into the cells of its image tokens (32 x 32 pixels). Of each cell: what covers it, how far away and how
fast that is, and how far from the route's line the ground in it lies; of the whole picture: where the route goes. No
pixel is rendered for it: boxes, signal heads and the route are projected with the recording's own calibration.

Reads recordings; knows nothing of models. A part that a recording does not have (no map, no agents) is NaN or nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from causaldrive.clips.geometry import (
    box_corners,
    from_frame,
    matrix_of_quat,
    pose_on_polyline,
    project_on_polyline,
    to_frame,
)
from causaldrive.clips.resample import resample_ego
from causaldrive.clips.store import nearest_index
from causaldrive.clips.types import AgentTracks, Camera, LightTracks, Recording

KINDS = ("nothing", "vehicle", "person", "rider", "obstacle", "red light", "yellow light", "green light")
MEASURES = ("distance", "side", "speed along", "speed across", "brake light", "indicator")  # of a cell's thing, scaled
AHEAD_M = (4.0, 8.0, 14.0, 20.0, 28.0, 40.0)  # along the route, where its side is asked for

_KIND_OF = {"car": 1, "truck": 1, "bus": 1, "pedestrian": 2, "cyclist": 3, "motorcycle": 3}
_LIGHT_KIND = {"red": 5, "yellow": 6, "green": 7}
_OBSTACLE = 4
_MAX_LAG_US = 60_000
_GROUND_M, _LIGHT_M = 60.0, 90.0  # further ground and heads are not asked for
_SIDE_LIMIT_M = 10.0
_LIGHT_PX = 2.0  # half a signal head, far away
_OF_CELL, _OF_THING = 0.25, 0.34  # a thing is in a cell when it covers this much of it, or lies in it to this share
SCALES = {"distance": 0.5, "side": 5.0, "along": 8.0, "across": 3.0, "ground": 5.0, "path": 4.0, "offset": 2.0}


@dataclass(frozen=True)
class Sight:
    """Targets of one picture of N = rows x columns cells, row by row."""

    kind: NDArray[np.int64]  # (N,) index into KINDS
    measures: NDArray[np.float32]  # (N, 6) of the nearest thing in the cell; 0 where there is none
    ground: NDArray[
        np.float32
    ]  # (N,) signed distance from the route's line at the cell's middle, / 5 m; NaN: no ground
    path: NDArray[np.float32]  # (7,) the route's side at AHEAD_M, / 4 m, and the car's own offset, / 2 m; NaN: no route

    def mirrored(self, columns: int) -> Sight:
        """The same of the picture seen in a mirror."""
        order = np.arange(len(self.kind)).reshape(-1, columns)[:, ::-1].reshape(-1)
        sign = np.array([1, -1, 1, -1, 1, -1], np.float32)
        return Sight(self.kind[order], self.measures[order] * sign, -self.ground[order], -self.path)


@dataclass(frozen=True)
class _Thing:
    """Something seen: how deep (m), which kind, its box in pixels, its measures."""

    depth_m: float
    kind: int
    low_px: NDArray
    high_px: NDArray
    measures: NDArray  # (6,)


@dataclass(frozen=True)
class _View:
    """The car's pose at a moment and the camera that looks."""

    camera: Camera
    xyz_in_local_m: NDArray
    yaw_rad: float

    def in_rig(self, xy_in_local_m: NDArray) -> NDArray:
        return to_frame(xy_in_local_m, self.xyz_in_local_m[:2], self.yaw_rad)

    def optical(self, xyz_in_rig_m: NDArray) -> NDArray:
        """Points (..., 3) in the camera's frame: right, down, forward."""
        return (xyz_in_rig_m - np.array(self.camera.rig_to_camera_position_m)) @ _rotation(self.camera)

    def pixels(self, optical_m: NDArray) -> NDArray:
        focal, centre = (
            np.array(pair) for pair in ((self.camera.fx_px, self.camera.fy_px), (self.camera.cx_px, self.camera.cy_px))
        )
        return focal * optical_m[..., :2] / optical_m[..., 2:] + centre

    @property
    def size_px(self) -> NDArray:
        return np.array([self.camera.width_px, self.camera.height_px], float)


@lru_cache(maxsize=64)
def _rotation(camera: Camera) -> NDArray:
    return matrix_of_quat(np.array(camera.rig_to_camera_quat))


def sight_of(recording: Recording, camera: str, t_us: int, rows: int, columns: int) -> Sight:
    """Targets of one camera's picture at `t_us`, cut into rows x columns cells."""
    return sights_of(recording, camera, [t_us], rows, columns)[0]


def sights_of(recording: Recording, camera: str, t_us: Sequence[int], rows: int, columns: int) -> list[Sight]:
    """Targets of one camera's pictures at the times (P,); cheaper together, for the poses are found at once."""
    times_us = np.asarray(t_us, np.int64)
    ego = resample_ego(recording.ego, times_us)
    looks = recording.cameras[camera].camera
    views = [_View(looks, xyz, float(yaw)) for xyz, yaw in zip(ego.position_in_local_m, ego.yaw_rad, strict=True)]
    agents, lights = _agent_rows(recording.agents, times_us), _light_rows(recording.lights, times_us)
    return [_sight(recording, view, agents[i], lights[i], rows, columns) for i, view in enumerate(views)]


def _sight(
    recording: Recording, view: _View, agent_rows: NDArray, light_rows: NDArray, rows: int, columns: int
) -> Sight:
    kind, measures = np.zeros((rows, columns), np.int64), np.zeros((rows, columns, len(MEASURES)), np.float32)
    things = [*_agents(recording.agents, view, agent_rows), *_lights(recording.lights, view, light_rows)]
    for thing in sorted(things, key=lambda each: -each.depth_m):  # the nearest is written last
        inside = _cells(thing, view.size_px / (columns, rows), rows, columns)
        kind[inside], measures[inside] = thing.kind, thing.measures
    ground, path = _road(recording, view, rows, columns)
    return Sight(kind.reshape(-1), measures.reshape(-1, len(MEASURES)), ground, path)


def _agent_rows(agents: AgentTracks | None, t_us: NDArray) -> list[NDArray]:
    """For each time the rows of the annotated moment nearest to it; none where that is not near."""
    if agents is None or not len(agents.t_us):
        return [np.arange(0)] * len(t_us)
    at_us = agents.t_us[nearest_index(agents.t_us, t_us)]
    starts, ends = (np.searchsorted(agents.t_us, at_us, side=side) for side in ("left", "right"))
    ends = np.where(np.abs(at_us - t_us) <= _MAX_LAG_US, ends, starts)
    return [np.arange(start, end) for start, end in zip(starts, ends, strict=True)]


def _agents(agents: AgentTracks | None, view: _View, rows: NDArray) -> Iterator[_Thing]:
    if agents is None or not len(rows):
        return
    optical, in_front = _boxes(agents, view, rows)
    some = in_front.sum(axis=1) >= 4
    rows, optical, in_front = rows[some], optical[some], in_front[some]
    depth = (optical[..., 2] * in_front).sum(axis=1) / in_front.sum(axis=1)
    optical[..., 2] = np.where(in_front, optical[..., 2], 1.0)  # what is not in front is not looked at below
    pixels = view.pixels(optical)
    low = np.where(in_front[..., None], pixels, np.inf).min(axis=1).clip(0)
    high = np.minimum(np.where(in_front[..., None], pixels, -np.inf).max(axis=1), view.size_px)
    large = np.flatnonzero((high - low).min(axis=1) > 1.0)
    measures = _agent_measures(agents, view, rows[large], depth[large])
    for i, of_agent in zip(large, measures, strict=True):
        kind = _KIND_OF.get(str(agents.category[rows[i]]), _OBSTACLE)
        yield _Thing(float(depth[i]), kind, low[i], high[i], of_agent)


def _boxes(agents: AgentTracks, view: _View, rows: NDArray) -> tuple[NDArray, NDArray[np.bool_]]:
    """Corners (K, 8, 3) of agents' boxes in the camera's frame, and (K, 8) whether they are in front of it."""
    length, width, height = agents.size_m[rows].T
    box = np.empty((len(rows), 2, 4, 3))
    xy = box_corners(agents.xyz_in_local_m[rows, :2], agents.yaw_rad[rows], length, width)
    box[..., :2] = view.in_rig(xy)[:, None]
    box[..., 2] = (agents.xyz_in_local_m[rows, 2] - view.xyz_in_local_m[2])[:, None, None]
    box[:, 1, :, 2] += height[:, None]
    optical = view.optical(box.reshape(-1, 8, 3))
    return optical, optical[..., 2] >= 0.5


def _agent_measures(agents: AgentTracks, view: _View, rows: NDArray, depth_m: NDArray) -> NDArray:
    """(K, 6) as in `MEASURES`."""
    turned, speed, indicator = agents.yaw_rad[rows] - view.yaw_rad, agents.speed_mps[rows], agents.indicator[rows]
    return np.column_stack(
        [
            np.log(np.maximum(depth_m, 1.0)) * SCALES["distance"],
            view.in_rig(agents.xyz_in_local_m[rows, :2])[:, 1] / SCALES["side"],
            speed * np.cos(turned) / SCALES["along"],
            speed * np.sin(turned) / SCALES["across"],
            agents.brake_light[rows],
            np.where(np.abs(indicator) == 1, indicator, 0),
        ]
    )


def _light_rows(lights: LightTracks | None, t_us: NDArray) -> list[NDArray]:
    """For each time the row of each signal head that was last written, heads in the order they first appear in."""
    if lights is None or not len(lights.t_us):
        return [np.arange(0)] * len(t_us)
    _, first, head = np.unique(lights.light_id, return_index=True, return_inverse=True)
    found = []
    for count in np.searchsorted(lights.t_us, t_us, side="right"):
        last = np.full(len(first), -1)
        last[head[:count]] = np.arange(count)  # of a head's rows the last one stays
        ordered = last[np.argsort(first)]
        found.append(ordered[ordered >= 0])
    return found


def _lights(lights: LightTracks | None, view: _View, rows: NDArray) -> Iterator[_Thing]:
    """Signal heads that face the car, in the state that was last written."""
    if lights is None or not len(rows):
        return
    rows = rows[np.cos(lights.yaw_rad[rows] - view.yaw_rad) > 0.5]
    heads, stops = lights.head_xyz_in_local_m[rows], view.in_rig(lights.stop_xy_in_local_m[rows])
    in_rig = np.column_stack([view.in_rig(heads[:, :2]), heads[:, 2] - view.xyz_in_local_m[2]])
    for k, seen, stop in zip(rows, view.optical(in_rig), stops, strict=True):
        kind = _LIGHT_KIND.get(str(lights.state[k]))
        if kind is None or not 2.0 < seen[2] < _LIGHT_M:
            continue
        middle = view.pixels(seen)
        if (middle < 0).any() or (middle >= view.size_px).any():
            continue
        measures = np.array([np.log(max(stop[0], 1.0)) * SCALES["distance"], stop[1] / SCALES["side"], 0, 0, 0, 0])
        yield _Thing(float(seen[2]), kind, middle - _LIGHT_PX, middle + _LIGHT_PX, measures)


def _cells(thing: _Thing, cell_px: NDArray, rows: int, columns: int) -> NDArray[np.bool_]:
    """(rows, columns) cells that a thing is in."""
    shared = [
        np.clip(np.minimum(thing.high_px[i], (edge + 1) * size) - np.maximum(thing.low_px[i], edge * size), 0, None)
        for i, (edge, size) in enumerate(((np.arange(columns), cell_px[0]), (np.arange(rows), cell_px[1])))
    ]
    area = shared[1][:, None] * shared[0][None, :]
    whole = float(np.prod(thing.high_px - thing.low_px))
    return (area > _OF_CELL * cell_px.prod()) | (area > _OF_THING * whole)


def _road(recording: Recording, view: _View, rows: int, columns: int) -> tuple[NDArray, NDArray]:
    """Ground (rows * columns,) and path (7,); NaN without a route."""
    route = recording.route_xy_in_local_m
    ground = np.full(rows * columns, np.nan, np.float32)
    if route is None or len(route) < 2:
        return ground, np.full(len(AHEAD_M) + 1, np.nan, np.float32)
    cells, xy_in_rig_m = _ground_points(view.camera, rows, columns)
    car = view.xyz_in_local_m[:2]
    points = np.concatenate([from_frame(xy_in_rig_m, car, view.yaw_rad), car[None]])
    arcs, sides = project_on_polyline(points, route)
    ground[cells] = np.clip(sides[:-1], -_SIDE_LIMIT_M, _SIDE_LIMIT_M) / SCALES["ground"]
    ahead, _ = pose_on_polyline(arcs[-1] + np.array(AHEAD_M), route)
    path = np.clip(view.in_rig(ahead)[:, 1], -12.0, 12.0) / SCALES["path"]
    return ground, np.r_[path, sides[-1] / SCALES["offset"]].astype(np.float32)


@lru_cache(maxsize=64)
def _ground_points(camera: Camera, rows: int, columns: int) -> tuple[NDArray, NDArray]:
    """Cells (G,) whose middle's ray meets the ground within 60 m, and where, (G, 2) in the rig."""
    u = (np.arange(columns) + 0.5) * camera.width_px / columns
    v = (np.arange(rows) + 0.5) * camera.height_px / rows
    right, down = np.meshgrid((u - camera.cx_px) / camera.fx_px, (v - camera.cy_px) / camera.fy_px)
    rays = np.stack([right, down, np.ones_like(right)], -1).reshape(-1, 3) @ _rotation(camera).T
    origin = np.array(camera.rig_to_camera_position_m)
    falls = rays[:, 2] < -1e-3
    far = np.where(falls, -origin[2] / np.where(falls, rays[:, 2], -1.0), np.nan)
    xy = origin[:2] + far[:, None] * rays[:, :2]
    cells = np.flatnonzero(xy[:, 0] < _GROUND_M)
    return cells, xy[cells]
