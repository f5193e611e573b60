"""The town: actuator limits, exact repetition, snapshot and restore, traffic that minds the ego."""

import math
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causaldrive.ground.errors import UserError
from causaldrive.worlds.expert import ExpertDriver
from causaldrive.worlds.scenes import SceneSpec, build_scene, draw_specs
from causaldrive.worlds.state import EgoState, WorldState
from causaldrive.worlds.town import HISTORY_STATES, TownWorld
from causaldrive.worlds.vehicle import LIMITS, advance


def _same(one: WorldState, two: WorldState) -> bool:
    return (
        one.t_us == two.t_us
        and np.array_equal(one.ego.xy_in_local_m, two.ego.xy_in_local_m)
        and (one.ego.yaw_rad, one.ego.speed_mps) == (two.ego.yaw_rad, two.ego.speed_mps)
        and np.array_equal(one.agents.xy_in_local_m, two.agents.xy_in_local_m)
        and np.array_equal(one.agents.yaw_rad, two.agents.yaw_rad)
        and np.array_equal(one.agents.speed_mps, two.agents.speed_mps)
        and np.array_equal(one.agents.brake_light, two.agents.brake_light)
        and one.lights.state == two.lights.state
    )


def _actions(count: int, seed: int) -> list[tuple[float, float]]:
    rng = np.random.default_rng(seed)
    return [(float(rng.uniform(-4, 2)), float(rng.uniform(-0.05, 0.05))) for _ in range(count)]


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 20), st.floats(-8, 3), st.floats(-0.2, 0.2), st.floats(-50, 50), st.floats(-2, 2))
def test_actuators_keep_their_limits(speed, now, curvature, wanted, wanted_curvature):
    ego = EgoState(np.zeros(2), 0.3, speed, now, curvature)
    after = advance(ego, wanted, wanted_curvature)
    assert 0.0 <= after.speed_mps <= speed + LIMITS.max_acceleration_mps2 * 0.1 + 1e-9
    assert abs(after.curvature_1pm) <= LIMITS.max_curvature_1pm + 1e-12
    assert abs(after.curvature_1pm - curvature) <= LIMITS.max_curvature_rate_1pms * 0.1 + 1e-9
    assert LIMITS.min_acceleration_mps2 <= after.acceleration_mps2 <= LIMITS.max_acceleration_mps2
    assert np.linalg.norm(after.xy_in_local_m) <= (speed + after.speed_mps) / 2 * 0.1 + 0.05


def test_constant_curvature_drives_a_circle():
    ego = EgoState(np.zeros(2), 0.0, 5.0, 0.0, 0.1)
    for _ in range(40):
        ego = advance(ego, 0.0, 0.1)
    angle = 5.0 * 4.0 * 0.1
    expected = (10 * math.sin(angle), 10 * (1 - math.cos(angle)))
    assert ego.xy_in_local_m == pytest.approx(expected, abs=0.01)


def test_an_action_that_is_not_a_number_is_refused():
    world = TownWorld(build_scene(SceneSpec("sharp_curve", 4)))
    with pytest.raises(UserError, match="not finite"):
        world.step(float("nan"), 0.0)
    assert world.time_s == 0.0


@pytest.mark.parametrize("spec", draw_specs(12, 60), ids=lambda s: s.scene_id)
def test_the_same_actions_give_the_same_states_also_after_a_restore(spec):
    actions = _actions(60, spec.seed)
    world, twin = TownWorld(build_scene(spec)), TownWorld(build_scene(spec))
    first = [world.step(*a) for a in actions[:25]]
    saved = world.snapshot()
    rest = [world.step(*a) for a in actions[25:]]
    assert all(_same(twin.step(*a), s) for a, s in zip(actions, first + rest, strict=True))
    for _ in range(2):  # a snapshot can be used again
        world.restore(saved)
        assert world.time_s == 2.5 and _same(world.state, first[-1]) and len(world.history) == HISTORY_STATES
        assert all(_same(world.step(*a), s) for a, s in zip(actions[25:], rest, strict=True))


def test_history_holds_two_seconds_at_ten_hertz():
    world = TownWorld(build_scene(SceneSpec("cut_in", 6)))
    for _ in range(30):
        world.step(0.0, 0.0)
    times = [s.t_us for s in world.history]
    assert len(times) == HISTORY_STATES and set(np.diff(times)) == {100_000} and times[-1] == 3_000_000


def test_a_scene_ends_in_time_or_at_the_end_of_its_road():
    scene = build_scene(SceneSpec("lead_brakes", 1, True))
    world = TownWorld(scene)
    while not world.finished:
        world.step(-3.0, 0.0)
    assert world.time_s == pytest.approx(scene.duration_s)
    straight = next(
        s for s in (build_scene(SceneSpec("lead_brakes", n, True)) for n in range(1, 60)) if _is_straight(s)
    )
    world = TownWorld(replace(straight, duration_s=90.0))
    while not world.finished:
        world.step(3.0, 0.0)
    left = np.linalg.norm(world.context.route_xy_in_local_m[-1] - world.state.ego.xy_in_local_m)
    assert world.time_s < 60.0 and left < 35.0


def _is_straight(scene) -> bool:
    way = scene.context.route_xy_in_local_m
    return float(np.ptp(np.arctan2(*np.diff(way, axis=0).T[::-1]))) < 1e-6


def test_a_follower_stops_behind_an_ego_that_stops():
    followed = [s for s in draw_specs(60, 0) if any(a.agent_id == "follower" for a in build_scene(s).script.actors)]
    assert len(followed) >= 8
    for spec in followed[:8]:
        world = TownWorld(build_scene(spec))
        gaps = []
        while world.time_s < 12.0:
            ego = world.state.ego
            world.step(-2.5, _route_curvature(world))
            behind = world.state.agents.xy_in_local_m[world.state.agents.ids.index("follower")]
            gaps.append(float(np.linalg.norm(behind - ego.centre_xy_in_local_m)) - 4.7)
        assert min(gaps) > 0.3, spec.scene_id


def test_cars_stop_at_their_red_light_and_wait():
    for seed in (3, 15, 27, 39, 51):  # harmless: our light is green, so the cross road's is red
        world = TownWorld(build_scene(SceneSpec("red_light", seed, True)))
        start = world.state.agents
        while world.time_s < 12.0:
            world.step(-3.0, 0.0)
        for name in (n for n in start.ids if n.startswith("cross_")):
            i = start.ids.index(name)
            stops = world.state.lights.stop_xy_in_local_m[world.state.lights.ids.index(f"light_{name[6:]}")]
            assert np.linalg.norm(world.state.agents.xy_in_local_m[i] - stops) < 34.0
            assert world.state.agents.speed_mps[i] < 0.5
            heading = np.array([np.cos(start.yaw_rad[i]), np.sin(start.yaw_rad[i])])
            assert (stops - world.state.agents.xy_in_local_m[i]) @ heading > 2.0


def test_a_pedestrian_does_not_walk_into_a_standing_car():
    """The ego stands across the crossing line from the start: the person comes up to it and waits."""
    for seed in (4, 16, 28):
        scene = build_scene(SceneSpec("pedestrian_crosses", seed))
        walk = scene.script.actors[0].events[0].when
        x, y, yaw = scene.script.lines["forward"].pose(walk.arc_m - 1.4, _lane_offset(scene))
        world = TownWorld(replace(scene, ego=EgoState(np.array([x, y]), yaw, 0.0)))
        start = world.state.agents.xy_in_local_m[0]
        while world.time_s < 14.0:
            world.step(0.0, 0.0)
        person = world.state.agents.xy_in_local_m[0]
        assert np.linalg.norm(person - start) > 1.0 and world.state.agents.speed_mps[0] == 0.0
        assert np.linalg.norm(person - world.state.ego.centre_xy_in_local_m) > 0.95 + 0.25


def _lane_offset(scene) -> float:
    forward = scene.script.lines["forward"]
    return forward.project(*scene.context.route_xy_in_local_m[60], 60.0)[1]


def _route_curvature(world) -> float:
    return ExpertDriver(world.context).control(world.history)[1]


def test_a_town_ticks_fast_enough():
    """Well below the 2000 steps a second that are aimed at, so that a busy machine does not fail it."""
    world = TownWorld(build_scene(SceneSpec("red_light", 2)))
    start = time.process_time()
    for _ in range(150):
        world.step(0.0, 0.0)
    assert 150 / (time.process_time() - start) > 1000
