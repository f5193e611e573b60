"""Scenes on road networks: drawn from their seed, the expert drives them, the cause is named only where it is one."""

from __future__ import annotations

import json

import numpy as np
import pytest

from causaldrive.clips.store import read_recording, write_recording
from causaldrive.worlds.expert import explain
from causaldrive.worlds.expert_drive import Drive, drive
from causaldrive.worlds.recording_of import recording_of
from causaldrive.worlds.replay import context_of, states_of
from causaldrive.worlds.scenes import CORE_FAMILIES, FAMILIES, SceneSpec, build_scene, draw_specs
from causaldrive.worlds.scoring import Scorer
from causaldrive.worlds.town import TownWorld

ON_SUMO = tuple(name for name in FAMILIES if build_scene(SceneSpec(name, 0)).sumo is not None)
FOCUS = "oncoming_vehicle"
SMALL = tuple(name for name in ON_SUMO if name != "town_drive")


def test_the_families_on_networks_stand_beside_the_core_ones():
    assert set(ON_SUMO) >= {"four_way_stop", "unprotected_left_turn", "ramp_merge", "roundabout", "town_drive"}
    assert CORE_FAMILIES == (
        "lead_brakes", "red_light", "pedestrian_crosses", "cut_in", "stopped_car", "sharp_curve",
    )  # fmt: skip
    assert {spec.family for spec in draw_specs(24, 0)} == set(CORE_FAMILIES)


@pytest.mark.parametrize("family", ON_SUMO)
def test_a_scene_is_drawn_the_same_twice_and_differs_between_seeds(family):
    one, two, other = (build_scene(SceneSpec(family, seed)) for seed in (3, 3, 4))
    assert one.sumo == two.sumo and one.context.appearance == two.context.appearance
    assert np.array_equal(one.context.route_xy_in_local_m, two.context.route_xy_in_local_m)
    assert one.sumo != other.sumo and one.context.target_speed_mps != other.context.target_speed_mps
    json.dumps(one.context.appearance)
    names = {agent.agent_id for agent in (*one.sumo.cars, *one.sumo.walkers)}
    assert set(one.context.appearance["agent_rgb"]) == names


def test_the_town_is_full():
    world = TownWorld(build_scene(SceneSpec("town_drive", 2)))
    categories = world.state.agents.category
    assert len(categories) == 50 and categories.count("pedestrian") == 16 and len(world.state.lights) == 10


def _judged(family: str, seed: int, harmless: bool, seconds: float) -> tuple[Drive, list[str], set[str]]:
    driven = drive(build_scene(SceneSpec(family, seed, harmless)), seconds)
    scorer = Scorer(driven.context)
    for state in driven.states:
        scorer.add(state)
    wrong = [f"{e.kind}: {e.detail}" for e in scorer.events if e.at_fault and e.kind != "close_encounter"]
    return driven, wrong, {cause.kind for said in driven.explanations for cause in said.causes}


@pytest.mark.parametrize("harmless", [False, True], ids=["cause", "harmless"])
@pytest.mark.parametrize("family", SMALL)
def test_the_expert_names_the_cause_only_where_it_is_one(family, harmless):
    driven, wrong, named = _judged(family, 1, harmless, 14.0)
    assert not wrong
    assert (driven.scene.focus_kind in named) != harmless
    assert driven.states[-1].ego.speed_mps > 1.0 or not harmless


@pytest.mark.parametrize("seed", [4, 6, 12])
def test_who_comes_straight_on_where_we_turn_left_does_not_come_into_our_lane(seed):
    driven = drive(build_scene(SceneSpec("unprotected_left_turn", seed)), 14.0)
    texts = {cause.text for said in driven.explanations for cause in said.causes}
    assert "an oncoming car goes first" in texts and "an oncoming car comes into our lane" not in texts


@pytest.mark.slow
@pytest.mark.parametrize("family", ON_SUMO)
def test_the_expert_drives_many_scenes_without_a_fault(family):
    drives = [(spec, _judged(spec.family, spec.seed, spec.harmless, 20.0)) for spec in draw_specs(24, 300, [family])]
    faults = [f"{spec.scene_id}: {wrong}" for spec, (_, wrong, _) in drives if wrong]
    named = [(driven.scene.focus_kind in kinds) != spec.harmless for spec, (driven, _, kinds) in drives]
    assert len(faults) <= 1, faults
    assert np.mean(named) >= 0.9


def test_a_recording_keeps_what_the_cause_needs(tmp_path):
    """The teacher reads recordings, not scenes: who must wait has to be told there."""
    driven = drive(build_scene(SceneSpec("unprotected_left_turn", 1)), 9.0)
    recording = recording_of("left", driven.states, driven.context, np.zeros(0, np.int64), {})
    write_recording(tmp_path / "left", recording, {})
    back = read_recording(tmp_path / "left")
    states = states_of(back, np.array([state.t_us for state in driven.states]))
    at = next(k for k, said in enumerate(driven.explanations) if any(c.kind == FOCUS for c in said.causes)) + 5
    said = explain(states[max(at - 20, 0) : at + 1], context_of(back))
    assert said.longitudinal == driven.explanations[at].longitudinal == "yield"
    assert [c.agent_id for c in said.causes] == [c.agent_id for c in driven.explanations[at].causes]
