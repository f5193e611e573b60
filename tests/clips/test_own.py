"""Own cameras: a folder becomes a recording; what is not clear is refused with a sentence."""

from __future__ import annotations

import numpy as np
import pytest
from own_drives import winding, write_poses, write_video

from causaldrive.clips.own import ImportFolderConfig, run
from causaldrive.clips.samples import cut_sample
from causaldrive.clips.store import read_frames, read_recordings
from causaldrive.ground.errors import UserError
from causaldrive.ground.runs import read_metrics


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    directory = write_poses(tmp_path_factory.mktemp("own") / "monday", winding())
    write_video(directory, winding())
    return directory


def test_a_folder_becomes_a_recording(folder, tmp_path):
    run(ImportFolderConfig(folder, tmp_path / "out", image_width_px=160))
    (recording,), aside = read_recordings(tmp_path / "out")
    drive = winding()
    assert not aside and recording.recording_id == "monday" and recording.source == "own"
    np.testing.assert_allclose(recording.ego.position_in_local_m[:, :2], drive.xy_m, atol=1e-6)
    np.testing.assert_allclose(recording.ego.speed_mps, drive.speed_mps, atol=1e-6)
    assert recording.ego.t_us[0] == 0 and recording.meta["t_us_of_start"] == 100_000_000
    track = recording.cameras["front"]
    assert (track.camera.width_px, track.camera.height_px, track.camera.fx_px) == (160, 80, 125.0)
    assert track.t_us[0] == 0 and track.t_us[5] == 500_000
    assert read_frames(recording.directory, "front", [0, 500_000]).shape == (2, 80, 160, 3)
    sample = cut_sample(recording, 4_000_000)
    assert sample.future_xyz_in_rig_m[9, 0] == pytest.approx(drive.speed_mps[80:100].mean(), abs=0.3)


@pytest.mark.parametrize("unit", ["t_ms", "t_us", "t_ns"])
def test_times_are_read_by_their_unit(tmp_path, unit):
    drive = winding()
    scale = {"t_ms": 1e3, "t_us": 1e6, "t_ns": 1e9}[unit]
    write_poses(tmp_path / "in", drive, t_s=None, **{unit: np.round(drive.t_s * scale)})
    run(ImportFolderConfig(tmp_path / "in", tmp_path / "out"))
    assert read_recordings(tmp_path / "out")[0][0].ego.t_us[20] == 1_000_000


def test_degrees_quaternions_and_kilometres_an_hour(tmp_path):
    drive = winding()
    half = drive.yaw_rad / 2
    write_poses(tmp_path / "a" / "deg", drive, yaw_rad=None, yaw_deg=np.rad2deg(drive.yaw_rad), speed_mps=None,
                speed_kmh=drive.speed_mps * 3.6)  # fmt: skip
    write_poses(
        tmp_path / "a" / "quat", drive, yaw_rad=None, qw=np.cos(half), qx=0 * half, qy=0 * half, qz=np.sin(half)
    )
    run(ImportFolderConfig(tmp_path / "a", tmp_path / "out"))
    for recording in read_recordings(tmp_path / "out")[0]:
        np.testing.assert_allclose(recording.ego.yaw_rad, drive.yaw_rad, atol=1e-6)
        np.testing.assert_allclose(recording.ego.speed_mps, drive.speed_mps, atol=1e-5)


def test_a_video_without_calibration_or_times_is_taken_with_what_is_assumed(folder, tmp_path):
    directory = write_poses(tmp_path / "in", winding())
    (directory / "rear.mp4").write_bytes((folder / "front.mp4").read_bytes())
    run(ImportFolderConfig(directory, tmp_path / "out"))
    (recording,), _ = read_recordings(tmp_path / "out")
    assert recording.meta["assumed_calibration"] == ["rear"] and recording.cameras["rear"].t_us[10] == 1_000_000
    assert recording.cameras["rear"].camera.fx_px == pytest.approx(160 / np.tan(np.deg2rad(35)))


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"speed_mps": None, "speed": winding().speed_mps}, "column 'speed' is not known.*Did you mean speed_mps"),
        ({"x_m": None, "x": winding().t_s}, "column 'x' is not known.*Did you mean x_m"),
        ({"t_us": winding().t_s * 1e6}, "both t_s and t_us"),
        ({"yaw_rad": None}, "qw, qx, qy, qz or yaw_rad or yaw_deg expected"),
        ({"yaw_deg": winding().yaw_rad}, "both yaw_rad and yaw_deg"),
        ({"x_m": None}, "x_m and y_m expected"),
        ({"t_s": winding().t_s[::-1]}, "run backwards"),
        ({"y_m": winding().t_s * np.nan}, "not a number"),
    ],
)
def test_what_is_not_clear_is_refused(tmp_path, columns, said):
    write_poses(tmp_path / "in", winding(), **columns)
    with pytest.raises(UserError, match=said):
        run(ImportFolderConfig(tmp_path / "in", tmp_path / "out"))


def test_one_broken_folder_leaves_the_others(folder, tmp_path):
    write_poses(tmp_path / "in" / "good", winding())
    write_poses(tmp_path / "in" / "bad", winding())
    (tmp_path / "in" / "bad" / "poses.csv").write_text("t_s,x_m,y_m,yaw_rad\n0,0,0,0\n1,fast,0,0\n2,2,0,0\n")
    run(ImportFolderConfig(tmp_path / "in", tmp_path / "out"))
    aside = [line["set_aside"] for line in read_metrics(tmp_path / "out") if "set_aside" in line]
    assert len(aside) == 1 and "line 3: x_m is 'fast'" in aside[0]
    assert len(read_recordings(tmp_path / "out")[0]) == 1
