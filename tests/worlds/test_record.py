"""The stage `worlds record` and the commands `worlds list`, `worlds show`: what they write, resume and refuse."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import causaldrive.worlds.record as record
from causaldrive.clips.store import read_frames, read_recording, read_recordings
from causaldrive.ground.errors import UserError
from causaldrive.ground.files import read_json
from causaldrive.worlds.record import RecordConfig, run
from causaldrive.worlds.scenes import CORE_FAMILIES, FAMILIES, SceneSpec, build_scene
from causaldrive.worlds.show import ListConfig, ShowConfig, run_list, run_show


def _config(out: Path, **changes) -> RecordConfig:
    return replace(RecordConfig(out, scenes=2, first_seed=2, workers=1, camera_hz=2.0, duration_s=3.0), **changes)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("recorded")
    run(_config(out, scenes=12, first_seed=0))
    return out


def test_each_scene_becomes_a_valid_recording(recorded):
    recordings, broken = read_recordings(recorded)
    assert not broken and len(recordings) == 12
    assert {(r.meta["family"], r.meta["harmless"]) for r in recordings} == {
        (f, h) for f in CORE_FAMILIES for h in (False, True)
    }
    assert all(r.source == "town" and len(r.ego.t_us) == 31 for r in recordings)
    assert len({r.meta["disturbed"] for r in recordings}) == 2


def test_a_recording_holds_what_was_driven(recorded):
    directory = recorded / "recordings" / "town_red_light_000002_cause"
    recording = read_recording(directory)
    scene = build_scene(SceneSpec("red_light", 2))
    assert recording.meta["target_speed_mps"] == scene.context.target_speed_mps
    assert recording.lights is not None and recording.agents is not None and recording.road is not None
    assert set(recording.lights.light_id) == {h.light_id for h in scene.script.heads}
    assert set(recording.agents.agent_id) == {a.agent_id for a in scene.script.actors}
    assert set(recording.road.lanes) == set(scene.context.road.lanes)
    assert np.allclose(recording.route_xy_in_local_m, scene.context.route_xy_in_local_m)
    speed = np.linalg.norm(np.diff(recording.ego.position_in_local_m, axis=0), axis=1) / 0.1
    assert np.allclose(speed, (recording.ego.speed_mps[1:] + recording.ego.speed_mps[:-1]) / 2, atol=0.02)
    times = recording.cameras["front"].t_us
    assert np.array_equal(np.diff(times), np.full(len(times) - 1, 500_000))
    frames = read_frames(directory, "front", [int(times[0]), int(times[-1])])
    assert (
        frames.shape == (2, 192, 320, 3)
        and frames[0].std() > 15
        and np.abs(frames[0].astype(int) - frames[1]).mean() > 1
    )


def test_the_page_shows_each_family_in_both_variants(recorded):
    page = (recorded / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 12
    assert "12 recordings" in page and "Set aside" not in page
    for family in CORE_FAMILIES:
        assert f"{family}, cause" in page and f"{family}, harmless" in page


def test_a_finished_stage_does_nothing_and_another_configuration_is_refused(recorded, capsys):
    marks = {p: p.stat().st_mtime_ns for p in recorded.rglob("recording.json")}
    run(_config(recorded, scenes=12, first_seed=0))
    assert "already finished" in capsys.readouterr().err
    assert marks == {p: p.stat().st_mtime_ns for p in recorded.rglob("recording.json")}
    with pytest.raises(UserError, match="duration_s"):
        run(_config(recorded, scenes=12, first_seed=0, duration_s=4.0))


def test_the_same_seed_records_the_same_drive(recorded, tmp_path):
    run(_config(tmp_path / "again"))
    one, two = (
        read_recording(d / "recordings" / "town_red_light_000002_cause") for d in (recorded, tmp_path / "again")
    )
    assert np.array_equal(one.ego.position_in_local_m, two.ego.position_in_local_m)
    assert one.agents is not None and two.agents is not None
    assert np.array_equal(one.agents.xyz_in_local_m, two.agents.xyz_in_local_m)


def test_a_scene_that_fails_is_set_aside_and_the_rest_goes_on(tmp_path, monkeypatch, capsys):
    build = record.build_scene

    def fails_for_seed_3(spec):
        if spec.seed == 3:
            raise RuntimeError("the road is gone")
        return build(spec)

    monkeypatch.setattr(record, "build_scene", fails_for_seed_3)
    run(_config(tmp_path / "out"))
    assert [p.parent.name for p in (tmp_path / "out").rglob("recording.json")] == ["town_red_light_000002_cause"]
    assert "the road is gone" in (tmp_path / "out" / "report.html").read_text()
    assert "town_red_light_000003_harmless set aside" in capsys.readouterr().out
    monkeypatch.setattr(record, "build_scene", lambda spec: fails_for_seed_3(SceneSpec(spec.family, 3)))
    with pytest.raises(UserError, match="none of 2 scenes"):
        run(_config(tmp_path / "none"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"camera_hz": 3.0}, "camera-hz is 3.0"),
        ({"camera_hz": 0.0}, "camera-hz is 0.0"),
        ({"camera_hz": 20.0}, "camera-hz is 20.0"),
        ({"workers": 0}, "workers is 0"),
        ({"disturb": 1.5}, "disturb is 1.5"),
        ({"duration_s": 1.0}, "duration-s is 1.0"),
        ({"first_seed": 9_000_000}, "reserved"),
        ({"families": ("cutin",)}, "Did you mean cut_in"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_written(tmp_path, changes, says):
    with pytest.raises(UserError, match=says):
        run(_config(tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()


_SCRIPT = """
import sys
from pathlib import Path
from causaldrive.worlds.record import RecordConfig, run
if __name__ == "__main__":
    run(RecordConfig(Path(sys.argv[1]), scenes=4, workers=2, camera_hz=2.0, duration_s=4.0))
"""


def test_a_killed_stage_goes_on_where_it_was(tmp_path):
    """Two spawned workers, killed after the first recordings: what was written stays, the rest is added."""
    out, script = tmp_path / "out", tmp_path / "go.py"
    script.write_text(_SCRIPT)
    command = [sys.executable, str(script), str(out)]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    while not list(out.glob("recordings/town_*/recording.json")) and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = {p: p.stat().st_mtime_ns for p in out.glob("recordings/town_*/recording.json")}
    assert 1 <= len(kept) <= 4
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert len(list(out.glob("recordings/town_*/recording.json"))) == 4
    assert all(p.stat().st_mtime_ns == stamp for p, stamp in kept.items())
    state = read_json(out / "run.json")
    assert state["state"] == "finished"


def test_the_list_names_every_family(capsys):
    run_list(ListConfig())
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == list(FAMILIES)
    assert all("harmless" in line for line in printed)


def test_show_writes_a_picture_a_video_and_the_story(tmp_path, capsys):
    run_show(ShowConfig("stopped_car", seed=8, out=tmp_path, duration_s=4.0))
    assert (tmp_path / "town_stopped_car_000008_cause.png").stat().st_size > 2000
    assert (tmp_path / "town_stopped_car_000008_cause.mp4").stat().st_size > 10_000
    assert "out_of_lane_nudge left: a stopped car blocks the right side of our lane" in capsys.readouterr().out
    with pytest.raises(UserError, match="Did you mean stopped_car"):
        run_show(ShowConfig("stopped_cat", out=tmp_path))
