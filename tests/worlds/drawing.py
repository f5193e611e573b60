"""Small scenes, states and colour masks shared by the tests of the room's drawing."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from causaldrive.clips.types import Camera, Lane, RoadMap
from causaldrive.worlds.state import AgentArrays, EgoState, LightArrays, SceneContext, WorldState

LOOKING_FORWARD = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], float)
MAGENTA = (255, 0, 255)
SIZES = {"car": (4.6, 1.9, 1.5), "truck": (8.0, 2.5, 3.2), "bus": (11.0, 2.6, 3.1), "pedestrian": (0.6, 0.6, 1.75)}


def camera_of(width: int = 320, height: int = 192, pitch_rad: float = 0.05, **changes) -> Camera:
    turn = Rotation.from_euler("y", pitch_rad).as_matrix() @ LOOKING_FORWARD
    quat = Rotation.from_matrix(turn).as_quat(scalar_first=True)
    focal = width / 2 / np.tan(np.deg2rad(37.5))
    values = {"fx_px": focal, "fy_px": focal, "cx_px": width / 2, "cy_px": height / 2, **changes}
    return Camera("front", width, height, **values, rig_to_camera_position_m=(1.6, 0.0, 1.5),
                  rig_to_camera_quat=(float(quat[0]), float(quat[1]), float(quat[2]), float(quat[3])))  # fmt: skip


def straight_road() -> RoadMap:
    """One lane each way along x, a crosswalk at 40 m, a house on the left, a cross street's floor at 60 m."""
    x = np.linspace(-50, 200, 26)
    line = {y: np.column_stack([x, np.full(len(x), y)]) for y in (-3.5, -1.75, 0.0, 1.75, 3.5)}
    forth = Lane("forth", line[-1.75], line[0.0], line[-3.5], left_mark="solid_yellow", right_mark="solid_white")
    back = Lane("back", line[1.75][::-1], line[0.0][::-1], line[3.5][::-1], left_mark="solid_yellow")
    return RoadMap(
        lanes={"forth": forth, "back": back},
        crosswalks={"walk": np.array([[38.5, -3.5], [41.5, -3.5], [41.5, 3.5], [38.5, 3.5]])},
        drivable={"cross": np.array([[56.0, -40.0], [64.0, -40.0], [64.0, 40.0], [56.0, 40.0]])},
        stop_lines={"forth": np.array([[36.0, 0.0], [36.0, -3.5]])},
        buildings={"house": np.array([[20.0, 9.0], [35.0, 9.0], [35.0, 18.0], [20.0, 18.0]])},
    )


def context_of(camera: Camera, road: RoadMap | None = None, **appearance) -> SceneContext:
    route = np.column_stack([np.linspace(0, 150, 76), np.full(76, -1.75)])
    return SceneContext(straight_road() if road is None else road, route, 12.0, camera, appearance)


def agents_of(*rows: tuple[str, str, float, float, float], brake: bool = False, indicator: int = 0) -> AgentArrays:
    """Rows of (id, category, x, y, yaw)."""
    count = len(rows)
    return AgentArrays(
        [row[0] for row in rows],
        [row[1] for row in rows],
        np.array([row[2:4] for row in rows], float).reshape(-1, 2),
        np.array([row[4] for row in rows], float),
        np.zeros(count),
        np.array([SIZES.get(row[1], (0.5, 0.5, 1.0)) for row in rows], float).reshape(-1, 3),
        np.full(count, brake),
        np.full(count, indicator, np.int8),
    )


def light_of(state: str, x: float, y: float = -5.5, z: float = 4.0) -> LightArrays:
    place = np.array([[x, y, z]])
    return LightArrays(["light"], ["forth"], [state], np.array([[x - 8, -1.75]]), place, np.zeros(1))


def state_of(agents: AgentArrays | None = None, lights: LightArrays | None = None, x: float = 0.0) -> WorldState:
    return WorldState(0, EgoState(np.array([x, -1.75]), 0.0, 8.0), agents or AgentArrays(), lights or LightArrays())


def strength(image: np.ndarray, high: tuple[int, ...], low: tuple[int, ...]) -> np.ndarray:
    """(H, W) how much the channels `high` stand over the channels `low`, 0 where they do not."""
    pixels = image.astype(int)
    return np.maximum(pixels[..., high].min(axis=-1) - pixels[..., low].max(axis=-1), 0)
