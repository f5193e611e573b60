"""Teachers on drives whose reasons are known: the town's expert, a 'human' who drives likewise, and ones who do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from label_drives import ego_of, recording_of, speeds, yaws

from causaldrive.clips.geometry import pose_on_polyline, project_on_polyline, quat_of_yaw
from causaldrive.clips.types import Recording
from causaldrive.ground.errors import UserError
from causaldrive.label.keyframes import Keyframe
from causaldrive.label.labelling import label_recording
from causaldrive.label.recording_view import RecordingView, view_of
from causaldrive.label.teachers import ExpertTeacher, MotionTeacher, Rejection, name_causes, teacher_of
from causaldrive.label.trace import UNOBSERVED
from causaldrive.label.types import CocLabel

KIND_OF = {"lead_brakes": "lead_vehicle", "red_light": "red_light", "stopped_car": "stopped_vehicle"}
DECISION_OF = {"lead_brakes": "lead_obstacle_following", "red_light": "stop_for_static_constraint"}


def as_human(recording: Recording) -> Recording:
    return replace(recording, source="av2")


def without_world(recording: Recording) -> Recording:
    agents = recording.agents
    assert agents is not None
    empty = {name: getattr(agents, name)[:0] for name in agents.__dataclass_fields__}
    return replace(recording, agents=type(agents)(**empty), lights=None)


def kinds(labels: list[CocLabel], status: str = "accepted") -> set[str | None]:
    return {cause.kind for label in labels for cause in label.causes if label.status == status}


def reasons(labels: list[CocLabel]) -> str:
    return " | ".join(v.reason for label in labels for v in label.verdicts if v.passed is False)


@pytest.mark.parametrize("family", sorted(KIND_OF))
def test_the_expert_names_what_made_it_act(town, family):
    labels = label_recording(view_of(town[family]), ExpertTeacher(), 0.5)
    accepted = [label for label in labels if label.status == "accepted"]
    assert len(accepted) >= 0.85 * len(labels) > 10
    assert KIND_OF[family] in kinds(labels)
    named = [label for label in accepted if KIND_OF[family] in {cause.kind for cause in label.causes}]
    if family in DECISION_OF:
        assert {label.decision_longitudinal for label in named} == {DECISION_OF[family]}
    else:
        assert {(label.decision_lateral, label.direction) for label in named} <= {
            ("out_of_lane_nudge", "left"), ("in_lane_nudge", "left"),
        }  # fmt: skip
    if family != "lead_brakes":  # there the lead is a cause all along
        assert any(not label.causes for label in accepted), "free driving has no cause"


@pytest.mark.parametrize("family", ["lead_brakes", "red_light"])
def test_a_human_who_drives_likewise_gets_the_same_causes(town, family):
    labels = label_recording(view_of(as_human(town[family])), ExpertTeacher(), 0.5)
    assert KIND_OF[family] in kinds(labels)
    assert sum(label.status == "accepted" for label in labels) >= 0.7 * len(labels)


def test_a_brake_that_nothing_explains_is_rejected_with_its_size(town):
    labels = label_recording(view_of(without_world(as_human(town["lead_brakes"]))), ExpertTeacher(), 0.5)
    assert "unexplained deceleration of -" in reasons(labels)
    assert kinds(labels) == set()


def test_a_demand_that_the_driver_ignores_is_rejected(town):
    original = town["red_light"]
    route, count = original.route_xy_in_local_m, len(original.ego.t_us)
    assert route is not None
    start = project_on_polyline(original.ego.position_in_local_m[:1, :2], route)[0]
    xy, yaw = pose_on_polyline(start + 0.1 * 9.0 * np.arange(count), route)
    position, quat = np.column_stack([xy, np.zeros(count)]), quat_of_yaw(yaw)
    ego = replace(ego_of(np.full(count, 9.0)), position_in_local_m=position, quat_local_to_rig=quat)
    straight = replace(as_human(original), ego=ego)
    labels = label_recording(view_of(straight), ExpertTeacher(), 0.5)
    assert "the traffic light ahead is red: that demands -" in reasons(labels)
    assert "red_light" not in kinds(labels)


def test_rejected_rows_keep_what_the_teacher_had_in_hand(town):
    view = view_of(without_world(as_human(town["lead_brakes"])))
    braking = next(s for s in view.meta.spans if "_decelerate" in s.label and s.start_t_us > 2_000_000)
    answer = ExpertTeacher().explain(view, Keyframe(braking.start_t_us - 500_000, "transition"))
    assert isinstance(answer, Rejection) and "unexplained deceleration" in answer.reason
    assert answer.label.trace and answer.label.meta_future


def test_causes_are_named_from_the_past_alone(town):
    view = view_of(town["lead_brakes"])
    t0 = 6_000_000
    cut = replace(view, states=tuple(state for state in view.states if state.t_us <= t0))
    assert name_causes(view.history_states(t0), view.context, t0) == name_causes(
        cut.history_states(t0), cut.context, t0
    )
    with pytest.raises(AssertionError, match="up to t0"):
        name_causes(view.states[:70], view.context, t0)


def test_every_cause_was_seen_before_the_car_answered(town):
    for recording in town.values():
        for label in label_recording(view_of(recording), ExpertTeacher(), 0.5):
            assert all(label.t0_us - 2_000_000 <= c.evidence_t_us <= label.t0_us for c in label.causes)


def _motion_labels(view: RecordingView) -> list[CocLabel]:
    return label_recording(view, MotionTeacher(), 1.0)


def test_the_motion_teacher_never_invents_a_cause():
    v = speeds(8, (0, 4), (-1.6, 5), (0, 3), (1.2, 6), (0, 8))
    labels = _motion_labels(view_of(recording_of(v)))
    assert kinds(labels) == {"unobserved"} and {c.text for x in labels for c in x.causes} == {UNOBSERVED}
    by_time = {label.t0_us: label.decision_longitudinal for label in labels}
    assert by_time[3_500_000] == "stop_for_static_constraint" and by_time[11_500_000] == "set_speed_tracking"
    assert all(label.status == "accepted" for label in labels)


def test_the_motion_teacher_says_nothing_of_lanes_it_cannot_know():
    v = np.full(200, 10.0)
    swerving = yaws(v, (0, 5), (0.02, 1), (-0.02, 1), (0, 13))
    labels = _motion_labels(view_of(recording_of(v, swerving)))
    assert {label.decision_lateral for label in labels} == {"lane_keeping", None}


def test_the_expert_needs_agents():
    with pytest.raises(UserError, match=r"has no agents, .* use --teacher motion"):
        label_recording(view_of(recording_of(speeds(10, (0, 5), (-1, 3), (0, 9)))), ExpertTeacher(), 1.0)


def test_teachers_go_by_name():
    assert teacher_of("motion").name == "motion"
    with pytest.raises(UserError, match="Did you mean expert"):
        teacher_of("exprt")
