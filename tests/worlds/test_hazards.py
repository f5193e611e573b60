"""The wider factors on made-up moments, and the rules that score them: each both ways."""

from dataclasses import replace

import numpy as np
import pytest
from test_expert import CAR, _agents, _history, _straight_context

from causaldrive.worlds.expert import explain
from causaldrive.worlds.scoring import Scorer, score_drive
from causaldrive.worlds.state import EgoState, LightArrays, WorldState

BUS, SIGN, CONE, BIKE = (10.5, 2.5, 3.1), (0.2, 0.9, 2.7), (0.45, 0.45, 0.9), (1.8, 0.6, 1.7)


def _with_stop_line():
    context = _straight_context()
    context.road.stop_lines["ours"] = np.array([[95.0, 1.75], [95.0, -1.75]])
    return context


@pytest.mark.parametrize(("yaw", "causes"), [(0.0, ["stop_sign"]), (np.pi / 2, [])])
def test_a_stop_sign_binds_those_it_faces(yaw, causes):
    def sign(t):
        return _agents(("s", "sign", 95.5, -3.0, yaw, 0.0, SIGN, False, 0))

    said = explain(_history(sign, x=70.0), _with_stop_line())
    assert [c.kind for c in said.causes] == causes
    standing = _history(sign, speed=0.0, x=90.3)
    assert explain(standing, _with_stop_line()).causes == ()  # stood for 2 s: served
    arrived = explain(standing[-4:], _with_stop_line())
    assert bool(arrived.causes) == bool(causes)  # stood for 0.3 s only


@pytest.mark.parametrize(("indicator", "causes"), [(2, ["school_bus"]), (0, [])])
@pytest.mark.parametrize("y", [3.5, 0.0])
def test_a_school_bus_binds_while_its_lights_flash(indicator, causes, y):
    bus = [c.kind for c in explain(
        _history(lambda t: _agents(("b", "school_bus", 100, y, np.pi if y else 0.0, 0.0, BUS, True, indicator))),
        _straight_context(),
    ).causes]  # fmt: skip
    assert bus == (causes if y or indicator else ["lead_vehicle"])


@pytest.mark.parametrize(("low", "causes"), [(-1.7, ["speed_bump"]), (1.9, [])])
def test_a_bump_binds_in_our_lane_only(low, causes):
    context = _straight_context()
    context.road.bumps["b"] = np.array([[80.0, low], [81.8, low], [81.8, low + 3.3], [80.0, low + 3.3]])
    said = explain(_history(lambda t: _agents()), context)
    assert [c.kind for c in said.causes] == causes
    assert (said.longitudinal == "speed_adaptation") == bool(causes)


@pytest.mark.parametrize(("y", "lateral"), [(-0.7, "out_of_lane_nudge"), (-2.4, "lane_keeping")])
def test_cones_in_our_lane_are_passed(y, lateral):
    def cones(t):
        return _agents(*((f"c{i}", "cone", 85 + 4 * i, y, 0, 0.0, CONE, False, 0) for i in range(4)))

    said = explain(_history(cones), _straight_context())
    assert said.lateral == lateral
    assert [c.kind for c in said.causes] == (["construction"] if lateral != "lane_keeping" else [])


def test_an_emergency_vehicle_from_behind_is_let_past():
    def siren(indicator):
        return lambda t: _agents(("e", "emergency_vehicle", 30 + 16 * t, 1.2, 0, 16.0, (6, 2.1, 2.6), False, indicator))

    said = explain(_history(siren(2)), _straight_context())
    assert (said.longitudinal, said.lateral, said.causes[0].kind) == ("yield", "pull_over", "emergency_vehicle")
    assert explain(_history(siren(0)), _straight_context()).causes == ()


def test_a_swerving_car_is_told_from_one_that_keeps_its_lane():
    def weaving(t):
        y = 3.5 - 0.8 * np.sin(np.pi * (t + 2) / 1.0)
        return _agents(("r", "car", 84 + 7 * t, y, 0, 7.0, CAR, False, 0))

    said = explain(_history(weaving), _straight_context())
    assert [c.kind for c in said.causes] == ["risky_vehicle"] and said.longitudinal == "yield"


def test_a_cyclist_is_passed_where_the_way_is_free_and_followed_where_not():
    def riding(*more):
        return lambda t: _agents(("c", "cyclist", 80 + 4 * t, -1.0, 0, 4.0, BIKE, False, 0), *(row(t) for row in more))

    free = explain(_history(riding(), speed=8.0), _straight_context())
    assert (free.lateral, free.direction, free.longitudinal) == (
        "out_of_lane_nudge",
        "left",
        "acceleration_for_passing",
    )
    coming = riding(lambda t: ("o", "car", 120 - 9 * t, 3.0, np.pi, 9.0, CAR, False, 0))
    held = explain(_history(coming, speed=8.0), _straight_context())
    assert held.lateral == "lane_keeping" and held.longitudinal == "lead_obstacle_following"


def test_a_pedestrian_who_walked_up_and_waits_is_a_reason_to_go_on():
    def at_curb(speed_before, yaw):
        return lambda t: _agents(
            ("p", "pedestrian", 95, -2.9 + min(t + 0.5, 0) * speed_before, yaw, speed_before if t < -0.5 else 0.0,
             (0.5, 0.6, 1.7), False, 0))  # fmt: skip

    said = explain(_history(at_curb(1.2, np.pi / 2)), _straight_context())
    assert (said.longitudinal, [c.kind for c in said.causes]) == ("set_speed_tracking", ["pedestrian_waiting"])
    assert explain(_history(at_curb(0.0, np.pi / 2)), _straight_context()).causes == ()
    assert explain(_history(at_curb(1.2, -np.pi / 2)), _straight_context()).causes == ()


def _score(positions, speeds, agents, context):
    scorer = Scorer(context)
    states = [
        WorldState(i * 100_000, EgoState(np.array([x, 0.0]), 0.0, v), agents, LightArrays())
        for i, (x, v) in enumerate(zip(positions, speeds, strict=True))
    ]
    for state in states:
        scorer.add(state)
    return score_drive(scorer.events, states, context.route_xy_in_local_m, 10.0)


def test_running_a_stop_sign_breaks_a_rule_and_stopping_does_not():
    sign = _agents(("s", "sign", 95.5, -3.0, 0.0, 0.0, SIGN, False, 0))
    through = np.arange(85.0, 100.0, 0.5)
    assert _score(through, np.full(30, 5.0), sign, _with_stop_line()).rule_breaking
    stopped = np.where((through > 90.2) & (through < 91.2), 0.0, 5.0)
    assert not _score(through, stopped, sign, _with_stop_line()).rule_breaking
    turned = replace(sign, yaw_rad=sign.yaw_rad + np.pi / 2)
    assert not _score(through, np.full(30, 5.0), turned, _with_stop_line()).rule_breaking


@pytest.mark.parametrize(("indicator", "broken"), [(2, True), (0, False)])
def test_passing_a_flashing_school_bus_breaks_a_rule(indicator, broken):
    bus = _agents(("b", "school_bus", 100, 3.5, np.pi, 0.0, BUS, True, indicator))
    x = np.arange(80.0, 110.0, 0.8)
    assert _score(x, np.full(len(x), 8.0), bus, _straight_context()).rule_breaking is broken
