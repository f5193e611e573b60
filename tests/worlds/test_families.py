"""The wider families: drawn from the seed, and told right by the expert in both variants."""

from functools import cache

import numpy as np
import pytest

from causaldrive.clips.tables import map_table, read_map
from causaldrive.worlds.expert_drive import Drive, drive
from causaldrive.worlds.scenes import CORE_FAMILIES, FAMILIES, SceneSpec, build_scene
from causaldrive.worlds.scoring import Scorer

WIDER = [name for name in FAMILIES if name not in CORE_FAMILIES]
SEED = 3


@cache
def driven(family: str, harmless: bool, seed: int = SEED) -> Drive:
    return drive(build_scene(SceneSpec(family, seed, harmless)), 13.0)


def named(found: Drive) -> int:
    kind, agent = found.scene.focus_kind, found.scene.focus_id
    return sum(any(c.kind == kind and agent in (None, c.agent_id) for c in e.causes) for e in found.explanations)


@pytest.mark.parametrize("family", WIDER)
def test_the_cause_is_named_and_the_harmless_object_is_not(family: str):
    assert named(driven(family, False)) >= 3
    assert named(driven(family, True)) == 0


@pytest.mark.parametrize("harmless", [False, True])
@pytest.mark.parametrize("family", WIDER)
def test_no_accident_no_broken_rule(family: str, harmless: bool):
    scorer = Scorer(driven(family, harmless).context)
    for state in driven(family, harmless).states:
        scorer.add(state)
    assert [e for e in scorer.events if e.kind != "close_encounter"] == []


@pytest.mark.parametrize("family", WIDER)
def test_a_scene_comes_from_its_seed_alone(family: str):
    one, two = build_scene(SceneSpec(family, 5)), build_scene(SceneSpec(family, 5))
    other = build_scene(SceneSpec(family, 6))
    assert one.script.actors == two.script.actors and one.context.appearance == two.context.appearance
    assert one.context.target_speed_mps != other.context.target_speed_mps


def test_decisions_fit_their_families():
    said = {name: driven(name, False).explanations for name in WIDER}
    assert any(e.longitudinal == "gap_searching" for e in said["lane_change_prep"])
    assert any(
        (e.lateral, e.direction) in {("lane_change", "left"), ("lane_change", "right")} for e in said["lane_change"]
    )
    assert any((e.lateral, e.direction) == ("merge_split", "left") for e in said["lane_ends"])
    assert any(e.longitudinal == "speed_adaptation" for e in said["speed_bump"])
    assert any(e.longitudinal == "stop_for_static_constraint" for e in said["school_bus"])
    assert any(e.lateral == "out_of_lane_nudge" for e in said["cyclist_overtake"])
    passing = driven("cyclist_overtake", False, 0).explanations
    assert any(e.longitudinal == "acceleration_for_passing" for e in passing)


def test_a_stop_sign_is_stood_at_and_left_again():
    speed = np.array([s.ego.speed_mps for s in drive(build_scene(SceneSpec("stop_sign", SEED)), 16.0).states])
    stood = np.flatnonzero(speed < 0.15)
    assert 8 <= len(stood) <= 30 and speed[-1] > 3.0


def test_weather_varies():
    looks = [build_scene(SceneSpec("speed_bump", seed)).context.appearance for seed in range(12)]
    assert len({round(look["brightness"], 1) for look in looks}) >= 3 and max(look["fog"] for look in looks) > 0.008


def test_a_bump_survives_the_store(tmp_path):
    import pyarrow.parquet as pq

    road = build_scene(SceneSpec("speed_bump", SEED)).context.road
    pq.write_table(map_table(road), tmp_path / "map.parquet")
    again = read_map(tmp_path / "map.parquet")
    assert set(again.bumps) == set(road.bumps) and np.allclose(again.bumps["bump_0"], road.bumps["bump_0"])


def test_bodies_and_warning_lights_have_shape_and_flash():
    from causaldrive.worlds.render_special import speed_bumps, warning_lights

    road = build_scene(SceneSpec("speed_bump", SEED)).context.road
    assert 0 < len(speed_bumps(road)) < 300
    for category, size in (("school_bus", (10.5, 2.5, 3.1)), ("emergency_vehicle", (6.0, 2.1, 2.6))):
        on, off = (warning_lights(size, category, phase) for phase in (0, 1))
        assert len(on) and not np.array_equal(on.rgb, off.rgb)
