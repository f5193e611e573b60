"""The expert says 'turn' where its way over a junction turns, 'merge_split' on ramps, and neither anywhere else."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from causaldrive.clips.types import Lane, RightOfWay, RoadMap
from causaldrive.label.lane_actions import detect_lane
from causaldrive.worlds.expert_drive import Drive, drive
from causaldrive.worlds.expert_turns import joins_of, turns_of
from causaldrive.worlds.recording_of import ego_motion_of
from causaldrive.worlds.route import route_of
from causaldrive.worlds.scenes import CORE_FAMILIES, FAMILIES, SceneSpec, build_scene, default_camera
from causaldrive.worlds.state import SceneContext


def said(driven: Drive) -> set[str | None]:
    """The sides of the turns that were said."""
    return {e.direction for e in driven.explanations if e.lateral == "turn"}


def turns_in(spec: SceneSpec) -> list[str]:
    context = build_scene(spec).context
    return [turn.side for turn in turns_of(route_of(context), context.road)]


@pytest.mark.parametrize(("family", "seed"), [("town_drive", 3), ("helsinki_drive", 2)])
def test_what_is_said_is_what_the_lanes_show(family, seed):
    driven = drive(build_scene(SceneSpec(family, seed, True)), 11.0)
    words = detect_lane(ego_motion_of(driven.states), driven.context.road)
    assert {f"turn_{side}" for side in said(driven)} == {w for w in words if w.startswith("turn")} != set()
    first = next(k for k, e in enumerate(driven.explanations) if e.lateral == "turn")
    begins = next(k for k, word in enumerate(words) if word.startswith("turn"))
    assert 10 <= begins - first <= 40  # said one to four seconds before the junction


def test_who_waits_for_the_others_does_not_turn_yet():
    driven = drive(build_scene(SceneSpec("unprotected_left_turn", 1)), 16.0)
    waits = [e for e in driven.explanations if e.longitudinal == "yield"]
    assert waits and all(e.lateral != "turn" for e in waits) and said(driven) == {"left"}


def test_straight_on_is_no_turn_and_neither_is_a_roundabout_or_a_bend():
    assert turns_in(SceneSpec("unprotected_left_turn", 1, True)) == []
    assert turns_in(SceneSpec("unprotected_left_turn", 1)) == ["left"]
    assert turns_in(SceneSpec("ramp_merge", 2)) == []
    driven = drive(build_scene(SceneSpec("sharp_curve", 0)), 9.0)
    assert any(e.longitudinal == "speed_adaptation" for e in driven.explanations) and said(driven) == set()


@pytest.mark.parametrize("family", CORE_FAMILIES)
def test_the_core_families_have_no_rights_of_way_so_nothing_is_said_there(family):
    assert not build_scene(SceneSpec(family, 0)).context.road.right_of_way


@pytest.mark.parametrize("harmless", [False, True], ids=["cause", "harmless"])
def test_the_ramp_is_told_as_a_merge_from_shortly_before_it_joins_until_it_has(harmless):
    driven = drive(build_scene(SceneSpec("ramp_merge", 4, harmless)), 16.0)
    route = route_of(driven.context)
    (join,) = joins_of(route, driven.context.road)
    told = [k for k, e in enumerate(driven.explanations) if e.lateral == "merge_split"]
    assert told and told == list(range(told[0], told[-1] + 1))
    arcs = [float(route.project(s.ego.xy_in_local_m)[0]) for s in driven.states]
    assert arcs[told[0]] < join.start_m - 20.0 and join.end_m - 3.0 < arcs[told[-1]] <= join.end_m
    if not harmless:
        assert any(driven.explanations[k].longitudinal == "gap_searching" for k in told)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "ramp_merge"])
def test_no_other_road_of_ours_joins_another(family):
    context = build_scene(SceneSpec(family, 1)).context
    assert not context.road.right_of_way or joins_of(route_of(context), context.road) == ()


def _lane(name: str, line: list[tuple[float, float]], after: tuple[str, ...] = (), **more) -> Lane:
    centre = np.concatenate([np.linspace(a, b, 20)[:-1] for a, b in itertools.pairwise(line)])
    centre = np.concatenate([centre, np.array(line[-1:])])
    aside = np.array([0.0, 1.8])
    return Lane(name, centre, centre + aside, centre - aside, successors=after, **more)


@pytest.mark.parametrize(
    ("ours", "angle_rad", "signal", "joins"),
    [("exit", -0.2, False, 1), ("on", -0.2, False, 0), ("exit", -0.9, False, 0), ("exit", -0.2, True, 0)],
    ids=["leaves the road", "stays on it", "turns off", "at a signal"],
)
def test_a_fork_is_taken_only_by_who_leaves_the_road_there(ours, angle_rad, signal, joins):
    bend = 20.0 * np.array([np.cos(angle_rad), np.sin(angle_rad)])
    off = [(100.0, 0.0), (105.0, 0.0), tuple(np.array([105.0, 0.0]) + bend)]
    far = tuple(np.array(off[-1]) + 5 * bend)
    lanes = [
        _lane("main", [(0.0, 0.0), (100.0, 0.0)], (":on", ":exit")),
        _lane(":on", [(100.0, 0.0), (125.0, 0.0)], ("on",), in_junction=True),
        _lane(":exit", off, ("exit",), in_junction=True),
        _lane("on", [(125.0, 0.0), (225.0, 0.0)]),
        _lane("exit", [off[-1], far]),
    ]
    road = RoadMap({lane.lane_id: lane for lane in lanes})
    road.right_of_way["elsewhere"] = RightOfWay("yield", "elsewhere", np.array([0.0, 500.0]), 0.0, ())
    if signal:
        road.stop_lines["main"] = np.array([[100.0, 1.8], [100.0, -1.8]])
    way = np.concatenate([road.lanes[name].centre_xy_m for name in ("main", f":{ours}", ours)])
    context = SceneContext(road, way, 12.0, default_camera())
    assert len(joins_of(route_of(context), road)) == joins
