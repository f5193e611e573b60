"""Importer for a local download of PhysicalAI-Autonomous-Vehicles: clips of 20 s with cameras and ego motion.

    features.csv                   feature -> chunk_path (a template over chunk_id), clip_files_in_zip (JSON templates)
    clip_index.parquet             clip_id -> chunk
    labels/egomotion/*.zip         a clip's Parquet: timestamp (us), qx qy qz qw, x y z, and rates
    camera/<name>/<name>.*.zip     a clip's MP4 and the Parquet of its frame timestamps (us)
    calibration/...                camera_intrinsics (f-theta), sensor_extrinsics, vehicle_dimensions, by clip

The layout is read here and not through the kit `physical-ai-av`: its reader asks the hub for a revision, or for a
complete offline cache, before it opens a file on disk. Speeds and curvature are derived from the poses, because the
frame of the published rates is not stated. F-theta images are remapped to a pinhole camera, the only model of a
recording. The recording id is the clip id, so that `label import ood` finds its clips. Knows nothing of labels.
"""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from tyro.conf import Positional

from causaldrive.clips.importing import Converted, Source, import_all
from causaldrive.clips.resample import motion_from_poses
from causaldrive.clips.types import Camera, CameraTrack, EgoMotion, Recording
from causaldrive.clips.video import index_video, iterate_video
from causaldrive.ground.errors import UserError, unknown_name
from causaldrive.ground.files import read_table

LICENCE = "NVIDIA Autonomous Vehicle Dataset License (PhysicalAI-Autonomous-Vehicles)"
FRONT = "camera_front_wide_120fov"
WIDEST_RAD = np.deg2rad(100)  # of the pinhole picture: beyond it the edges are mostly stretch
_INDEX = ("clip_id", "__index_level_0__")
_POSE = ("timestamp", "x", "y", "z", "qw", "qx", "qy", "qz")


@dataclass(frozen=True)
class ImportPhysicalAiConfig:
    path: Positional[Path]  # the local directory that holds features.csv and clip_index.parquet
    out: Path  # where the recordings go
    cameras: tuple[str, ...] = (FRONT,)  # features of the directory `camera`
    clips: tuple[str, ...] = ()  # clip ids; every clip whose ego motion is there when empty
    limit: int = 0  # import at most this many clips; 0: all
    camera_hz: float = 10.0  # frames a second that are kept, of 30
    image_width_px: int = 640  # the remapped pictures are this wide


@dataclass(frozen=True)
class FTheta:
    """r(theta) = sum_k a_k theta^k: distance from the principal point of a ray at angle theta to the optical axis."""

    size_px: tuple[int, int]
    centre_px: tuple[float, float]
    polynomial: tuple[float, ...]

    def pixels_of(self, rays: np.ndarray) -> np.ndarray:
        """Rays (..., 3) of the optical frame to pixels (..., 2)."""
        side = np.linalg.norm(rays[..., :2], axis=-1)
        theta = np.arctan2(side, rays[..., 2])
        radius = np.polynomial.polynomial.polyval(theta, self.polynomial)
        return np.array(self.centre_px) + (radius / np.maximum(side, 1e-12))[..., None] * rays[..., :2]


class Download:
    """A local copy: which clips it indexes, and where each feature of a clip lies."""

    def __init__(self, root: Path):
        self.root = root
        if not (root / "features.csv").exists():
            raise UserError(f"{root} holds no features.csv; expected a local copy of PhysicalAI-Autonomous-Vehicles.")
        try:
            rows = pa_csv.read_csv(root / "features.csv").to_pylist()
            self.features = {row["feature"]: row for row in rows}
        except (pa.ArrowException, KeyError) as error:
            raise UserError(
                f"{root / 'features.csv'} is not the table of features ({error}); fetch it again."
            ) from error
        index = read_table(root / "clip_index.parquet", ["chunk"])
        names = next((name for name in _INDEX if name in index.column_names), None)
        if names is None:
            raise UserError(f"{root / 'clip_index.parquet'} has no index clip_id; fetch it again.")
        self.chunks: dict[str, int] = dict(
            zip(map(str, index.column(names).to_pylist()), index.column("chunk").to_pylist(), strict=True)
        )

    def chunk_file(self, clip: str, feature: str) -> Path:
        """Where the packed feature of a clip should lie. Raises UserError for a feature the copy does not list."""
        if feature not in self.features:
            raise unknown_name(f"{self.root / 'features.csv'}: feature", feature, self.features)
        return self.root / self.features[feature]["chunk_path"].format(chunk_id=self.chunks[clip])

    def members(self, clip: str, feature: str) -> dict[str, str]:
        """Alias -> name of the clip's files inside the zip."""
        try:
            templates = json.loads(self.features[feature]["clip_files_in_zip"])
            return {alias: name.format(clip_id=clip) for alias, name in templates.items()}
        except (TypeError, ValueError, AttributeError) as error:
            where = self.root / "features.csv"
            raise UserError(f"{where}: clip_files_in_zip of {feature} is not a JSON object ({error}).") from error

    def read(self, clip: str, feature: str, alias: str) -> bytes:
        """One file of a clip. Raises UserError naming the zip that is missing or damaged."""
        file, members = self.chunk_file(clip, feature), self.members(clip, feature)
        if alias not in members:
            raise UserError(
                f"{self.root / 'features.csv'}: {feature} names no file {alias!r}; found {sorted(members)}."
            )
        try:
            with zipfile.ZipFile(file) as archive:
                return archive.read(members[alias])
        except FileNotFoundError as error:
            raise UserError(f"{file} is missing; download the feature {feature} of this chunk.") from error
        except (KeyError, zipfile.BadZipFile, OSError) as error:
            raise UserError(f"{file} does not give {members[alias]} ({error}); download it again.") from error

    def table(self, clip: str, feature: str, alias: str, columns: tuple[str, ...]) -> dict[str, np.ndarray]:
        """Columns of a clip's Parquet file inside a zip, as floats or integers."""
        where = f"{self.chunk_file(clip, feature)}: {self.members(clip, feature).get(alias)}"
        try:
            table = pq.read_table(io.BytesIO(self.read(clip, feature, alias)))
            return {name: table.column(name).to_numpy() for name in columns}
        except (pa.ArrowException, KeyError) as error:
            raise UserError(f"{where} lacks a column or is damaged ({error}); download it again.") from error

    def calibration(self, clip: str, feature: str, name: str | None = None) -> dict[str, Any]:
        """The row of a clip (and of a sensor's name) in a calibration table."""
        file = self.chunk_file(clip, feature)
        table = read_table(file, ["clip_id"])
        rows = [row for row in table.to_pylist() if str(row["clip_id"]) == clip]
        if name is not None:  # the second level of the index has another name in each table
            rows = [row for row in rows if name in [v for k, v in row.items() if k != "clip_id"]]
        if not rows:
            raise UserError(f"{file} has no row for clip {clip}{f' and {name}' if name else ''}; download it again.")
        return rows[0]


def run(config: ImportPhysicalAiConfig) -> None:
    """Import the clips that lie on disk; broken ones are set aside and counted."""
    download = Download(config.path)
    for camera in config.cameras:
        if camera not in download.features:
            known = [name for name in download.features if name.startswith("camera_") and "intrinsics" not in name]
            raise unknown_name("camera", camera, known)
    if not (config.camera_hz > 0 and config.image_width_px >= 32 and config.limit >= 0):
        raise UserError("camera-hz must be above 0, image-width-px at least 32, and limit at least 0.")
    for clip in config.clips:
        if clip not in download.chunks:
            raise UserError(
                f"clip {clip!r} is not in {config.path / 'clip_index.parquet'}; {len(download.chunks)} are."
            )
    there = config.clips or [c for c in download.chunks if download.chunk_file(c, "egomotion").exists()]
    if not there:
        raise UserError(f"{config.path}: no clip's ego motion is there; download the feature egomotion of some chunks.")
    sources = [Source(clip, config.path) for clip in list(there)[: config.limit or None]]
    import_all("import physicalai", config, config.out, sources, lambda s: convert(download, s.recording_id, config))


def convert(download: Download, clip: str, config: ImportPhysicalAiConfig) -> Converted:
    """A clip as a recording. Raises UserError naming the file that is missing or damaged."""
    ego = _ego(download, clip)
    size = download.calibration(clip, "vehicle_dimensions")
    tracks, frames = {}, {}
    for name in config.cameras:
        t_us = download.table(clip, name, "frame_timestamps", ("timestamp",))["timestamp"].astype(np.int64)
        lens = _lens(download, clip, name)
        camera = _pinhole(name, lens, download.calibration(clip, "sensor_extrinsics", name), config.image_width_px)
        kept = _kept(t_us, config.camera_hz)
        tracks[name] = CameraTrack(camera, t_us[kept])
        frames[name] = _frames(download, clip, name, lens, camera, kept, len(t_us))
    meta = {"source_name": clip, "chunk": int(download.chunks[clip]), "remapped_from": "f-theta"}
    dimensions = tuple(float(size[part]) for part in ("length", "width", "height"))
    recording = Recording(clip, "physicalai-av", LICENCE, ego, tracks, ego_size_m=dimensions, meta=meta,  # type: ignore[arg-type]
                          rear_axle_to_centre_m=float(size["rear_axle_to_bbox_center"]))  # fmt: skip
    return Converted(recording, frames)


def _ego(download: Download, clip: str) -> EgoMotion:
    rows = download.table(clip, "egomotion", "egomotion", _POSE)
    position, quat = (np.stack([rows[n].astype(float) for n in names], axis=1) for names in (_POSE[1:4], _POSE[4:]))
    where = f"{download.chunk_file(clip, 'egomotion')}: clip {clip}"
    return motion_from_poses(rows["timestamp"].astype(np.int64), position, quat, where)


def _lens(download: Download, clip: str, name: str) -> FTheta:
    row = download.calibration(clip, "camera_intrinsics", name)
    polynomial = tuple(float(row[f"fw_poly_{k}"]) for k in range(5) if row.get(f"fw_poly_{k}") is not None)
    if len(polynomial) < 2:
        raise UserError(
            f"{download.chunk_file(clip, 'camera_intrinsics')}: {name} has no fw_poly_1; download it again."
        )
    return FTheta((int(row["width"]), int(row["height"])), (float(row["cx"]), float(row["cy"])), polynomial)


def _pinhole(name: str, lens: FTheta, mount: dict[str, Any], width_px: int) -> Camera:
    """A pinhole camera in the same place: as wide as the lens shows sideways, at most `WIDEST_RAD`."""
    width, height = width_px - width_px % 2, round(width_px * lens.size_px[1] / lens.size_px[0] / 2) * 2
    angles = np.linspace(0.01, WIDEST_RAD / 2, 200)
    reach = np.polynomial.polynomial.polyval(angles, lens.polynomial)
    inside = angles[reach <= min(lens.centre_px[0], lens.size_px[0] - lens.centre_px[0])]
    focal = width / 2 / np.tan(inside[-1] if len(inside) else angles[0])
    position = tuple(float(mount[part]) for part in "xyz")
    quat = tuple(float(mount[part]) for part in ("qw", "qx", "qy", "qz"))
    return Camera(name, width, height, focal, focal, width / 2, height / 2, position, quat)  # type: ignore[arg-type]


def _kept(t_us: np.ndarray, camera_hz: float) -> np.ndarray:
    """Numbers of the frames nearest to a grid of `camera_hz` from the first frame on."""
    grid = np.arange(t_us[0], t_us[-1] + 1, 1e6 / camera_hz)
    right = np.clip(np.searchsorted(t_us, grid), 1, len(t_us) - 1)
    nearer = np.where(grid - t_us[right - 1] <= t_us[right] - grid, right - 1, right)
    return np.unique(nearer)


def _frames(download: Download, clip: str, name: str, lens: FTheta, camera: Camera, kept: np.ndarray,
            count: int) -> Iterator[np.ndarray]:  # fmt: skip
    """The kept frames, remapped; the video lies in a temporary file for as long as it is read."""
    across, down = np.meshgrid(np.arange(camera.width_px) + 0.5, np.arange(camera.height_px) + 0.5)
    rays = np.stack(
        [(across - camera.cx_px) / camera.fx_px, (down - camera.cy_px) / camera.fy_px, np.ones_like(across)], -1
    )
    maps = lens.pixels_of(rays).astype(np.float32) - 0.5
    wanted = set(kept.tolist())
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "clip.mp4"
        video.write_bytes(download.read(clip, name, "video"))
        index = index_video(video)
        if (index.width_px, index.height_px) != lens.size_px or len(index.pts) != count:
            raise UserError(
                f"{download.chunk_file(clip, name)}: the video of {clip} has {len(index.pts)} frames of "
                f"{index.width_px}x{index.height_px}, its tables say {count} of "
                f"{lens.size_px[0]}x{lens.size_px[1]}; download it again."
            )
        for number, image in enumerate(iterate_video(video)):
            if number in wanted:
                yield cv2.remap(image, maps[..., 0], maps[..., 1], cv2.INTER_LINEAR)
