"""The check of own recordings: each planted fault is found and named, and sound drives raise no alarm."""

from __future__ import annotations

import json

import numpy as np
import pytest
from clip_drives import circle_drive
from own_drives import winding, write_poses, write_video

from causaldrive.clips.check import CheckConfig, check_drive, run
from causaldrive.clips.faults import Poses, check_poses
from causaldrive.clips.store import write_recording
from causaldrive.clips.types import EgoMotion, Recording
from causaldrive.ground.errors import UserError


def poses(seed: int = 0, **changes) -> Poses:
    drive = winding(seed=seed, start_yaw=0.3 + 0.7 * seed)
    xyz = np.column_stack([drive.xy_m, np.zeros(len(drive.t_s))])
    fields = {"t_us": np.rint(drive.t_s * 1e6).astype(np.int64), "position_m": xyz, "yaw_rad": drive.yaw_rad,
              "speed_mps": drive.speed_mps}  # fmt: skip
    return Poses(**{**fields, **changes})


def kinds(poses: Poses) -> list[str]:
    return [finding.kind for finding in check_poses(poses)]


@pytest.mark.parametrize("seed", range(12))
def test_a_sound_drive_raises_no_alarm(seed):
    sound = poses(seed)
    noise = np.random.default_rng(seed).normal(0, 0.02, sound.position_m.shape)
    assert kinds(sound) == [] and kinds(poses(seed, position_m=sound.position_m + noise)) == []


def test_standing_and_backing_up_are_no_faults():
    still = poses(position_m=np.zeros((281, 3)), speed_mps=np.zeros(281))
    assert kinds(still) == []


def _swapped(p: Poses) -> Poses:
    return Poses(p.t_us, p.position_m[:, [1, 0, 2]], p.yaw_rad, p.speed_mps)


def _upright(p: Poses) -> Poses:
    return Poses(p.t_us, p.position_m[:, [0, 2, 1]], p.yaw_rad, p.speed_mps)


def _with(p: Poses, **changes) -> Poses:
    return Poses(**{**vars(p), **changes})


def _jump(p: Poses) -> Poses:
    moved = p.position_m.copy()
    moved[140:] += [6.0, 3.0, 0.0]
    return _with(p, position_m=moved)


def _twisted(p: Poses) -> Poses:
    yaw = p.yaw_rad.copy()
    yaw[140] += 1.2
    return _with(p, yaw_rad=yaw)


FAULTS = {
    "swapped axes": _swapped,
    "swapped axes, z": _upright,
    "swapped axes, rig": lambda p: _with(p, yaw_rad=p.yaw_rad + np.pi / 2),
    "wrong yaw sign": lambda p: _with(p, yaw_rad=-p.yaw_rad),
    "reversed heading": lambda p: _with(p, yaw_rad=p.yaw_rad + np.pi),
    "heading offset": lambda p: _with(p, yaw_rad=p.yaw_rad + 0.5),
    "yaw unit": lambda p: _with(p, yaw_rad=np.rad2deg(p.yaw_rad)),
    "yaw unit, too small": lambda p: _with(p, yaw_rad=np.deg2rad(p.yaw_rad)),
    "speed unit": lambda p: _with(p, speed_mps=p.speed_mps * 3.6),
    "speed unit, divided": lambda p: _with(p, speed_mps=p.speed_mps / 3.6),
    "position unit": lambda p: _with(p, position_m=p.position_m * 100),
    "time unit": lambda p: _with(p, t_us=p.t_us // 1000),
    "time unit, s": lambda p: _with(p, t_us=(p.t_us * 10) // 1_000_000 * 0 + np.arange(len(p.t_us))),
    "time unit, ns": lambda p: _with(p, t_us=p.t_us * 1000),
    "duplicate times": lambda p: _with(p, t_us=np.where(np.arange(len(p.t_us)) == 50, p.t_us[49], p.t_us)),
    "backwards times": lambda p: _with(p, t_us=np.where(np.arange(len(p.t_us)) == 50, p.t_us[30], p.t_us)),
    "position jump": _jump,
    "heading jump": _twisted,
    "gap": lambda p: _with(p, t_us=p.t_us + np.where(np.arange(len(p.t_us)) > 99, 3_000_000, 0)),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_and_named(name, seed):
    found = check_poses(FAULTS[name](poses(seed)))
    assert [finding.kind for finding in found] == [name.split(",")[0]]
    assert all(finding.found.endswith(".") and finding.fix.endswith(".") for finding in found)


def test_the_unit_is_named():
    assert "km/h" in check_poses(FAULTS["speed unit"](poses()))[0].fix
    assert "milliseconds written as microseconds" in check_poses(FAULTS["time unit"](poses()))[0].fix
    assert "degrees to radians" in check_poses(FAULTS["yaw unit"](poses()))[0].fix


@pytest.mark.parametrize("offset_s", [-0.6, -0.3, 0.4, 1.1])
def test_a_clock_offset_between_camera_and_poses_is_measured(tmp_path, offset_s):
    directory = write_poses(tmp_path / "drive", winding())
    write_video(directory, winding(), offset_s)
    checked = check_drive(directory)
    assert [finding.kind for finding in checked.findings] == ["clock offset"]
    word = "late" if offset_s > 0 else "early"
    assert f"{abs(offset_s):.1f}" in checked.findings[0].found and word in checked.findings[0].found


def test_clocks_that_agree_raise_no_alarm(tmp_path):
    directory = write_poses(tmp_path / "drive", winding())
    write_video(directory, winding())
    checked = check_drive(directory)
    assert checked.findings == [] and "offset" in checked.clocks[0]


def test_a_mirrored_world_shows_in_the_video_alone(tmp_path):
    """y and yaw both to the right agree with each other; only the picture turns the other way."""
    drive = winding()
    directory = write_poses(tmp_path / "drive", drive, y_m=-drive.xy_m[:, 1], yaw_rad=-drive.yaw_rad)
    write_video(directory, drive)
    checked = check_drive(directory)
    assert [finding.kind for finding in checked.findings] == ["wrong yaw sign"]
    assert "does not turn as the poses do" in checked.clocks[0]


def test_a_straight_drive_says_nothing_about_its_clock(tmp_path):
    drive = winding()
    straight = type(drive)(drive.t_s, np.column_stack([10 * drive.t_s, 0 * drive.t_s]), 0 * drive.t_s,
                           10 + 0 * drive.t_s, drive.frame_t_s)  # fmt: skip
    directory = write_poses(tmp_path / "drive", straight)
    write_video(directory, straight, 0.5)
    checked = check_drive(directory)
    assert checked.findings == [] and "neither turns nor changes its speed" in checked.clocks[0]


def test_the_command_writes_a_page_and_says_what_to_do(tmp_path, capsys):
    write_poses(tmp_path / "in" / "good", winding())
    write_poses(tmp_path / "in" / "fast", winding(), speed_mps=winding().speed_mps * 3.6)
    write_poses(tmp_path / "in" / "torn", winding())
    (tmp_path / "in" / "torn" / "poses.csv").write_text("t_s\n")
    ego = circle_drive()
    bad = EgoMotion(**{**vars(ego), "velocity_in_rig_mps": ego.velocity_in_rig_mps * 3.6})
    write_recording(tmp_path / "in" / "recorded", Recording("recorded", "test", "none", bad), {})
    assert run(CheckConfig(tmp_path / "in", tmp_path / "out")) == 1
    text = capsys.readouterr().out
    assert "fast: speed unit: The speed is 3.60 times" in text and "divide it by 3.6" in text
    assert "torn: unreadable" in text and "recorded: speed unit" in text and "1 of 4 drives without a finding" in text
    results = json.loads((tmp_path / "out" / "findings.json").read_text())
    assert [r["name"] for r in results if not r["findings"]] == ["good"]
    assert "divide it by 3.6" in (tmp_path / "out" / "report.html").read_text()
    assert run(CheckConfig(tmp_path / "in" / "good", tmp_path / "fine")) == 0


def test_nothing_to_check_is_said(tmp_path):
    with pytest.raises(UserError, match="neither recordings"):
        run(CheckConfig(tmp_path, tmp_path / "out"))
