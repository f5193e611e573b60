"""Scoring: every event can happen and can fail to happen; scores from events, progress and comfort."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from drawing import agents_of, camera_of, context_of, straight_road
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from shapely.geometry import Polygon

from causaldrive.ground.words import STEP_S, STEP_US
from causaldrive.worlds.scoring import Event, Score, Scorer, comfort, road_surface, score_drive
from causaldrive.worlds.state import AgentArrays, EgoState, LightArrays, WorldState

CONTEXT = context_of(camera_of())  # two lanes of 3.5 m along x, ours is at y = -1.75 m; limit 13.9 m/s
LANE_Y_M = -1.75
FRONT_M = 1.4 + 4.6 / 2  # the front bumper before the rear axle
HALF_WIDTH_M = 1.9 / 2


def state(
    tick: int = 0,
    x: float = 0.0,
    y: float = LANE_Y_M,
    yaw: float = 0.0,
    speed: float = 8.0,
    agents: AgentArrays | None = None,
    lights: LightArrays | None = None,
) -> WorldState:
    """The ego at a place of the straight road."""
    ego = EgoState(np.array([x, y]), yaw, speed)
    return WorldState(tick * STEP_US, ego, agents or AgentArrays(), lights or LightArrays())


def light(colour: str, x: float = 20.0, y: float = LANE_Y_M, yaw: float = 0.0) -> LightArrays:
    return LightArrays(["l"], ["forth"], [colour], np.array([[x, y]]), np.array([[x + 5, y, 4.0]]), np.array([yaw]))


def events_of(states: Sequence[WorldState]) -> list[Event]:
    scorer = Scorer(CONTEXT)
    for now in states:
        scorer.add(now)
    assert scorer.fatal == any(e.kind == "off_road" or (e.kind == "collision" and e.at_fault) for e in scorer.events)
    return scorer.events


def kinds_of(states: Sequence[WorldState]) -> list[str]:
    return [event.kind for event in events_of(states)]


def along(from_m: float, to_m: float, step_m: float, **more) -> list[WorldState]:
    return [state(i, x, **more) for i, x in enumerate(np.arange(from_m, to_m, step_m))]


# --- collisions and close encounters -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "y", "yaw", "side", "fault"),
    [
        (FRONT_M + 2.2, LANE_Y_M, 0.0, "front", True),
        (1.4, LANE_Y_M + HALF_WIDTH_M + 2.2, -np.pi / 2, "lateral", True),
        (1.4, LANE_Y_M - HALF_WIDTH_M - 2.2, np.pi / 2, "lateral", True),
        (1.4 - 4.5, LANE_Y_M, 0.0, "rear", False),
    ],
)
def test_a_collision_and_whose_fault_it_is(x, y, yaw, side, fault):
    (event,) = events_of([state(agents=agents_of(("it", "car", x, y, yaw)))])
    assert (event.kind, event.at_fault) == ("collision", fault)
    assert event.detail == f"{side} hit with car it"


def test_boxes_are_shrunk_before_they_can_touch():
    touching_by_3_cm = 1.4 + 4.6 - 0.03
    assert kinds_of([state(agents=agents_of(("it", "car", touching_by_3_cm, LANE_Y_M, 0.0)))]) == ["close_encounter"]
    touching_by_15_cm = 1.4 + 4.6 - 0.15
    assert kinds_of([state(agents=agents_of(("it", "car", touching_by_15_cm, LANE_Y_M, 0.0)))]) == ["collision"]


def test_one_collision_per_agent():
    pair = agents_of(("a", "car", FRONT_M + 2.0, LANE_Y_M, 0.0), ("b", "car", 1.4 - 4.4, LANE_Y_M, 0.0))
    events = events_of([state(tick, agents=pair) for tick in range(4)])
    assert sorted((event.detail, event.at_fault) for event in events) == [
        ("front hit with car a", True),
        ("rear hit with car b", False),
    ]


@settings(max_examples=60, deadline=None)
@given(st.floats(-np.pi, np.pi), st.floats(-20, 20), st.floats(-1.2, 1.2))
def test_the_side_of_a_hit_is_that_of_the_place(yaw, x, y):
    """A small obstacle inside the ego's box at any heading: near the bumper lines front or rear, else lateral."""
    own = np.array([x / 20 * 2.1, y / 1.2 * 0.8])  # in the box's own frame
    turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
    ego = state(yaw=float(yaw))
    spot = ego.ego.centre_xy_in_local_m + turn @ own
    ego.agents = agents_of(("cone", "barrier", spot[0], spot[1], float(yaw)))  # 0.5 m x 0.5 m
    collision = next(event for event in events_of([ego]) if event.kind == "collision")
    reach = 0.98 * (2.3 - 0.25)
    expected = "front" if own[0] > reach else "rear" if own[0] < -reach else "lateral"
    if abs(abs(own[0]) - reach) > 0.05:
        assert collision.detail.startswith(expected)


def test_close_encounter_only_while_the_ego_moves():
    beside = agents_of(("it", "pedestrian", 1.4, LANE_Y_M + HALF_WIDTH_M + 0.3 + 0.3, 0.0))
    assert kinds_of([state(tick, agents=beside) for tick in range(3)]) == ["close_encounter"]
    assert kinds_of([state(speed=0.0, agents=beside)]) == []
    farther = agents_of(("it", "pedestrian", 1.4, LANE_Y_M + HALF_WIDTH_M + 0.3 + 0.7, 0.0))
    assert kinds_of([state(agents=farther)]) == []


# --- the road ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("y", "yaw", "off"),
    [(LANE_Y_M, 0.0, False), (-2.5, 0.0, False), (-2.85, 0.0, True), (-2.3, -0.3, True), (1.75, 0.0, False)],
)
def test_off_road_is_when_the_box_leaves_the_surface(y, yaw, off):
    assert ("off_road" in kinds_of([state(y=y, yaw=yaw), state(1, y=y, yaw=yaw)])) == off


def test_off_road_is_told_once_and_drivable_areas_count_as_road():
    assert kinds_of([state(tick, y=-9.0) for tick in range(3)]) == ["off_road"]
    assert kinds_of([state(x=58.6, y=-20.0, yaw=np.pi / 2)]) == []  # on the cross street's floor


def test_seams_of_the_surface_are_closed():
    surface = road_surface(straight_road())
    assert isinstance(surface, Polygon) and not list(surface.interiors)
    assert surface.area == pytest.approx(250.3 * 7.3 + 2 * 8.3 * (40.15 - 3.65), rel=0.01)


# --- rules ---------------------------------------------------------------------------------------------------------


def test_passing_the_stop_line_at_red_is_a_rule_broken():
    assert kinds_of(along(10.0, 25.0, 0.8, lights=light("red"))) == ["red_light"]


@pytest.mark.parametrize("colour", ["green", "yellow"])
def test_other_colours_may_be_passed(colour):
    assert kinds_of(along(10.0, 25.0, 0.8, lights=light(colour))) == []


def test_stopping_before_the_line_keeps_the_rule():
    line_m = 20.0
    stops = along(10.0, line_m - FRONT_M - 0.3, 0.4, lights=light("red"))
    waits = [state(len(stops) + i, stops[-1].ego.xy_in_local_m[0], speed=0.0, lights=light("red")) for i in range(5)]
    assert kinds_of([*stops, *waits]) == []
    goes_on = [state(99, line_m - FRONT_M + 0.3, lights=light("red"))]
    assert kinds_of([*stops, *waits, *goes_on]) == ["red_light"]


def test_the_light_turns_red_behind_the_bumper():
    before = along(10.0, 17.0, 0.8, lights=light("green"))
    after = [state(50 + i, x, lights=light("red")) for i, x in enumerate(np.arange(17.4, 25.0, 0.8))]
    assert kinds_of([*before, *after]) == []


@pytest.mark.parametrize("signal", [light("red", y=1.75), light("red", yaw=np.pi), light("red", yaw=np.pi / 2)])
def test_lights_of_other_lanes_do_not_bind(signal):
    assert kinds_of(along(10.0, 25.0, 0.8, lights=signal)) == []


def test_wrong_way_only_after_three_seconds():
    against = along(0.0, 60.0, 0.8, y=1.75)
    assert kinds_of(against[:28]) == []
    assert kinds_of(against[:33]) == ["wrong_way"]
    (event,) = events_of(against)
    assert event.t_us == pytest.approx(3_000_000, abs=150_000)
    back_in_lane = [state(25, 20.0)]
    assert kinds_of([*against[:25], *back_in_lane, *against[26:50]]) == []


def test_the_other_direction_is_right_in_the_other_lane():
    assert kinds_of([state(i, 60 - 0.8 * i, y=1.75, yaw=np.pi) for i in range(60)]) == []


def test_speeding_only_above_the_tolerance_and_after_a_second():
    limit = 13.9
    fast = [state(tick, speed=1.3 * limit) for tick in range(40)]
    assert kinds_of(fast[:9]) == []
    assert kinds_of(fast[:12]) == ["speeding"] == kinds_of(fast)
    assert kinds_of([state(tick, speed=1.2 * limit) for tick in range(40)]) == []
    pulses = [state(tick, speed=(1.3 if tick % 9 else 1.0) * limit) for tick in range(60)]
    assert kinds_of(pulses) == []


def test_a_plain_drive_has_no_event():
    ahead = agents_of(("lead", "car", 90.0, LANE_Y_M, 0.0), ("other", "truck", 10.0, 1.9, np.pi))
    assert events_of(along(0.0, 60.0, 0.8, agents=ahead, lights=light("green"))) == []


# --- scores --------------------------------------------------------------------------------------------------------

ROUTE = np.array([[0.0, LANE_Y_M], [500.0, LANE_Y_M]])


def scored(distance_m: float, reference_m: float = 100.0, events: Sequence[Event] = ()) -> Score:
    states = [state(i, x) for i, x in enumerate(np.linspace(5.0, 5.0 + distance_m, 11))]
    return score_drive(list(events), states, ROUTE, reference_m)


@pytest.mark.parametrize(("distance_m", "expected"), [(0, 0), (-20, 0), (40, 0.5), (80, 1), (100, 1), (150, 1)])
def test_scene_score_is_progress_over_four_fifths(distance_m, expected):
    score = scored(distance_m)
    assert score.scene_score == pytest.approx(expected)
    assert score.distance_m == pytest.approx(distance_m)
    assert score.progress == pytest.approx(max(distance_m, 0) / 100)
    assert score.clean


@pytest.mark.parametrize("reference_m", [0.0, -3.0, 4.9])
def test_where_the_reference_hardly_moves_standing_is_right(reference_m):
    assert scored(0.0, reference_m).scene_score == 1.0


@pytest.mark.parametrize("kind", ["collision", "off_road"])
def test_nothing_is_left_after_a_collision_at_fault_or_off_road(kind):
    score = scored(100.0, events=[Event(kind, 0, "")])
    assert score.scene_score == 0.0 and not score.clean and score.progress == pytest.approx(1.0)
    assert (score.at_fault_collision, score.off_road) == (kind == "collision", kind == "off_road")


def test_being_hit_from_behind_costs_nothing():
    score = scored(100.0, events=[Event("collision", 0, "", at_fault=False)])
    assert score.any_collision and not score.at_fault_collision and score.clean and score.scene_score == 1.0


@pytest.mark.parametrize("kind", ["red_light", "wrong_way", "speeding"])
def test_broken_rules_are_not_clean_and_keep_the_scene_score(kind):
    score = scored(40.0, events=[Event(kind, 0, "")])
    assert score.rule_breaking and not score.clean and score.scene_score == pytest.approx(0.5)


def test_a_close_encounter_is_counted_and_clean():
    score = scored(40.0, events=[Event("close_encounter", 0, "")])
    assert score.close_encounter and score.clean and score.scene_score == pytest.approx(0.5)


@settings(max_examples=80, deadline=None)
@given(st.floats(-50, 300), st.floats(0, 100), st.floats(0, 300))
def test_more_progress_never_scores_less(distance_m, more_m, reference_m):
    less, more = scored(distance_m, reference_m), scored(distance_m + more_m, reference_m)
    assert 0.0 <= less.scene_score <= more.scene_score <= 1.0
    assert less.progress <= more.progress


def speeds(values: ArrayLike, curvature_1pm: float = 0.0) -> list[WorldState]:
    states = [state(i, speed=float(v)) for i, v in enumerate(np.asarray(values, float))]
    for now in states:
        now.ego.curvature_1pm = curvature_1pm
    return states


def test_steady_driving_is_comfortable():
    assert comfort(speeds([10.0] * 30)) == 1.0
    assert comfort(speeds(10.0 - 3.0 * STEP_S * np.arange(30))) == 1.0  # steady braking, from the first step on
    assert comfort(speeds([10.0])) == 1.0


@pytest.mark.parametrize(("rate_mps2", "fine"), [(2.3, True), (2.5, False), (-3.9, True), (-4.2, False)])
def test_acceleration_bounds(rate_mps2, fine):
    assert comfort(speeds(20.0 + rate_mps2 * STEP_S * np.arange(20))) == (1.0 if fine else 0.0)


@pytest.mark.parametrize(
    ("speed_mps", "curvature_1pm", "fine"), [(10, 0.048, True), (10, 0.05, False), (4, 0.2, True), (5, 0.195, False)]
)
def test_lateral_and_yaw_rate_bounds(speed_mps, curvature_1pm, fine):
    assert comfort(speeds([speed_mps] * 10, curvature_1pm)) == (1.0 if fine else 0.0)
    assert comfort(speeds([speed_mps] * 10, -curvature_1pm)) == (1.0 if fine else 0.0)


def test_a_jerk_costs_the_step_it_is_in():
    speed = np.concatenate([np.full(11, 10.0), 10.0 - 0.2 * np.arange(1, 11)])  # from 0 to -2 m/s2 in one step
    assert comfort(speeds(speed)) == pytest.approx(19 / 20)


def test_the_longer_the_harsh_braking_the_less_comfort():
    def drive(harsh_steps: int) -> float:
        rate = np.concatenate([np.zeros(5), np.full(harsh_steps, -7.0), np.zeros(35 - harsh_steps)])
        return comfort(speeds(30.0 + np.cumsum(rate) * STEP_S))

    shares = [drive(steps) for steps in (0, 2, 5, 12, 30)]
    assert shares[0] == 1.0 and all(a > b for a, b in itertools.pairwise(shares))
