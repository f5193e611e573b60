"""Does it do what it says: each rule in both directions, bounded, monotone, and blind to how long the world goes on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_drives import motion_of, path, speeds, swerve, yaws

from causaldrive.ground.errors import UserError
from causaldrive.ground.words import LATERAL_DECISIONS, LONGITUDINAL_DECISIONS, STEP_S
from causaldrive.label.consistency import PlannedMotion, deciding_s, judge, motion_of_plan
from causaldrive.label.trace import ParsedTrace, parse

CRUISE = speeds(10, (0, 7))
BRAKE = speeds(10, (0, 0.6), (-2, 4), (0, 3))
HARD = speeds(12, (-4, 2.5), (0, 5))
STAND = speeds(0, (0, 7))
STAND_THEN_GO = speeds(0, (0, 1.5), (1.5, 6))
SURGE = speeds(5, (1.8, 7))
EASE = speeds(10, (0, 0.5), (-0.5, 2), (0, 5))
SURGE_THEN_BRAKE = speeds(5, (1.8, 2), (-3, 2), (0, 4))


def along(decision: str, speed: np.ndarray) -> bool | None:
    return judge(ParsedTrace(decision, None, None, ()), motion_of(speed)).longitudinal


def aside(decision: str, direction: str | None, offset: np.ndarray | None, **more) -> bool | None:
    return judge(ParsedTrace(None, decision, direction, ()), motion_of(CRUISE, offset, **more)).lateral


@pytest.mark.parametrize(
    ("decision", "agrees", "contradicts"),
    [
        ("stop_for_static_constraint", [BRAKE, EASE, STAND, STAND_THEN_GO], [CRUISE, SURGE, SURGE_THEN_BRAKE]),
        ("yield", [BRAKE, EASE, STAND, speeds(2.5, (0, 7))], [CRUISE, SURGE, SURGE_THEN_BRAKE]),
        ("lead_obstacle_following", [BRAKE, EASE, CRUISE, STAND], [SURGE]),
        ("speed_adaptation", [BRAKE, EASE, CRUISE], [SURGE]),
        ("set_speed_tracking", [CRUISE, SURGE, STAND_THEN_GO], [BRAKE, STAND]),
        ("acceleration_for_passing", [SURGE], [CRUISE, BRAKE]),
        ("gap_searching", [CRUISE, EASE, BRAKE], [HARD, speeds(5, (2.5, 7))]),
    ],
)
def test_longitudinal_rules_in_both_directions(decision, agrees, contradicts):
    assert [along(decision, v) for v in agrees] == [True] * len(agrees)
    assert [along(decision, v) for v in contradicts] == [False] * len(contradicts)


def test_every_decision_has_a_rule():
    for decision in LONGITUDINAL_DECISIONS:
        assert along(decision, CRUISE) in (True, False)
    for decision in LATERAL_DECISIONS:
        assert aside(decision, "left", swerve(1.0)) in (True, False)


@pytest.mark.parametrize(
    "decision", ["stop_for_static_constraint", "yield", "lead_obstacle_following", "speed_adaptation"]
)
@given(a=st.floats(-4, 2), b=st.floats(-4, 2), start=st.floats(4, 15))
def test_more_braking_never_makes_slowing_less_true(decision, a, b, start):
    harder, softer = (along(decision, np.maximum(speeds(start, (rate, 7)), 0)) for rate in sorted((a, b)))
    assert harder or not softer


@pytest.mark.parametrize("decision", ["set_speed_tracking", "acceleration_for_passing"])
@given(a=st.floats(-4, 2), b=st.floats(-4, 2), start=st.floats(4, 15))
def test_less_braking_never_makes_going_less_true(decision, a, b, start):
    harder, softer = (along(decision, np.maximum(speeds(start, (rate, 7)), 0)) for rate in sorted((a, b)))
    assert softer or not harder


def test_braking_that_was_under_way_is_not_of_this_decision():
    fades = speeds(6, (-4, 0.8), (0, 0.3), (1.2, 6))
    begins = speeds(6, (0, 0.4), (-4, 0.8), (0, 0.3), (1.2, 6))
    goes_on = speeds(9, (-4, 1.8), (0, 0.3), (1.2, 6))
    assert along("set_speed_tracking", fades)
    assert not along("set_speed_tracking", begins), "a fresh braking is a decision"
    assert not along("set_speed_tracking", goes_on), "so is one that is kept up"
    assert not along("set_speed_tracking", speeds(6, (-4, 0.8), (0, 6))), "and one after which nothing comes back"


def test_the_set_speed_says_what_is_keeping_and_what_is_holding_back():
    def judged(decision: str, speed: np.ndarray, set_speed_mps: float | None) -> bool | None:
        motion = replace(motion_of(speed), set_speed_mps=set_speed_mps)
        return judge(ParsedTrace(decision, None, None, ()), motion).longitudinal

    down = speeds(12, (-1.2, 1.5), (-0.2, 1), (0, 4))
    assert judged("set_speed_tracking", down, 10.0) and not judged("set_speed_tracking", down, 12.0)
    assert not judged("set_speed_tracking", down, None) and not judged("set_speed_tracking", BRAKE, 10.0)
    assert judged("yield", CRUISE, 12.0) and not judged("yield", CRUISE, 10.0) and not judged("yield", CRUISE, None)
    assert not judged("yield", SURGE, 12.0)


def test_pulling_over_is_slowing_stopping_or_staying_slow_at_the_edge():
    def judged(speed: np.ndarray, offset: np.ndarray, set_speed_mps: float | None) -> bool | None:
        motion = replace(motion_of(speed, offset), set_speed_mps=set_speed_mps)
        return judge(ParsedTrace(None, "pull_over", "right", ()), motion).lateral

    edge, slow = np.full(65, -2.4), speeds(5, (0, 7))
    for speed in (BRAKE, STAND, slow):
        assert judged(speed, edge, 12.0)
    assert not judged(slow, edge, 5.0) and not judged(slow, edge, None), "nobody holds that driver back"
    assert not judged(speeds(5, (1.5, 7)), edge, 12.0), "that is driving on"
    assert not judged(slow, np.zeros(65), 12.0) and not judged(BRAKE, -edge, 12.0), "not at that edge"


def test_a_later_move_aside_is_a_later_decision():
    later = np.concatenate([np.zeros(25), swerve(1.5)])[:65]
    assert aside("lane_keeping", None, later) and not aside("lane_keeping", None, swerve(1.5))


@pytest.mark.parametrize("nudge", ["in_lane_nudge", "out_of_lane_nudge"])
@given(peak=st.floats(0.45, 2.5), start=st.floats(-0.3, 0.3))
def test_nudges_have_a_side_and_a_size(nudge, peak, start):
    assert aside(nudge, "left", swerve(peak, start)) and not aside(nudge, "right", swerve(peak, start))
    assert aside(nudge, "right", swerve(-peak, start)) and not aside(nudge, "left", swerve(-peak, start))
    assert not aside(nudge, "left", swerve(0.05))
    assert not aside(nudge, "left", swerve(3.5)), "that is a lane change"


def test_a_nudge_under_way_is_still_a_nudge():
    assert aside("out_of_lane_nudge", "left", np.full(65, 1.2))
    assert aside("out_of_lane_nudge", "left", swerve(-1.2, 1.2)), "passing and coming back"


@given(peak=st.floats(-3, 3), more=st.floats(0, 2))
def test_leaving_the_lane_further_never_makes_keeping_truer(peak, more):
    assert aside("lane_keeping", None, swerve(peak)) or not aside(
        "lane_keeping", None, swerve(peak + np.copysign(more, peak))
    )


def test_keeping_the_lane_allows_coming_back_to_its_centre():
    assert aside("lane_keeping", None, swerve(0.2)) and aside("lane_keeping", None, swerve(-1.0, 1.0))
    assert not aside("lane_keeping", None, swerve(1.0, 0.5)) and not aside("lane_keeping", None, swerve(-1.0))


def test_lane_change_and_turn():
    assert aside("lane_change", "left", swerve(3.5)) and not aside("lane_change", "right", swerve(3.5))
    assert not aside("lane_change", "left", swerve(0.6))
    yaw = yaws(CRUISE, (0.05, 7))
    assert aside("turn", "left", None, yaw_rad=yaw) and not aside("turn", "right", None, yaw_rad=yaw)
    assert not aside("turn", "left", None)


def test_without_a_route_a_nudge_on_a_straight_is_seen():
    offset = swerve(1.2)
    yaw = np.arctan2(np.gradient(offset, 0.1), CRUISE[:65])
    for sign, side, other in ((1, "left", "right"), (-1, "right", "left")):
        assert aside("out_of_lane_nudge", side, None, yaw_rad=sign * yaw)
        assert not aside("out_of_lane_nudge", other, None, yaw_rad=sign * yaw)
        assert not aside("lane_keeping", None, None, yaw_rad=sign * yaw)
    steady = yaws(CRUISE, (0.01, 7))
    assert aside("lane_keeping", None, None, yaw_rad=steady) and not aside(
        "in_lane_nudge", "left", None, yaw_rad=steady
    )


def test_both_axes_must_be_said_and_agree():
    good = parse("Stop and keep the lane because the traffic light ahead is red.")
    assert judge(good, motion_of(BRAKE, swerve(0))).consistent
    assert not judge(good, motion_of(CRUISE, swerve(0))).consistent
    assert not judge(good, motion_of(BRAKE, swerve(1))).consistent
    half = judge(parse("Stop because the traffic light ahead is red."), motion_of(BRAKE, swerve(0)))
    assert half.longitudinal is True and half.lateral is None and not half.consistent
    nothing = judge(parse("a lovely day"), motion_of(BRAKE, swerve(0)))
    assert (nothing.longitudinal, nothing.lateral, nothing.consistent) == (None, None, False)


def test_numbers_that_are_none_agree_with_nothing():
    broken = motion_of(np.where(np.arange(71) == 9, np.nan, CRUISE))
    assert not judge(parse("Keep the speed and the lane because the road is clear."), broken).consistent


def test_a_short_motion_is_refused():
    with pytest.raises(UserError, match="30 frames found, 65"):
        judge(parse("Stop."), PlannedMotion(CRUISE[:30], np.zeros((30, 2)), np.zeros(30)))


@given(curvature=st.floats(-0.03, 0.03), offset=st.floats(-0.5, 0.5))
def test_a_plan_along_a_curved_route_keeps_the_lane(curvature, offset):
    yaw = yaws(CRUISE, (curvature, 7))
    xy = path(CRUISE, yaw)
    normal = np.stack([-np.sin(yaw), np.cos(yaw)], axis=1)
    motion = motion_of_plan(xy[1:65], yaw[1:65], 10.0, xy + offset * normal)
    assert motion.lane_offset_m is not None
    np.testing.assert_allclose(motion.lane_offset_m, -offset, atol=0.05)
    np.testing.assert_allclose(motion.speed_mps, 10.0, atol=0.05)
    assert judge(parse("Keep the speed and the lane because the road is clear."), motion).consistent


@given(
    along=st.sampled_from(LONGITUDINAL_DECISIONS), aside=st.sampled_from(LATERAL_DECISIONS),
    seed=st.integers(0, 10_000), joins=st.booleans(),
)  # fmt: skip
def test_what_is_planned_beyond_the_deciding_time_makes_no_difference(along, aside, seed, joins):
    text = ParsedTrace(along, aside, "left", ())
    rng = np.random.default_rng(seed)
    motion = replace(
        motion_of(np.abs(8 + rng.normal(0, 0.5, 65).cumsum()), rng.normal(0, 0.1, 65).cumsum()), joins=joins
    )
    along_s, aside_s = deciding_s(text)
    speed, offset = motion.speed_mps.copy(), motion.lane_offset_m.copy()
    speed[round(along_s / STEP_S) + 1 :] += 5.0
    offset[round(aside_s / STEP_S) + 1 :] += 5.0
    assert judge(text, replace(motion, speed_mps=speed)).longitudinal == judge(text, motion).longitudinal
    assert judge(text, replace(motion, lane_offset_m=offset)).lateral == judge(text, motion).lateral


def test_a_text_that_says_nothing_is_judged_by_nothing_and_a_turn_by_the_whole_way():
    assert deciding_s(ParsedTrace(None, None, None, ())) == (0.0, 0.0)
    assert deciding_s(ParsedTrace("yield", "turn", "left", ())) == (4.0, pytest.approx(6.4))
    assert deciding_s(ParsedTrace("yield", "lane_keeping", None, ())) == (4.0, 3.0)
