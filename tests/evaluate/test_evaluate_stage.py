"""The evaluate stage through its public door: refusals, open loop, closed loop, resume, determinism."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from eval_drives import labelled_recordings, write_student

from causaldrive.evaluate import closed_loop, open_loop, stage
from causaldrive.evaluate.drivers import constant_turn_plan, parse_students
from causaldrive.evaluate.stage import EvaluateConfig, run
from causaldrive.evaluate.videos import pick_shown
from causaldrive.ground.errors import UserError
from causaldrive.worlds.pool import constant_velocity_plan
from causaldrive.worlds.scenes import draw_specs


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """(recordings, labels, checkpoint), made once."""
    root = tmp_path_factory.mktemp("evaluate")
    recordings, labels = labelled_recordings(root)
    return recordings, labels, write_student(root / "student")


def rows_of(out: Path) -> dict:
    rows = json.loads((out / "results.json").read_text())["rows"]
    return {(row["part"], row["driver"], row["group"], row["metric"]): row for row in rows}


def open_loop_config(data: tuple[Path, Path, Path], out: Path, **changes) -> EvaluateConfig:
    recordings, labels, checkpoint = data
    students = (f"bare={checkpoint}@trajectory", f"coc={checkpoint}")
    return EvaluateConfig(out, students, recordings, labels, closed_loop_scenes=0, samples=2, batch=5, **changes)


@pytest.mark.parametrize(("changes", "words"), [
    ({"first_seed": 0}, "train"),
    ({"first_seed": 9_000_000}, "reserved"),
    ({"first_seed": 8_999_999, "closed_loop_scenes": 2}, "reserved"),
    ({"samples": 0}, "--samples"),
    ({"beside": 0}, "--beside"),
    ({"latency_s": 0.6}, "--latency-s is 0.6"),
    ({"decision_limit_s": 0.0}, "--decision-limit-s"),
    ({"reactive_log": True}, "give --replay too"),
    ({"closed_loop_scenes": 0}, "nothing to do"),
    ({"replay": True}, "--recordings"),
    ({"families": ("red_lihgt",)}, "Did you mean red_light"),
    ({"recordings": Path("/nowhere"), "labels": Path("/nowhere")}, "/nowhere, given as recordings, does not exist"),
    ({"students": ("coc",)}, "name=path"),
    ({"students": ("coc=/nowhere",)}, "config.json"),
])  # fmt: skip
def test_wrong_requests_are_refused_before_anything_is_written(tmp_path: Path, changes: dict, words: str):
    with pytest.raises(UserError, match=words):
        run(replace(EvaluateConfig(tmp_path / "out"), **changes))
    assert not (tmp_path / "out").exists()


def test_student_entries(data):
    checkpoint = data[2]
    first, second = parse_students([f"coc + rl={checkpoint}", f"bare={checkpoint}@trajectory"])
    assert (first.name, first.reason, second.reason) == ("coc + rl", True, False)
    assert first.frame_offsets_us == (-400_000, 0)
    with pytest.raises(UserError, match="trajectory"):
        parse_students([f"coc={checkpoint}@trajectori"])
    with pytest.raises(UserError, match="taken"):
        parse_students([f"expert={checkpoint}"])


def test_constant_turn_is_a_circle_and_without_curvature_constant_velocity():
    straight, reference = constant_turn_plan(8.0, 0.0), constant_velocity_plan(8.0)
    assert np.allclose(straight.xy_in_rig_m, reference.xy_in_rig_m)
    circle = constant_turn_plan(8.0, 0.02)
    assert np.allclose(np.linalg.norm(circle.xy_in_rig_m - [0.0, 50.0], axis=1), 50.0)
    assert circle.yaw_rad[-1] == pytest.approx(8.0 * 6.4 * 0.02)


def test_open_loop_measures_what_is_known_and_two_runs_agree(data, tmp_path: Path):
    config = open_loop_config(data, tmp_path / "one")
    run(config)
    run(replace(config, out=tmp_path / "two", batch=14))
    rows = rows_of(tmp_path / "one")
    turn = rows["open_loop", "constant turn", "all", "minade_6s4_m"]
    straight = rows["open_loop", "constant velocity", "all", "minade_6s4_m"]
    assert turn["value"] < 0.05 and turn["n"] == 14 and turn["clusters"] == 2  # the drives are circles
    arc = 8.0 * 0.1 * np.arange(1, 65)
    expected = [np.mean(np.hypot(arc - np.sin(k * arc) / k, (1 - np.cos(k * arc)) / k)) for k in (0.005, 0.01)]
    assert straight["value"] == pytest.approx(np.mean(expected), rel=0.02)
    expert = rows["open_loop", "expert", "all", "minade_6s4_m"]
    assert expert["value"] == 0 and expert["by_construction"]
    assert rows["open_loop", "expert", "all", "cause_f1"]["value"] == 1
    gains = {name: rows["open_loop", name, "all", "steering_gain"]["value"] for name in ("expert", "constant velocity")}
    assert gains["expert"] == pytest.approx(1.0) and gains["constant velocity"] == 0.0
    assert rows["open_loop", "expert", "all", "aside_2s_m"]["value"] == pytest.approx(0.0, abs=1e-3)
    assert ("open_loop", "bare", "all", "parse_rate") not in rows
    assert rows["open_loop", "coc", "all", "parse_rate"]["n"] == 14
    first = rows["open_loop", "coc", "all", "minade_6s4_m"]
    assert first["value"] <= rows["open_loop", "coc", "all", "ade_6s4_m"]["value"]
    again = rows_of(tmp_path / "two")
    assert rows.keys() == again.keys()
    for key, row in rows.items():  # answers do not depend on the batch
        assert row["value"] == pytest.approx(again[key]["value"], abs=2e-3), key
    assert (tmp_path / "one" / "report.html").exists()


def test_the_same_command_gives_the_same_table_to_the_last_digit(data, tmp_path: Path):
    for name in ("one", "two"):
        run(open_loop_config(data, tmp_path / name, open_loop_limit=4))
    assert rows_of(tmp_path / "one") == rows_of(tmp_path / "two")


def test_broken_recordings_and_missing_frames_are_set_aside_and_counted(data, tmp_path: Path):
    recordings, labels, checkpoint = data
    broken = tmp_path / "recordings"
    broken.mkdir()
    for path in recordings.iterdir():
        (broken / path.name).symlink_to(path)
    (broken / "town_broken").mkdir()
    (broken / "town_broken" / "recording.json").write_text("{")
    config = EvaluateConfig(tmp_path / "out", (f"coc={checkpoint}",), broken, labels, 0, samples=1, open_loop_limit=3)
    run(config)
    aside = json.loads((tmp_path / "out" / "results.json").read_text())["set_aside"]
    assert aside == {"recordings that cannot be read": 1, "labels that were not accepted": 2}
    found = open_loop.find_moments(recordings, labels, 100, frame_offsets_us=[-5_000_000])
    assert found.set_aside["moments between camera frames"] == 12  # t0 before 5 s has no frame 5 s earlier


def test_a_killed_run_continues_and_does_no_driver_twice(data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    calls: list[str] = []
    real = open_loop.student_records

    def counted(student, *rest):
        calls.append(student.name)
        if calls == ["bare", "coc"]:
            raise KeyboardInterrupt  # as a kill would, between two drivers
        return real(student, *rest)

    monkeypatch.setattr(open_loop, "student_records", counted)
    config = open_loop_config(data, tmp_path / "out", open_loop_limit=4)
    with pytest.raises(KeyboardInterrupt):
        run(config)
    assert not (tmp_path / "out" / "results.json").exists()
    run(config)
    assert calls == ["bare", "coc", "coc"]
    run(config)  # finished: does nothing
    assert calls == ["bare", "coc", "coc"]
    run(replace(config, out=tmp_path / "whole"))
    assert rows_of(tmp_path / "out") == rows_of(tmp_path / "whole")
    with pytest.raises(UserError, match="samples"):
        run(replace(config, samples=3))


def test_closed_loop_drives_scores_and_films(data, tmp_path: Path):
    checkpoint = data[2]
    run(EvaluateConfig(tmp_path / "out", (f"coc={checkpoint}",), closed_loop_scenes=2, duration_s=3.0, samples=2,
                       workers=1, videos=1, families=("lead_brakes",)))  # fmt: skip
    rows = rows_of(tmp_path / "out")
    for driver in ("constant velocity", "constant turn", "expert", "coc"):
        score = rows["closed_loop", driver, "all", "scene_score"]
        assert score["n"] == 2 and score["failures"] == 0 and 0 <= score["value"] <= 1
    assert rows["closed_loop", "expert", "all", "clean_share"]["value"] == 1
    assert rows["closed_loop", "expert", "all", "progress"]["value"] == pytest.approx(1.0, abs=1e-6)
    assert rows["closed_loop", "coc", "all", "parse_rate"]["n"] == 6  # three decisions a scene
    (film,) = json.loads((tmp_path / "out" / "results.json").read_text())["videos"]
    assert (tmp_path / "out" / film["file"]).stat().st_size > 10_000
    log = [json.loads(line) for line in (tmp_path / "out" / "closed_loop" / "coc.jsonl").read_text().splitlines()]
    assert [record["item"] for record in log] == [spec.scene_id for spec in draw_specs(2, 2_000_000, ["lead_brakes"])]


def test_students_measured_side_by_side_give_the_table_of_one_after_the_other(data, tmp_path: Path):
    config = replace(open_loop_config(data, tmp_path / "one", open_loop_limit=4), closed_loop_scenes=2, duration_s=2.6,
                     videos=1, families=("lead_brakes",), workers=1)  # fmt: skip
    run(config)
    run(replace(config, out=tmp_path / "two", beside=2))
    one, two = rows_of(tmp_path / "one"), rows_of(tmp_path / "two")
    assert list(one) == list(two)
    for key, row in one.items():
        assert row["value"] == pytest.approx(two[key]["value"], abs=2e-3), key
    (film,) = json.loads((tmp_path / "two" / "results.json").read_text())["videos"]
    assert film["driver"] == "coc" and (tmp_path / "two" / film["file"]).exists()


def test_a_scene_that_breaks_is_a_failure_without_a_score():
    (spec,) = draw_specs(1, 2_000_000, ["red_light"])
    record = closed_loop.record_of(spec, closed_loop.BrokenScene("no road"), speaks=True)
    assert record["failure"] == "scene: no road" and record["score"] is None
    rows = {r.metric: r for r in stage.Log("coc", "closed_loop", [record]).rows(0) if r.group == "all"}
    assert rows["scene_score"].value is None and rows["scene_score"].failures == 1


def test_shown_scenes_cover_the_families_before_any_comes_twice():
    specs = draw_specs(36, 2_000_000)
    shown = [specs[index] for index in sorted(pick_shown(specs, 6))]
    assert len({spec.family for spec in shown}) == 6 and not any(spec.harmless for spec in shown)
    assert len(pick_shown(specs, 100)) == 36 and pick_shown(specs, 0) == frozenset()


def test_replay_starts_leave_history_before_and_road_ahead():
    starts = closed_loop.replay_starts(0, 15_000_000)
    assert starts == [2_000_000, 6_000_000, 10_000_000]
    assert closed_loop.replay_starts(0, 6_900_000) == []


def test_recordings_without_agents_cannot_be_replayed(data):
    with pytest.raises(UserError, match="agents and a map"):
        closed_loop.replay_specs(data[0], 10)
