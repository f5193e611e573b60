"""The store: what is written comes back, every kind of damage gets one sentence and harms nothing else."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import fields, replace
from pathlib import Path

import av
import clip_drives
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from causaldrive.clips import store
from causaldrive.clips.types import RoadMap
from causaldrive.clips.video import decode_frames, encode_video, index_video
from causaldrive.ground import files
from causaldrive.ground.errors import UserError

FRAMES = 40


def write(path: Path, recording_id: str = "drive-1", everything: bool = True) -> Path:
    drive = clip_drives.recording(recording_id, everything)
    store.write_recording(path, drive, {"front": clip_drives.pictures(FRAMES)})
    return path


def assert_same(ours, theirs) -> None:
    for entry in fields(ours):
        np.testing.assert_array_equal(getattr(ours, entry.name), getattr(theirs, entry.name), err_msg=entry.name)


def test_everything_comes_back(tmp_path: Path):
    drive = clip_drives.recording()
    back = store.read_recording(write(tmp_path / "r"))
    for name in ("ego", "agents", "lights"):
        assert_same(getattr(drive, name), getattr(back, name))
    np.testing.assert_array_equal(back.route_xy_in_local_m, drive.route_xy_in_local_m)
    np.testing.assert_array_equal(back.cameras["front"].t_us, drive.cameras["front"].t_us)
    assert back.cameras["front"].camera == drive.cameras["front"].camera
    assert (back.meta, back.directory) == (drive.meta, tmp_path / "r")
    assert (back.ego_size_m, back.source, back.licence) == (drive.ego_size_m, drive.source, drive.licence)


def test_the_map_comes_back(tmp_path: Path):
    road, back = clip_drives.road(), store.read_recording(write(tmp_path / "r")).road
    assert isinstance(back, RoadMap)
    for key, lane in road.lanes.items():
        assert_same(lane, back.lanes[key])
    for name in ("crosswalks", "drivable", "stop_lines", "buildings"):
        ours, theirs = getattr(road, name), getattr(back, name)
        assert ours.keys() == theirs.keys()
        for key in ours:
            np.testing.assert_array_equal(ours[key], theirs[key])


def test_optional_parts_stay_absent(tmp_path: Path):
    back = store.read_recording(write(tmp_path / "r", everything=False))
    assert (back.agents, back.lights, back.road, back.route_xy_in_local_m) == (None,) * 4
    assert not (tmp_path / "r" / "agents.parquet").exists()


def test_two_writes_give_the_same_bytes(tmp_path: Path):
    first, second = write(tmp_path / "a"), write(tmp_path / "b")
    names = sorted(file.name for file in first.iterdir())
    assert {n: files.digest(first / n) for n in names} == {n: files.digest(second / n) for n in names}


@pytest.mark.parametrize("numbers", [[0], [39], [17, 3, 17, 38], [11, 12, 13], list(range(40))])
def test_frames_are_the_ones_asked_for(tmp_path: Path, numbers: list[int]):
    write(tmp_path / "r")
    images = store.read_frames(tmp_path / "r", "front", [n * 100_000 + 20_000 for n in numbers])
    assert images.shape == (len(numbers), clip_drives.HEIGHT, clip_drives.WIDTH, 3)
    assert np.abs(images.mean((1, 2, 3)) - [clip_drives.shade(n) for n in numbers]).max() < 3


def test_all_frames_stream_in_order(tmp_path: Path):
    write(tmp_path / "r")
    seen = [(t, image.mean()) for t, image in store.iterate_frames(tmp_path / "r", "front")]
    assert [t for t, _ in seen] == [n * 100_000 for n in range(FRAMES)]
    assert max(abs(mean - clip_drives.shade(n)) for n, (_, mean) in enumerate(seen)) < 3


def test_a_random_read_decodes_one_short_group(tmp_path: Path):
    write(tmp_path / "r")
    index = index_video(tmp_path / "r" / "front.mp4")
    assert np.diff(index.keyframes).max() <= 12 and index.keyframes[0] == 0


def test_videos_of_other_makers_are_read_by_frame_number(tmp_path: Path):
    """Long groups with B-frames: presentation order differs from file order."""
    path = tmp_path / "other.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "3", "g": "60"})
        stream.width, stream.height, stream.pix_fmt = clip_drives.WIDTH, clip_drives.HEIGHT, "yuv420p"
        for image in clip_drives.pictures(50):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    numbers = [49, 1, 22]
    means = decode_frames(path, numbers).mean((1, 2, 3))
    assert np.abs(means - [clip_drives.shade(n) for n in numbers]).max() < 3


def test_unknown_camera_and_time_without_frame(tmp_path: Path):
    write(tmp_path / "r")
    with pytest.raises(UserError, match=r"camera 'fron' is not known.*Did you mean front"):
        store.read_frames(tmp_path / "r", "fron", [0])
    with pytest.raises(UserError, match=r"no frame within 60 ms of t_us 9000000.*nearest is at 3900000"):
        store.read_frames(tmp_path / "r", "front", [0, 9_000_000])


@pytest.mark.parametrize("count", [FRAMES - 1, FRAMES + 1])
def test_frames_and_times_must_agree_when_written(tmp_path: Path, count: int):
    with pytest.raises(UserError, match=rf"{count} frames and {FRAMES} time stamps"):
        store.write_recording(tmp_path / "r", clip_drives.recording(), {"front": clip_drives.pictures(count)})
    assert list(tmp_path.iterdir()) == []


def test_odd_sizes_are_refused(tmp_path: Path):
    odd = (np.zeros((47, 64, 3), np.uint8) for _ in range(FRAMES))
    with pytest.raises(UserError, match=r"\(47, 64, 3\), expected \(even height, even width, 3\)"):
        store.write_recording(tmp_path / "r", clip_drives.recording(), {"front": odd})


def test_a_failed_write_keeps_the_older_recording(tmp_path: Path):
    write(tmp_path / "r")
    before = files.digest(tmp_path / "r")

    def breaks():
        yield from clip_drives.pictures(5)
        raise RuntimeError("the simulator died")

    with pytest.raises(RuntimeError):
        store.write_recording(tmp_path / "r", clip_drives.recording(), {"front": breaks()})
    assert files.digest(tmp_path / "r") == before and [p.name for p in tmp_path.iterdir()] == ["r"]


def test_recordings_are_found_three_levels_down(tmp_path: Path):
    write(tmp_path / "a" / "b" / "c")
    write(tmp_path / "d", "drive-2")
    write(tmp_path / "too" / "far" / "down" / "here", "drive-3")
    assert store.find_recordings(tmp_path) == [tmp_path / "a" / "b" / "c", tmp_path / "d"]
    assert store.find_recordings(tmp_path / "d") == [tmp_path / "d"]


def test_nothing_to_read(tmp_path: Path):
    with pytest.raises(UserError, match="holds no recording"):
        store.find_recordings(tmp_path)
    with pytest.raises(UserError, match="holds no recording"):
        store.read_recording(tmp_path)
    with pytest.raises(UserError, match="is not a directory"):
        store.read_recordings(tmp_path / "nowhere")


def truncate(path: Path, share: float = 0.5) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def edit(path: Path, change) -> None:
    table = pq.read_table(path)
    columns = {name: table.column(name).to_numpy().copy() for name in table.column_names}
    change(columns)
    pq.write_table(pa.table(columns), path)


def set_cell(column: str, row: int, value: float):
    def change(columns: dict) -> None:
        columns[column][row] = value

    return change


def edit_json(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def damage_ego(change):
    return lambda directory: edit(directory / "ego.parquet", change)


def damage_agents(change):
    return lambda directory: edit(directory / "agents.parquet", change)


def damage_mark(**changes):
    return lambda directory: edit_json(directory / "recording.json", **changes)


def truncated(name: str):
    return lambda directory: truncate(directory / name)


def missing(name: str):
    return lambda directory: (directory / name).unlink()


DAMAGE = {
    "truncated ego": (truncated("ego.parquet"), "ego.parquet cannot be read as Parquet"),
    "missing ego": (missing("ego.parquet"), "ego.parquet is missing"),
    "missing mark": (missing("recording.json"), "holds no recording"),
    "broken mark": (truncated("recording.json"), "recording.json is not valid JSON"),
    "other format": (damage_mark(format=99), "format 99 found, 1 expected"),
    "incomplete mark": (damage_mark(source=None), "field 'source' is missing"),
    "incomplete camera": (damage_mark(cameras=[{"name": "front"}]), "camera entry"),
    "missing column": (damage_ego(lambda c: c.pop("position_y_m")), "lacks the column position_y_m"),
    "NaN pose": (damage_ego(set_cell("position_x_m", 7, np.nan)), "position_in_local_m is not a number at row 7"),
    "time backwards": (damage_ego(set_cell("t_us", 9, 100)), "time stamps run backwards at row 9"),
    "long quaternion": (damage_ego(set_cell("quat_w", 3, 5.0)), "quaternion at row 3"),
    "NaN agent": (damage_agents(set_cell("x_m", 0, np.inf)), "xyz_in_local_m holds values"),
    "agents unsorted": (damage_agents(set_cell("t_us", 5, 0)), "agents.parquet: time stamps run"),
    "unknown category": (damage_agents(set_cell("category", 0, "ufo")), "category 'ufo'"),
    "text for a number": (damage_agents(lambda c: c.update(yaw_rad=c["agent_id"])), "column yaw_rad"),
    "missing agents": (missing("agents.parquet"), "agents.parquet is missing"),
    "unknown light": (lambda r: edit(r / "lights.parquet", set_cell("state", 0, "blue")), "light state 'blue'"),
    "truncated map": (truncated("map.parquet"), "map.parquet cannot be read"),
    "NaN route": (lambda r: edit(r / "route.parquet", set_cell("x_m", 0, np.nan)), "route points or values"),
    "truncated video": (truncated("front.mp4"), "front.mp4 cannot be decoded as video"),
    "not a video": (lambda r: (r / "front.mp4").write_bytes(b"nothing" * 99), "front.mp4 cannot be decoded as video"),
    "missing video": (missing("front.mp4"), "front.mp4 is missing"),
    "frames missing": (lambda r: shorten_video(r), "has 30 frames, its table front.parquet has 40 time stamps"),
    "video times backwards": (
        lambda r: edit(r / "front.parquet", set_cell("t_us", 4, 0)),
        "front.parquet: time stamps",
    ),
    "emptied": (lambda r: [p.unlink() for p in r.iterdir()], "holds no recording"),
}


def shorten_video(directory: Path) -> None:
    encode_video(directory / "front.mp4", clip_drives.pictures(30), store._rate(np.arange(5) * 100_000), "short")


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_gets_one_sentence_and_harms_no_other(tmp_path: Path, kind: str):
    broken, sound = write(tmp_path / "broken", "broken"), write(tmp_path / "sound", "sound")
    untouched = files.digest(sound)
    damage, sentence = DAMAGE[kind]
    damage(broken)
    recordings, aside = store.read_recordings(tmp_path)
    assert [r.recording_id for r in recordings] == ["sound"]
    assert [entry.path for entry in aside] == [broken]
    assert sentence in aside[0].reason and "\n" not in aside[0].reason and aside[0].reason.endswith(".")
    assert str(broken) in aside[0].reason and files.digest(sound) == untouched


def test_damage_inside_the_video_is_named_when_read(tmp_path: Path):
    write(tmp_path / "r")
    path = tmp_path / "r" / "front.mp4"
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    data[start + 900 :] = bytes(b ^ 0x5A for b in data[start + 900 : data.index(b"moov")]) + data[data.index(b"moov") :]
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"front.mp4"):
        store.read_frames(tmp_path / "r", "front", [3_900_000])
    with pytest.raises(UserError, match=r"front.mp4"):
        list(store.iterate_frames(tmp_path / "r", "front"))


def test_a_second_recording_of_one_id_is_set_aside(tmp_path: Path):
    write(tmp_path / "a", "same")
    write(tmp_path / "b", "same")
    recordings, aside = store.read_recordings(tmp_path)
    assert [r.directory for r in recordings] == [tmp_path / "a"] and "ids must differ" in aside[0].reason


def test_bad_poses_are_not_written(tmp_path: Path):
    drive = clip_drives.recording()
    drive.ego.position_in_local_m[3] = np.nan
    with pytest.raises(UserError, match="not a number at row 3"):
        store.write_recording(tmp_path / "r", drive, {"front": clip_drives.pictures(FRAMES)})
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The system reports a full disk at the latest when a file is synced."""

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"the disk is full; free some space"):
        write(tmp_path / "r")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["front.mp4", "ego.parquet"])
def test_full_disk_under_each_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    """The device that is always full stands in for one of the files."""
    mkdir = Path.mkdir

    def with_full_file(self: Path, *args, **options) -> None:
        mkdir(self, *args, **options)
        if self.name.endswith(".part"):
            (self / name).symlink_to("/dev/full")

    monkeypatch.setattr(Path, "mkdir", with_full_file)
    with pytest.raises(UserError, match=r"the disk is full; free some space"):
        write(tmp_path / "r")
    assert list(tmp_path.iterdir()) == []


def test_memory_only_recordings_have_no_directory():
    assert replace(clip_drives.recording(), meta={}).directory is None
