"""Importer for Argoverse 2: sensor logs (with or without images) and motion-forecasting scenarios.

Reads a sensor log's `city_SE3_egovehicle.feather`, `annotations.feather`, `map/log_map_archive_*.json`, and where
present `calibration/*.feather` with `sensors/cameras/<camera>/*.jpg`; or a scenario's `scenario_*.parquet` and its map.
Writes one recording a log: agents, map, route, ego; local frame = city frame shifted to the first ego position, time
from 0 at the first pose.

The published egovehicle origin is the middle of the rear axle at the height of the axle; the ground lies 0.33 m below
(measured on both sample logs: the map under the ego lies 0.32 and 0.33 m lower). The rig origin is put on that ground.
Source: Wilson et al., arXiv 2301.00493. Knows nothing of labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.feather
from tyro.conf import Positional

from causaldrive.clips.av2_agents import agents_in_local, tracks_of
from causaldrive.clips.av2_map import ASSUMED_LIMIT_MPS, read_map, route_of
from causaldrive.clips.geometry import matrix_of_quat, quat_of_yaw
from causaldrive.clips.importing import Converted, Source, find_directories, import_all, safe_id
from causaldrive.clips.resample import motion_from_poses
from causaldrive.clips.types import AgentTracks, Camera, CameraTrack, EgoMotion, Recording, RoadMap
from causaldrive.ground.errors import UserError
from causaldrive.ground.files import digest, read_table
from causaldrive.ground.words import STEP_US

LICENCE = "CC BY-NC-SA 4.0 (Argoverse 2)"
GROUND_IN_EGOVEHICLE_M = -0.33
EGO_SIZE_M, REAR_AXLE_TO_CENTRE_M = (4.87, 1.85, 1.48), 1.4  # the fleet's sedan
FRONT_CAMERA = "ring_front_center"
_MIN_POSE_STEP_US = 4_000  # poses are published for each sensor's stamp, some a nanosecond apart
_SCENARIO_SIZES_M = {
    "vehicle": (4.6, 1.9, 1.6), "bus": (11.0, 2.8, 3.2), "pedestrian": (0.6, 0.6, 1.75), "cyclist": (1.8, 0.7, 1.7),
    "motorcyclist": (2.1, 0.8, 1.6),
}  # fmt: skip
_SCENARIO_CATEGORIES = {"vehicle": "REGULAR_VEHICLE", "bus": "BUS", "pedestrian": "PEDESTRIAN", "cyclist": "BICYCLIST",
                        "motorcyclist": "MOTORCYCLIST", "construction": "CONSTRUCTION_BARREL",
                        "riderless_bicycle": "BICYCLE"}  # fmt: skip


@dataclass(frozen=True)
class ImportAv2Config:
    path: Positional[Path]  # a log or scenario directory, or any directory above some
    out: Path  # where the recordings go
    image_width_px: int = 640  # camera images, where present, are scaled to this width


def run(config: ImportAv2Config) -> None:
    """Import every log and scenario under `config.path`; broken ones are set aside and counted."""
    expected = "Argoverse 2 logs (city_SE3_egovehicle.feather) or scenarios (scenario_*.parquet)"
    found = find_directories(config.path, lambda p: _is_log(p) or _is_scenario(p), 4, expected)
    sources = [Source(safe_id("av2", path.resolve().name), path) for path in found]
    import_all("import av2", config, config.out, sources, lambda s: convert(s, config.image_width_px))


def _is_log(path: Path) -> bool:
    return (path / "city_SE3_egovehicle.feather").exists() or (path / "annotations.feather").exists()


def _is_scenario(path: Path) -> bool:
    return any(path.glob("scenario_*.parquet"))


def convert(source: Source, image_width_px: int = 640) -> Converted:
    """A log or scenario as a recording. Raises UserError naming the file that is missing, damaged or inconsistent."""
    return _sensor_log(source, image_width_px) if _is_log(source.path) else _scenario(source)


def _sensor_log(source: Source, image_width_px: int) -> Converted:
    path = source.path
    poses = _feather(path / "city_SE3_egovehicle.feather", ("timestamp_ns", *_QUAT, *_XYZ))
    start_ns = int(poses["timestamp_ns"].min(initial=np.iinfo(np.int64).max))
    ego, shift = _ego_of(poses, start_ns, str(path / "city_SE3_egovehicle.feather"))
    boxes = _feather(path / "annotations.feather", ("timestamp_ns", "track_uuid", "category", *_BOX, *_QUAT, *_XYZ))
    agents = agents_in_local(boxes, _since(boxes["timestamp_ns"], start_ns), ego, GROUND_IN_EGOVEHICLE_M)
    road = _map_of(path / "map", shift[:2])
    cameras, frames = _front_camera(path, start_ns, image_width_px)
    meta = _meta(path, shift, start_ns) | {"source_sha256": digest(path / "annotations.feather")}
    return Converted(_recording(source, ego, agents, road, meta, cameras), frames)


def _recording(
    source: Source, ego: EgoMotion, agents: AgentTracks, road: RoadMap, meta: dict, cameras: dict[str, CameraTrack]
) -> Recording:
    return Recording(source.recording_id, "av2", LICENCE, ego, cameras, agents=agents, road=road,
                     route_xy_in_local_m=route_of(ego, road), ego_size_m=EGO_SIZE_M,
                     rear_axle_to_centre_m=REAR_AXLE_TO_CENTRE_M, meta=meta)  # fmt: skip


def _meta(path: Path, shift_m: np.ndarray, start_ns: int) -> dict:
    return {
        "source_name": path.resolve().name,
        "city_to_local_m": shift_m.tolist(),
        "time_of_t0_ns": start_ns,
        "speed_limit_mps": f"not in the map; {ASSUMED_LIMIT_MPS} assumed",
        "not_annotated": ["traffic light states", "brake lights", "indicators"],
    }


_TEXT = ("track_uuid", "category", "sensor_name", "track_id", "object_type")
_QUAT, _XYZ, _BOX = ("qw", "qx", "qy", "qz"), ("tx_m", "ty_m", "tz_m"), ("length_m", "width_m", "height_m")


def _feather(path: Path, columns: tuple[str, ...]) -> dict[str, np.ndarray]:
    if not path.exists():
        raise UserError(f"{path} is missing; expected a Feather file, so fetch the log again.")
    try:
        table = pyarrow.feather.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} cannot be read as Feather ({error}); it is truncated, so fetch it again.") from error
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise UserError(f"{path} lacks the column {missing[0]}; found {', '.join(table.column_names)}.")
    return _sound_columns(path, table, columns)


def _sound_columns(path: Path, table: pa.Table, names: Sequence[str]) -> dict[str, np.ndarray]:
    values = {name: _column(table, name) for name in names}
    for name, value in values.items():
        bad = ~np.isfinite(value) if value.dtype.kind == "f" else np.zeros(1, bool)
        if bad.any():
            row = int(np.argmax(bad))
            raise UserError(f"{path}: {name} is not a number at row {row}; finite values expected, so fetch it again.")
    return values


def _column(table: pa.Table, name: str) -> np.ndarray:
    column = table.column(name)
    if name in _TEXT:
        return np.array(column.to_pylist(), dtype=str)
    return column.to_numpy() if len(column) else np.zeros(0, np.int64)


def _since(t_ns: np.ndarray, start_ns: int) -> np.ndarray:
    return ((t_ns - start_ns) // 1000).astype(np.int64)


def _ego_of(poses: dict[str, np.ndarray], start_ns: int, source: str) -> tuple[EgoMotion, np.ndarray]:
    """Ego motion at the rig origin, and the shift (3,) that was added to city positions."""
    t_us = _since(poses["timestamp_ns"], start_ns)
    position = np.stack([poses[name] for name in _XYZ], axis=1)
    quat = np.stack([poses[name] for name in _QUAT], axis=1)
    keep = _spaced(t_us)
    if len(keep) < 2:
        raise UserError(f"{source}: {len(keep)} poses found, at least 2 expected; fetch the log again.")
    t_us, position, quat = t_us[keep], position[keep], quat[keep]
    on_ground = position + matrix_of_quat(quat)[:, :, 2] * GROUND_IN_EGOVEHICLE_M
    shift = -on_ground[0]
    return motion_from_poses(t_us, on_ground + shift, quat, source), shift


def _spaced(t_us: np.ndarray) -> np.ndarray:
    """Rows in order of time, at least `_MIN_POSE_STEP_US` apart."""
    keep: list[int] = []
    for row in np.argsort(t_us, kind="stable"):
        if not keep or t_us[row] - t_us[keep[-1]] >= _MIN_POSE_STEP_US:
            keep.append(int(row))
    return np.array(keep, int)


def _map_of(directory: Path, city_to_local_m: np.ndarray) -> RoadMap:
    archives = sorted(directory.glob("log_map_archive_*.json"))
    if not archives:
        raise UserError(
            f"{directory} holds no log_map_archive_*.json; expected the vector map, so fetch the log again."
        )
    return read_map(archives[0], city_to_local_m)


def _front_camera(log: Path, start_ns: int, width_px: int) -> tuple[dict[str, CameraTrack], dict[str, Iterator]]:
    """The front camera, undistorted and scaled, as camera 'front'; both empty where the log has no images."""
    images = sorted((log / "sensors" / "cameras" / FRONT_CAMERA).glob("*.jpg"), key=lambda p: int(p.stem))
    if not images:
        return {}, {}
    at = _calibration(log / "calibration" / "intrinsics.feather", _PINHOLE)
    mount = _calibration(log / "calibration" / "egovehicle_SE3_sensor.feather", (*_QUAT, *_XYZ))
    scale = width_px / at["width_px"]
    size = (width_px - width_px % 2, round(at["height_px"] * scale / 2) * 2)
    position = (mount["tx_m"], mount["ty_m"], mount["tz_m"] - GROUND_IN_EGOVEHICLE_M)
    quat = (mount["qw"], mount["qx"], mount["qy"], mount["qz"])
    fx, fy, cx, cy = (at[name] * scale for name in ("fx_px", "fy_px", "cx_px", "cy_px"))
    camera = Camera("front", size[0], size[1], fx, fy, cx, cy, position, quat)
    t_us = _since(np.array([int(p.stem) for p in images], np.int64), start_ns)
    return {"front": CameraTrack(camera, t_us)}, {"front": _undistorted(images, at, camera)}


_PINHOLE = ("fx_px", "fy_px", "cx_px", "cy_px", "k1", "k2", "k3", "width_px", "height_px")


def _calibration(path: Path, names: tuple[str, ...]) -> dict[str, float]:
    """The front camera's row of a calibration table."""
    table = _feather(path, ("sensor_name", *names))
    rows = np.flatnonzero(table["sensor_name"] == FRONT_CAMERA)
    if not len(rows):
        raise UserError(f"{path} has no row for {FRONT_CAMERA}, whose images are there; fetch the calibration again.")
    return {name: float(table[name][rows[0]]) for name in names}


def _undistorted(images: list[Path], at: dict[str, float], camera: Camera) -> Iterator[np.ndarray]:
    """(H, W, 3) RGB images as the pinhole `camera` would see them."""
    distorted = np.array([[at["fx_px"], 0, at["cx_px"]], [0, at["fy_px"], at["cy_px"]], [0, 0, 1]])
    pinhole = np.array([[camera.fx_px, 0, camera.cx_px], [0, camera.fy_px, camera.cy_px], [0, 0, 1]])
    bend = np.array([at["k1"], at["k2"], 0.0, 0.0, at["k3"]])
    size = (camera.width_px, camera.height_px)
    map_x, map_y = cv2.initUndistortRectifyMap(distorted, bend, np.eye(3), pinhole, size, cv2.CV_32FC1)
    for path in images:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise UserError(f"{path} cannot be read as an image; fetch it again.")
        yield cv2.cvtColor(cv2.remap(image, map_x, map_y, cv2.INTER_AREA), cv2.COLOR_BGR2RGB)


def _scenario(source: Source) -> Converted:
    """A motion-forecasting scenario: track 'AV' is the ego; boxes get the usual size of their type."""
    path = sorted(source.path.glob("scenario_*.parquet"))[0]
    names = ["track_id", "object_type", "timestep", "position_x", "position_y", "heading"]
    table = read_table(path, names)
    rows = _sound_columns(path, table, names)
    order = np.argsort(rows["timestep"], kind="stable")
    rows = {name: values[order] for name, values in rows.items()}
    t_us = rows["timestep"].astype(np.int64) * STEP_US
    centre = np.stack([rows["position_x"], rows["position_y"]], axis=1)
    is_ego = rows["track_id"] == "AV"
    if is_ego.sum() < 2:
        raise UserError(f"{path} has {int(is_ego.sum())} rows of track AV, at least 2 expected; fetch it again.")
    heading = rows["heading"][is_ego]
    axle = centre[is_ego] - REAR_AXLE_TO_CENTRE_M * np.stack([np.cos(heading), np.sin(heading)], axis=1)
    shift = -axle[0]
    flat = np.column_stack([axle + shift, np.zeros(len(axle))])
    ego = motion_from_poses(t_us[is_ego], flat, quat_of_yaw(heading), str(path))
    others = ~is_ego & (t_us <= ego.t_us[-1]) & (t_us >= ego.t_us[0])
    agents = _scenario_agents({name: values[others] for name, values in rows.items()}, t_us[others], shift)
    meta = _meta(source.path, np.append(shift, 0.0), 0) | {"boxes": "size by type; the data set publishes none"}
    return Converted(_recording(source, ego, agents, _map_of(source.path, shift), meta, {}))


def _scenario_agents(rows: dict[str, np.ndarray], t_us: np.ndarray, shift_m: np.ndarray) -> AgentTracks:
    centre = np.stack([rows["position_x"], rows["position_y"]], axis=1) + shift_m
    published = np.array([_SCENARIO_CATEGORIES.get(kind, "OTHER") for kind in rows["object_type"]])
    size = np.array([_SCENARIO_SIZES_M.get(kind, (0.8, 0.8, 1.0)) for kind in rows["object_type"]], float)
    xyz = np.column_stack([centre, np.zeros(len(centre))])
    return tracks_of(t_us, rows["track_id"], published, xyz, rows["heading"].astype(float), size.reshape(-1, 3))
