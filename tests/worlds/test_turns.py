"""The expert says 'turn' where its way over a junction turns, and nowhere else."""

from __future__ import annotations

import pytest

from causaldrive.label.lane_actions import detect_lane
from causaldrive.worlds.expert_drive import Drive, drive
from causaldrive.worlds.expert_turns import turns_of
from causaldrive.worlds.recording_of import ego_motion_of
from causaldrive.worlds.route import route_of
from causaldrive.worlds.scenes import CORE_FAMILIES, SceneSpec, build_scene


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
