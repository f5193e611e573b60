"""Importer for own cameras: a folder with `poses.csv`, MP4 files and, where known, `cameras.json`.

    poses.csv      t_s (or t_ms, t_us, t_ns), x_m, y_m, z_m (optional), then qw qx qy qz, or yaw_rad, or yaw_deg;
                   speed_mps or speed_kmh (optional): what the wheels say
    <camera>.mp4   one video a camera; <camera>.csv with a column t_s (or t_ms, ...) holds its frame times on the
                   clock of the poses; without it the video's own times are used, from the first pose on
    cameras.json   {"<camera>": {"fx_px", "fy_px", "cx_px", "cy_px", "position_m": [x, y, z], "quat": [w, x, y, z]}}

Poses are those of the rig: origin on the ground under the rear axle, x forward, y left, z up. Units stand in the names
of columns, so that none is guessed. Reads such folders, writes recordings; docs/own-data.md tells it step by step.
Knows nothing of labels.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from tyro.conf import Positional

from causaldrive.clips.geometry import quat_of_yaw
from causaldrive.clips.importing import Converted, Source, find_directories, import_all, safe_id
from causaldrive.clips.resample import derivative, motion_from_poses
from causaldrive.clips.types import Camera, CameraTrack, EgoMotion, Recording
from causaldrive.clips.video import index_video, iterate_video
from causaldrive.ground.errors import UserError, unknown_name
from causaldrive.ground.files import read_json

POSES, CAMERAS = "poses.csv", "cameras.json"
_TIME = {"t_s": 1e6, "t_ms": 1e3, "t_us": 1.0, "t_ns": 1e-3}  # column -> microseconds
_SPEED = {"speed_mps": 1.0, "speed_kmh": 1 / 3.6}
_YAW = {"yaw_rad": 1.0, "yaw_deg": np.pi / 180}
_QUAT = ("qw", "qx", "qy", "qz")
_COLUMNS = (*_TIME, "x_m", "y_m", "z_m", *_QUAT, *_YAW, *_SPEED)
ASSUMED_FOV_RAD = np.deg2rad(70)  # of a camera without intrinsics, stated in the recording's meta
_FORWARD = (0.5, -0.5, 0.5, -0.5)  # an optical frame that looks along the rig's x axis
_ASSUMED_POSITION_M = (1.5, 0.0, 1.4)


@dataclass(frozen=True)
class ImportFolderConfig:
    path: Positional[Path]  # a folder with poses.csv, or any directory above such folders
    out: Path  # where the recordings go
    image_width_px: int = 640  # the video is scaled to this width
    licence: str = "own"  # what the recordings are marked with


@dataclass(frozen=True)
class RawPoses:
    """Poses as they stand in the file, not yet held to be sound; N rows."""

    t_us: np.ndarray  # (N,) int64
    position_m: np.ndarray  # (N, 3)
    quat: np.ndarray  # (N, 4)
    speed_mps: np.ndarray | None  # (N,) of its own column


def run(config: ImportFolderConfig) -> None:
    """Import every folder under `config.path`; broken ones are set aside and counted."""
    found = find_directories(config.path, is_folder, 4, f"folders that hold {POSES}")
    sources = [Source(safe_id(path.resolve().name), path) for path in found]
    double = {s.recording_id for s in sources if sum(o.recording_id == s.recording_id for o in sources) > 1}
    sources = [Source(safe_id(*s.path.resolve().parts[-2:]), s.path) if s.recording_id in double else s
               for s in sources]  # fmt: skip
    import_all(
        "import folder", config, config.out, sources, lambda s: convert(s, config.image_width_px, config.licence)
    )


def is_folder(path: Path) -> bool:
    return (path / POSES).is_file()


def convert(source: Source, image_width_px: int = 640, licence: str = "own") -> Converted:
    """A folder as a recording; local origin at the first pose, time 0 there. Raises UserError naming file and field."""
    raw = read_poses(source.path / POSES)
    start = int(raw.t_us[0])
    origin = raw.position_m[0]
    ego = motion_from_poses(raw.t_us - start, raw.position_m - origin, raw.quat, str(source.path / POSES))
    ego = _with_speed(ego, raw.speed_mps)
    mounts = read_cameras(source.path / CAMERAS)
    tracks, frames, assumed = {}, {}, []
    for video in sorted(source.path.glob("*.mp4")):
        size = _scaled(index_video(video).width_px, index_video(video).height_px, image_width_px)
        tracks[video.stem] = CameraTrack(
            camera_of(video, mounts.get(video.stem), size), frame_times(video, start) - start
        )
        frames[video.stem] = iterate_video(video, size)
        assumed += [] if video.stem in mounts else [video.stem]
    meta = {"source_name": source.path.resolve().name, "t_us_of_start": start, "origin_m": origin.tolist(),
            "assumed_calibration": assumed}  # fmt: skip
    return Converted(Recording(source.recording_id, "own", licence, ego, tracks, meta=meta), frames)


def read_poses(path: Path) -> RawPoses:
    """Raises UserError for a missing column, two columns for one thing, or a cell that is no number."""
    rows = read_columns(path)
    position = [rows.get(name) for name in ("x_m", "y_m", "z_m")]
    if position[0] is None or position[1] is None:
        raise UserError(f"{path}: columns x_m and y_m expected, found {', '.join(rows)}; rename or convert them.")
    x, y, z = position[0], position[1], position[2] if position[2] is not None else np.zeros(len(position[0]))
    speed = _one_of(path, rows, _SPEED)
    return RawPoses(times_of(path, rows), np.stack([x, y, z], axis=1), _quaternions(path, rows), speed)


def read_columns(path: Path, known: tuple[str, ...] = _COLUMNS) -> dict[str, np.ndarray]:
    """Columns of a CSV file by name. A column that is not known is refused, so that no unit is guessed."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            lines = [line for line in csv.reader(stream) if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as CSV ({error}); a header line and numbers expected.") from error
    if len(lines) < 3:
        raise UserError(f"{path} has {max(len(lines) - 1, 0)} rows; a header line and at least 2 rows expected.")
    names = [name.strip() for name in lines[0]]
    for name in names:
        if name not in known:
            raise unknown_name(f"{path}: column", name, known)
    return {name: _numbers(path, lines[1:], place, name) for place, name in enumerate(names)}


def _numbers(path: Path, lines: list[list[str]], place: int, name: str) -> np.ndarray:
    values = np.empty(len(lines))
    for number, line in enumerate(lines):
        try:
            values[number] = float(line[place])
        except (ValueError, IndexError) as error:
            raise UserError(
                f"{path} line {number + 2}: {name} is {line[place] if place < len(line) else 'missing'!r}, a number "
                "expected; repair or remove that line."
            ) from error
    return values


def times_of(path: Path, rows: dict[str, np.ndarray]) -> np.ndarray:
    """(N,) int64 microseconds of the one time column. Raises UserError for none, or values that are not finite."""
    t_us = _one_of(path, rows, _TIME)
    if t_us is None or not np.isfinite(t_us).all() or np.abs(t_us).max() > 2**62:
        raise UserError(
            f"{path}: one column of {', '.join(_TIME)} with finite times expected; found {', '.join(rows)}."
        )
    return np.rint(t_us).astype(np.int64)


def _one_of(path: Path, rows: dict[str, np.ndarray], scales: dict[str, float]) -> np.ndarray | None:
    found = [name for name in scales if name in rows]
    if len(found) > 1:
        raise UserError(f"{path} has both {found[0]} and {found[1]}; one of them expected, so remove the other.")
    return rows[found[0]] * scales[found[0]] if found else None


def _quaternions(path: Path, rows: dict[str, np.ndarray]) -> np.ndarray:
    yaw = _one_of(path, rows, _YAW)
    if all(name in rows for name in _QUAT):
        if yaw is not None:
            raise UserError(f"{path} has both a quaternion and a yaw; one of them expected, so remove the other.")
        return np.stack([rows[name] for name in _QUAT], axis=1)
    if yaw is None:
        raise UserError(f"{path}: qw, qx, qy, qz or yaw_rad or yaw_deg expected; found {', '.join(rows)}.")
    return quat_of_yaw(yaw)


def _with_speed(ego: EgoMotion, speed_mps: np.ndarray | None) -> EgoMotion:
    """Forward speed and acceleration from the wheels, where there is a column for it."""
    if speed_mps is None:
        return ego
    if not np.isfinite(speed_mps).all():
        raise UserError("poses.csv: the speed column holds values that are not numbers; repair or remove it.")
    velocity, acceleration = ego.velocity_in_rig_mps.copy(), ego.acceleration_in_rig_mps2.copy()
    step_s = max(float(np.median(np.diff(ego.t_us))) / 1e6, 1e-3)
    velocity[:, 0], acceleration[:, 0] = speed_mps, derivative(speed_mps, step_s, 1, 0.8)
    return replace(ego, velocity_in_rig_mps=velocity, acceleration_in_rig_mps2=acceleration)


def _scaled(width: int, height: int, wanted: int) -> tuple[int, int]:
    if wanted < 16:
        raise UserError(f"image-width-px is {wanted}; at least 16 expected.")
    scale = min(wanted / width, 1.0)
    return round(width * scale / 2) * 2, round(height * scale / 2) * 2


def read_cameras(path: Path) -> dict[str, dict[str, Any]]:
    """Calibration by camera name; empty where there is no file. Raises UserError for anything but objects."""
    value = read_json(path) if path.exists() else {}
    if not isinstance(value, dict) or not all(isinstance(entry, dict) for entry in value.values()):
        raise UserError(f"{path}: an object with one entry a camera expected.")
    return value


def camera_of(video: Path, entry: dict[str, Any] | None, size: tuple[int, int]) -> Camera:
    """The calibrated camera at the scaled size; an assumed 70 degree lens that looks ahead where nothing is known."""
    index = index_video(video)
    if entry is None:
        focal = size[0] / 2 / np.tan(ASSUMED_FOV_RAD / 2)
        return Camera(video.stem, *size, focal, focal, size[0] / 2, size[1] / 2, _ASSUMED_POSITION_M, _FORWARD)
    where, across, down = video.with_name(CAMERAS), size[0] / index.width_px, size[1] / index.height_px
    try:
        fx, fy, cx, cy = (float(entry[name]) for name in ("fx_px", "fy_px", "cx_px", "cy_px"))
        position = tuple(float(v) for v in entry.get("position_m", _ASSUMED_POSITION_M))
        quat = tuple(float(v) for v in entry.get("quat", _FORWARD))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{where}: camera {video.stem} lacks a number ({error}); fx_px, fy_px, cx_px, cy_px expected."
        ) from error
    if len(position) != 3 or len(quat) != 4 or abs(np.linalg.norm(quat) - 1) > 1e-2:
        raise UserError(f"{where}: camera {video.stem} needs position_m of 3 and quat (w, x, y, z) of length 1.")
    return Camera(video.stem, *size, fx * across, fy * down, cx * across, cy * down, position, quat)  # type: ignore[arg-type]


def frame_times(video: Path, start_us: int) -> np.ndarray:
    """(F,) int64 times on the clock of the poses: from `<camera>.csv`, else the video's own from `start_us` on."""
    table = video.with_suffix(".csv")
    if table.exists():
        return times_of(table, read_columns(table, tuple(_TIME)))
    try:
        with av.open(str(video)) as container:
            base = container.streams.video[0].time_base
            pts = sorted(p.pts for p in container.demux(video=0) if p.pts is not None and p.size)
    except (FFmpegError, OSError, IndexError) as error:
        raise UserError(f"{video} cannot be opened as video ({error}); export it again.") from error
    assert base is not None
    return start_us + np.array([round((p - pts[0]) * base * 1_000_000) for p in pts], np.int64)
