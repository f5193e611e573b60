"""The `student build` stage: from labels and recordings to a checkpoint, and its refusals."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from student_drives import TRACES, make_sample

from causaldrive.clips.geometry import quat_of_yaw
from causaldrive.clips.store import write_recording
from causaldrive.clips.types import EgoMotion, Recording
from causaldrive.ground.errors import UserError
from causaldrive.ground.words import TEST_SEED
from causaldrive.student import checkpoint
from causaldrive.student.build import BuildConfig, run
from causaldrive.student.generate import generate
from causaldrive.student.presets import preset
from causaldrive.student.statistics import fit_action_statistics
from causaldrive.student.text import train_tokenizer


def recording(name: str, seed: int, speed_mps: float, curvature_1pm: float) -> Recording:
    t = np.arange(200) * 0.1
    speed = speed_mps + np.sin(t)
    along = np.concatenate([[0], np.cumsum(0.05 * (speed[1:] + speed[:-1]))])
    yaw = curvature_1pm * along
    step = np.diff(along)[:, None] * np.stack([np.cos(yaw[:-1]), np.sin(yaw[:-1])], 1)
    xy = np.concatenate([np.zeros((1, 2)), np.cumsum(step, axis=0)])
    zero = np.zeros(200)
    ego = EgoMotion(
        t_us=np.arange(200, dtype=np.int64) * 100_000,
        position_in_local_m=np.column_stack([xy, zero]),
        quat_local_to_rig=quat_of_yaw(yaw),
        velocity_in_rig_mps=np.column_stack([speed, zero, zero]),
        acceleration_in_rig_mps2=np.column_stack([np.cos(t), zero, zero]),
        curvature_1pm=np.full(200, curvature_1pm),
    )
    return Recording(name, "town", "CC0", ego, meta={"seed": seed})


@pytest.fixture
def inputs(tmp_path: Path) -> BuildConfig:
    rows = []
    for index, (seed, speed) in enumerate([(1, 6.0), (2, 9.0), (TEST_SEED, 30.0)]):
        name = f"drive{index}"
        write_recording(tmp_path / "recordings" / name, recording(name, seed, speed, 0.01 * index), {})
        for t0_us in (2_000_000, 5_000_000, 19_900_000):
            rows.append({"recording_id": name, "t0_us": t0_us, "trace": TRACES[index], "status": "accepted"})
    rows.append({"recording_id": "drive0", "t0_us": 3_000_000, "trace": "zzzzqqqq", "status": "rejected"})
    rows.append({"recording_id": "nowhere", "t0_us": 3_000_000, "trace": TRACES[3], "status": "unscored"})
    (tmp_path / "labels").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "labels" / "labels.parquet")
    return BuildConfig(tmp_path / "labels", tmp_path / "recordings", tmp_path / "out", vocab_size=320)


def test_the_stage_makes_a_student_that_drives(inputs, capsys):
    run(inputs)
    model, processor = checkpoint.load(inputs.out)
    config = model.config
    assert config.preset == "tiny" and config.text_vocab_size <= 320
    assert 2e6 < sum(p.numel() for p in model.parameters()) < 6e6
    assert config.action_space().accel_std_mps2 == pytest.approx(np.sqrt(0.5), rel=0.3)
    metrics = json.loads((inputs.out / "metrics.jsonl").read_text())
    assert metrics["samples"] == 4  # two keyframes of two training drives; the test seed's are left out
    assert metrics["set_aside"] == {
        "labels without history or future": 2, "labels of held-out seeds": 3, "labels without recording": 1,
    }  # fmt: skip
    assert "trajectory decoder" in capsys.readouterr().out
    page = (inputs.out / "report.html").read_text()
    assert "language model" in page and "traj_history_start" in page
    [[made]] = generate(model, processor, [make_sample(0)], max_trace_tokens=4, flow_steps=1)
    assert np.isfinite(made.xyz_in_rig_m).all()


@pytest.mark.parametrize(("name", "millions"), [("nano", (1.0, 1.5)), ("tiny", (4.0, 5.0)), ("mini", (12.0, 16.0))])
def test_students_for_a_cpu_differ_in_size_alone(inputs, name, millions):
    run(dataclasses.replace(inputs, preset=name))
    model, processor = checkpoint.load(inputs.out)
    assert millions[0] < sum(p.numel() for p in model.parameters()) / 1e6 < millions[1]
    tokenizer = train_tokenizer(TRACES, 320)
    tiny = preset("tiny")(tokenizer, fit_action_statistics([make_sample(0)]))
    assert model.config.frames() == tiny.frames() and model.config.tokens_per_future_traj == 32
    assert model.config.tokens_per_history_traj == tiny.tokens_per_history_traj
    [[made]] = generate(model, processor, [make_sample(0)], max_trace_tokens=4, flow_steps=1)
    assert np.isfinite(made.xyz_in_rig_m).all()


def test_the_same_seed_gives_the_same_files_and_a_finished_run_is_left_alone(inputs):
    run(inputs)
    stamp = (inputs.out / "model.safetensors").stat().st_mtime_ns
    run(inputs)
    assert (inputs.out / "model.safetensors").stat().st_mtime_ns == stamp
    other = dataclasses.replace(inputs, out=inputs.out.with_name("again"))
    run(other)
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (other.out / name).read_bytes() == (inputs.out / name).read_bytes()


def test_refusals(inputs):
    with pytest.raises(UserError, match="Did you mean tiny"):
        run(dataclasses.replace(inputs, preset="tinny"))
    with pytest.raises(UserError, match="Alpamayo-R1"):
        preset("alpamayo")
    with pytest.raises(UserError, match="vocab_size is 100"):
        run(dataclasses.replace(inputs, vocab_size=100))
    with pytest.raises(UserError, match="--labels"):
        run(dataclasses.replace(inputs, labels=inputs.labels / "none"))
    with pytest.raises(UserError, match="no training sample"):
        only_test = inputs.recordings / "drive2"
        run(dataclasses.replace(inputs, recordings=only_test, out=inputs.out.with_name("empty")))


def test_statistics_put_rest_and_straight_on_the_middle_bin():
    statistics = fit_action_statistics([make_sample(i, frames=False) for i in range(20)])
    middle = (np.array(statistics.token_min) + np.array(statistics.token_max)) / 2
    raw = middle * [statistics.accel_std_mps2, statistics.curvature_std_1pm]
    raw += [statistics.accel_mean_mps2, statistics.curvature_mean_1pm]
    assert np.allclose(raw, 0, atol=1e-12)
    with pytest.raises(UserError, match="no training samples"):
        fit_action_statistics([])
