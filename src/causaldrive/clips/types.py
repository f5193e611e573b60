"""The one data contract: what a recording and a sample are. Field names carry frame and unit.

Frames: `local` is a fixed scene frame (x east or forward, y left of it, z up); `rig` has its origin on the ground
under the rear axle, x forward, y left, z up; `camera` is optical: x right, y down, z forward. `a_to_b` is the pose
of b in a. Times are int64 microseconds. Knows nothing of files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from causaldrive.clips.geometry import matrix_of_quat, yaw_of
from causaldrive.ground.errors import UserError
from causaldrive.ground.words import AGENT_CATEGORIES, FUTURE_STEPS, HISTORY_STEPS, LIGHT_STATES


@dataclass(frozen=True)
class Camera:
    """A pinhole camera. `rig_to_camera`: position (3,) and quaternion (4,) of the optical frame in the rig."""

    name: str
    width_px: int
    height_px: int
    fx_px: float
    fy_px: float
    cx_px: float
    cy_px: float
    rig_to_camera_position_m: tuple[float, float, float]
    rig_to_camera_quat: tuple[float, float, float, float]

    def project(self, xyz_in_rig_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points (..., 3) to pixels (..., 2) and a mask (...) of those in front of the camera and inside the image."""
        rotation = matrix_of_quat(np.array(self.rig_to_camera_quat))
        points = (np.asarray(xyz_in_rig_m, float) - np.array(self.rig_to_camera_position_m)) @ rotation
        depth = np.where(np.abs(points[..., 2]) < 1e-6, 1e-6, points[..., 2])
        u = self.fx_px * points[..., 0] / depth + self.cx_px
        v = self.fy_px * points[..., 1] / depth + self.cy_px
        inside = (points[..., 2] > 0.1) & (u >= 0) & (u < self.width_px) & (v >= 0) & (v < self.height_px)
        return np.stack([u, v], axis=-1), inside


@dataclass(frozen=True)
class EgoMotion:
    """Ego poses and motion over time; T poses, strictly increasing times."""

    t_us: np.ndarray  # (T,) int64
    position_in_local_m: np.ndarray  # (T, 3)
    quat_local_to_rig: np.ndarray  # (T, 4) w, x, y, z
    velocity_in_rig_mps: np.ndarray  # (T, 3)
    acceleration_in_rig_mps2: np.ndarray  # (T, 3)
    curvature_1pm: np.ndarray  # (T,) left positive

    @property
    def yaw_rad(self) -> np.ndarray:
        """(T,) heading in the local frame."""
        return yaw_of(self.quat_local_to_rig)

    @property
    def speed_mps(self) -> np.ndarray:
        """(T,) signed speed along the rig's x axis."""
        return self.velocity_in_rig_mps[:, 0]

    def validate(self, source: str) -> None:
        """Raises UserError naming `source` for wrong shapes, NaN, or times that do not increase."""
        count = len(self.t_us)
        if count < 2:
            raise UserError(
                f"{source}: {count} ego poses found, at least 2 expected; record or export more of the drive."
            )
        shapes = {"position_in_local_m": (count, 3), "quat_local_to_rig": (count, 4), "velocity_in_rig_mps": (count, 3),
                  "acceleration_in_rig_mps2": (count, 3), "curvature_1pm": (count,)}  # fmt: skip
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value.shape != shape:
                raise UserError(f"{source}: {name} has shape {value.shape}, expected {shape}; export it again.")
            bad = ~np.isfinite(value).reshape(count, -1).all(axis=1)
            if bad.any():
                row = int(np.flatnonzero(bad)[0])
                raise UserError(
                    f"{source}: {name} is not a number at row {row} (t_us {self.t_us[row]}), {int(bad.sum())} rows in "
                    "all; finite values expected, so cut the recording there or repair the poses."
                )
        back = np.flatnonzero(np.diff(self.t_us) <= 0)
        if len(back):
            row = int(back[0]) + 1
            raise UserError(
                f"{source}: time stamps run backwards at row {row} ({self.t_us[row - 1]} then {self.t_us[row]} us); "
                "strictly increasing times expected, so sort or repair them."
            )
        norm = np.linalg.norm(self.quat_local_to_rig, axis=1)
        if np.any(np.abs(norm - 1) > 1e-2):
            row = int(np.argmax(np.abs(norm - 1)))
            raise UserError(f"{source}: quaternion at row {row} has length {norm[row]:.3f}, expected 1 (w, x, y, z).")


@dataclass(frozen=True)
class AgentTracks:
    """Every annotated agent at every annotated time, one row each, sorted by time. Boxes are centred on the ground."""

    t_us: np.ndarray  # (N,) int64
    agent_id: np.ndarray  # (N,) str
    category: np.ndarray  # (N,) str of AGENT_CATEGORIES
    xyz_in_local_m: np.ndarray  # (N, 3) centre of the box's footprint, on the ground
    yaw_rad: np.ndarray  # (N,) in local
    size_m: np.ndarray  # (N, 3) length, width, height
    speed_mps: np.ndarray  # (N,)
    brake_light: np.ndarray  # (N,) bool
    indicator: np.ndarray  # (N,) int8: 1 left, -1 right, 2 both (warning lights flash), 3 a person waves us on, 0 none

    def validate(self, source: str) -> None:
        unknown = set(np.unique(self.category)) - set(AGENT_CATEGORIES)
        if unknown:
            raise UserError(
                f"{source}: agent category {str(min(unknown))!r} found, expected one of {AGENT_CATEGORIES}."
            )
        for name in ("xyz_in_local_m", "yaw_rad", "size_m", "speed_mps"):
            if not np.isfinite(getattr(self, name)).all():
                raise UserError(
                    f"{source}: agents' {name} holds values that are not numbers; repair or drop those rows."
                )


@dataclass(frozen=True)
class LightTracks:
    """Signal heads over time, one row per head and change (or per time step), sorted by time."""

    t_us: np.ndarray  # (N,) int64
    light_id: np.ndarray  # (N,) str
    lane_id: np.ndarray  # (N,) str: the lane whose end it governs
    state: np.ndarray  # (N,) str of LIGHT_STATES
    stop_xy_in_local_m: np.ndarray  # (N, 2) where the governed lane's stop line is
    head_xyz_in_local_m: np.ndarray  # (N, 3) the signal head
    yaw_rad: np.ndarray  # (N,) driving direction of the governed lane at the stop line

    def validate(self, source: str) -> None:
        unknown = set(np.unique(self.state)) - set(LIGHT_STATES)
        if unknown:
            raise UserError(f"{source}: light state {str(min(unknown))!r} found, expected one of {LIGHT_STATES}.")


@dataclass(frozen=True)
class Lane:
    """One lane segment. Boundaries run in driving direction; marks are 'solid', 'dashed', 'none' + colour prefix."""

    lane_id: str
    centre_xy_m: np.ndarray  # (M, 2) in local
    left_xy_m: np.ndarray  # (L, 2)
    right_xy_m: np.ndarray  # (R, 2)
    speed_limit_mps: float = 13.9
    kind: str = "vehicle"  # vehicle, bike, bus, parking
    in_junction: bool = False
    left_mark: str = "none"  # e.g. 'dashed_white', 'solid_white', 'solid_yellow', 'none'
    right_mark: str = "none"
    successors: tuple[str, ...] = ()
    predecessors: tuple[str, ...] = ()
    left_neighbour: str | None = None  # same driving direction
    right_neighbour: str | None = None


@dataclass(frozen=True)
class RightOfWay:
    """Where a way into or through a junction must let others go first; `kind` is one of RIGHT_OF_WAY_KINDS."""

    kind: str
    lane_id: str  # the junction's lane that one is about to drive on
    stop_xy_m: np.ndarray  # (2,) where one waits
    yaw_rad: float  # driving direction there
    foes: tuple[str, ...] = ()  # first junction lanes of the ways that go first (all-way stop: of all that cross)


@dataclass(frozen=True)
class RoadMap:
    """Vector map in the local frame. Polygons are (K, 2) rings without the closing point."""

    lanes: dict[str, Lane] = field(default_factory=dict)
    crosswalks: dict[str, np.ndarray] = field(default_factory=dict)
    drivable: dict[str, np.ndarray] = field(default_factory=dict)  # drivable area beyond lanes; may be empty
    stop_lines: dict[str, np.ndarray] = field(default_factory=dict)  # (2, 2) segments, keyed by lane id
    buildings: dict[str, np.ndarray] = field(default_factory=dict)  # footprints, for the renderer only
    bumps: dict[str, np.ndarray] = field(default_factory=dict)  # (4, 2) speed bumps
    right_of_way: dict[str, RightOfWay] = field(default_factory=dict)  # by `lane_id`


@dataclass(frozen=True)
class CameraTrack:
    """One camera's video: where the file is and when each frame was taken."""

    camera: Camera
    t_us: np.ndarray  # (F,) int64, one per frame of `<camera>.mp4`


@dataclass(frozen=True)
class Recording:
    """One continuous drive. Optional parts are None where the recording does not have them."""

    recording_id: str
    source: str  # 'town', 'comma2k19', 'av2', ...
    licence: str
    ego: EgoMotion
    cameras: dict[str, CameraTrack] = field(default_factory=dict)
    agents: AgentTracks | None = None
    lights: LightTracks | None = None
    road: RoadMap | None = None
    route_xy_in_local_m: np.ndarray | None = None  # (R, 2)
    ego_size_m: tuple[float, float, float] = (4.6, 1.9, 1.6)  # length, width, height
    rear_axle_to_centre_m: float = 1.4
    meta: dict = field(default_factory=dict)  # JSON values: scene family, seed, variant, expert's log, ...
    directory: Path | None = field(default=None, compare=False)  # where the store read it; None when in memory only


@dataclass(frozen=True)
class Sample:
    """What the student sees and must produce at one t0. Poses are in the rig frame at t0, 10 Hz."""

    recording_id: str
    t0_us: int
    frames: np.ndarray | None  # (C, F, H, W, 3) uint8, oldest frame first; None when there is no video
    camera_names: tuple[str, ...]
    frame_offsets_us: tuple[int, ...]  # (F,) relative to t0, last is 0
    history_xyz_in_rig_m: np.ndarray  # (16, 3); the last is the origin
    history_yaw_rad: np.ndarray  # (16,)
    future_xyz_in_rig_m: np.ndarray | None  # (64, 3); None where the future is not known
    future_yaw_rad: np.ndarray | None  # (64,)

    def validate(self) -> None:
        assert self.history_xyz_in_rig_m.shape == (HISTORY_STEPS, 3)
        assert self.future_xyz_in_rig_m is None or self.future_xyz_in_rig_m.shape == (FUTURE_STEPS, 3)
