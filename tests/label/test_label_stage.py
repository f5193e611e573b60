"""The stage from recordings on disk to labels and report: resumed after a kill, unharmed by broken neighbours."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from label_drives import recording_of, speeds

from causaldrive.clips.comma2k19 import ImportComma2k19Config
from causaldrive.clips.comma2k19 import run as import_comma2k19
from causaldrive.clips.store import find_recordings, read_recording, write_recording
from causaldrive.ground.errors import UserError
from causaldrive.ground.files import read_json
from causaldrive.ground.runs import read_metrics
from causaldrive.label.labelling import label_recording
from causaldrive.label.meta_actions import detect
from causaldrive.label.recording_view import view_of
from causaldrive.label.stage import LabelConfig, run
from causaldrive.label.store import labels_path, read_labels
from causaldrive.label.teachers import MotionTeacher

DRIVE = np.maximum(speeds(12, (0, 4), (-1.5, 8), (0, 3), (1.2, 6), (0, 8)), 0)


def write_drives(directory: Path, count: int) -> Path:
    for i in range(count):
        write_recording(directory / f"drive_{i:02d}", recording_of(DRIVE, name=f"drive_{i:02d}"), {})
    return directory


@pytest.fixture(scope="module")
def drives(tmp_path_factory) -> Path:
    return write_drives(tmp_path_factory.mktemp("drives"), 3)


def test_recordings_become_labels_and_a_page(drives, tmp_path, capsys):
    config = LabelConfig(drives, tmp_path / "out", teacher="motion", every_s=2.0)
    run(config)
    labels = read_labels(tmp_path / "out")
    assert {label.recording_id for label in labels} == {f"drive_{i:02d}" for i in range(3)}
    assert {label.origin for label in labels} == {"transition", "periodic"}
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3 and "the cause was not observed" in page
    assert read_metrics(tmp_path / "out")[-1]["keyframes"] == len(labels)
    before = labels_path(tmp_path / "out").stat().st_mtime_ns
    run(config)
    assert "already finished" in capsys.readouterr().err
    assert labels_path(tmp_path / "out").stat().st_mtime_ns == before
    (tmp_path / "out").rename(tmp_path / "moved")
    run(replace(config, out=tmp_path / "moved"))
    assert "moved is already finished" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"made with every_s = 2.0, now every_s = 3.0"):
        run(replace(config, out=tmp_path / "moved", every_s=3.0))


def test_workers_and_limit_change_nothing_but_the_number(drives, tmp_path):
    run(LabelConfig(drives, tmp_path / "one", teacher="motion", workers=1))
    run(LabelConfig(drives, tmp_path / "two", teacher="motion", workers=2))
    assert labels_path(tmp_path / "one").read_bytes() == labels_path(tmp_path / "two").read_bytes()
    run(LabelConfig(drives, tmp_path / "few", teacher="motion", workers=1, limit=2))
    assert {x.recording_id for x in read_labels(tmp_path / "few")} == {"drive_00", "drive_01"}


def test_a_killed_run_goes_on_where_it_was(tmp_path):
    drives = write_drives(tmp_path / "drives", 16)
    out = tmp_path / "out"
    code = (
        "from pathlib import Path\nfrom causaldrive.label.stage import LabelConfig, run\n"
        f"run(LabelConfig(Path({str(drives)!r}), Path({str(out)!r}), teacher='motion', every_s=0.5, workers=1))"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while child.poll() is None and not list(out.glob("shards/drive_*.parquet")):
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.wait()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("shards/drive_*.parquet")}
    assert 0 < len(kept) < 16 and not labels_path(out).exists()

    config = LabelConfig(drives, out, teacher="motion", every_s=0.5, workers=1)
    finish, touched = shutil.rmtree, {}

    def look_then_remove(path, **more):
        if Path(path) == out / "shards":
            touched.update({shard: shard.stat().st_mtime_ns for shard in kept})
        finish(path, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "rmtree", look_then_remove)
        run(config)
    assert touched == kept, "finished shards must not be made again"
    assert "resumed" in read_json(out / "run.json")
    expected = [
        label
        for directory in find_recordings(drives)
        for label in label_recording(view_of(read_recording(directory)), MotionTeacher(), 0.5)
    ]
    assert read_labels(out) == expected


def test_broken_recordings_are_set_aside_with_their_reason(tmp_path, capsys):
    drives = write_drives(tmp_path / "drives", 3)
    (drives / "drive_01" / "ego.parquet").write_bytes(b"PAR1 cut")
    short = recording_of(DRIVE[:30], name="short")
    write_recording(drives / "short", short, {})
    write_recording(drives / "twin", recording_of(DRIVE, name="drive_00"), {})
    run(LabelConfig(drives, tmp_path / "out", teacher="motion", workers=1))
    assert {x.recording_id for x in read_labels(tmp_path / "out")} == {"drive_00", "drive_02"}
    told = capsys.readouterr().out
    assert "ego.parquet" in told and "short lasts 2.9 s" in told and "has the recording id of" in told
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Recordings set aside" in page and "twin" in page


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher": "motoin"}, "Did you mean motion"),
        ({"every_s": -1.0}, "every_s = -1.0 found"),
        ({"every_s": float("nan")}, "every_s = nan found"),
        ({"workers": 0}, "workers = 0 found"),
        ({"balance": -1}, "balance = -1 found"),
        ({"profile": "relesed"}, "Did you mean released"),
        ({"teacher": "expert"}, "no recording could be labelled; the first: .* has no agents"),
    ],
)
def test_what_cannot_work_is_one_sentence(drives, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        run(LabelConfig(drives, tmp_path / "out", **{"teacher": "motion", "workers": 1, **changes}))


def test_the_expert_stage_on_a_town_drive(town, tmp_path):
    for name, recording in town.items():
        write_recording(tmp_path / "drives" / name, recording, {})
    run(LabelConfig(tmp_path / "drives", tmp_path / "out", every_s=1.0, workers=1))
    labels = read_labels(tmp_path / "out", ["accepted"])
    assert {"lead_vehicle", "red_light", "stopped_vehicle"} <= {c.kind for x in labels for c in x.causes}
    assert all(c.agent_id is not None and c.evidence_t_us is not None for x in labels for c in x.causes)


def test_a_real_drive_pulls_away_eases_off_and_speeds_up(comma2k19, tmp_path):
    import_comma2k19(ImportComma2k19Config(comma2k19, tmp_path / "real"))
    run(LabelConfig(tmp_path / "real", tmp_path / "out", teacher="motion", workers=1))
    view = view_of(read_recording(find_recordings(tmp_path / "real")[0]))
    can = next(comma2k19.rglob("processed_log/CAN/speed"))
    start = np.load(next(comma2k19.rglob("global_pose")) / "frame_times")[0]
    can_t, can_v = np.load(can / "t") - start, np.load(can / "value").ravel()

    def changes(word: str) -> list[float]:
        ends = [(s.start_t_us / 1e6, s.end_t_us / 1e6) for s in view.meta.spans if word in s.label]
        return [float(np.diff(np.interp(end, can_t, can_v))[0]) for end in ends]

    pull_away = next(s for s in view.meta.spans if "accelerate" in s.label)
    assert pull_away.start_t_us == 0
    assert len(changes("_decelerate")) >= 5 and max(changes("_decelerate")) < -0.3, "each found by CAN speed, too"
    assert len(changes("_accelerate")) >= 5 and min(changes("_accelerate")) > 0.3
    labels = read_labels(tmp_path / "out")
    assert labels and {c.kind for x in labels for c in x.causes} == {"unobserved"}
    assert detect(view.ego).spans == view.meta.spans


def test_options_of_the_stage_profile_critic_and_balance(town, tmp_path, capsys):
    for name, recording in town.items():
        meta = {**recording.meta, "family": name}
        write_recording(tmp_path / "drives" / name, replace(recording, meta=meta), {})
    plain = LabelConfig(tmp_path / "drives", tmp_path / "plain", every_s=0.5, workers=1)
    run(plain)
    told = capsys.readouterr().out
    assert "lead brakes: lead obstacle following, lane keeping" in told and "left out" not in told
    run(replace(plain, out=tmp_path / "few", balance=2, counterfactual=True))
    assert "accepted labels left out for balance" in capsys.readouterr().out
    few, all_of_them = read_labels(tmp_path / "few", ["accepted"]), read_labels(tmp_path / "plain", ["accepted"])
    assert 0 < len(few) < len(all_of_them)
    assert all("counterfactual" in {v.check for v in label.verdicts} for label in few)
    assert "Accepted by scene family and decision" in (tmp_path / "few" / "report.html").read_text()
    run(replace(plain, out=tmp_path / "released", profile="released", every_s=0.0))
    assert {x.t0_us for x in read_labels(tmp_path / "released")} != {
        x.t0_us for x in all_of_them if x.origin == "transition"
    }
