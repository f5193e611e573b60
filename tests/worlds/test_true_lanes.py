"""The true timeline of lane words: exact where the course is known, to a quarter of a step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from causaldrive.clips.types import Lane, RoadMap
from causaldrive.worlds.families.draft import default_camera
from causaldrive.worlds.state import EgoState, SceneContext
from causaldrive.worlds.true_actions import fine_poses
from causaldrive.worlds.true_lanes import true_lanes
from causaldrive.worlds.vehicle import advance

X = np.arange(-20.0, 301.0, 2.0)


def straight(name: str, y: float = 0.0, first: float = -20.0, last: float = 300.0, **more) -> Lane:
    x = np.arange(first, last + 1, 2.0)
    xy, half = np.column_stack([x, np.full(len(x), y)]), np.array([0, 1.75])
    return Lane(name, xy, xy + half, xy - half, **more)


def context_on(*lanes: Lane) -> SceneContext:
    route = np.column_stack([X, np.zeros(len(X))])
    return SceneContext(RoadMap({lane.lane_id: lane for lane in lanes}), route, 10.0, default_camera())


def driven(y: float, *commands: tuple[float, float]) -> list[EgoState]:
    """States at 10 m/s that are steered to (heading, seconds)."""
    egos = [EgoState(np.array([0.0, y]), 0.0, 10.0)]
    for heading, seconds in commands:
        for _ in range(round(seconds * 10)):
            egos.append(advance(egos[-1], 0.0, 0.4 * (heading - egos[-1].yaw_rad)))
    return egos


def swerve(sign: int, over_m: float) -> tuple[tuple[float, float], ...]:
    """So far to one side, and 3 s straight on."""
    return ((sign * 0.1, over_m), (0.0, 3.0))


TWO = (straight("right", 0.0, left_neighbour="left"), straight("left", 3.5, right_neighbour="right"))


def said(egos: list[EgoState], *lanes: Lane) -> list[tuple[str, float]]:
    return [(phase.label, phase.start_us / 1e6) for phase in true_lanes(egos, context_on(*lanes)).lane]


def test_poses_between_states_lie_on_the_way_that_was_driven():
    egos = driven(0.0, (0.5, 2.0), (-0.5, 2.0))
    fine = fine_poses(egos)
    assert len(fine.yaw_rad) == 4 * (len(egos) - 1)
    at = np.array([ego.xy_in_local_m for ego in egos])
    between = (fine.xy_m[3::4][:-1] + fine.xy_m[4::4]) / 2
    assert np.abs(between - at[1:-1]).max() < 5e-3
    assert fine.yaw_rad[-1] == pytest.approx(egos[-1].yaw_rad, abs=0.01)


@pytest.mark.parametrize(("sign", "side"), [(1, "left"), (-1, "right")])
def test_a_lane_change_lasts_from_the_first_to_the_last_of_the_move(sign, side):
    egos = driven(0.0 if sign > 0 else 3.5, (0.0, 2.0), *swerve(sign, 3.5))
    (keep, _), (change, begins), (after, ends) = said(egos, *TWO)
    assert (keep, change, after) == ("keep_lane", f"lane_change_{side}", "keep_lane")
    assert begins == pytest.approx(2.1, abs=0.1) and ends == pytest.approx(6.2, abs=0.4)


@pytest.mark.parametrize(("sign", "side"), [(1, "left"), (-1, "right")])
def test_off_the_middle_is_a_nudge_also_over_the_line_of_a_road_without_a_second_lane(sign, side):
    for over_m in (0.8, 2.4):
        course = ((0.0, 2.0), *swerve(sign, over_m), *swerve(-sign, over_m))
        labels = [label for label, _ in said(driven(0.0, *course), straight("only"))]
        assert labels == ["keep_lane", f"nudge_{side}", "keep_lane"]


def test_leaving_a_lane_that_ends_is_a_merge_and_taking_one_that_begins_a_split():
    egos = driven(0.0, (0.0, 2.0), *swerve(1, 3.5))
    right = straight("right", 0.0, last=90, left_neighbour="left")
    left = straight("left", 3.5, right_neighbour="right", successors=("far",))
    far = straight("far", 3.5, first=300, last=500, predecessors=("left",))
    assert [label for label, _ in said(egos, right, left, far)] == ["keep_lane", "merge", "keep_lane"]
    first = straight("first", 0.0, first=-300, last=-20, successors=("right",))
    through = straight("right", 0.0, left_neighbour="left", predecessors=("first",))
    assert [label for label, _ in said(egos, first, through, TWO[1])] == ["keep_lane", "split", "keep_lane"]


def test_joining_lanes_are_named_also_over_a_junction_but_not_by_those_who_turn_in():
    egos = driven(0.0, (0.0, 8.0))
    before = straight("before", last=20, successors=("over",))
    over = straight("over", first=20, last=36, in_junction=True, predecessors=("before",), successors=("on",))
    on = straight("on", first=36, predecessors=("over", "beside"))
    beside = replace(over, lane_id="beside", predecessors=("ramp",))
    ramp = straight("ramp", y=-4.0, last=20, successors=("beside",))
    assert [label for label, _ in said(egos, before, over, on, ramp, beside)] == ["keep_lane", "merge", "keep_lane"]
    angle = np.linspace(np.pi / 2, 0, 10)
    bend = np.column_stack([36 - 15 * np.sin(angle), -15 * (1 - np.cos(angle))])[:, :2]
    half = np.array([0, 1.75])
    turning = replace(beside, centre_xy_m=bend, left_xy_m=bend + half, right_xy_m=bend - half)
    assert [label for label, _ in said(egos, before, over, on, ramp, turning)] == ["keep_lane"]


def test_a_straight_lane_is_no_curve_because_a_turn_follows_and_a_bent_one_is():
    """The way to go is rounded off from 8 m before the junction; the lane is not."""
    angle = np.linspace(0, np.pi / 2, 20)
    arc, half = np.column_stack([60 + 8 * np.sin(angle), 8 * (1 - np.cos(angle))]), np.array([0, 1.75])
    bend = Lane("bend", arc, arc + half, arc - half, in_junction=True, predecessors=("before",))
    on = straight("on", first=60, last=80, in_junction=True, predecessors=("before",))
    road = RoadMap({"before": straight("before", last=60, successors=("bend", "on")), "bend": bend, "on": on})
    rounded = np.vstack(
        [[[-20, 0], [52, 0], [56, 0.4], [60, 2.0], [64, 5.0]], arc[-1] + np.arange(5)[:, None] * [0, 10]]
    )
    egos = [EgoState(np.array([min(20.0 + k, 57.0), 0.0]), 0.0, 10.0 if k < 37 else 0.0) for k in range(60)]
    told = true_lanes(egos, SceneContext(road, rounded, 10.0, default_camera()))
    assert [phase.label for phase in told.lane] == ["keep_lane"]
    x = np.arange(0.0, 101.0, 2.0)
    bent = replace(straight("bent"), centre_xy_m=np.column_stack([x, x * x / 400]))
    bent = replace(bent, left_xy_m=bent.centre_xy_m + half, right_xy_m=bent.centre_xy_m - half)
    egos = [EgoState(np.array([20.0 + k, (20.0 + k) ** 2 / 400]), np.arctan((20.0 + k) / 200), 10.0) for k in range(40)]
    told = true_lanes(egos, SceneContext(RoadMap({"bent": bent}), bent.centre_xy_m, 10.0, default_camera()))
    assert [phase.label for phase in told.lane] == ["follow_curve_left"]


def test_off_the_map():
    assert said(driven(40.0, (0.0, 3.0)), *TWO) == [("off_map", 0.0)]
