"""What the road asks for ahead: a matter of speed, distance and shape, the same to both sides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from label_drives import recording_of_states, town_recording

from causaldrive.clips.types import RoadMap
from causaldrive.label.keyframes import Keyframe
from causaldrive.label.labelling import label_recording
from causaldrive.label.recording_view import view_of
from causaldrive.label.road_ahead import BUMP, LEFT_CURVE, RIGHT_CURVE, demands_of, strongest
from causaldrive.label.teachers import ExpertTeacher
from causaldrive.label.types import CocLabel
from causaldrive.label.validators import validate
from causaldrive.worlds.expert_drive import drive
from causaldrive.worlds.scenes import SceneSpec, build_scene, default_camera
from causaldrive.worlds.state import EgoState, SceneContext

RADIUS_M, STRAIGHT_M = 15.0, 60.0


def bent_road(side: int, bump_m: float | None = None) -> SceneContext:
    """60 m straight on, then a quarter of a circle of 15 m to the side, then straight on."""
    angle = np.linspace(0, np.pi / 2, 40)[1:]
    arc = np.stack([STRAIGHT_M + RADIUS_M * np.sin(angle), side * RADIUS_M * (1 - np.cos(angle))], axis=1)
    end = arc[-1] + np.array([0.0, side * 40.0])
    route = np.concatenate([[[0.0, 0.0], [STRAIGHT_M, 0.0]], arc, end[None]])
    at = [] if bump_m is None else [[bump_m, -2], [bump_m + 3, -2], [bump_m + 3, 2], [bump_m, 2]]
    road = RoadMap(bumps={"bump": np.array(at, float)} if at else {})
    return SceneContext(road, route, 12.0, default_camera())


def ego_at(x_m: float, speed_mps: float) -> EgoState:
    return EgoState(np.array([x_m, 0.0]), 0.0, speed_mps)


@pytest.mark.parametrize(("side", "kind", "other"), [(1, LEFT_CURVE, RIGHT_CURVE), (-1, RIGHT_CURVE, LEFT_CURVE)])
def test_a_curve_asks_for_more_the_nearer_and_the_faster(side, kind, other):
    asked = [
        strongest(demands_of(bent_road(side), ego_at(x, v)), kind) for x, v in ((0, 12), (30, 12), (50, 12), (50, 14))
    ]
    braking = [demand.braking_mps2 for demand in asked if demand is not None]
    assert len(braking) == 4 and braking == sorted(braking) and braking[0] < 0.9 < braking[2]
    assert strongest(demands_of(bent_road(side), ego_at(30, 12)), other) is None
    slow = strongest(demands_of(bent_road(side), ego_at(30, 3)), kind)
    assert slow is not None and slow.braking_mps2 < 0


def test_a_bump_is_measured_from_the_front_and_gone_when_passed():
    road = bent_road(1, bump_m=40.0)
    ahead = strongest(demands_of(road, ego_at(10, 10)), BUMP)
    assert ahead is not None
    front_m = 10 + EgoState(np.zeros(2), 0.0, 0.0).rear_axle_to_centre_m + 4.6 / 2
    assert ahead.distance_m == pytest.approx(40 - front_m, abs=0.1)
    assert ahead.braking_mps2 == pytest.approx((10**2 - 4.5**2) / (2 * (40 - front_m)), rel=0.01)
    assert strongest(demands_of(road, ego_at(45, 10)), BUMP) is None
    assert strongest(demands_of(bent_road(1), ego_at(10, 10)), BUMP) is None


def test_what_is_gone_round_stands_on_the_other_side_of_the_way_driven(town):
    view = view_of(town["stopped_car"])
    sides = []
    for t0_us in range(*view.usable_range_us, 300_000):
        label = ExpertTeacher().explain(view, Keyframe(t0_us, "periodic"))
        evidence = view.evidence(t0_us)
        assert isinstance(label, CocLabel)
        for cause in label.causes:
            if label.direction and cause.agent_id in evidence.aside_m:
                sides.append((label.direction, evidence.aside_m[cause.agent_id or ""]))
    assert len(sides) > 2 and all(abs(aside) > 1.0 and (aside < 0) == (side == "left") for side, aside in sides)


def test_the_road_of_a_drive_over_a_bump_asks_for_more_and_more_until_it_is_slow():
    spec = SceneSpec("speed_bump", 700_002, False)
    scene = build_scene(spec)
    driven = drive(scene, 16.0, None)
    view = view_of(recording_of_states("bump", driven.states, driven.context))
    assert view.evidence(view.usable_range_us[0]).knows_bumps
    asked = [strongest(demands_of(driven.context, state.ego), BUMP) for state in driven.states]
    braking = [demand.braking_mps2 for demand in asked if demand is not None]
    named = [t for t, e in enumerate(driven.explanations) if any(c.kind == "speed_bump" for c in e.causes)]
    assert named and max(braking) > 0.9
    first = asked[named[0]]
    assert first is not None and first.braking_mps2 > 0.9


def test_the_ramp_of_an_expert_is_labelled_as_a_merge_and_keeping_the_lane_is_no_word_for_it():
    view = view_of(town_recording("ramp_merge", 20.0))
    times = range(*view.usable_range_us, 300_000)
    labels = [ExpertTeacher().explain(view, Keyframe(t0_us, "periodic")) for t0_us in times]
    merges = [lab for lab in labels if isinstance(lab, CocLabel) and lab.decision_lateral == "merge_split"]
    seen = [validate(label, view.evidence(label.t0_us)) for label in merges]
    assert len(seen) > 5 and all(lab.status == "accepted" for lab in seen), [lab.verdicts for lab in seen]
    under_way = next(label for label in merges if view.evidence(label.t0_us).joining)
    kept = replace(under_way, decision_lateral="lane_keeping", trace=under_way.trace.replace("merge", "keep the lane"))
    verdicts = {v.check: v for v in validate(kept, view.evidence(kept.t0_us)).verdicts}
    assert verdicts["decision_matches_motion"].passed is False


def test_the_turn_of_an_expert_on_a_network_is_where_the_way_to_go_turns():
    view = view_of(town_recording("unprotected_left_turn", 24.0, first_seed=6))  # it gets to turn in time
    labels = label_recording(view, ExpertTeacher(), 0.5)
    turns = [label for label in labels if label.decision_lateral == "turn"]
    assert turns and {label.direction for label in turns} == {"left"}
    assert all(label.status == "accepted" for label in turns), [label.verdicts for label in turns]
    assert any(view.evidence(label.t0_us).turning == "left" for label in turns), "the one under way"
    for label in turns:
        assert view.evidence(label.t0_us).turns == {"left"}
        other = validate(replace(label, direction="right"), view.evidence(label.t0_us))
        assert other.status == "rejected"
    before = view.usable_range_us[0]
    assert view.evidence(before).turns == frozenset() and view.evidence(before).turning is None
