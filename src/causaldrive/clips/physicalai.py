"""Importer for a local download of PhysicalAI-Autonomous-Vehicles: clips of 20 s with cameras and ego motion.

What lies where and how it is packed is the business of the data set's own kit, `physical-ai-av`: `physicalai_kit.py`
lets it read a local copy. Speeds and curvature are derived from the poses, because the frame of the published rates is
not stated. F-theta images are remapped to a pinhole camera, the only model of a recording. The recording id is the clip
id, so that `label import ood` finds its clips. Knows nothing of labels.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from tyro.conf import Positional

from causaldrive.clips.importing import Converted, Source, import_all
from causaldrive.clips.physicalai_kit import Download
from causaldrive.clips.resample import motion_from_poses
from causaldrive.clips.types import Camera, CameraTrack, EgoMotion, Recording
from causaldrive.clips.video import index_video, iterate_video
from causaldrive.ground.errors import UserError, unknown_name

LICENCE = "NVIDIA Autonomous Vehicle Dataset License (PhysicalAI-Autonomous-Vehicles)"
FRONT = "camera_front_wide_120fov"
WIDEST_RAD = np.deg2rad(100)  # of the pinhole picture: beyond it the edges are mostly stretch


@dataclass(frozen=True)
class ImportPhysicalAiConfig:
    path: Positional[Path]  # the local directory that holds features.csv and clip_index.parquet
    out: Path  # where the recordings go
    cameras: tuple[str, ...] = (FRONT,)  # features of the directory `camera`
    clips: tuple[str, ...] = ()  # clip ids; every clip whose ego motion is there when empty
    limit: int = 0  # import at most this many clips; 0: all
    camera_hz: float = 10.0  # frames a second that are kept, of 30
    image_width_px: int = 640  # the remapped pictures are this wide


class Lens(Protocol):
    """A camera model of the kit: r(theta) = sum_k a_k theta^k from the principal point, theta to the optical axis."""

    width: int
    height: int
    principal_point: np.ndarray
    th2r: Any

    def ray2pixel(self, ray: np.ndarray) -> np.ndarray: ...


def run(config: ImportPhysicalAiConfig) -> None:
    """Import the clips that lie on disk; broken ones are set aside and counted."""
    with tempfile.TemporaryDirectory() as scratch:
        _import(config, Download(config.path, Path(scratch)))


def _import(config: ImportPhysicalAiConfig, download: Download) -> None:
    for camera in config.cameras:
        if camera not in download.cameras:
            raise unknown_name("camera", camera, download.cameras)
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
    size = download.feature(clip, "vehicle_dimensions")
    tracks, frames = {}, {}
    for name in config.cameras:
        t_us = download.frame_times_us(clip, name)
        lens = _of(download, clip, "camera_intrinsics", name, "camera_models")
        mount = _of(download, clip, "sensor_extrinsics", name, "sensor_poses")
        camera = _pinhole(name, lens, mount, config.image_width_px)
        kept = _kept(t_us, config.camera_hz)
        tracks[name] = CameraTrack(camera, t_us[kept])
        frames[name] = _frames(download, clip, name, lens, camera, kept, len(t_us))
    meta = {"source_name": clip, "chunk": int(download.chunks[clip]), "remapped_from": "f-theta"}
    dimensions = (float(size.length), float(size.width), float(size.height))
    recording = Recording(clip, "physicalai-av", LICENCE, ego, tracks, ego_size_m=dimensions, meta=meta,
                          rear_axle_to_centre_m=float(size.rear_axle_to_bbox_center))  # fmt: skip
    return Converted(recording, frames)


def _ego(download: Download, clip: str) -> EgoMotion:
    motion = download.feature(clip, "egomotion")
    pose, where = motion.values.pose, f"{download.chunk_file(clip, 'egomotion')}: clip {clip}"
    return motion_from_poses(np.asarray(motion.timestamps, np.int64), pose.translation,
                             pose.rotation.as_quat(scalar_first=True), where)  # fmt: skip


def _of(download: Download, clip: str, feature: str, name: str, part: str) -> Any:
    """What a calibration table says of one sensor."""
    known = getattr(download.feature(clip, feature), part)
    if name not in known:
        raise UserError(
            f"{download.chunk_file(clip, feature)} has no row for clip {clip} and {name}; download it again."
        )
    return known[name]


def _pinhole(name: str, lens: Lens, mount: Any, width_px: int) -> Camera:
    """A pinhole camera in the same place: as wide as the lens shows sideways, at most `WIDEST_RAD`."""
    width, height = width_px - width_px % 2, round(width_px * lens.height / lens.width / 2) * 2
    angles = np.linspace(0.01, WIDEST_RAD / 2, 200)
    middle = float(lens.principal_point[0])
    inside = angles[lens.th2r(angles) <= min(middle, lens.width - middle)]
    focal = width / 2 / np.tan(inside[-1] if len(inside) else angles[0])
    x, y, z = map(float, mount.translation)
    qw, qx, qy, qz = map(float, mount.rotation.as_quat(scalar_first=True))
    return Camera(name, width, height, focal, focal, width / 2, height / 2, (x, y, z), (qw, qx, qy, qz))


def _kept(t_us: np.ndarray, camera_hz: float) -> np.ndarray:
    """Numbers of the frames nearest to a grid of `camera_hz` from the first frame on."""
    grid = np.arange(t_us[0], t_us[-1] + 1, 1e6 / camera_hz)
    right = np.clip(np.searchsorted(t_us, grid), 1, len(t_us) - 1)
    nearer = np.where(grid - t_us[right - 1] <= t_us[right] - grid, right - 1, right)
    return np.unique(nearer)


def _frames(download: Download, clip: str, name: str, lens: Lens, camera: Camera, kept: np.ndarray,
            count: int) -> Iterator[np.ndarray]:  # fmt: skip
    """The kept frames, remapped, one at a time: the kit's reader would hold all of them at their full size."""
    across, down = np.meshgrid(np.arange(camera.width_px) + 0.5, np.arange(camera.height_px) + 0.5)
    rays = np.stack(
        [(across - camera.cx_px) / camera.fx_px, (down - camera.cy_px) / camera.fy_px, np.ones_like(across)], -1
    )
    maps = lens.ray2pixel(rays).astype(np.float32) - 0.5
    wanted = set(kept.tolist())
    with download.video(clip, name) as video:
        index = index_video(video)
        if (index.width_px, index.height_px) != (lens.width, lens.height) or len(index.pts) != count:
            raise UserError(
                f"{download.chunk_file(clip, name)}: the video of {clip} has {len(index.pts)} frames of "
                f"{index.width_px}x{index.height_px}, its tables say {count} of {lens.width}x{lens.height}; "
                "download it again."
            )
        for number, image in enumerate(iterate_video(video)):
            if number in wanted:
                yield cv2.remap(image, maps[..., 0], maps[..., 1], cv2.INTER_LINEAR)
