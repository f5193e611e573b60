"""comma2k19: a made-up segment with known truth, a video, broken segments, and the real minute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from causaldrive.clips import comma2k19, store
from causaldrive.clips.doctor import write_hevc
from causaldrive.clips.geometry import wrap_angle
from causaldrive.ground.errors import UserError
from causaldrive.ground.runs import read_metrics

ORIGIN_ECEF_M = np.array([-2712087.5, -4261670.1, 3881014.5])  # San Francisco bay
MOUNT_YAW_RIGHT_RAD, MOUNT_PITCH_DOWN_RAD = 0.03, 0.06
ROUTE = "b0c9d2329ad1606b|2018-08-02--08-34-47"


def enu_axes() -> np.ndarray:
    """(3, 3) rows east, north, up, by latitude and longitude of the ellipsoid: another way than the importer's."""
    longitude = np.arctan2(ORIGIN_ECEF_M[1], ORIGIN_ECEF_M[0])
    flat = np.hypot(*ORIGIN_ECEF_M[:2])
    latitude = np.arctan2(ORIGIN_ECEF_M[2], flat * (1 - 0.00669437999014))
    so, co, sa, ca = np.sin(longitude), np.cos(longitude), np.sin(latitude), np.cos(latitude)
    return np.array([[-so, co, 0], [-sa * co, -sa * so, ca], [ca * co, ca * so, sa]])


def write_segment(
    root: Path, number: int = 3, speed_mps: float = 15.0, seconds: float = 12.0, can: bool = True
) -> Path:
    """A car that drives north-east, 1 m/s2 faster each second; its camera looks a little right and down."""
    segment = root / ROUTE / str(number)
    (segment / "global_pose").mkdir(parents=True)
    t = np.arange(0, seconds, 0.05)
    along = speed_mps * t + 0.5 * t**2
    rig = Rotation.from_euler("Z", np.pi / 4)
    rig_position = rig.apply(np.column_stack([along, 0 * t, 0 * t]))
    flu_to_frd = Rotation.from_euler("X", np.pi)
    camera = rig * flu_to_frd * Rotation.from_euler("ZY", [MOUNT_YAW_RIGHT_RAD, -MOUNT_PITCH_DOWN_RAD])
    camera_position = rig_position + rig.apply(comma2k19.CAMERA_IN_RIG_M)
    to_ecef = Rotation.from_matrix(enu_axes().T)
    quat = (to_ecef * camera).as_quat(scalar_first=True)
    arrays = {
        "frame_times": 46_000.5 + t,
        "frame_positions": to_ecef.apply(camera_position) + ORIGIN_ECEF_M,
        "frame_orientations": np.tile(quat, (len(t), 1)),
    }
    for name, value in arrays.items():
        save(segment / "global_pose" / name, value)
    if can:
        folder = segment / "processed_log" / "CAN" / "speed"
        folder.mkdir(parents=True)
        can_t = np.arange(0.02, seconds, 0.012)
        save(folder / "t", 46_000.5 + can_t)
        save(folder / "value", (speed_mps + can_t - 0.2)[:, None])  # wheels read a little low
    return segment


def save(path: Path, value: np.ndarray) -> None:
    with path.open("wb") as stream:
        np.save(stream, value)


def run(path: Path, out: Path) -> store.Recording:
    comma2k19.run(comma2k19.ImportComma2k19Config(path, out))
    recordings, aside = store.read_recordings(out)
    assert not aside
    return recordings[0]


def test_motion_of_the_rig(tmp_path: Path):
    drive = run(write_segment(tmp_path / "in"), tmp_path / "out")
    ego, t = drive.ego, drive.ego.t_us / 1e6
    along = 15 * t + 0.5 * t**2
    np.testing.assert_allclose(ego.position_in_local_m[:, :2], along[:, None] / np.sqrt(2) * [1, 1], atol=0.02)
    np.testing.assert_allclose(ego.position_in_local_m[:, 2], 0, atol=0.02)
    assert np.abs(wrap_angle(ego.yaw_rad - np.pi / 4)).max() < 1e-3
    np.testing.assert_allclose(ego.acceleration_in_rig_mps2[5:-5, 0], 1, atol=0.02)
    assert np.abs(ego.curvature_1pm).max() < 1e-4
    assert ego.t_us[0] == 0 and drive.meta["boot_time_of_t0_s"] == pytest.approx(46_000.5)


def test_the_mount_is_found_from_the_drive(tmp_path: Path):
    mount = run(write_segment(tmp_path / "in"), tmp_path / "out").meta["camera_mount"]
    assert mount["camera_pitch_down_deg"] == pytest.approx(np.rad2deg(MOUNT_PITCH_DOWN_RAD), abs=0.05)
    assert mount["camera_yaw_left_deg"] == pytest.approx(-np.rad2deg(MOUNT_YAW_RIGHT_RAD), abs=0.05)


def test_speed_is_that_of_the_wheels_and_is_cross_checked(tmp_path: Path):
    drive = run(write_segment(tmp_path / "in"), tmp_path / "out")
    np.testing.assert_allclose(drive.ego.speed_mps[5:-5], 14.8 + drive.ego.t_us[5:-5] / 1e6, atol=0.02)
    assert drive.meta["speed"]["can_minus_pose_median_mps"] == pytest.approx(-0.2, abs=0.02)


def test_without_can_the_poses_give_the_speed(tmp_path: Path):
    drive = run(write_segment(tmp_path / "in", can=False), tmp_path / "out")
    np.testing.assert_allclose(drive.ego.speed_mps, 15 + drive.ego.t_us / 1e6, atol=0.02)
    assert drive.meta["speed"]["from"] == "poses"


def test_video_becomes_the_front_camera(tmp_path: Path):
    segment = write_segment(tmp_path / "in", seconds=6.0)
    images = [np.full((292, 388, 3), 30 + n, np.uint8) for n in range(120)]
    write_hevc(segment / "video.hevc", images, 20)
    drive = run(tmp_path / "in", tmp_path / "out")
    track = drive.cameras["front"]
    assert (track.camera.width_px, track.camera.height_px) == (640, 482)
    assert track.camera.fx_px == pytest.approx(910 * 640 / 1164)
    shades = store.read_frames(drive.directory, "front", [0, 3_000_000]).mean((1, 2, 3))
    assert np.abs(shades - [30, 90]).max() < 3
    # a far point straight ahead of the car appears left of and above the middle of a camera that looks right and down
    (u, v), inside = track.camera.project(np.array([500.0, 0.0, 1.22]))
    assert inside and u - 320 == pytest.approx(-track.camera.fx_px * np.tan(MOUNT_YAW_RIGHT_RAD), abs=2)
    assert v - 241 == pytest.approx(-track.camera.fy_px * np.tan(MOUNT_PITCH_DOWN_RAD), abs=2)


def damage_nan(segment: Path) -> None:
    value = np.load(segment / "global_pose" / "frame_positions")
    value[5] = np.nan
    save(segment / "global_pose" / "frame_positions", value)


def damage_times(segment: Path) -> None:
    value = np.load(segment / "global_pose" / "frame_times")
    value[9] = value[3]
    save(segment / "global_pose" / "frame_times", value)


def damage_short_video(segment: Path) -> None:
    write_hevc(segment / "video.hevc", [np.zeros((64, 96, 3), np.uint8)] * 7, 20)


DAMAGE = {
    "missing": (lambda s: (s / "global_pose" / "frame_times").unlink(), "frame_times is missing"),
    "truncated": (lambda s: (s / "global_pose" / "frame_positions").write_bytes(b"\x93NUMPY"), "not a readable NumPy"),
    "NaN": (damage_nan, "not numbers in the poses"),
    "time backwards": (damage_times, "time stamps run backwards at row 9"),
    "short": (lambda s: save(s / "global_pose" / "frame_times", np.arange(7.0)), "7 frame_times, 240 frame_positions"),
    "wrong shape": (lambda s: save(s / "global_pose" / "frame_orientations", np.ones((240, 3))), r"shape (240, 3)"),
    "short video": (damage_short_video, "7 frames and 240 time stamps"),
    "no video at all": (lambda s: (s / "video.hevc").write_bytes(b"junk" * 50), "video.hevc cannot be opened"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_broken_segments_are_set_aside(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture):
    broken, _ = write_segment(tmp_path / "in", 1), write_segment(tmp_path / "in", 2)
    damage, sentence = DAMAGE[kind]
    damage(broken)
    drive = run(tmp_path / "in", tmp_path / "out")
    assert drive.recording_id.endswith("_2")
    lines = read_metrics(tmp_path / "out")
    assert sentence in lines[0]["set_aside"] and "set_aside" not in lines[1]
    assert sentence in capsys.readouterr().err and sentence.split()[0] in (tmp_path / "out" / "report.html").read_text()


def test_all_broken_is_an_error_and_nothing_found_too(tmp_path: Path):
    damage_nan(write_segment(tmp_path / "in"))
    with pytest.raises(UserError, match=r"none of 1 drives could be imported.*not numbers"):
        comma2k19.run(comma2k19.ImportComma2k19Config(tmp_path / "in", tmp_path / "out"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds nothing to import; expected comma2k19 segments"):
        comma2k19.run(comma2k19.ImportComma2k19Config(tmp_path / "empty", tmp_path / "out2"))


def test_a_killed_import_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for number in (1, 2, 3):
        write_segment(tmp_path / "in", number)
    config = comma2k19.ImportComma2k19Config(tmp_path / "in", tmp_path / "out")
    real, seen = comma2k19.convert, []

    def dies_at_the_second(source, *rest):
        seen.append(source.recording_id[-1])
        if seen == ["1", "2"]:
            raise KeyboardInterrupt
        return real(source, *rest)

    monkeypatch.setattr(comma2k19, "convert", dies_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        comma2k19.run(config)
    comma2k19.run(config)
    assert seen == ["1", "2", "2", "3"] and len(store.read_recordings(tmp_path / "out")[0]) == 3
    comma2k19.run(config)  # finished: does nothing
    assert len(seen) == 4


def test_the_real_minute(samples_dir: Path, tmp_path: Path):
    """README of the samples: pulls away at 8 m/s, reaches 20 m/s, eases off and speeds up again several times."""
    drive = run(samples_dir / "comma2k19", tmp_path / "out")
    ego = drive.ego
    assert ego.t_us[-1] / 1e6 == pytest.approx(59.95, abs=0.1) and len(ego.t_us) == 1200
    assert ego.speed_mps[0] == pytest.approx(8.0, abs=0.2) and ego.speed_mps.max() == pytest.approx(20.0, abs=0.5)
    assert np.abs(ego.velocity_in_rig_mps[:, 1:]).max() < 0.6  # the car does not slide: the mount is right
    assert abs(drive.meta["speed"]["can_minus_pose_median_mps"]) < 0.3 and drive.cameras == {}
    assert np.abs(ego.curvature_1pm).max() < 0.005
    path = np.linalg.norm(np.diff(ego.position_in_local_m, axis=0), axis=1).sum()
    assert path == pytest.approx(np.trapezoid(ego.speed_mps, ego.t_us / 1e6), rel=0.02)
