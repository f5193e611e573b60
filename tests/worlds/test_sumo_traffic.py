"""SUMO behind the town's seam: frames, reaction to the ego, exact repetition, one simulation a process."""

from __future__ import annotations

import numpy as np
import pytest

from causaldrive.clips.geometry import project_on_polyline
from causaldrive.ground.errors import UserError
from causaldrive.worlds.families.sumo_draft import network_named
from causaldrive.worlds.scenes import Scene, SceneSpec, build_scene
from causaldrive.worlds.state import EgoState, WorldState
from causaldrive.worlds.sumo_plan import NETWORKS, SignalStart, SumoCar, SumoPlan
from causaldrive.worlds.sumo_traffic import SumoTraffic
from causaldrive.worlds.town import TownWorld

CROSS = NETWORKS / "left_turn.net.xml"
WAY = ("s_in", "n_out")


def _ego(front_m: float, speed_mps: float) -> EgoState:
    xy = network_named("left_turn").line_through(WAY)
    arc = int(front_m - 3.7)
    return EgoState(xy[arc], float(np.pi / 2), speed_mps)


def _actions(count: int) -> list[tuple[float, float]]:
    rng = np.random.default_rng(3)
    return [(float(rng.uniform(-2, 1.5)), float(rng.uniform(-0.003, 0.003))) for _ in range(count)]


def _print(state: WorldState) -> tuple:
    agents = state.agents
    arrays = (agents.xy_in_local_m, agents.yaw_rad, agents.speed_mps, agents.brake_light, agents.indicator)
    return (state.t_us, tuple(agents.ids), *(a.tobytes() for a in arrays), tuple(state.lights.state))


@pytest.fixture(scope="module")
def scene() -> Scene:
    return build_scene(SceneSpec("town_drive", 4))


def test_places_are_box_centres_in_our_frame():
    car = SumoCar("car", ("w_in", "e_out"), 80.0, 5.0, 5.0, size_m=(5.0, 1.8, 1.5))
    traffic = SumoTraffic(SumoPlan(CROSS, WAY, (car,)), _ego(40.0, 0.0))
    agents = traffic.agents()
    line = network_named("left_turn").road.lanes["w_in_1"].centre_xy_m
    arc, offset = project_on_polyline(agents.xy_in_local_m[0], line)
    assert agents.ids == ["car"] and agents.category == ["car"] and agents.size_m[0].tolist() == [5.0, 1.8, 1.5]
    assert arc == pytest.approx(77.5, abs=0.6) and offset == pytest.approx(0.0, abs=0.05)
    assert agents.yaw_rad[0] == pytest.approx(0.0, abs=1e-6) and agents.speed_mps[0] == pytest.approx(5.0, abs=0.3)
    traffic.close()


def test_a_follower_stops_behind_an_ego_that_stands():
    car = SumoCar("follower", WAY, 60.0, 9.0, 12.0)
    traffic = SumoTraffic(SumoPlan(CROSS, WAY, (car,)), _ego(110.0, 0.0))
    braked = False
    for _ in range(120):
        traffic.step(_ego(110.0, 0.0))
        braked |= bool(traffic.agents().brake_light[0])
    agents = traffic.agents()
    gap = _ego(110.0, 0.0).centre_xy_in_local_m[1] - 2.3 - agents.xy_in_local_m[0, 1] - agents.size_m[0, 0] / 2
    assert agents.speed_mps[0] < 0.1 and 0.5 < gap < 6.0 and braked
    traffic.close()


def test_without_the_ego_the_follower_drives_on():
    car = SumoCar("follower", WAY, 60.0, 9.0, 12.0)
    traffic = SumoTraffic(SumoPlan(CROSS, WAY, (car,)), _ego(20.0, 0.0))
    for _ in range(60):
        traffic.step(_ego(20.0, 0.0))
    assert traffic.agents().speed_mps[0] > 8.0
    traffic.close()


def test_signals_start_where_they_are_told_and_go_on():
    plan = SumoPlan(NETWORKS / "town.net.xml", ("b0b1", "b1b2"), signals=(SignalStart("b1", 0, 1.0),))
    xy = network_named("town").line_through(("b0b1", "b1b2"))
    traffic = SumoTraffic(plan, EgoState(xy[10], np.pi / 2, 0.0))
    index = traffic.lights().lane_ids.index("b0b1_1")
    seen = [traffic.lights().state[index]]
    for _ in range(150):
        traffic.step(EgoState(xy[10], np.pi / 2, 0.0))
        seen.append(traffic.lights().state[index])
    assert list(dict.fromkeys(seen)) == ["green", "yellow", "red"]
    traffic.close()


def test_the_same_actions_give_the_same_states_also_after_a_restore(scene):
    actions = _actions(50)
    world = TownWorld(scene)
    first = [_print(world.step(*a)) for a in actions[:20]]
    saved = world.snapshot()
    rest = [_print(world.step(*a)) for a in actions[20:]]
    assert len(world.state.agents) > 40 and len(set(rest)) == len(rest)
    twin = TownWorld(build_scene(SceneSpec("town_drive", 4)))
    assert [_print(twin.step(*a)) for a in actions] == first + rest
    for target in (world, twin):  # a snapshot can be used again, and by another world of the scene
        target.restore(saved)
        assert _print(target.state) == first[-1]
        assert [_print(target.step(*a)) for a in actions[20:]] == rest


def test_two_worlds_of_one_process_take_turns_without_disturbing_each_other(scene):
    other = build_scene(SceneSpec("unprotected_left_turn", 1))
    actions = _actions(24)
    alone = [[_print(w.step(*a)) for a in actions] for w in (TownWorld(scene), TownWorld(other))]
    one, two = TownWorld(scene), TownWorld(other)
    together: list[list] = [[], []]
    for k in range(0, 24, 8):
        for world, found in ((one, together[0]), (two, together[1])):
            found += [_print(world.step(*a)) for a in actions[k : k + 8]]
    assert together == alone


@pytest.mark.parametrize(
    ("car", "says"),
    [
        (SumoCar("lost", ("nowhere", "n_out"), 20.0, 5.0, 5.0), "nowhere"),
        (SumoCar("back", ("s_in", "w_in"), 20.0, 5.0, 5.0), "back"),
    ],
)
def test_a_plan_that_does_not_fit_its_network_is_refused(car, says):
    with pytest.raises(UserError, match=says):
        SumoTraffic(SumoPlan(CROSS, WAY, (car,)), _ego(40.0, 5.0))
    working = SumoTraffic(SumoPlan(CROSS, WAY), _ego(40.0, 5.0))  # and the process can go on
    working.step(_ego(40.0, 5.0))
    working.close()
