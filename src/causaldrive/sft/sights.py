"""What is where in a picture, from a recording's annotations: the dense targets that a student's eyes are taught with.

A picture is cut into the cells of its image tokens (32 x 32 pixels). Of each cell: what covers it, how far away and how
fast that is, and how far from the route's line the ground in it lies; of the whole picture: where the route goes. No
pixel is rendered for it: boxes, signal heads and the route are projected with the recording's own calibration.

Reads recordings; knows nothing of models. A part that a recording does not have (no map, no agents) is NaN or nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
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
from causaldrive.clips.types import Camera, Recording

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
    measures: tuple[float, ...]


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
    ego = resample_ego(recording.ego, np.array([t_us]))
    view = _View(recording.cameras[camera].camera, ego.position_in_local_m[0], float(ego.yaw_rad[0]))
    kind, measures = np.zeros((rows, columns), np.int64), np.zeros((rows, columns, len(MEASURES)), np.float32)
    things = [*_agents(recording, view, t_us), *_lights(recording, view, t_us)]
    for thing in sorted(things, key=lambda each: -each.depth_m):  # the nearest is written last
        inside = _cells(thing, view.size_px / (columns, rows), rows, columns)
        kind[inside], measures[inside] = thing.kind, thing.measures
    ground, path = _road(recording, view, rows, columns)
    return Sight(kind.reshape(-1), measures.reshape(-1, len(MEASURES)), ground.reshape(-1), path)


def _agents(recording: Recording, view: _View, t_us: int) -> Iterator[_Thing]:
    agents = recording.agents
    if agents is None or not len(agents.t_us):
        return
    at = agents.t_us[nearest_index(agents.t_us, np.array([t_us]))[0]]
    for k in np.flatnonzero(agents.t_us == at) if abs(int(at) - t_us) <= _MAX_LAG_US else ():
        length, width, height = agents.size_m[k]
        corners = view.in_rig(box_corners(agents.xyz_in_local_m[k, :2], agents.yaw_rad[k], length, width))
        ground = agents.xyz_in_local_m[k, 2] - view.xyz_in_local_m[2]
        box = np.concatenate([np.c_[corners, np.full(4, ground)], np.c_[corners, np.full(4, ground + height)]])
        seen = view.optical(box)
        seen = seen[seen[:, 2] >= 0.5]
        if len(seen) < 4:
            continue
        pixels = view.pixels(seen)
        low, high = pixels.min(0).clip(0), np.minimum(pixels.max(0), view.size_px)
        if (high - low).min() <= 1.0:
            continue
        depth, turned = float(seen[:, 2].mean()), float(agents.yaw_rad[k]) - view.yaw_rad
        speed = float(agents.speed_mps[k])
        measures = (
            np.log(max(depth, 1.0)) * SCALES["distance"],
            view.in_rig(agents.xyz_in_local_m[k, :2])[1] / SCALES["side"],
            speed * np.cos(turned) / SCALES["along"],
            speed * np.sin(turned) / SCALES["across"],
            float(agents.brake_light[k]),
            float(agents.indicator[k] if abs(agents.indicator[k]) == 1 else 0),
        )
        yield _Thing(depth, _KIND_OF.get(str(agents.category[k]), _OBSTACLE), low, high, measures)


def _lights(recording: Recording, view: _View, t_us: int) -> Iterator[_Thing]:
    """Signal heads that face the car, in the state that was last written."""
    lights = recording.lights
    if lights is None:
        return
    last = {str(lights.light_id[k]): k for k in np.flatnonzero(lights.t_us <= t_us)}
    for k in last.values():
        head = lights.head_xyz_in_local_m[k]
        seen = view.optical(np.r_[view.in_rig(head[:2]), head[2] - view.xyz_in_local_m[2]])
        faces = np.cos(float(lights.yaw_rad[k]) - view.yaw_rad) > 0.5
        kind = _LIGHT_KIND.get(str(lights.state[k]))
        if kind is None or not faces or not 2.0 < seen[2] < _LIGHT_M:
            continue
        middle = view.pixels(seen)
        if (middle < 0).any() or (middle >= view.size_px).any():
            continue
        stop = view.in_rig(lights.stop_xy_in_local_m[k])
        measures = (np.log(max(stop[0], 1.0)) * SCALES["distance"], stop[1] / SCALES["side"], 0.0, 0.0, 0.0, 0.0)
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
    """Ground (rows, columns) and path (7,); NaN without a route."""
    route = recording.route_xy_in_local_m
    if route is None or len(route) < 2:
        return np.full((rows, columns), np.nan, np.float32), np.full(len(AHEAD_M) + 1, np.nan, np.float32)
    xy = _ground_points(view, rows, columns)
    seen = np.isfinite(xy[..., 0])
    local = from_frame(np.where(seen[..., None], xy, 0.0), view.xyz_in_local_m[:2], view.yaw_rad)
    side = np.clip(project_on_polyline(local, route)[1], -_SIDE_LIMIT_M, _SIDE_LIMIT_M)
    ground = np.where(seen, side / SCALES["ground"], np.nan).astype(np.float32)
    arc, offset = project_on_polyline(view.xyz_in_local_m[None, :2], route)
    points, _ = pose_on_polyline(arc + np.array(AHEAD_M), route)
    path = np.clip(view.in_rig(points)[:, 1], -12.0, 12.0) / SCALES["path"]
    return ground, np.r_[path, offset / SCALES["offset"]].astype(np.float32)


def _ground_points(view: _View, rows: int, columns: int) -> NDArray:
    """(rows, columns, 2) where the ray of each cell's middle meets the ground, in the rig; NaN beyond 60 m."""
    camera = view.camera
    u = (np.arange(columns) + 0.5) * camera.width_px / columns
    v = (np.arange(rows) + 0.5) * camera.height_px / rows
    right, down = np.meshgrid((u - camera.cx_px) / camera.fx_px, (v - camera.cy_px) / camera.fy_px)
    rays = np.stack([right, down, np.ones_like(right)], -1) @ _rotation(camera).T
    origin = np.array(camera.rig_to_camera_position_m)
    falls = rays[..., 2] < -1e-3
    far = np.where(falls, -origin[2] / np.where(falls, rays[..., 2], -1.0), np.nan)
    xy = origin[:2] + far[..., None] * rays[..., :2]
    return np.where((xy[..., :1] < _GROUND_M), xy, np.nan)
