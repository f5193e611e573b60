"""Small made-up drives for the tests of this room."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from causaldrive.clips.geometry import quat_of_yaw
from causaldrive.clips.resample import motion_from_poses
from causaldrive.clips.types import (
    AgentTracks,
    Camera,
    CameraTrack,
    EgoMotion,
    Lane,
    LightTracks,
    Recording,
    RoadMap,
)

WIDTH, HEIGHT = 64, 48


def circle_drive(seconds: float = 12.0, speed_mps: float = 8.0, curvature_1pm: float = 0.02) -> EgoMotion:
    """Constant speed on a circle that starts at the origin heading east, 10 Hz."""
    t = np.arange(round(seconds * 10) + 1) * 0.1
    yaw = speed_mps * curvature_1pm * t
    xy = np.stack([np.sin(yaw), 1 - np.cos(yaw)], axis=1) / curvature_1pm
    return motion_from_poses(
        np.rint(t * 1e6).astype(np.int64), np.column_stack([xy, np.zeros(len(t))]), quat_of_yaw(yaw)
    )


def camera(name: str = "front") -> Camera:
    return Camera(name, WIDTH, HEIGHT, 50.0, 50.0, 32.0, 24.0, (1.6, 0.0, 1.5), (0.5, -0.5, 0.5, -0.5))


def shade(number: int) -> int:
    return 20 + 7 * (number % 30)


def pictures(count: int) -> Iterator[np.ndarray]:
    """Frame n is one shade of grey, so that it can be recognised after coding."""
    for number in range(count):
        yield np.full((HEIGHT, WIDTH, 3), shade(number), np.uint8)


def agents(t_us: np.ndarray) -> AgentTracks:
    """A car that drives ahead at 5 m/s and a pedestrian that appears halfway."""
    rows = [(t, "car-1", "car", 20 + 5e-6 * t, (4.5, 1.9, 1.5), 5.0) for t in t_us]
    rows += [(t, "walker", "pedestrian", 30.0, (0.6, 0.6, 1.7), 0.0) for t in t_us[len(t_us) // 2 :]]
    rows.sort(key=lambda row: row[0])
    count = len(rows)
    return AgentTracks(
        t_us=np.array([row[0] for row in rows], np.int64),
        agent_id=np.array([row[1] for row in rows]),
        category=np.array([row[2] for row in rows]),
        xyz_in_local_m=np.array([(row[3], 0.0, 0.0) for row in rows]),
        yaw_rad=np.zeros(count),
        size_m=np.array([row[4] for row in rows]),
        speed_mps=np.array([row[5] for row in rows]),
        brake_light=np.zeros(count, bool),
        indicator=np.ones(count, np.int8),
    )


def lights() -> LightTracks:
    return LightTracks(
        t_us=np.array([0, 5_000_000]),
        light_id=np.array(["l1", "l1"]),
        lane_id=np.array(["a", "a"]),
        state=np.array(["red", "green"]),
        stop_xy_in_local_m=np.array([[40.0, 0.0]] * 2),
        head_xyz_in_local_m=np.array([[45.0, 2.0, 4.0]] * 2),
        yaw_rad=np.zeros(2),
    )


def road() -> RoadMap:
    def line(y: float, start: float = 0.0) -> np.ndarray:
        return np.array([[start, y], [start + 50, y], [start + 100, y]])

    def lane(key: str, start: float, **more) -> Lane:
        return Lane(key, line(0, start), line(1.75, start), line(-1.75, start), **more)

    lanes = {
        "a": lane("a", 0, successors=("b",), left_mark="dashed_white", left_neighbour="c"),
        "b": lane("b", 100, in_junction=True, predecessors=("a",), speed_limit_mps=8.0, kind="bus"),
    }
    square = np.array([[0.0, 0], [4, 0], [4, 4], [0, 4]])
    return RoadMap(lanes, {"x": square}, {"d": square + 5}, {"a": np.array([[40.0, -2], [40, 2]])}, {"h": square + 30})


def recording(recording_id: str = "drive-1", everything: bool = True, frames: int = 40) -> Recording:
    """A drive with a 10 Hz front camera over its first `frames` times."""
    ego = circle_drive()
    extra = {}
    if everything:
        extra = {
            "agents": agents(ego.t_us),
            "lights": lights(),
            "road": road(),
            "route_xy_in_local_m": ego.position_in_local_m[::5, :2],
            "meta": {"seed": 7, "nested": {"a": [1]}},
        }
    return Recording(
        recording_id, "town", "Apache-2.0", ego, {"front": CameraTrack(camera(), ego.t_us[:frames])}, **extra
    )
