"""PhysicalAI-AV: a small directory in the published layout becomes recordings; broken parts are said."""

from __future__ import annotations

import io
import json
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from physical_ai_av.utils.camera_models import FThetaCameraModel
from scipy.spatial.transform import Rotation

from causaldrive.clips.physicalai import FRONT, ImportPhysicalAiConfig, run
from causaldrive.clips.store import read_frames, read_recordings
from causaldrive.clips.video import encode_video
from causaldrive.ground.errors import UserError
from causaldrive.ground.runs import read_metrics

SIZE, FRAMES = (320, 200), 300
POLYNOMIAL = (0.0, 152.0, 0.5, -6.0, 0.2)  # of the lens, angle (rad) to distance from the centre (px)
LENS = FThetaCameraModel(*SIZE, np.array([161.0, 99.0]), np.polynomial.Polynomial(POLYNOMIAL),
                         np.polynomial.Polynomial([0.0, 1 / 152.0]))  # fmt: skip
MOUNT_M = (1.7, 0.1, 1.5)
LOOK = Rotation.from_quat([-0.5, 0.5, -0.5, 0.5]) * Rotation.from_euler("x", 0.02)  # scalar last, as published
POINT_IN_RIG_M = np.array([11.7, 2.1, 2.0])


def write_download(root: Path, clips: tuple[str, ...] = ("clip-a", "clip-b")) -> Path:
    zipped = f"camera/{FRONT}/{FRONT}.chunk_{{chunk_id:04d}}.zip"
    rows = {
        FRONT: ("camera", zipped, {"video": f"{{clip_id}}.{FRONT}.mp4",
                                   "frame_timestamps": f"{{clip_id}}.{FRONT}.timestamps.parquet"}),
        "egomotion": ("labels", "labels/egomotion/egomotion.chunk_{chunk_id:04d}.zip",
                      {"egomotion": "{clip_id}.egomotion.parquet"}),
        **{name: ("calibration", f"calibration/{name}/{name}.chunk_{{chunk_id:04d}}.parquet", None)
           for name in ("camera_intrinsics", "sensor_extrinsics", "vehicle_dimensions")},
    }  # fmt: skip
    root.mkdir(parents=True)
    lines = ["feature,directory,chunk_path,clip_files_in_zip"]
    for name, (directory, path, members) in rows.items():
        quoted = '"' + json.dumps(members).replace('"', '""') + '"' if members else ""
        lines.append(f"{name},{directory},{path},{quoted}")
    (root / "features.csv").write_text("\n".join(lines) + "\n")
    index = pd.Index([*clips, "elsewhere"], name="clip_id")
    pd.DataFrame({"chunk": [7] * len(clips) + [8]}, index=index).to_parquet(root / "clip_index.parquet")
    (root / "metadata").mkdir()
    pd.DataFrame({name: [True] * len(index) for name in rows}, index=index).to_parquet(
        root / "metadata/feature_presence.parquet"
    )
    pd.DataFrame({"country": ["x"] * len(index)}, index=index).to_parquet(root / "metadata/data_collection.parquet")
    write_zip(root / zipped.format(chunk_id=7), {k: v for clip in clips for k, v in camera_files(clip, root).items()})
    write_zip(
        root / "labels/egomotion/egomotion.chunk_0007.zip", {f"{c}.egomotion.parquet": egomotion() for c in clips}
    )
    write_calibration(root, clips)
    return root


def write_zip(path: Path, files: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def parquet(**columns) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream)
    return stream.getvalue()


def egomotion() -> bytes:
    """20 s at 100 Hz on a circle to the left, 8 m/s, radius 50 m."""
    t = np.arange(-50, 2051) * 0.01
    yaw = 8 * t / 50
    quat = Rotation.from_euler("z", yaw[:, None]).as_quat()
    return parquet(
        timestamp=np.rint(t * 1e6).astype(np.int64), x=50 * np.sin(yaw), y=50 * (1 - np.cos(yaw)), z=0 * t,
        qx=quat[:, 0], qy=quat[:, 1], qz=quat[:, 2], qw=quat[:, 3],
        vx=0 * t, vy=0 * t, vz=0 * t, ax=0 * t, ay=0 * t, az=0 * t, curvature=0 * t,
    )  # fmt: skip


def camera_files(clip: str, root: Path) -> dict[str, bytes]:
    """A white blob where the lens sees POINT_IN_RIG_M, on ever brighter grey."""
    u, v = LENS.ray2pixel(LOOK.inv().apply(POINT_IN_RIG_M - MOUNT_M))
    x, y = np.meshgrid(np.arange(SIZE[0]) + 0.5, np.arange(SIZE[1]) + 0.5)
    blob = np.hypot(x - u, y - v) < 4

    def image(number: int) -> np.ndarray:
        return np.repeat(np.where(blob, 255, 10 + number // 3)[..., None], 3, axis=2).astype(np.uint8)

    file = root / "video.mp4"
    encode_video(file, (image(n) for n in range(FRAMES)), Fraction(30), "video")
    video = file.read_bytes()
    file.unlink()
    stamps = (1_000 + np.arange(FRAMES) * 33_333).astype(np.int64)
    return {f"{clip}.{FRONT}.mp4": video, f"{clip}.{FRONT}.timestamps.parquet": parquet(timestamp=stamps)}


def write_calibration(root: Path, clips: tuple[str, ...]) -> None:
    quat, count = LOOK.as_quat(), len(clips)
    by_clip = pd.Index(clips, name="clip_id")
    lens = {"width": SIZE[0], "height": SIZE[1], "cx": LENS.principal_point[0], "cy": LENS.principal_point[1],
            **{f"fw_poly_{k}": a for k, a in enumerate(POLYNOMIAL)},
            **{f"bw_poly_{k}": 0.0 for k in range(5)}}  # fmt: skip
    mount = {f"q{axis}": quat[k] for k, axis in enumerate("xyzw")} | dict(zip("xyz", MOUNT_M, strict=True))
    size = {"length": 4.9, "width": 2.0, "height": 1.5, "rear_axle_to_bbox_center": 1.45, "wheelbase": 2.9,
            "track_width": 1.6}  # fmt: skip
    for name, row, level in (("camera_intrinsics", lens, "camera_name"), ("sensor_extrinsics", mount, "sensor_name"),
                             ("vehicle_dimensions", size, None)):  # fmt: skip
        both = pd.MultiIndex.from_product([clips, [FRONT]], names=["clip_id", level])
        path = root / f"calibration/{name}/{name}.chunk_0007.parquet"
        path.parent.mkdir(parents=True)
        pd.DataFrame([row] * count, index=both if level else by_clip).to_parquet(path)


@pytest.fixture(scope="module")
def download(tmp_path_factory) -> Path:
    return write_download(tmp_path_factory.mktemp("pai") / "local")


def test_clips_become_recordings(download, tmp_path):
    run(ImportPhysicalAiConfig(download, tmp_path / "out", image_width_px=240))
    recordings, aside = read_recordings(tmp_path / "out")
    assert not aside and [r.recording_id for r in recordings] == ["clip-a", "clip-b"]
    recording = recordings[0]
    assert recording.ego_size_m == (4.9, 2.0, 1.5) and recording.rear_axle_to_centre_m == 1.45
    np.testing.assert_allclose(recording.ego.speed_mps, 8, atol=0.02)
    np.testing.assert_allclose(recording.ego.curvature_1pm, 0.02, atol=1e-3)
    track = recording.cameras[FRONT]
    assert len(track.t_us) == 100 and np.abs(np.diff(track.t_us) - 100_000).max() < 40_000


def test_what_the_lens_saw_is_where_the_pinhole_says(download, tmp_path):
    run(ImportPhysicalAiConfig(download, tmp_path / "out", clips=("clip-a",), image_width_px=320))
    (recording,), _ = read_recordings(tmp_path / "out")
    track = recording.cameras[FRONT]
    image = read_frames(recording.directory, FRONT, [int(track.t_us[50])])[0][..., 0].astype(float)
    rows, columns = np.nonzero(image > 180)
    (u, v), inside = track.camera.project(POINT_IN_RIG_M)
    assert inside and abs(columns.mean() + 0.5 - u) < 0.6 and abs(rows.mean() + 0.5 - v) < 0.6
    assert abs(u - track.camera.cx_px) > 15, "off the axis, where the two lenses differ"


def test_a_broken_clip_leaves_the_others(download, tmp_path):
    broken = write_download(tmp_path / "in")
    member = f"clip-b.{FRONT}.mp4"
    files = camera_files("clip-a", tmp_path) | {
        k: v for k, v in camera_files("clip-b", tmp_path).items() if k != member
    }
    write_zip(broken / f"camera/{FRONT}/{FRONT}.chunk_0007.zip", files)
    run(ImportPhysicalAiConfig(broken, tmp_path / "out"))
    aside = [line["set_aside"] for line in read_metrics(tmp_path / "out") if "set_aside" in line]
    assert len(aside) == 1 and member in aside[0] and "download it again" in aside[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cameras": ("camera_front_wide_12fov",)}, f"Did you mean {FRONT}"),
        ({"clips": ("clip-z",)}, "'clip-z' is not in"),
        ({"clips": ("elsewhere",)}, "chunk_0008.zip is missing; download the feature egomotion"),
        ({"camera_hz": 0.0}, "camera-hz must be above 0"),
        ({"cameras": ("egomotion",)}, "camera 'egomotion' is not known"),
    ],
)
def test_what_cannot_be_imported_is_said(download, tmp_path, changes, said):
    with pytest.raises(UserError, match=said):
        run(ImportPhysicalAiConfig(download, tmp_path / "out", **changes))


def test_another_directory_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no features"):
        run(ImportPhysicalAiConfig(tmp_path, tmp_path / "out"))


def test_a_copy_without_its_metadata_names_the_file(tmp_path):
    root = write_download(tmp_path / "in", ("clip-a",))
    (root / "metadata/data_collection.parquet").unlink()
    with pytest.raises(UserError, match=r"metadata/data_collection.parquet is missing; download it"):
        run(ImportPhysicalAiConfig(root, tmp_path / "out"))


def test_a_damaged_table_is_said_and_leaves_nothing_behind(tmp_path):
    root = write_download(tmp_path / "in", ("clip-a",))
    (root / "calibration/sensor_extrinsics/sensor_extrinsics.chunk_0007.parquet").write_bytes(b"no table")
    with pytest.raises(UserError, match=r"sensor_extrinsics of clip clip-a .*download it again"):
        run(ImportPhysicalAiConfig(root, tmp_path / "out"))
