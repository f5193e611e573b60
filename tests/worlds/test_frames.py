"""Frames of a recording: from its video, drawn from agents and map, or a sentence that says what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawing import straight_road
from world_drives import log, written

from causaldrive.clips.store import read_recording, write_recording
from causaldrive.clips.types import Camera, CameraTrack, Recording
from causaldrive.ground.errors import UserError
from causaldrive.worlds.frames import FrameSource
from causaldrive.worlds.renderer import Renderer
from causaldrive.worlds.replay import context_of, states_of

TIMES_US = [1_000_000, 1_400_000]
FRONT = Camera("front", 64, 48, 50.0, 50.0, 32.0, 24.0, (1.6, 0.0, 1.5), (0.5, -0.5, 0.5, -0.5))


@pytest.fixture(scope="module")
def source() -> FrameSource:
    return FrameSource("software")


def shade(number: int) -> int:
    return 20 + 4 * number


def filmed(directory: Path) -> Recording:
    """A log with a video whose frame n is one shade of grey."""
    bare = log(seconds=5.0, road=straight_road())
    recording = replace(bare, cameras={"front": CameraTrack(FRONT, bare.ego.t_us)})
    pictures: Iterator[np.ndarray] = (np.full((48, 64, 3), shade(i), np.uint8) for i in range(len(bare.ego.t_us)))
    write_recording(directory, recording, {"front": pictures})
    return read_recording(directory)


def test_a_recording_with_video_is_read(tmp_path, source):
    recording = filmed(tmp_path / "drive")
    frames = source.frames(tmp_path / "drive", recording, "front", TIMES_US)
    assert frames.shape == (2, 48, 64, 3) and frames.dtype == np.uint8
    np.testing.assert_allclose(frames.mean(axis=(1, 2, 3)), [shade(10), shade(14)], atol=2.0)
    assert source._renderer is None, "no renderer is opened for a recording with video"


def test_the_wrong_camera_or_time_is_told(tmp_path, source):
    recording = filmed(tmp_path / "drive")
    with pytest.raises(UserError, match="Did you mean front"):
        source.frames(tmp_path / "drive", recording, "frnt", TIMES_US)
    with pytest.raises(UserError, match="no frame within"):
        source.frames(tmp_path / "drive", recording, "front", [9_000_000])


def test_a_recording_without_video_is_drawn(tmp_path, source):
    directory = written(tmp_path / "drive", log(road=straight_road()))
    recording = read_recording(directory)
    frames = source.frames(directory, recording, "front", TIMES_US)
    camera = context_of(recording).camera
    assert frames.shape == (2, camera.height_px, camera.width_px, 3) and frames.dtype == np.uint8
    assert not np.array_equal(frames[0], frames[1]), "the car moves"
    again = source.frames(directory, recording, "front", TIMES_US[::-1])
    assert np.array_equal(frames, again[::-1]), "a picture depends on its time alone"
    assert source._renderer is not None
    scene = source._renderer.open(context_of(recording))
    assert np.array_equal(frames[1], scene.render(states_of(recording, TIMES_US[1:])[0]))
    scene.close()


def test_what_is_drawn_shows_the_agents(tmp_path, source):
    recording = log(road=straight_road())
    assert recording.agents is not None
    near = replace(recording.agents, xyz_in_local_m=recording.agents.xyz_in_local_m - [48.0, 0.0, 0.0])
    frames = [source.frames(tmp_path, replace(recording, agents=agents), "front", TIMES_US[:1])[0]
              for agents in (recording.agents, near)]  # fmt: skip
    changed = (np.abs(frames[0].astype(int) - frames[1]) > 24).any(axis=-1)
    assert changed.mean() > 0.01 and changed[: len(changed) // 4].mean() < 0.01


def test_one_renderer_serves_all_recordings(tmp_path, source):
    recording = log(road=straight_road())
    source.frames(tmp_path, recording, "front", TIMES_US[:1])
    first = source._renderer
    assert isinstance(first, Renderer)
    source.frames(tmp_path, log(road=straight_road(), x_m=20.0), "front", TIMES_US[:1])
    assert source._renderer is first


@pytest.mark.parametrize("missing", ["agents", "road", "both"])
def test_without_video_and_without_agents_or_map_it_says_what_to_do(missing):
    recording = log(road=straight_road())
    bare = {"agents": {"agents": None}, "road": {"road": None}, "both": {"agents": None, "road": None}}[missing]
    with pytest.raises(UserError, match=r"no video and no agents and map.*label --teacher motion"):
        FrameSource("software").frames(Path("drives/bare"), replace(recording, **bare), "front", TIMES_US)


def test_a_time_outside_the_log_is_told(tmp_path, source):
    with pytest.raises(UserError):
        source.frames(tmp_path, log(road=straight_road()), "front", [60_000_000])
