"""The command `ask` as a person runs it: against a real local server that answers well and badly, and local models."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from eval_drives import curved_recording, other_rooms, write_student
from PIL import Image

from causaldrive.cli import main
from causaldrive.clips.video import encode_video
from causaldrive.evaluate.ask.modes import mode_names

odd_server = other_rooms("label", "odd_server")
ANSWERS = {
    "caption": "A road.",
    "2d_grounding": '```json\n[{"bbox_2d": [250, 500, 750, 1000], "label": "car"},]\n```',
    "point_3d": '[{"point_3d": [0, 0, 10], "label": "car"}]',
    "trajectory_2d": '[{"point_2d": [500, 1000], "label": "us"}, {"point_2d": [500, 500], "label": "us"}]',
    "temporal_localization": '[{"start": "00:00.5", "end": "00:01.0", "caption": "braking"}]',
    "av_cot": "First the car ahead. Slow down.",
    "driving_trajectory": json.dumps({"reason": "go on", "trajectory": [[3.2 * i, 0.0] for i in range(1, 17)]}),
}


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    """2 s of grey at 10 Hz, 96 x 64."""
    path = tmp_path_factory.mktemp("video") / "drive.mp4"
    encode_video(path, (np.full((64, 96, 3), 90, np.uint8) for _ in range(21)), Fraction(10), "drive.mp4")
    return path


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    """An almost straight drive at 8 m/s."""
    return curved_recording(tmp_path_factory.mktemp("recordings"), 1e-5, 2_000_000)


def ask(video: Path, mode: str, out: Path, server=None, *more: str) -> int:
    where = ["--endpoint.url", server.url, "--endpoint.model", "m"] if server else []
    return main(["ask", str(video), "--mode", mode, "--out", str(out), *where, *more])


def answers(out: Path) -> dict:
    return json.loads((out / "answers.json").read_text())


def serve(text: str):
    return odd_server.OddServer(lambda payload, count: odd_server.said(text))


def test_every_mode_of_the_issue_is_there():
    assert mode_names() == sorted(ANSWERS)


@pytest.mark.parametrize("mode", ANSWERS)
def test_each_mode_is_asked_read_and_drawn(mode: str, recording: Path, tmp_path: Path):
    with serve(ANSWERS[mode]) as server:
        assert ask(recording, mode, tmp_path / "out", server) == 0
    found = answers(tmp_path / "out")
    (row,) = found["answers"]
    assert row["failure"] is None and found["parse_rate"] == 1.0
    assert len(row["entries"]) == (0 if mode in ("caption", "av_cot") else 1)
    pictures = [part for part in server.payloads[0]["messages"][1]["content"] if part["type"] == "image_url"]
    sees_video = mode not in ("2d_grounding", "point_3d", "trajectory_2d")
    assert len(pictures) == (9 if sees_video else 1), "4 s at 2 Hz, or the last picture"
    assert (tmp_path / "out" / row["picture"]).exists() and (tmp_path / "out" / "report.html").exists()
    if sees_video:
        with av.open(str(tmp_path / "out" / row["video"])) as film:
            assert sum(1 for _ in film.decode(video=0)) == 9
    else:
        assert row["video"] == ""


def test_a_box_lies_where_it_was_said_to_be(video: Path, tmp_path: Path):
    with serve(ANSWERS["2d_grounding"]) as server:
        assert ask(video, "2d_grounding", tmp_path / "out", server, "--parameters", "object=the red car") == 0
    assert "Locate the red car" in server.payloads[0]["messages"][1]["content"][-1]["text"]
    found = answers(tmp_path / "out")
    (row,) = found["answers"]
    assert row["entries"][0]["px"] == [[24.0, 32.0], [72.0, 64.0]] and found["mended"] == 1
    drawn = np.asarray(Image.open(tmp_path / "out" / row["picture"])).astype(int)
    changed = np.argwhere(np.abs(drawn - drawn[0, 0]).max(axis=2) > 60)
    assert changed[:, 1].min() in range(22, 27) and changed[:, 1].max() in range(70, 75)


def test_way_points_are_metres_and_held_against_what_was_driven(recording: Path, tmp_path: Path):
    with serve(ANSWERS["driving_trajectory"]) as server:
        assert ask(recording, "driving_trajectory", tmp_path / "out", server) == 0
    (row,) = answers(tmp_path / "out")["answers"]
    assert row["entries"][0]["xy_in_rig_m"][-1] == [51.2, 0.0] and row["entries"][0]["t_s"][-1] == 6.4
    assert row["ade_m"] < 0.1, "8 m/s was said and driven"
    assert "8.00" in server.payloads[0]["messages"][1]["content"][-1]["text"], "own motion is in the prompt"


def test_points_of_the_camera_are_points_of_the_rig(recording: Path, tmp_path: Path):
    with serve(ANSWERS["point_3d"]) as server:
        assert ask(recording, "point_3d", tmp_path / "out", server) == 0
    (row,) = answers(tmp_path / "out")["answers"]
    assert row["entries"][0]["xyz_in_rig_m"] == pytest.approx([11.6, 0.0, 1.5])


def test_parse_rate_over_moments_and_a_killed_run_asks_no_second_time(recording: Path, tmp_path: Path):
    replies = iter([ANSWERS["2d_grounding"], "no idea", "", ANSWERS["2d_grounding"]] * 9)
    server = odd_server.OddServer(lambda payload, count: odd_server.said(next(replies)))
    more = ("--window-s", "1", "--every-s", "3", "--endpoint.concurrency", "1")
    with server:
        assert ask(recording, "2d_grounding", tmp_path / "out", server, *more) == 0
        found = answers(tmp_path / "out")
        assert (found["asked"], found["read"]) == (4, 2)
        assert found["failures"] == {"empty": 1, "invalid_json": 1} and found["replies"] == 4
        asked = len(server.payloads)
        run = tmp_path / "out" / "run.json"
        run.write_text(run.read_text().replace('"finished"', '"running"'))
        assert ask(recording, "2d_grounding", tmp_path / "out", server, *more) == 0
    assert len(server.payloads) == asked and answers(tmp_path / "out") == found


def test_a_directory_of_videos_pictures_and_broken_files(video: Path, tmp_path: Path, capsys):
    where = tmp_path / "files"
    where.mkdir()
    (where / "a.mp4").write_bytes(video.read_bytes())
    (where / "broken.mp4").write_bytes(b"not a video")
    Image.new("RGB", (80, 60), (200, 0, 0)).save(where / "a.png")
    with serve("A road.") as server:
        assert ask(where, "caption", tmp_path / "out", server) == 0
    assert sorted(row["clip"] for row in answers(tmp_path / "out")["answers"]) == ["a", "a-2"]
    assert "set aside" in capsys.readouterr().out


@pytest.mark.parametrize(("more", "said"), [
    (["--mode", "2d_groundin"], "Did you mean 2d_grounding?"),
    (["--mode", "caption", "--parameters", "object=x"], "'object' is not known"),
    (["--mode", "2d_grounding", "--parameters", "objct=x"], "Did you mean object?"),
    (["--mode", "caption"], "neither is given"),
    (["--mode", "caption", "--model", "nowhere/at/all", "--frames-hz", "0"], "--frames-hz"),
    (["--mode", "caption", "--model", "m", "--start-s", "60"], "ends after 2.0 s"),
])  # fmt: skip
def test_errors_are_one_sentence(more: list[str], said: str, video: Path, tmp_path: Path, capsys):
    assert main(["ask", str(video), "--out", str(tmp_path / "out"), *more]) == 2
    found = capsys.readouterr().err
    assert said in found and "Traceback" not in found


def test_no_such_file_and_no_video(tmp_path: Path, capsys):
    assert ask(tmp_path / "none.mp4", "caption", tmp_path / "out", None, "--model", "m") == 2
    assert "does not exist" in capsys.readouterr().err
    (tmp_path / "text.mp4").write_text("hello")
    assert ask(tmp_path / "text.mp4", "caption", tmp_path / "out", None, "--model", "m") == 2
    assert "cannot be decoded as video" in capsys.readouterr().err


def test_an_endpoint_that_is_not_there(video: Path, tmp_path: Path, capsys):
    with serve("x") as server:
        pass  # its port is closed now
    more = ("--endpoint.retries", "1", "--endpoint.backoff-s", "0.01")
    assert ask(video, "caption", tmp_path / "out", server, *more) == 2
    assert "cannot be reached" in capsys.readouterr().err


@pytest.mark.parametrize("family", ["qwen3_vl", "qwen2_5_vl"])
def test_an_untouched_backbone_is_asked(family: str, video: Path, tmp_path: Path):
    other_rooms("student", "student_drives")
    backbone = other_rooms("student", "small_backbones").write_backbone(tmp_path / "vlm", family)
    more = ("--model", str(backbone), "--max-tokens", "8", "--window-s", "1")
    assert ask(video, "2d_grounding", tmp_path / "out", None, *more) == 0
    (row,) = answers(tmp_path / "out")["answers"]
    assert row["failure"] in ("invalid_json", "empty"), "random weights say nothing that can be read"


def test_a_student_answers_and_drives(recording: Path, tmp_path: Path):
    student = write_student(tmp_path / "student")
    more = ("--model", str(student), "--max-tokens", "6")
    assert ask(recording, "caption", tmp_path / "caption", None, *more) == 0
    assert ask(recording, "driving_trajectory", tmp_path / "drive", None, *more) == 0
    (row,) = answers(tmp_path / "drive")["answers"]
    assert len(row["entries"][0]["xy_in_rig_m"]) == 64 and row["horizon_s"] == pytest.approx(6.4)
