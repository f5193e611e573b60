"""Importer for comma2k19: camera poses in ECEF, CAN speed and the HEVC front video of each one-minute segment.

Reads `global_pose/*` and `processed_log/CAN/speed/*` (NumPy arrays without a suffix) and, where present, `video.hevc`.
Writes one recording a segment: local frame east-north-up at the first pose, time from 0 at the first frame.

The published pose is that of the camera behind the windscreen. How the camera sits in the car is not published. Its yaw
and pitch come from the drive itself (a car driving straight moves along its own x axis); roll is taken as 0. Its place
is assumed: 1.22 m above the ground (the height openpilot assumes for this device), 1.7 m ahead of the rear axle, in
the middle. Source: Schafer et al., arXiv 1812.05752. Knows nothing of labels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from tyro.conf import Positional

from causaldrive.clips.geometry import matrix_of_quat, quat_of_matrix
from causaldrive.clips.importing import Converted, Source, find_directories, import_all, safe_id
from causaldrive.clips.resample import derivative, motion_from_poses
from causaldrive.clips.types import Camera, CameraTrack, EgoMotion, Recording
from causaldrive.clips.video import iterate_video
from causaldrive.ground.errors import UserError
from causaldrive.ground.files import digest

LICENCE = "MIT (comma2k19)"
CAMERA_IN_RIG_M = (1.7, 0.0, 1.22)
FOCAL_LENGTH_PX, FULL_WIDTH_PX = 910.0, 1164  # the device's road camera
_WGS84_A_M, _WGS84_B_M = 6378137.0, 6356752.314245
_FRD_TO_FLU = np.diag([1.0, -1.0, -1.0])  # forward-right-down axes to forward-left-up
_OPTICAL_IN_FRD = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])  # columns: right, down, forward
_STRAIGHT = {"min_speed_mps": 8.0, "max_yaw_rate_radps": 0.02, "min_frames": 100}
_CAN_MAX_GAP_S = 0.5


@dataclass(frozen=True)
class ImportComma2k19Config:
    path: Positional[Path]  # a segment directory, or any directory above segments
    out: Path  # where the recordings go
    image_width_px: int = 640  # the video is scaled to this width


def run(config: ImportComma2k19Config) -> None:
    """Import every segment under `config.path`; broken ones are set aside and counted."""
    expected = "comma2k19 segments (directories that hold global_pose/frame_times)"
    found = find_directories(config.path, lambda p: (p / "global_pose").is_dir(), 4, expected)
    sources = [Source(_recording_id(path), path) for path in found]
    import_all("import comma2k19", config, config.out, sources, lambda s: convert(s, config.image_width_px))


def _recording_id(segment: Path) -> str:
    """Route and segment number; '|' in the published name becomes '_'."""
    segment = segment.resolve()
    return safe_id("comma2k19", segment.parent.name, segment.name)


def convert(source: Source, image_width_px: int = 640) -> Converted:
    """A segment as a recording. Raises UserError naming the array that is missing, damaged or inconsistent."""
    pose = source.path / "global_pose"
    seconds = _array(pose / "frame_times", 1)
    position, quat = _array(pose / "frame_positions", 2, 3), _array(pose / "frame_orientations", 2, 4)
    if not len(seconds) == len(position) == len(quat) > 1:
        raise UserError(f"{pose}: {len(seconds)} frame_times, {len(position)} frame_positions and {len(quat)} "
                        "frame_orientations found; the same number of each, at least 2, expected.")  # fmt: skip
    if not (np.isfinite(position).all() and np.isfinite(quat).all() and np.isfinite(seconds).all()):
        raise UserError(f"{pose}: values that are not numbers in the poses; finite values expected, so leave it out.")
    t_us = np.rint((seconds - seconds[0]) * 1e6).astype(np.int64)
    to_enu = _ecef_to_enu(position[0])
    camera_in_enu = to_enu @ matrix_of_quat(quat)  # columns: the camera's forward, right, down in east-north-up
    camera_position = (position - position[0]) @ to_enu.T
    mount, mount_meta = _mount(t_us, camera_position, camera_in_enu)
    ego = _rig_motion(t_us, camera_position, camera_in_enu @ mount, f"{pose}")
    ego, speed_meta = _with_can_speed(ego, seconds, source.path / "processed_log" / "CAN" / "speed")
    cameras, frames = _video(source.path / "video.hevc", t_us, mount, image_width_px)
    meta = {
        "source_name": "/".join(source.path.resolve().parts[-2:]),
        "source_sha256": digest(pose / "frame_positions"),
        "boot_time_of_t0_s": float(seconds[0]),
        "camera_mount": mount_meta,
        "speed": speed_meta,
    }
    recording = Recording(source.recording_id, "comma2k19", LICENCE, ego, cameras, meta=meta,
                          ego_size_m=(4.6, 1.8, 1.45), rear_axle_to_centre_m=1.35)  # fmt: skip
    return Converted(recording, frames)


def _array(path: Path, dimensions: int, width: int | None = None) -> np.ndarray:
    value = _load(path)
    if value.ndim != dimensions or (width is not None and value.shape[1] != width):
        wanted = f"{dimensions} dimensions" + (f", the last of size {width}," if width else "")
        raise UserError(f"{path} has shape {value.shape}, {wanted} expected; fetch the segment again.")
    return value


def _load(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False).astype(float)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; expected a NumPy array, so fetch the segment again.") from error
    except (ValueError, EOFError, OSError) as error:
        raise UserError(f"{path} is not a readable NumPy array ({error}); fetch the segment again.") from error


def _ecef_to_enu(origin_ecef_m: np.ndarray) -> np.ndarray:
    """(3, 3) rows east, north, up of the WGS84 ellipsoid at a point near its surface."""
    up = origin_ecef_m / np.array([_WGS84_A_M**2, _WGS84_A_M**2, _WGS84_B_M**2])
    up = up / np.linalg.norm(up)
    east = np.cross([0.0, 0.0, 1.0], up)
    east = east / np.linalg.norm(east)
    return np.stack([east, np.cross(up, east), up])


def _mount(t_us: np.ndarray, position: np.ndarray, camera_in_enu: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    """(3, 3) the rig's forward, right, down in the camera frame, from the median direction of straight driving."""
    motion = motion_from_poses(t_us, position, quat_of_matrix(camera_in_enu @ _FRD_TO_FLU))
    velocity = motion.velocity_in_rig_mps @ _FRD_TO_FLU
    yaw_rate = motion.curvature_1pm * velocity[:, 0]
    straight = (velocity[:, 0] > _STRAIGHT["min_speed_mps"]) & (np.abs(yaw_rate) < _STRAIGHT["max_yaw_rate_radps"])
    forward = np.array([1.0, 0.0, 0.0])
    if straight.sum() >= _STRAIGHT["min_frames"]:
        forward = np.median(velocity[straight] / np.linalg.norm(velocity[straight], axis=1, keepdims=True), axis=0)
        forward = forward / np.linalg.norm(forward)
    right = np.cross([0.0, 0.0, 1.0], forward)
    right = right / np.linalg.norm(right)
    meta = {
        "assumed_camera_in_rig_m": list(CAMERA_IN_RIG_M),
        "camera_yaw_left_deg": round(float(np.rad2deg(np.arctan2(forward[1], forward[0]))), 3),
        "camera_pitch_down_deg": round(float(np.rad2deg(np.arcsin(-forward[2]))), 3),
        "straight_frames": int(straight.sum()),
    }
    return np.stack([forward, right, np.cross(forward, right)], axis=1), meta


def _rig_motion(t_us: np.ndarray, camera_position: np.ndarray, rig_frd: np.ndarray, source: str) -> EgoMotion:
    """The camera's motion moved to the rig origin; local origin at the first rig pose."""
    rig = rig_frd @ _FRD_TO_FLU
    position = camera_position - rig @ np.array(CAMERA_IN_RIG_M)
    return motion_from_poses(t_us, position - position[0], quat_of_matrix(rig), source)


def _with_can_speed(ego: EgoMotion, seconds: np.ndarray, can: Path) -> tuple[EgoMotion, dict[str, Any]]:
    """Forward speed and acceleration from the wheel speed on CAN, with its difference to the speed of the poses."""
    if not (can / "value").exists():
        return ego, {"from": "poses", "why": "no CAN speed in the segment"}
    times, value = _array(can / "t", 1), _load(can / "value").reshape(-1)  # (N,) or (N, 1) as published
    if len(times) != len(value):
        return ego, {"from": "poses", "why": f"CAN speed has {len(value)} values for {len(times)} times"}
    sound = np.isfinite(value) & np.isfinite(times)
    times, value = times[sound], value[sound]
    known = times[(times > seconds[0]) & (times < seconds[-1])]
    gap = np.diff(np.concatenate([[seconds[0]], known, [seconds[-1]]])).max() if len(known) else np.inf
    if gap > _CAN_MAX_GAP_S or np.any(np.diff(times) < 0):
        return ego, {"from": "poses", "why": f"CAN speed has a gap of {gap:.1f} s or unsorted times"}
    step_s = float(seconds[-1] - seconds[0]) / (len(seconds) - 1)
    raw = np.interp(seconds, times, value)
    speed = derivative(raw, step_s, 0, 0.5)
    difference = speed - ego.speed_mps
    velocity, acceleration = ego.velocity_in_rig_mps.copy(), ego.acceleration_in_rig_mps2.copy()
    velocity[:, 0], acceleration[:, 0] = speed, derivative(raw, step_s, 1, 0.8)
    meta = {
        "from": "CAN",
        "can_minus_pose_median_mps": round(float(np.median(difference)), 3),
        "can_minus_pose_rms_mps": round(float(np.sqrt(np.mean(difference**2))), 3),
    }
    return replace(ego, velocity_in_rig_mps=velocity, acceleration_in_rig_mps2=acceleration), meta


def _video(path: Path, t_us: np.ndarray, mount: np.ndarray, width_px: int) -> tuple[dict, dict[str, Iterator]]:
    """The front camera and its scaled frames; both empty where the segment has no video."""
    if not path.exists():
        return {}, {}
    full_width, full_height = _video_size(path)
    scale = width_px / full_width
    size = (width_px - width_px % 2, round(full_height * scale / 2) * 2)
    focal = FOCAL_LENGTH_PX * full_width / FULL_WIDTH_PX * scale
    rig_to_optical = (mount @ _FRD_TO_FLU).T @ _OPTICAL_IN_FRD
    quat = tuple(float(value) for value in quat_of_matrix(rig_to_optical))
    camera = Camera("front", *size, focal, focal, size[0] / 2, size[1] / 2, CAMERA_IN_RIG_M, quat)  # type: ignore[arg-type]
    return {"front": CameraTrack(camera, t_us)}, {"front": iterate_video(path, size)}


def _video_size(path: Path) -> tuple[int, int]:
    try:
        with av.open(str(path)) as container:
            context = container.streams.video[0].codec_context
            return context.width, context.height
    except (FFmpegError, OSError, IndexError) as error:
        raise UserError(f"{path} cannot be opened as video ({error}); fetch the segment again.") from error
