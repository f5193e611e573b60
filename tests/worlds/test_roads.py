"""Roads: geometry of lines, lanes that fit together, and roads that mostly bend."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from causaldrive.worlds.paths import Path
from causaldrive.worlds.roads import Road, RoadShape, build_road, curvature_profile, draw_bends
from causaldrive.worlds.route import pavement


def _road(**changes) -> Road:
    shape = {"bends": ((100.0, 0.0), (100.0, 1 / 80), (120.0, -1 / 120)), "forward_lanes": 2, "opposite_lanes": 1}
    return build_road(RoadShape(**(shape | changes)), np.random.default_rng(3))


@settings(max_examples=40, deadline=None)
@given(st.floats(5, 240), st.floats(-8, 8), st.floats(-4, 4), st.sampled_from([-1 / 40, 0.0, 1 / 25]))
def test_a_point_on_a_line_is_projected_back_to_its_arc_and_offset(arc, offset, nearby, curvature):
    line = Path.of_curvature(curvature_profile(((120.0, curvature), (130.0, -curvature))), 1.0)
    x, y, _ = line.pose(arc, offset)
    found_arc, found_offset = line.project(x, y, arc + nearby, rounds=20)
    assert found_arc == pytest.approx(arc, abs=0.02)
    assert found_offset == pytest.approx(offset, abs=0.02)


def test_an_arc_of_known_radius_ends_where_a_circle_does():
    line = Path.of_curvature(np.full(101, 1 / 50), 1.0)
    x, y, yaw = line.pose(100.0)
    assert (x, y) == pytest.approx((50 * np.sin(2.0), 50 * (1 - np.cos(2.0))), abs=0.01)
    assert yaw == pytest.approx(2.0)


def test_the_reversed_line_is_driven_the_other_way_with_the_other_sign():
    line = Path.of_curvature(np.full(101, 1 / 60), 1.0)
    x, y, yaw = line.pose(30.0, -1.75)
    bx, by, back = line.reversed().pose(70.0, 1.75)
    assert (bx, by) == pytest.approx((x, y), abs=1e-6)
    assert np.cos(back - yaw) == pytest.approx(-1.0)


@pytest.mark.parametrize("junction", [None, 150.0])
def test_lanes_join_their_successors_and_know_their_neighbours(junction):
    bends = ((320.0, 0.0),) if junction else ((100.0, 0.0), (220.0, 1 / 90))
    lanes = _road(junction_at_m=junction, bends=bends).road_map.lanes
    assert any(lane.successors for lane in lanes.values())
    for lane in lanes.values():
        for name in lane.successors:
            assert lane.lane_id in lanes[name].predecessors
            assert np.allclose(lane.centre_xy_m[-1], lanes[name].centre_xy_m[0], atol=1e-6)
        if lane.right_neighbour:
            assert lanes[lane.right_neighbour].left_neighbour == lane.lane_id
            assert np.allclose(lane.right_xy_m, lanes[lane.right_neighbour].left_xy_m)


def test_marks_say_which_lines_may_be_crossed():
    lanes = _road().road_map.lanes
    assert (lanes["forward_0_1"].left_mark, lanes["forward_0_1"].right_mark) == ("solid_yellow", "dashed_white")
    assert (lanes["forward_1_1"].left_mark, lanes["forward_1_1"].right_mark) == ("dashed_white", "solid_white")
    assert (lanes["opposite_0_1"].left_mark, lanes["opposite_0_1"].right_mark) == ("solid_yellow", "solid_white")


def test_traffic_keeps_to_the_right_in_both_directions():
    road = _road()
    for name, sign in (("forward_0_2", -1), ("opposite_0_2", 1)):
        middle = road.road_map.lanes[name].centre_xy_m[5]
        arc = float(np.argmin(np.linalg.norm(road.forward.xy_m - middle, axis=1)))
        assert np.sign(road.forward.project(*middle, arc)[1]) == sign


def test_a_junction_has_stop_lines_crosswalks_and_a_paved_middle():
    road = _road(bends=((320.0, 0.0),), junction_at_m=150.0)
    road_map = road.road_map
    inside = [name for name, lane in road_map.lanes.items() if lane.in_junction]
    assert {"forward_0_3", "rightward_through", "leftward_through"} <= set(inside) or len(inside) == 5
    entries = {p for name in inside for p in road_map.lanes[name].predecessors}
    assert set(road_map.stop_lines) == entries and len(entries) == 5
    assert len(road_map.crosswalks) == 2
    assert shapely.contains_xy(pavement(road_map), *road.forward.pose(150.0, 5.5)[:2])


def test_buildings_leave_road_and_sidewalk_free():
    road = _road(bends=((320.0, 0.0),), junction_at_m=150.0)
    clear = pavement(road.road_map).buffer(2.5)
    assert len(road.road_map.buildings) > 5
    assert not any(clear.intersects(shapely.Polygon(ring)) for ring in road.road_map.buildings.values())


def test_two_roads_in_three_bend_to_either_side_within_their_radius():
    profiles = [curvature_profile(draw_bends(np.random.default_rng(i), 300.0, 80.0)) for i in range(120)]
    bent = [p for p in profiles if np.abs(p).max() > 0]
    assert 0.55 < len(bent) / len(profiles) < 0.8
    assert all(np.abs(p).max() <= 1 / 80 + 1e-9 for p in bent)
    assert min(p[40:160].mean() for p in bent) < -0.002 and max(p[40:160].mean() for p in bent) > 0.002


def test_a_junction_stretch_stays_straight():
    for seed in range(30):
        bends = draw_bends(np.random.default_rng(seed), 400.0, 80.0, straight=(150.0, 220.0))
        assert np.abs(curvature_profile(bends)[160:211]).max() < 1e-9
        assert sum(length for length, _ in bends) == pytest.approx(400.0)
