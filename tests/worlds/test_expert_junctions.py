"""Right of way: who must wait, who need not, told from what can be seen."""

from __future__ import annotations

import numpy as np
import pytest
from drawing import straight_road
from junction_views import context_on, line_end_m, view

from causaldrive.worlds import expert_junctions
from causaldrive.worlds.expert import explain
from causaldrive.worlds.route import Route, route_of
from causaldrive.worlds.sight import look
from causaldrive.worlds.state import LightArrays

CROSS, LEFT = "four_way_stop", "left_turn"


def _kinds(said) -> set[str]:
    return {cause.kind for cause in said.causes}


def _four_way(front_before_m: float, speed_mps: float, cars=(), **more):
    context = context_on(CROSS, ("s_in", "n_out"))
    return explain(view(context, line_end_m(CROSS, "s_in") - front_before_m, speed_mps, cars, **more), context)


def test_a_stop_sign_is_stopped_at():
    far, near = _four_way(50.0, 8.0), _four_way(18.0, 8.0)
    assert _kinds(far) == set() and far.longitudinal == "set_speed_tracking"
    assert _kinds(near) == {"stop_sign"} and near.longitudinal == "stop_for_static_constraint"
    assert near.acceleration_mps2 < -1.0


def test_who_stood_first_at_an_all_way_stop_goes_first():
    end = line_end_m(CROSS, "e_in")
    rival = (CROSS, ("e_in", "w_out"), end - 1.0, 0.0, 0)
    first = _four_way(1.5, 0.0, [(*rival, 10)], stands=4)
    assert first.longitudinal == "yield" and _kinds(first) == {"crossing_vehicle"}
    later = _four_way(1.5, 0.0, [(*rival, 4)], stands=10)
    assert later.longitudinal == "set_speed_tracking" and _kinds(later) == set()
    assert any(f.kind == "crossing_vehicle" for f in later.others)


def test_a_car_inside_the_junction_is_let_through():
    inside = (CROSS, ("e_in", "w_out"), line_end_m(CROSS, "e_in") + 4.0, 4.0, 0)
    said = _four_way(1.5, 0.0, [inside], stands=8)
    assert said.longitudinal == "yield" and _kinds(said) == {"crossing_vehicle"}


def _left_turn(nose_before_m: float, speed_mps: float = 10.0, indicator: int = 0, way: str = "w_out", **more):
    context = context_on(LEFT, ("s_in", way))
    oncoming = (LEFT, ("n_in", "s_out"), line_end_m(LEFT, "n_in") - nose_before_m, speed_mps, indicator)
    return explain(view(context, line_end_m(LEFT, "s_in") - 12.0, 6.0, [oncoming], **more), context)


def test_a_left_turn_lets_oncoming_cars_pass():
    said = _left_turn(20.0)
    assert said.longitudinal == "yield" and _kinds(said) == {"oncoming_vehicle"}
    assert said.acceleration_mps2 < -1.0


@pytest.mark.parametrize("harmless", [{"nose_before_m": 120.0}, {"indicator": 1}, {"way": "n_out"}],
                         ids=["far", "turns_left_too", "we_go_straight"])  # fmt: skip
def test_an_oncoming_car_that_does_not_meet_us_is_no_cause(harmless):
    said = _left_turn(**{"nose_before_m": 20.0, **harmless})
    assert "oncoming_vehicle" not in _kinds(said) and said.longitudinal != "yield"


def test_a_red_light_holds_the_rival():
    lane = "n_in_1"
    stop = np.zeros((1, 2)) + 500.0
    held = LightArrays(["light"], [lane], ["red"], stop, np.zeros((1, 3)), np.zeros(1))
    assert "oncoming_vehicle" not in _kinds(_left_turn(20.0, lights=held))
    free = LightArrays(["light"], [lane], ["green"], stop, np.zeros((1, 3)), np.zeros(1))
    assert "oncoming_vehicle" in _kinds(_left_turn(20.0, lights=free))


@pytest.mark.parametrize(("beside_m", "cause"), [(0.0, True), (-6.0, True), (-75.0, False), (100.0, False)])
def test_merging_falls_in_behind_whoever_is_beside_us(beside_m, cause):
    context = context_on("ramp_merge", ("ramp", "main_out"), 15.0)
    to_go = 30.0
    rival = ("ramp_merge", ("main_in", "main_out"), line_end_m("ramp_merge", "main_in") - to_go + beside_m, 15.0)
    said = explain(view(context, line_end_m("ramp_merge", "ramp") - to_go, 14.0, [rival]), context)
    assert ("merging_vehicle" in _kinds(said)) == cause
    assert (said.longitudinal == "gap_searching") == cause


@pytest.mark.parametrize(("indicator", "cause"), [(0, True), (-1, False)])
def test_a_car_in_the_roundabout_goes_first_unless_it_leaves(indicator, cause):
    context = context_on("roundabout", ("s_in", "ring_s", "ring_e", "n_out"), 8.0)
    rival = ("roundabout", ("ring_n", "ring_w", "ring_s"), line_end_m("roundabout", "ring_n") + 16.0, 6.0, indicator)
    said = explain(view(context, line_end_m("roundabout", "s_in") - 9.0, 6.0, [rival], steps=3), context)
    assert ("merging_vehicle" in _kinds(said)) == cause


def test_a_map_without_rights_of_way_has_no_findings():
    context = context_on(CROSS, ("s_in", "n_out"))
    sight = look(view(context, 100.0, 8.0), route_of(context))
    assert expert_junctions.findings(sight, straight_road(), 1.0, 10.0) == []


def test_only_the_gates_on_our_way_count():
    context = context_on(LEFT, ("s_in", "n_out"))  # the main road, straight on: nobody goes first
    sight = look(view(context, line_end_m(LEFT, "s_in") - 10.0, 8.0), Route(context))
    assert expert_junctions.findings(sight, context.road, 1.0, 10.0) == []
