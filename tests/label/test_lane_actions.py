"""Lane-level words on small maps, each to both sides, and on the town's own drives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from label_drives import ego_of

from causaldrive.clips.geometry import project_on_polyline, quat_of_yaw, wrap_angle
from causaldrive.clips.lane_graph import yaw_beside
from causaldrive.clips.lane_lines import LaneLines
from causaldrive.clips.lane_passages import turns
from causaldrive.clips.types import EgoMotion, Lane, RoadMap
from causaldrive.ground.words import LANE_META
from causaldrive.label.lane_actions import LANE_PROFILES, detect_lane
from causaldrive.worlds.expert_drive import drive
from causaldrive.worlds.recording_of import ego_motion_of
from causaldrive.worlds.scenes import SceneSpec, build_scene
from causaldrive.worlds.true_lanes import true_lanes

X = np.arange(0.0, 301.0, 2.0)


def lane(name: str, xy: np.ndarray, **more) -> Lane:
    half = np.array([0, 1.75])
    return Lane(name, xy, xy + half, xy - half, **more)


def straight(name: str, y: float = 0.0, first: float = 0.0, last: float = 300.0, **more) -> Lane:
    x = np.arange(first, last + 1, 2.0)
    return lane(name, np.column_stack([x, np.full(len(x), y)]), **more)


def along(xy: np.ndarray) -> EgoMotion:
    """A drive through positions (T, 2) at 10 Hz."""
    step = np.gradient(xy, axis=0)
    ego = ego_of(np.hypot(*step.T) / 0.1)
    yaw = np.arctan2(step[:, 1], step[:, 0])
    return replace(ego, position_in_local_m=np.column_stack([xy, 0 * yaw]), quat_local_to_rig=quat_of_yaw(yaw))


def shifted(offset: np.ndarray) -> EgoMotion:
    return along(np.column_stack([1.0 * np.arange(len(offset)) + 5, offset]))


def ramp(peak: float, stay: bool) -> np.ndarray:
    """(200,) offset: moves over from 5 s to 8 s; back from 11 s to 14 s unless it stays."""
    t = np.arange(200) / 10
    ease = lambda a: (1 - np.cos(np.pi * np.clip((t - a) / 3, 0, 1))) / 2  # noqa: E731
    return peak * (ease(5) - (0 if stay else ease(11)))


def order(words: np.ndarray) -> list[str]:
    return [str(w) for i, w in enumerate(words) if i == 0 or w != words[i - 1]]


TWO = RoadMap({
    "right": straight("right", 0.0, left_neighbour="left"), "left": straight("left", 3.5, right_neighbour="right"),
})  # fmt: skip


def test_a_lane_change_to_each_side_begins_and_ends_with_the_move():
    for ego, side in ((shifted(ramp(3.5, True)), "left"), (shifted(3.5 - ramp(3.5, True)), "right")):
        words = detect_lane(ego, TWO)
        assert order(words) == ["keep_lane", f"lane_change_{side}", "keep_lane"]
        inside = np.flatnonzero(words == f"lane_change_{side}")
        assert inside[0] == pytest.approx(50, abs=4) and inside[-1] == pytest.approx(80, abs=4)


def test_a_nudge_to_each_side_is_no_lane_change():
    for sign, side in ((1, "left"), (-1, "right")):
        assert order(detect_lane(shifted(ramp(sign * 1.0, False)), TWO)) == ["keep_lane", f"nudge_{side}", "keep_lane"]
    assert order(detect_lane(shifted(ramp(0.3, False)), TWO)) == ["keep_lane"]


@pytest.mark.parametrize("side", ["left", "right"])
def test_turns_in_junctions_and_curves_outside(side):
    sign = 1 if side == "left" else -1
    angle = np.linspace(0, np.pi / 2, 40)
    arc = np.column_stack([100 + 20 * np.sin(angle), sign * 20 * (1 - np.cos(angle))])
    before = straight("before", first=0, last=100, successors=("bend",))
    after = np.column_stack([np.full(60, 120.0), sign * (20 + np.arange(60))])
    steps = np.vstack([before.centre_xy_m[:-1], arc, after[1:]])
    knots = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(steps, axis=0).T))])
    s = np.arange(5, knots[-1] - 5, 0.8)
    ego = along(np.column_stack([np.interp(s, knots, steps[:, i]) for i in (0, 1)]))
    for in_junction, word in ((True, f"turn_{side}"), (False, f"follow_curve_{side}")):
        bend = lane("bend", arc, in_junction=in_junction, predecessors=("before",), successors=("after",))
        road = RoadMap({"before": before, "bend": bend, "after": lane("after", after, predecessors=("bend",))})
        said = order(detect_lane(ego, road))
        assert said[0] == said[-1] == "keep_lane" and word in said
        other = "right" if side == "left" else "left"
        assert not any(w.endswith(other) for w in said)


@pytest.mark.parametrize("side", ["left", "right"])
def test_who_comes_to_a_turn_or_waits_before_it_follows_no_curve(side):
    """The way of several lanes over the junction is not known yet, and the lane itself is straight."""
    sign, angle = 1 if side == "left" else -1, np.linspace(0, np.pi / 2, 20)
    arc = np.column_stack([100 + 8 * np.sin(angle), sign * 8 * (1 - np.cos(angle))])
    out = np.column_stack([np.full(50, 108.0), sign * (8 + np.arange(50))])
    links = {"predecessors": ("before",), "in_junction": True}
    road = RoadMap({
        "before": straight("before", last=100, successors=("bend", "on")),
        "bend": lane("bend", arc, successors=("out",), **links), "on": straight("on", first=100, last=120, **links),
        "out": lane("out", out, predecessors=("bend",)),
    })  # fmt: skip
    waiting = along(np.column_stack([np.minimum(60 + 0.5 * np.arange(120), 97.0), np.zeros(120)]))
    assert order(detect_lane(waiting, road)) == ["keep_lane"]
    steps = np.vstack([road.lanes["before"].centre_xy_m[30:-1], arc, out[1:]])
    knots = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(steps, axis=0).T))])
    s = np.arange(0, knots[-1] - 2, 0.8)
    turning = along(np.column_stack([np.interp(s, knots, steps[:, i]) for i in (0, 1)]))
    assert order(detect_lane(turning, road)) == ["keep_lane", f"turn_{side}", "keep_lane"]


def test_a_moment_on_a_lane_that_only_lies_over_ours_changes_no_turn():
    def arc(name: str, rad: float, **more) -> Lane:
        angle = np.linspace(0, rad, 12)
        xy = 10 * np.column_stack([np.sin(abs(angle)), np.sign(rad) * (1 - np.cos(angle))])
        return lane(name, xy, in_junction=True, **more)

    lanes = [arc("entry", -0.42, successors=("on",)), arc("ring", 0.3), arc("on", -0.2, predecessors=("entry",))]
    index = np.repeat([-1, 0, 1, 2, -1], [5, 20, 1, 9, 5])
    assert turns(index, lanes) == [(5, 35, "right")]
    assert turns(np.repeat([0, 2], [10, 20]), [arc("entry", -0.3, successors=("on",)), lanes[1], lanes[2]]) == [
        (0, 30, "right")
    ], "a turn over two lanes, one leading into the other"
    assert turns(np.repeat([1], 30), lanes) == []


def test_lanes_that_overlap_where_they_join_bend_as_the_road_does():
    """Maps hold lanes that begin a little behind the end of the one before."""
    angle = np.arange(0, 1.2, 0.02)
    road_xy = 60 * np.column_stack([np.sin(angle), 1 - np.cos(angle)])
    parts = {
        "a": lane("a", road_xy[:32], successors=("b",)),
        "b": lane("b", road_xy[30:], predecessors=("a",)),
    }
    assert order(detect_lane(along(road_xy[2:-2]), RoadMap(parts))) == ["follow_curve_left"]


def test_many_points_on_many_lanes_are_measured_as_one_by_one():
    rng = np.random.default_rng(0)
    walks = [np.cumsum(rng.normal([2, 0], 0.4, (count, 2)), axis=0) for count in (2, 7, 40)]
    lines = LaneLines([lane(str(i), walk) for i, walk in enumerate(walks)])
    for i, walk in enumerate(walks):
        xy = np.concatenate(
            [rng.normal(walk[rng.integers(len(walk), size=80)], 1.0), walk, walk[[0]] - 3, walk[[-1]] + 3]
        )
        which = np.full(len(xy), i)
        arc, offset = lines.project(which, xy)
        assert np.allclose([arc, offset], project_on_polyline(xy, walk), atol=1e-9)
        assert np.allclose(wrap_angle(lines.yaw(which, arc) - yaw_beside(xy, walk)), 0, atol=1e-9)


def test_merge_and_split_by_who_leads_where():
    first = straight("first", last=100, successors=("second",))
    second = straight("second", first=100, predecessors=("first",))
    ego = shifted(np.zeros(200))
    assert order(detect_lane(ego, RoadMap({"first": first, "second": second}))) == ["keep_lane"]
    joined = replace(second, predecessors=("first", "ramp"))
    assert order(detect_lane(ego, RoadMap({"first": first, "second": joined}))) == ["keep_lane", "merge", "keep_lane"]
    forked = replace(first, successors=("second", "exit"))
    assert order(detect_lane(ego, RoadMap({"first": forked, "second": second}))) == ["keep_lane", "split", "keep_lane"]


def test_off_the_map_and_against_the_lane():
    assert set(detect_lane(shifted(np.full(50, 40.0)), TWO)) == {"off_map"}
    assert set(detect_lane(along(np.column_stack([200 - np.arange(50.0), np.zeros(50)])), TWO)) == {"off_map"}
    assert set(detect_lane(shifted(np.zeros(50)), RoadMap())) == {"off_map"}


@pytest.mark.parametrize("family", ["stopped_car", "lane_change", "lane_ends", "ramp_merge", "town_drive"])
def test_a_drive_through_the_town_is_named_as_it_was(family):
    driven = drive(build_scene(SceneSpec(family, 3, harmless=family == "town_drive")), 12.0)
    truth = true_lanes([state.ego for state in driven.states], driven.context)
    words = detect_lane(ego_motion_of(driven.states), driven.context.road)
    assert set(words) <= set(LANE_META) and set(words) == {phase.label for phase in truth.lane}
    assert np.mean(words == truth.words) > 0.96


def test_out_over_the_line_into_oncoming_traffic_is_a_nudge():
    only = RoadMap(
        {
            "only": straight("only"),
            "back": replace(straight("back", 3.5), centre_xy_m=TWO.lanes["left"].centre_xy_m[::-1]),
        }
    )
    assert order(detect_lane(shifted(ramp(2.6, False)), only)) == ["keep_lane", "nudge_left", "keep_lane"]


def test_at_a_fork_the_lane_taken_counts_from_the_start():
    """Both ways lie over each other at first; the one left behind must not make a nudge of the other."""
    before = straight("before", last=100, successors=("bend", "on"))
    on = straight("on", first=100, predecessors=("before",), in_junction=True)
    x = np.arange(100.0, 161.0, 2.0)
    bend = lane("bend", np.column_stack([x, (x - 100) ** 2 / 120]), predecessors=("before",), in_junction=True)
    for way in ([before, bend, on], [before, on, bend]):
        road = RoadMap({part.lane_id: part for part in way})
        assert not any(word.startswith("nudge") for word in detect_lane(shifted(np.zeros(150)), road))


@pytest.mark.parametrize("side", ["left", "right"])
def test_where_the_drive_ends_in_a_junction_the_nearer_way_counts(side):
    sign, links = 1 if side == "left" else -1, {"predecessors": ("before",), "in_junction": True}
    before = straight("before", last=100, successors=("on", "bend"))
    angle = np.linspace(0, 1.2, 20)
    bend = lane("bend", np.column_stack([100 + 20 * np.sin(angle), sign * 20 * (1 - np.cos(angle))]), **links)
    on = straight("on", first=100, last=140, **links)
    x = np.minimum(60 + 0.5 * np.arange(120), 103.0)  # 3 m into the junction, and waits there
    ways = {0.0: "keep_lane", 0.24: f"turn_{side}"}
    for order_of in ((before, bend, on), (before, on, bend)):
        road = RoadMap({part.lane_id: part for part in order_of})
        for aside, word in ways.items():
            ego = along(np.column_stack([x, sign * np.interp(x, [97, 103], [0, aside])]))
            assert detect_lane(ego, road)[-1] == word


def test_a_line_crossed_just_before_the_drive_ends_is_a_lane_change():
    for ego, side in ((shifted(ramp(3.6, True)[:66]), "left"), (shifted(3.5 - ramp(3.6, True)[:66]), "right")):
        assert 1.75 < abs(ego.position_in_local_m[-1, 1] - ego.position_in_local_m[0, 1]) < 1.9
        assert order(detect_lane(ego, TWO)) == ["keep_lane", f"lane_change_{side}"]


def test_who_takes_a_lane_that_ends_into_account_merges():
    short = straight("short", last=150, left_neighbour="on")
    on = straight("on", 3.5, right_neighbour="short", successors=("far",))
    far = straight("far", 3.5, first=300, last=500, predecessors=("on",))
    road = RoadMap({part.lane_id: part for part in (short, on, far)})
    assert order(detect_lane(shifted(ramp(3.5, True)), road)) == ["keep_lane", "merge", "keep_lane"]


def test_the_published_rules_see_moves_but_no_curves_and_no_joining():
    released = LANE_PROFILES["released"]
    assert "lane_change_left" in detect_lane(shifted(ramp(3.5, True)), TWO, released)
    quick = 0.6 * (1 - np.cos(np.pi * np.clip((np.arange(100) - 50) / 16, 0, 1)))  # 1.2 m over 8 m of the lane
    assert "nudge_left" in detect_lane(along(np.column_stack([5 + 0.5 * np.arange(100), quick])), TWO, released)
    assert order(detect_lane(shifted(ramp(0.9, False)), TWO, released)) == ["keep_lane"], "too slow a move for them"
    assert order(detect_lane(shifted(np.zeros(100)), TWO, released)) == ["keep_lane"]
    first, second = straight("first", last=100, successors=("second",)), straight("second", first=100)
    joined = RoadMap({"first": first, "second": replace(second, predecessors=("first", "ramp"))})
    assert order(detect_lane(shifted(np.zeros(200)), joined, released)) == ["keep_lane"]
