"""Trajectories as text: written, read tolerantly, and laid through as a path."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from student_drives import arc, make_sample, make_student

from causaldrive.student.generate import generate
from causaldrive.student.waypoints import read_waypoints, smooth_path, write_waypoints

EIGHT = [[float(3 * i), 0.5 * i] for i in range(1, 9)]


@given(st.lists(st.tuples(st.floats(-200, 300), st.floats(-99, 99)), min_size=64, max_size=64), st.integers(0, 2))
@settings(max_examples=40, deadline=None)
def test_what_is_written_is_read(points, decimals):
    future = np.array(points)
    text = write_waypoints(future, 8, decimals)
    assert len(json.loads(text)) == 8
    found = read_waypoints(text, 8)
    assert found is not None and np.abs(found - future[7::8]).max() <= 0.5 * 10**-decimals + 1e-6


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(EIGHT),
        "```json\n" + json.dumps({"waypoints": EIGHT}, indent=1) + "\n```",
        json.dumps([{"x": x, "y": y} for x, y in EIGHT]),
        "The path: " + json.dumps(EIGHT)[:-1],
        "; ".join(f"({x}, {y})" for x, y in EIGHT),
        json.dumps([*EIGHT, [99, 9]]),
        json.dumps(EIGHT).replace("]]", "],]"),
        "\n".join(f"x: {x}, y: {y}" for x, y in EIGHT),
    ],
)
def test_reading_is_tolerant_of_what_stands_around(text):
    found = read_waypoints(text, 8)
    assert found is not None and np.allclose(found, EIGHT)


@pytest.mark.parametrize(
    "text", ["", "no path", json.dumps(EIGHT[:7]), "[[1,2],[3", json.dumps([[1e9, 0]] * 8), "[1,2,3,4,5,6,7,8]", "[[]]",
             json.dumps([["a", "b"]] * 8)]
)  # fmt: skip
def test_what_is_no_path_is_not_read(text):
    assert read_waypoints(text, 8) is None


@given(v0=st.floats(0.5, 25), curvature=st.floats(-0.04, 0.04), accel=st.floats(0, 1.0))
@settings(max_examples=40, deadline=None)
def test_a_path_through_exact_way_points_is_the_drive(v0, curvature, accel):
    curvature = np.clip(curvature, -2 / (v0 + 7) ** 2, 2 / (v0 + 7) ** 2)  # at most 2 m/s^2 sideways
    truth = arc(v0, curvature, accel)[16:]
    path = smooth_path(truth[7::8, :2], v0)
    assert np.linalg.norm(path.xy_in_rig_m - truth[:, :2], axis=1).max() < 0.1
    assert np.abs(path.yaw_rad - truth[:, 2]).max() < 0.1  # the free end is not accelerated
    assert path.speed_mps[0] == pytest.approx(v0) and path.speed_mps.shape == (65,)
    assert np.abs(path.speed_mps[1:] - v0 - accel * np.arange(1, 65) * 0.1).max() < 0.35


def test_standing_still_keeps_its_heading():
    path = smooth_path(np.zeros((8, 2)), 0.0)
    assert not path.yaw_rad.any() and not path.xy_in_rig_m.any()


def test_training_rows_spell_the_future_and_are_read_back(student):
    _, processor = student
    sample = make_sample(2)
    row = processor.training([sample], ["Stop."], traj_text=True)
    written = row.labels_traj[0][row.labels_traj[0] >= 0].tolist()
    assert written[-1] == processor.config.id_of("traj_future_end")
    assert max(written[:-1]) < processor.config.text_vocab_size, "digits, not bins"
    speed = np.linalg.norm(sample.history_xyz_in_rig_m[-1] - sample.history_xyz_in_rig_m[-2]) / 0.1
    path = processor.path_of(written, float(speed))
    assert path is not None and sample.future_xyz_in_rig_m is not None
    assert np.linalg.norm(path.xy_in_rig_m - sample.future_xyz_in_rig_m[:, :2], axis=1).max() < 0.3
    assert row.labels_text[0][row.traj_start[0]] == processor.config.id_of("traj_future_start")


def test_text_that_is_no_path_is_marked_and_drives_straight():
    model, processor = make_student()
    made = generate(model, processor, [make_sample(0), make_sample(1)], num_samples=2, seed=[1, 2], mode="text",
                    max_trace_tokens=3)  # fmt: skip
    alone = generate(model, processor, [make_sample(1)], num_samples=2, seed=[2], mode="text", max_trace_tokens=3)[0]
    for one in (made[0][0], made[1][0], alone[0]):
        assert not one.readable and np.allclose(one.xyz_in_rig_m[:, 1], 0)
        assert np.allclose(one.speed_mps, one.speed_mps[0]) and len(one.traj_logprobs) == len(one.traj_token_ids) > 0
        assert one.traj_token_ids[-1] == processor.config.id_of("traj_future_end")
    assert [one.traj_token_ids for one in alone] == [one.traj_token_ids for one in made[1]]


def test_a_student_that_learnt_to_spell_is_read():
    """The logits are made those of one written path: what comes out of `generate` is that path."""
    model, processor = make_student(3, lively=False)
    sample = make_sample(4)
    row = processor.training([sample], ["Stop."], traj_text=True)
    wanted = row.labels_traj[0][row.labels_traj[0] >= 0].tolist()
    at = iter(wanted)  # without a trace the first way-point token comes from the prefill itself

    def forced(_module, _inputs, output):
        token = next(at, None)
        return output if token is None else output.index_fill(-1, output.new_tensor([token]).long(), 1e4)

    handle = model.vlm.lm_head.register_forward_hook(forced)
    try:
        made = generate(model, processor, [sample], mode="text", reason=False, greedy_path=True)[0][0]
    finally:
        handle.remove()
    assert list(made.traj_token_ids) == wanted and made.readable
    assert np.linalg.norm(made.xyz_in_rig_m - sample.future_xyz_in_rig_m, axis=1).max() < 0.3
    assert made.actions.shape == (64, 2) and np.abs(made.actions[:, 0]).max() < 5
